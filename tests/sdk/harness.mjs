// What all cases share: the context, and what the simulator and the ledger say of a call.

import { readFileSync } from "node:fs";

export const MODEL = "grok-4.3";
export const THINKER = "grok-4.20-0309-reasoning";
export const TOKENS = 24; // what the simulator says unless told otherwise
const IMAGE_TOKENS = 1000; // the default of `image_tokens`
export const WEATHER = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};
export const TOOLS = [{ type: "function", function: { name: "get_weather", parameters: WEATHER } }];

export const [client, contextFile, ...wanted] = process.argv.slice(2);
export const ctx = JSON.parse(readFileSync(contextFile, "utf8"));
export const cases = [];

/** Registers a case; one with a target needs that one. */
export function test(name, target, run) {
  cases.push({ name, target, run });
}

/** The case cannot be run here, and says why. */
export class Skip extends Error {}

export function expect(condition, ...seen) {
  if (!condition) throw new Error("seen: " + seen.map((s) => JSON.stringify(s) ?? String(s)).join(" "));
}

export function need(name) {
  if (!ctx[name]) throw new Skip(`the context has no ${name}`);
  return ctx[name];
}

export const ask = (text) => [{ role: "user", content: text }];
export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** What the simulator says about the call these reply headers belong to. */
export async function truth(headers) {
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
 * alone has not got). Hidden reasoning is output, and so are the tokens that the gateway charges for
 * images. Gives the ledger's row. */
export async function agrees(said, prompt, output, images = 0) {
  expect(said.prompt === prompt && said.completion + said.reasoning === output, said, prompt, output);
  if (!isGateway) return null;
  const row = await charge("req_" + said.request.replaceAll("-", ""));
  for (const name of ["prompt", "cached", "completion", "reasoning"]) {
    const charged = name === "completion" ? images * IMAGE_TOKENS : 0;
    expect(row.tokens[name] === said[name] + charged, name, row, said);
  }
  expect(row.tokens.total === prompt + output + images * IMAGE_TOKENS && row.status === "complete" && row.source === "reported", row);
  return row;
}

/** The ledger's one row for a request. */
export async function charge(requestId) {
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
export async function post(key, body) {
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
export async function mend() {
  const body = { model: MODEL, messages: ask("hello"), max_tokens: 1 };
  for (let i = 0; isGateway && i < 2; i++) await post(need("mend_key"), body);
}

/** A fetch that notes the status of each try. */
export function counting(attempts) {
  return async (...request) => {
    const reply = await fetch(...request);
    attempts.push(reply.status);
    return reply;
  };
}

export async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

/** Runs a call that must fail. */
export async function failure(call) {
  try {
    await call();
  } catch (error) {
    return error;
  }
  throw new Error("no error");
}

export async function useUpDay(key) {
  for (let i = 0; i < 60; i++) {
    if ((await post(key, { model: MODEL, messages: ask("hello") })) === 429) return;
  }
}

/** The tries of a call that met a full window. A window frees a call every 0.6 s, so the first
 * one, with all that is still to be loaded for it, may be too late for a refusal. */
export async function refusedFirst(key, body, call) {
  const attempts = [];
  for (let i = 0; i < 5 && attempts[0] !== 429; i++) {
    attempts.length = 0;
    while ((await post(key, body)) !== 429);
    await call(attempts);
  }
  return attempts;
}

export const isGateway = ctx.target === "gateway";
