// Vercel's AI SDK, with the providers for OpenAI, for compatible servers and for xAI.

import {
  MODEL, THINKER, TOKENS, WEATHER, ctx, test, expect, need, ask, truth, agrees, charge, post, mend, counting, collect,
  failure, useUpDay, refusedFirst, isGateway,
} from "./harness.mjs";

/** The AI SDK with each of its providers: the ways to a model, the provider's own choice first, and
 * those that take reasoning for a part of the completion, as OpenAI counts; xAI counts it apart. */
export const PROVIDERS = {
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

export async function aiCases({ sdk, module, make, ways, blind }) {
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
