// Sends one message to /v1 with the user's own key, as any client does, and shows the answer as it arrives. The key
// goes nowhere else.

const KEY = "kx-key";
const field = (id) => document.getElementById(id);
const form = field("playground");
const texts = form.dataset;
const filled = (text, ...values) => values.reduce((left, value) => left.replace("{}", value), text);

// The data of each event of a stream.
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split(/\r?\n/);
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data:")) yield line.slice(5).trim();
  }
}

const request = () => {
  const messages = [{ role: "user", content: field("message").value }];
  if (field("system").value.trim()) messages.unshift({ role: "system", content: field("system").value });
  const body = { model: field("model").value, messages, stream: true, stream_options: { include_usage: true } };
  if (field("temperature").value) body.temperature = Number(field("temperature").value);
  if (field("most").value) body.max_completion_tokens = Number(field("most").value);
  return JSON.stringify(body);
};

// What the gateway says in its own words.
class Refused extends Error {}
const refusal = async (response) => {
  const body = await response.json().catch(() => ({}));
  return new Refused(body.error?.message ?? `${texts.failed} (${response.status})`);
};

const busy = (isBusy) => {
  field("send").disabled = isBusy;
  field("stop").disabled = !isBusy;
  field("answer").ariaBusy = String(isBusy);
};

const showRequest = (id) => {
  if (!/^req_[0-9a-f]{32}$/.test(id ?? "")) return;
  field("receipt").href = `/console/usage/${id}`;
  field("receipt").hidden = false;
};

const showUsage = (usage) => {
  if (!usage) return;
  const reasoning = usage.completion_tokens_details?.reasoning_tokens ?? 0;
  const tokens = [usage.prompt_tokens, usage.completion_tokens, reasoning].map((n) => n.toLocaleString());
  const ticks = usage.cost_in_usd_ticks;
  const cost = ticks === undefined ? "" : filled(texts.cost, `$${(ticks / 1e10).toFixed(6)}`);
  field("numbers").textContent = `${filled(texts.tokens, ...tokens)} ${cost}`;
};

const send = async (signal) => {
  const headers = { authorization: `Bearer ${field("key").value.trim()}`, "content-type": "application/json" };
  const options = { method: "POST", headers, body: request(), signal, credentials: "omit" };
  const response = await fetch("/v1/chat/completions", options);
  showRequest(response.headers.get("x-request-id"));
  if (!response.ok) throw await refusal(response);
  let ended = null;
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return ended === "length" ? texts.length : texts.done;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Refused(chunk.error.message);
    const choice = chunk.choices?.[0];
    if (choice?.delta?.content) {
      field("state").textContent = texts.arriving;
      field("answer").append(choice.delta.content);
    }
    ended = choice?.finish_reason ?? ended;
    showUsage(chunk.usage);
  }
  throw new Refused(texts.lost);
};

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, field("key").value.trim());
  const abort = new AbortController();
  field("stop").onclick = () => abort.abort();
  for (const id of ["answer", "numbers"]) field(id).textContent = "";
  for (const id of ["problem", "receipt"]) field(id).hidden = true;
  field("state").textContent = texts.waiting;
  busy(true);
  try {
    field("state").textContent = await send(abort.signal);
  } catch (error) {
    field("state").textContent = abort.signal.aborted ? texts.stopped : texts.failed;
    field("problem").hidden = abort.signal.aborted;
    field("problem").textContent = error instanceof Refused ? error.message : texts.lost;
  }
  busy(false);
});

field("forget").addEventListener("click", () => {
  sessionStorage.removeItem(KEY);
  field("key").value = "";
  field("key").focus();
});

field("key").value = sessionStorage.getItem(KEY) ?? "";
form.hidden = false;
