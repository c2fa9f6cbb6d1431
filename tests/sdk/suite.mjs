// Drives the gateway with the real Node clients, as an application would.
//
// Run by `scripts/sdk`, once for each client:
//
//     node suite.mjs openai4|openai6|openai7|ai|ai-openai|xai|xai3 CONTEXT.json [CASE…]
//
// The context names the base address, the keys and the simulator behind the gateway; `target` is
// `gateway`, or `simulator` when the clients talk to the simulator itself, which knows no quotas.
// Each case prints `ok NAME` or `FAIL NAME reason`; the last line counts them.

import { readFileSync } from "node:fs";

const MODEL = "grok-4.3";
const THINKER = "grok-4.20-0309-reasoning";
const TOKENS = 24; // what the simulator says unless told otherwise
const WEATHER = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};
const TOOLS = [{ type: "function", function: { name: "get_weather", parameters: WEATHER } }];

const [client, contextFile, ...wanted] = process.argv.slice(2);
const ctx = JSON.parse(readFileSync(contextFile, "utf8"));
const cases = [];

/** Registers a case; one with a target needs that one. */
function test(name, target, run) {
  cases.push({ name, target, run });
}

/** The case cannot be run here, and says why. */
class Skip extends Error {}

function expect(condition, ...seen) {
  if (!condition) throw new Error("seen: " + seen.map((s) => JSON.stringify(s) ?? String(s)).join(" "));
}

function need(name) {
  if (!ctx[name]) throw new Skip(`the context has no ${name}`);
  return ctx[name];
}

const ask = (text) => [{ role: "user", content: text }];
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** What the simulator says about the call these reply headers belong to. */
async function truth(headers) {
  const ids = [headers.get("x-request-id"), headers.get("x-upstream-request-id")].filter(Boolean);
  for (const until = Date.now() + 5000; Date.now() < until; await sleep(20)) {
    const lines = (await (await fetch(ctx.sim_url + "/sim/log?last=2000")).text()).split("\n");
    const entries = lines.filter(Boolean).map((line) => JSON.parse(line));
    const entry = entries.findLast((e) => ids.includes(e.sim_id) || ids.includes(e.request));
    if (entry) return entry;
  }
  throw new Error(`the simulator knows no call ${ids}`);
}

/** What a client was told is what the simulator said, and stands in the ledger (which the simulator
 * alone has not got). Hidden reasoning is output. Gives the ledger's row. */
async function agrees(said, prompt, output) {
  expect(said.prompt === prompt && said.completion + said.reasoning === output, said, prompt, output);
  if (!isGateway) return null;
  const row = await charge("req_" + said.request.replaceAll("-", ""));
  for (const name of ["prompt", "cached", "completion", "reasoning"]) {
    expect(row.tokens[name] === said[name], name, row, said);
  }
  expect(row.tokens.total === prompt + output && row.status === "complete" && row.source === "reported", row);
  return row;
}

/** The ledger's one row for a request. */
async function charge(requestId) {
  const url = ctx.base_url.replace(/\/v1$/, "") + "/api/v1/usage/history?limit=200";
  const headers = { authorization: `Bearer ${ctx.api_key}` };
  for (const until = Date.now() + 5000; Date.now() < until; await sleep(20)) {
    const { data } = await (await fetch(url, { headers })).json();
    const rows = data.filter((row) => row.request_id === requestId);
    expect(rows.length < 2, rows);
    if (rows.length) return rows[0];
  }
  throw new Error(`the ledger does not know ${requestId}`);
}

/** A plain call outside of any client; gives the status. */
async function post(key, body) {
  const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
  const reply = await fetch(ctx.base_url + "/chat/completions", {
    method: "POST",
    headers,
    body: JSON.stringify(body),
  });
  await reply.arrayBuffer();
  return reply.status;
}

/** Good calls after one that the upstream failed. All suites share that upstream, and together they
 * would open its breaker. */
async function mend() {
  const body = { model: MODEL, messages: ask("hello"), max_tokens: 1 };
  for (let i = 0; isGateway && i < 2; i++) await post(need("mend_key"), body);
}

/** A fetch that notes the status of each try. */
function counting(attempts) {
  return async (...request) => {
    const reply = await fetch(...request);
    attempts.push(reply.status);
    return reply;
  };
}

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

/** Runs a call that must fail. */
async function failure(call) {
  try {
    await call();
  } catch (error) {
    return error;
  }
  throw new Error("no error");
}

async function useUpDay(key) {
  for (let i = 0; i < 60; i++) {
    if ((await post(key, { model: MODEL, messages: ask("hello") })) === 429) return;
  }
}

/** The tries of a call that met a full window. A window frees a call every 0.6 s, so the first
 * one, with all that is still to be loaded for it, may be too late for a refusal. */
async function refusedFirst(key, body, call) {
  const attempts = [];
  for (let i = 0; i < 5 && attempts[0] !== 429; i++) {
    attempts.length = 0;
    while ((await post(key, body)) !== 429);
    await call(attempts);
  }
  return attempts;
}

const isGateway = ctx.target === "gateway";

async function openaiCases(OpenAI) {
  const make = (options = {}) =>
    new OpenAI({ baseURL: ctx.base_url, apiKey: ctx.api_key, maxRetries: 0, ...options });
  const create = (body, own = make()) => own.chat.completions.create({ model: MODEL, messages: ask("hello"), ...body });
  const text = (chunks, index = 0) =>
    chunks
      .flatMap((chunk) => chunk.choices)
      .filter((choice) => choice.index === index)
      .map((choice) => choice.delta.content ?? "")
      .join("");

  async function refused(kind, code, call) {
    const error = await failure(call);
    expect(error instanceof kind && error.constructor.name === kind.name, error.constructor.name, error.message);
    if (isGateway && code) expect(error.code === code, error.code, error.message);
    return error;
  }

  test("whole", null, async () => {
    const reply = await create();
    expect(reply.choices[0].finish_reason === "stop", reply);
    expect(reply.choices[0].message.content.length > TOKENS, reply);
    expect(reply.usage.completion_tokens === TOKENS, reply.usage);
  });

  test("stream", null, async () => {
    const chunks = await collect(await create({ stream: true }));
    expect(chunks.every((chunk) => chunk.choices.length === 1 && !chunk.usage), chunks);
    expect(chunks.at(-1).choices[0].finish_reason === "stop", chunks.at(-1));
    expect(text(chunks) === (await create()).choices[0].message.content, text(chunks));
  });

  test("stream_with_usage", null, async () => {
    const { data, response } = await create({
      stream: true,
      stream_options: { include_usage: true },
    }).withResponse();
    const chunks = await collect(data);
    const usages = chunks.filter((chunk) => chunk.usage).map((chunk) => chunk.usage);
    expect(usages.length === 1 && chunks.at(-1).choices.length === 0, usages);
    const [usage] = usages;
    expect(usage.completion_tokens === TOKENS, usage);
    const said = await truth(response.headers);
    expect(said.prompt === usage.prompt_tokens && said.completion === TOKENS, said, usage);
    return `prompt=${usage.prompt_tokens} completion=${usage.completion_tokens} total=${usage.total_tokens}`;
  });

  test("stream_helper", null, async () => {
    const helper = (own) => (own.chat.completions.stream ? own.chat.completions : own.beta.chat.completions);
    const runner = helper(make()).stream({ model: MODEL, messages: ask("hello") });
    const content = await runner.finalContent();
    expect(content.length > TOKENS, content);
  });

  test("odd_wire", null, async () => {
    const reference = (await create()).choices[0].message.content;
    for (const fault of ["split", "crlf", "split,crlf", "multiline", "drip"]) {
      const headers = { "x-sim-fault": fault };
      const body = { model: MODEL, messages: ask("hello"), stream: true };
      const chunks = await collect(await make().chat.completions.create(body, { headers }));
      expect(text(chunks) === reference, fault, text(chunks));
    }
  });

  test("tools", null, async () => {
    const reply = await create({ messages: ask("use the tool"), tools: TOOLS });
    expect(reply.choices[0].finish_reason === "tool_calls", reply);
    const [call] = reply.choices[0].message.tool_calls;
    expect(call.function.name === "get_weather" && "city" in JSON.parse(call.function.arguments), call);
    const messages = [
      ...ask("use the tool"),
      reply.choices[0].message,
      { role: "tool", tool_call_id: call.id, content: "rain" },
    ];
    expect((await create({ messages, tools: TOOLS })).choices[0].finish_reason === "stop");
  });

  test("tools_stream", null, async () => {
    const chunks = await collect(await create({ messages: ask("use the tool"), tools: TOOLS, stream: true }));
    const calls = chunks.flatMap((chunk) => chunk.choices[0].delta.tool_calls ?? []);
    expect(calls.every((call) => call.index === 0) && calls[0].function.name === "get_weather", calls);
    expect("city" in JSON.parse(calls.map((call) => call.function.arguments ?? "").join("")), calls);
    expect(chunks.at(-1).choices[0].finish_reason === "tool_calls", chunks.at(-1));
  });

  test("two_choices", null, async () => {
    const reply = await create({ n: 2 });
    const texts = reply.choices.map((choice) => choice.message.content);
    expect(texts.length === 2 && texts[0] !== texts[1], texts);
    expect(reply.usage.completion_tokens === 2 * TOKENS, reply.usage);
    const chunks = await collect(await create({ n: 2, stream: true }));
    expect(text(chunks, 0) === texts[0] && text(chunks, 1) === texts[1], texts);
  });

  test("abort", null, async () => {
    const body = { messages: ask("[sim tokens=900 token-ms=20]"), max_tokens: 900, stream: true };
    const { data, response } = await create(body).withResponse();
    let seen = 0;
    for await (const _ of data) if (++seen === 3) break;
    data.controller.abort();
    const closed = Date.now();
    const said = await truth(response.headers);
    expect(said.aborted_by_client && said.produced < 100, said);
    expect(said.ended_ms - closed < 1000, said.ended_ms - closed);
    return `upstream noticed after ${Math.max(said.ended_ms - closed, 0)} ms`;
  });

  test("parallel_streams", null, async () => {
    const body = { messages: ask("[sim tokens=40 token-ms=5]"), stream: true };
    const streams = Array.from({ length: 20 }, async () => collect(await create(body)));
    const ends = (await Promise.all(streams)).map((chunks) => chunks.at(-1).choices[0].finish_reason);
    expect(ends.every((end) => end === "stop"), ends);
  });

  test("models", null, async () => {
    const names = [];
    for await (const model of make().models.list()) names.push(model.id);
    expect(names.includes(MODEL), names);
    expect((await make().models.retrieve(MODEL)).id === MODEL);
  });

  test("responses", "simulator", async () => {
    const reply = await make().responses.create({ model: MODEL, input: "hello" });
    expect(reply.status === "completed" && reply.usage.output_tokens === TOKENS, reply);
    const events = await collect(await make().responses.create({ model: MODEL, input: "hello", stream: true }));
    const deltas = events.filter((event) => event.type === "response.output_text.delta");
    expect(deltas.map((event) => event.delta).join("") === reply.output_text, deltas.length);
    expect(events.at(-1).type === "response.completed" && events.at(-1).response.usage, events.at(-1));
  });

  // What the gateway has not got is said so in OpenAI's shape.
  test("responses", "gateway", async () => {
    const own = make();
    if (!own.responses) return "this SDK is older than responses";
    const first = await own.responses.create({ model: MODEL, input: "hello" }).withResponse();
    const whole = first.data;
    expect(whole.status === "completed" && whole.usage.output_tokens === TOKENS, whole.status);
    await agrees(await truth(first.response.headers), whole.usage.input_tokens, whole.usage.output_tokens);
    const { data: stream, response } = await own.responses
      .create({ model: MODEL, input: "hello", stream: true })
      .withResponse();
    let said = "";
    let last;
    for await (const event of stream) {
      if (event.type === "response.output_text.delta") said += event.delta;
      last = event;
    }
    expect(last.type === "response.completed" && said === whole.output_text, said);
    const usage = last.response.usage;
    await agrees(await truth(response.headers), usage.input_tokens, usage.output_tokens);
    const next = { model: MODEL, input: "more", previous_response_id: whole.id };
    expect((await own.responses.create(next)).status === "completed", "a follow-up");
  });

  test("embeddings", "gateway", async () => {
    const body = { model: "simulated-embedding", input: "one text" };
    const { data: reply, response } = await make().embeddings.create(body).withResponse();
    expect(reply.data[0].embedding.length === 8 && reply.usage.total_tokens > 0, reply.usage);
    await agrees(await truth(response.headers), reply.usage.prompt_tokens, 0);
  });

  // An image has a price and no tokens.
  test("images", "gateway", async () => {
    const body = { model: "grok-imagine-image", prompt: "a lighthouse", n: 2 };
    const { data: reply, response } = await make().images.generate(body).withResponse();
    expect(reply.data.length === 2 && reply.data[0].url, reply);
    const row = await agrees(await truth(response.headers), 0, 0);
    const ticks = reply.usage.cost_in_usd_ticks;
    expect(ticks > 0 && row.cost_micro_dollars * 10_000 === ticks, row, ticks);
  });

  test("not_offered", "gateway", async () => {
    const own = make();
    for (const call of [
      () => own.files.list(),
      () => own.get("/nothing/here"),
    ]) {
      await refused(OpenAI.NotFoundError, "unknown_url", call);
    }
    const error = await failure(() => own.get("/chat/completions"));
    expect(error instanceof OpenAI.APIError && error.status === 405, error.message);
  });

  test("missing_key", "gateway", async () => {
    const own = make({ defaultHeaders: { Authorization: null } });
    await refused(OpenAI.AuthenticationError, null, () => create({}, own));
  });

  test("wrong_key", "gateway", async () => {
    for (const apiKey of ["sk-wrong", "sk-kx-wrong_wrong"]) {
      const own = make({ apiKey });
      await refused(OpenAI.AuthenticationError, "invalid_api_key", () => create({}, own));
      await refused(OpenAI.AuthenticationError, "invalid_api_key", () => own.models.list());
    }
  });

  // Revoked, expired, of a suspended user.
  test("dead_keys", "gateway", async () => {
    for (const { key, code } of need("dead_keys")) {
      const attempts = [];
      const own = make({ apiKey: key, fetch: counting(attempts), maxRetries: 2 });
      await refused(OpenAI.AuthenticationError, code, () => own.models.list());
      expect(attempts.length === 1, attempts);
    }
  });

  test("unknown_model", null, async () => {
    await refused(OpenAI.NotFoundError, "model_not_found", () => create({ model: "no-such-model" }));
    await refused(OpenAI.NotFoundError, "model_not_found", () => make().models.retrieve("no-such-model"));
  });

  test("bad_body", "gateway", async () => {
    for (const messages of [undefined, "hello"]) {
      const error = await refused(OpenAI.BadRequestError, null, () => create({ messages }));
      expect(error.type === "invalid_request_error" && error.param === "messages", error.error);
    }
  });

  test("forbidden_model", "gateway", async () => {
    const { key, model } = need("limited");
    await refused(OpenAI.PermissionDeniedError, "model_not_allowed", () => create({ model }, make({ apiKey: key })));
    await create({}, make({ apiKey: key }));
  });

  test("too_large", "gateway", async () => {
    const error = await failure(() => create({ messages: ask("x".repeat(33 << 20)) }));
    expect(error.status === 413, error.status, error.message);
  });

  test("upstream_fails", null, async () => {
    for (const fault of ["500", "503", "html"]) {
      const messages = ask(`[sim fault=${fault}]`);
      await refused(OpenAI.InternalServerError, null, () => create({ messages }));
      await mend();
    }
  });

  // Whatever the upstream answers, the client sees OpenAI's shape and whose fault it is.
  test("upstream_errors_are_translated", "gateway", async () => {
    for (const [fault, kind, status, code] of [
      ["410", OpenAI.BadRequestError, 400, null],
      ["422", OpenAI.BadRequestError, 400, null],
      ["429", OpenAI.RateLimitError, 429, "rate_limit_exceeded"],
      ["500", OpenAI.InternalServerError, 502, "upstream_error"],
      ["503", OpenAI.InternalServerError, 503, "upstream_unavailable"],
      ["html", OpenAI.InternalServerError, 502, "upstream_error"],
      ["wrong-key", OpenAI.InternalServerError, 502, "upstream_auth"],
      ["error-200", OpenAI.InternalServerError, 503, "upstream_unavailable"],
      ["garbage", OpenAI.InternalServerError, 502, "upstream_bad_reply"],
      ["empty", OpenAI.InternalServerError, 502, "upstream_bad_reply"],
      ["cut", OpenAI.InternalServerError, 502, "upstream_bad_reply"],
      ["refuse-headers", OpenAI.InternalServerError, 502, "upstream_closed"],
    ]) {
      const error = await refused(kind, code, () => create({ messages: ask(`[sim fault=${fault}]`) }));
      expect(error.status === status, fault, error.status, error.message);
      await mend();
    }
  });

  test("upstream_fails_is_retried", null, async () => {
    const attempts = [];
    const own = make({ fetch: counting(attempts), maxRetries: 2 });
    await refused(OpenAI.InternalServerError, null, () => create({ messages: ask("[sim fault=500]") }, own));
    expect(attempts.length === 3, attempts);
    await mend();
  });

  test("error_in_stream", null, async () => {
    for (const fault of isGateway ? ["error-event=4", "cut=4", "close=4"] : ["error-event=4"]) {
      // The connection of a cut stream ends with it: a client that tries it again just then
      // (version 4 does) needs the retry it has by default.
      const own = make({ maxRetries: 2 });
      const stream = await create({ messages: ask(`[sim fault=${fault}]`), stream: true }, own);
      let seen = 0;
      const error = await failure(async () => {
        for await (const _ of stream) seen++;
      });
      expect(error instanceof OpenAI.APIError && seen === 4, fault, seen, error.message);
      expect(!isGateway || error.code === "upstream_cut", fault, error.code, error.message);
      await mend();
    }
  });

  test("retry_after_is_kept", "simulator", async () => {
    const attempts = [];
    const own = make({ fetch: counting(attempts), maxRetries: 1 });
    const began = Date.now();
    await refused(OpenAI.RateLimitError, null, () => create({ messages: ask("[sim fault=429=1]") }, own));
    expect(attempts.length === 2 && Date.now() - began >= 990, attempts, Date.now() - began);
  });

  test("day_refusal_is_final", "gateway", async () => {
    const apiKey = need("day_key");
    await useUpDay(apiKey);
    const attempts = [];
    const own = make({ apiKey, fetch: counting(attempts), maxRetries: 2 });
    const began = Date.now();
    await refused(OpenAI.RateLimitError, "insufficient_quota", () => create({}, own));
    expect(attempts.length === 1 && Date.now() - began < 2000, attempts);
  });

  test("window_refusal_is_waited_for", "gateway", async () => {
    const apiKey = need("window_key");
    const body = { model: MODEL, messages: ask("hello"), max_tokens: 1 };
    let full = false;
    for (let i = 0; i < 400 && !full; i++) full = (await post(apiKey, body)) === 429;
    expect(full, "400 calls found no end of the window");
    const error = await refused(OpenAI.RateLimitError, "rate_limit_exceeded", async () => {
      for (let i = 0; i < 20; i++) await create(body, make({ apiKey }));
    });
    const header = (name) => Number(error.headers.get ? error.headers.get(name) : error.headers[name]);
    const [hint, exact] = [header("retry-after"), header("retry-after-ms")];
    expect(hint > 0 && hint <= 60 && exact <= hint * 1000, hint, exact);
    const attempts = await refusedFirst(apiKey, body, (attempts) =>
      create(body, make({ apiKey, fetch: counting(attempts), maxRetries: 2 })),
    );
    expect(attempts.join() === "429,200", attempts);
    return `attempts ${attempts}, told ${hint} s or ${exact} ms`;
  });
}

/** The AI SDK with each of its providers: the ways to a model, the provider's own choice first, and
 * those that take reasoning for a part of the completion, as OpenAI counts; xAI counts it apart. */
const PROVIDERS = {
  ai: {
    sdk: "ai",
    module: "@ai-sdk/openai-compatible",
    make: ({ createOpenAICompatible }, options) => createOpenAICompatible({ name: "knockx", ...options }),
    ways: ["chatModel"],
    blind: ["chatModel"],
  },
  "ai-openai": {
    sdk: "ai7",
    module: "@ai-sdk/openai",
    make: ({ createOpenAI }, options) => createOpenAI(options),
    ways: ["responses", "chat"],
    blind: ["chat"],
  },
  xai: {
    sdk: "ai7",
    module: "@ai-sdk/xai",
    make: ({ createXai }, options) => createXai(options),
    ways: ["responses"],
    blind: [],
  },
  xai3: {
    sdk: "ai",
    module: "ai-sdk-xai3",
    make: ({ createXai }, options) => createXai(options),
    ways: ["chat", "responses"],
    blind: [],
  },
};

async function aiCases({ sdk, module, make, ways, blind }) {
  const { generateText, streamText, jsonSchema, tool } = await import(sdk);
  const maker = await import(module);
  const provider = (options = {}) => make(maker, { baseURL: ctx.base_url, apiKey: ctx.api_key, ...options });
  const model = (options, name = MODEL) => provider(options).languageModel(name);
  const tools = { get_weather: tool({ inputSchema: jsonSchema(WEATHER) }) };
  const plain = { maxRetries: 0 };
  const quiet = { ...plain, onError() {} };

  async function parts(request) {
    return collect(streamText({ ...quiet, ...request }).fullStream);
  }

  test("whole", null, async () => {
    const reply = await generateText({ ...plain, model: model(), prompt: "hello" });
    expect(reply.text.length > TOKENS && reply.finishReason === "stop", reply.text);
    expect(reply.usage.outputTokens === TOKENS, reply.usage);
  });

  test("stream", null, async () => {
    const reply = await generateText({ ...plain, model: model(), prompt: "hello" });
    const seen = await parts({ model: model(), prompt: "hello" });
    const text = seen.filter((part) => part.type === "text-delta").map((part) => part.text);
    expect(text.join("") === reply.text, text.length);
    expect(seen.at(-1).type === "finish" && seen.at(-1).finishReason === "stop", seen.at(-1));
  });

  test("stream_with_usage", null, async () => {
    const seen = await parts({ model: model({ includeUsage: true }), prompt: "hello" });
    const usage = seen.at(-1).totalUsage;
    expect(usage.outputTokens === TOKENS, usage);
    return `input=${usage.inputTokens} output=${usage.outputTokens} total=${usage.totalTokens}`;
  });

  // Whole and streamed, all ways to a model, and with reasoning.
  test("usage", null, async () => {
    const own = provider({ includeUsage: true });
    expect(own.languageModel(MODEL).provider === own[ways[0]](MODEL).provider, own.languageModel(MODEL).provider);
    for (const way of ways) {
      for (const [name, thought] of [[MODEL, 0], [THINKER, 7]]) {
        const request = { model: own[way](name), prompt: `hello [sim reasoning=${thought}]` };
        for (const reply of [await generateText({ ...plain, ...request }), streamText({ ...quiet, ...request })]) {
          const [text, usage, { headers }] = await Promise.all([reply.text, reply.usage, reply.response]);
          expect(text.length > TOKENS && usage.outputTokenDetails.reasoningTokens === thought, way, text, usage);
          const output = usage.outputTokens + (blind.includes(way) ? thought : 0);
          await agrees(await truth(new Headers(headers)), usage.inputTokens, output);
        }
      }
    }
    return ways.join(", ");
  });

  test("tools", null, async () => {
    const reply = await generateText({ ...plain, model: model(), prompt: "use the tool", tools });
    expect(reply.toolCalls[0]?.toolName === "get_weather" && "city" in reply.toolCalls[0].input, reply.toolCalls);
    const seen = await parts({ model: model(), prompt: "use the tool", tools });
    const call = seen.find((part) => part.type === "tool-call");
    expect(call?.toolName === "get_weather" && "city" in call.input, seen);
  });

  /** Aborts a stream after three deltas of text. Gives the reply's headers, and when that was. */
  async function abortStream(prompt, options) {
    const abort = new AbortController();
    let headers;
    const fetching = async (...request) => {
      const reply = await fetch(...request);
      headers = reply.headers;
      return reply;
    };
    const request = { model: model({ fetch: fetching }), prompt, maxOutputTokens: 900, abortSignal: abort.signal };
    let seen = 0;
    for await (const part of streamText({ ...quiet, ...request, ...options }).fullStream) {
      if (part.type === "text-delta" && ++seen === 3) break;
    }
    abort.abort();
    return { headers, closed: Date.now() };
  }

  test("abort", null, async () => {
    const providerOptions = { openai: { store: false }, xai: { store: false } };
    const { headers, closed } = await abortStream("[sim tokens=900 token-ms=20]", { providerOptions });
    const said = await truth(headers);
    expect(said.aborted_by_client && said.produced < 100, said);
    expect(said.ended_ms - closed < 1000, said.ended_ms - closed);
    return `upstream noticed after ${Math.max(said.ended_ms - closed, 0)} ms`;
  });

  const stores = ways[0] === "responses";
  test("abort_of_a_stored_response", stores ? "gateway" : "nothing", async () => {
    const { headers } = await abortStream("[sim tokens=60 token-ms=20]");
    const said = await truth(headers);
    const row = await charge(headers.get("x-request-id"));
    expect(!said.aborted_by_client && said.produced === 60, said);
    expect(row.tokens.completion === 60 && row.status === "cut_by_client" && row.source === "reported", row);
  });

  async function status(request) {
    const error = await failure(() => generateText({ ...plain, model: model(), prompt: "hello", ...request }));
    return error.statusCode ?? error.message;
  }

  test("unknown_model", null, async () => {
    const stranger = await status({ model: model({}, "no-such-model") });
    expect(stranger === 404, stranger);
  });

  test("refusals", "gateway", async () => {
    const { key, model: forbidden } = need("limited");
    for (const [apiKey, name, code] of [
      ["sk-wrong", MODEL, 401],
      ...need("dead_keys").map(({ key }) => [key, MODEL, 401]),
      [key, forbidden, 403],
    ]) {
      const seen = await status({ model: model({ apiKey }, name) });
      expect(seen === code, apiKey.slice(0, 9), seen);
    }
  });

  test("day_refusal", "gateway", async () => {
    const apiKey = need("day_key");
    await useUpDay(apiKey);
    const error = await failure(() => generateText({ ...plain, model: model({ apiKey }), prompt: "hello" }));
    expect(error.statusCode === 429 && error.data?.error.code === "insufficient_quota", error.data);
  });

  test("window_refusal_is_waited_for", "gateway", async () => {
    const apiKey = need("window_key");
    const body = { model: MODEL, messages: ask("hello"), max_tokens: 1 };
    let full = false;
    for (let i = 0; i < 400 && !full; i++) full = (await post(apiKey, body)) === 429;
    expect(full, "400 calls found no end of the window");
    const attempts = await refusedFirst(apiKey, body, (attempts) => {
      const own = model({ apiKey, fetch: counting(attempts) });
      return generateText({ model: own, prompt: "hello", maxOutputTokens: 1, maxRetries: 2 });
    });
    expect(attempts.join() === "429,200", attempts);
  });

  test("upstream_fails", null, async () => {
    const code = await status({ prompt: "[sim fault=500]" });
    expect(code >= 500, code);
  });

  test("error_in_stream", null, async () => {
    for (const fault of isGateway ? ["error-event=4", "cut=4", "close=4"] : ["error-event=4"]) {
      const seen = [];
      const reading = async () => {
        const request = { model: model(), prompt: `[sim fault=${fault}]` };
        for await (const part of streamText({ ...quiet, ...request }).fullStream) seen.push(part);
      };
      // After the error event the reply breaks off, and the SDK throws that beside the error.
      const thrown = await reading().catch((error) => error);
      expect(seen.some((part) => part.type === "error"), fault, seen.at(-1));
      expect(!isGateway || thrown instanceof Error, fault, seen.at(-1));
      await mend();
    }
  });
}

async function run({ name, run }) {
  try {
    const told = await run();
    console.log(`ok ${name}` + (told ? ` (${told})` : ""));
    return true;
  } catch (error) {
    if (error instanceof Skip) {
      console.log(`skip ${name} ${error.message}`);
      return null;
    }
    console.log(`FAIL ${name} ${error.constructor.name}: ${String(error.message).slice(0, 600)}`);
    return false;
  }
}

await (PROVIDERS[client] ? aiCases(PROVIDERS[client]) : openaiCases((await import(client)).default));
const results = [];
for (const one of cases) {
  const fits = (!one.target || one.target === ctx.target) && (!wanted.length || wanted.includes(one.name));
  if (fits) results.push(await run(one));
}
const passed = results.filter((result) => result === true).length;
const failed = results.filter((result) => result === false).length;
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed || !passed ? 1 : 0);
