// OpenAI's own client, in several versions.

import {
  MODEL, TOKENS, TOOLS, ctx, test, expect, need, ask, truth, agrees, post, mend, counting, collect, failure, useUpDay,
  refusedFirst, isGateway,
} from "./harness.mjs";

export async function openaiCases(OpenAI) {
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

  // An upstream bills an image by its price; the gateway also charges tokens for it.
  test("images", "gateway", async () => {
    const body = { model: "grok-imagine-image", prompt: "a lighthouse", n: 2 };
    const { data: reply, response } = await make().images.generate(body).withResponse();
    expect(reply.data.length === 2 && reply.data[0].url, reply);
    const row = await agrees(await truth(response.headers), 0, 0, 2);
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
    const own = make({ apiKey });
    const error = await refused(OpenAI.RateLimitError, "rate_limit_exceeded", async () => {
      for (let i = 0; i < 20; i++) {
        // The window frees a call every 0.6 s, so it is filled again before each try.
        let full = false;
        for (let j = 0; j < 400 && !full; j++) full = (await post(apiKey, body)) === 429;
        expect(full, "400 calls found no end of the window");
        await create(body, own);
      }
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
