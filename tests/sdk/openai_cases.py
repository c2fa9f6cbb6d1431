"""OpenAI's own client."""

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor

from harness import MODEL, TOKENS, TOOLS, ask, case, client, code_is, expect, refused


@case("openai")
def whole(ctx):
    reply = client(ctx).chat.completions.create(model=MODEL, messages=ask("hello"))
    expect(reply.object == "chat.completion" and reply.choices[0].message.role == "assistant", reply)
    expect(len(reply.choices[0].message.content) > TOKENS, reply)
    expect(reply.choices[0].finish_reason == "stop", reply)
    expect(reply.usage.completion_tokens == TOKENS, reply.usage)


@case("openai")
def stream(ctx):
    said, finish, model_ids = [], [], set()
    with client(ctx).chat.completions.create(model=MODEL, messages=ask("hello"), stream=True) as chunks:
        for chunk in chunks:
            expect(chunk.usage is None, chunk)
            model_ids.add((chunk.id, chunk.model))
            said.append(chunk.choices[0].delta.content or "")
            finish.append(chunk.choices[0].finish_reason)
    whole = client(ctx).chat.completions.create(model=MODEL, messages=ask("hello"))
    expect("".join(said) == whole.choices[0].message.content, said)
    expect(finish[-1] == "stop" and set(finish[:-1]) <= {None}, finish)
    expect(len(model_ids) == 1, model_ids)


@case("openai")
def stream_with_usage(ctx):
    options = {"include_usage": True}
    stream = client(ctx).chat.completions.create(
        model=MODEL, messages=ask("hello"), stream=True, stream_options=options
    )
    chunks = list(stream)
    usages = [chunk.usage for chunk in chunks if chunk.usage]
    expect(len(usages) == 1 and chunks[-1].choices == [], usages)
    usage = usages[0]
    expect(usage.completion_tokens == TOKENS, usage)
    expect(usage.total_tokens == usage.prompt_tokens + TOKENS, usage)
    truth = ctx.truth(stream.response.headers)
    expect((truth["prompt"], truth["completion"]) == (usage.prompt_tokens, TOKENS), truth)
    return f"prompt={usage.prompt_tokens} completion={usage.completion_tokens} total={usage.total_tokens}"


@case("openai")
def stream_async(ctx):
    import openai

    async def run():
        async with openai.AsyncOpenAI(base_url=ctx.base_url, api_key=ctx.api_key) as own:
            stream = await own.chat.completions.create(model=MODEL, messages=ask("hello"), stream=True)
            return [chunk.choices[0].finish_reason async for chunk in stream]

    expect(asyncio.run(run())[-1] == "stop")


@case("openai")
def odd_wire(ctx):
    """However the upstream's bytes are cut and framed, the words are the same."""
    reference = None
    for fault in ["none", "split", "crlf", "split,crlf", "multiline", "drip"]:
        headers = {"x-sim-fault": fault}
        stream = client(ctx).chat.completions.create(
            model=MODEL, messages=ask("hello"), stream=True, extra_headers=headers
        )
        said = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        reference = reference or said
        expect(said == reference and len(said) > TOKENS, fault, said)


@case("openai")
def tools(ctx):
    reply = client(ctx).chat.completions.create(model=MODEL, messages=ask("use the tool"), tools=TOOLS)
    expect(reply.choices[0].finish_reason == "tool_calls", reply)
    call = reply.choices[0].message.tool_calls[0]
    expect(call.function.name == "get_weather" and "city" in json.loads(call.function.arguments), call)
    messages = [
        *ask("use the tool"),
        reply.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "rain"},
    ]
    last = client(ctx).chat.completions.create(model=MODEL, messages=messages, tools=TOOLS)
    expect(last.choices[0].finish_reason == "stop" and last.choices[0].message.content, last)


@case("openai")
def tools_stream(ctx):
    stream = client(ctx).chat.completions.create(
        model=MODEL, messages=ask("use the tool"), tools=TOOLS, stream=True
    )
    name, arguments, finish = "", "", None
    for chunk in stream:
        for call in chunk.choices[0].delta.tool_calls or []:
            expect(call.index == 0, call)
            name += call.function.name or ""
            arguments += call.function.arguments or ""
        finish = chunk.choices[0].finish_reason or finish
    expect(name == "get_weather" and "city" in json.loads(arguments), name, arguments)
    expect(finish == "tool_calls", finish)


@case("openai")
def two_choices(ctx):
    reply = client(ctx).chat.completions.create(model=MODEL, messages=ask("hello"), n=2)
    texts = [choice.message.content for choice in reply.choices]
    expect(len(texts) == 2 and texts[0] != texts[1], texts)
    expect(reply.usage.completion_tokens == 2 * TOKENS, reply.usage)
    streamed = {0: "", 1: ""}
    for chunk in client(ctx).chat.completions.create(model=MODEL, messages=ask("hello"), n=2, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    expect(list(streamed.values()) == texts, streamed)


@case("openai")
def abort(ctx):
    stream = client(ctx).chat.completions.create(
        model=MODEL, messages=ask("[sim tokens=900 token-ms=20]"), stream=True, max_tokens=900
    )
    for seen, _ in enumerate(stream):
        if seen == 3:
            break
    stream.close()
    closed_ms = time.time() * 1000
    truth = ctx.truth(stream.response.headers)
    noticed_ms = truth["ended_ms"] - closed_ms
    expect(truth["aborted_by_client"] and truth["produced"] < 100, truth)
    expect(noticed_ms < 1000, noticed_ms)
    return f"upstream noticed after {max(noticed_ms, 0):.0f} ms"


@case("openai")
def parallel_streams(ctx):
    """Twenty streams of one user at once, without any max_tokens."""

    def one(_):
        stream = client(ctx).chat.completions.create(
            model=MODEL, messages=ask("[sim tokens=40 token-ms=5]"), stream=True
        )
        return [chunk.choices[0].finish_reason for chunk in stream][-1:]

    with ThreadPoolExecutor(20) as pool:
        finished = list(pool.map(one, range(20)))
    expect(finished == [["stop"]] * 20, finished)


@case("openai")
def models(ctx):
    names = [model.id for model in client(ctx).models.list()]
    expect(MODEL in names, names)
    model = client(ctx).models.retrieve(MODEL)
    expect(model.id == MODEL and model.object == "model", model)


@case("openai", "simulator")
def responses(ctx):
    reply = client(ctx).responses.create(model=MODEL, input="hello")
    expect(reply.status == "completed" and len(reply.output_text) > TOKENS, reply)
    expect(reply.usage.output_tokens == TOKENS, reply.usage)
    events = list(client(ctx).responses.create(model=MODEL, input="hello", stream=True))
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    expect(said == reply.output_text, said)
    expect(events[-1].type == "response.completed" and events[-1].response.usage, events[-1])


@case("openai", "gateway")
def not_offered(ctx):
    """What the gateway has not got is said so in OpenAI's shape, and once."""
    import openai

    own = client(ctx)
    for call in [
        lambda: own.files.list(),
        lambda: own.get("/nothing/here", cast_to=object),
    ]:
        code_is(ctx, refused(openai.NotFoundError, call), "unknown_url")
    chat_only = {"model": "grok-imagine-image", "messages": ask("hello")}
    error = refused(openai.NotFoundError, lambda: own.chat.completions.create(**chat_only))
    code_is(ctx, error, "model_not_found")
    error = refused(openai.APIStatusError, lambda: own.get("/chat/completions", cast_to=object))
    expect(error.status_code == 405 and error.response.headers["allow"] == "POST", error)


@case("openai")
def output_limit(ctx):
    reply = client(ctx).chat.completions.create(model=MODEL, messages=ask("hello"), max_completion_tokens=5)
    expect(reply.choices[0].finish_reason == "length", reply)
    expect(reply.usage.completion_tokens == 5, reply.usage)


@case("openai", "gateway")
def missing_key(ctx):
    import openai

    headers = {"Authorization": openai._types.Omit()}
    call = client(ctx).chat.completions.create
    refused(
        openai.AuthenticationError,
        lambda: call(model=MODEL, messages=ask("hello"), extra_headers=headers),
    )


@case("openai", "gateway")
def wrong_key(ctx):
    import openai

    for key in ["sk-wrong", "sk-kx-wrong_wrong", ctx.api_key[:-1] + ("a" if ctx.api_key[-1] != "a" else "b")]:
        own = client(ctx, api_key=key)
        error = refused(
            openai.AuthenticationError,
            lambda: own.chat.completions.create(model=MODEL, messages=ask("hello")),
        )
        code_is(ctx, error, "invalid_api_key")
        refused(openai.AuthenticationError, own.models.list)


@case("openai", "gateway")
def dead_keys(ctx):
    """Revoked, expired, of a suspended user."""
    import openai

    for dead in ctx.need("dead_keys"):
        attempts = []
        own = client(ctx, attempts, api_key=dead["key"], max_retries=2)
        error = refused(openai.AuthenticationError, own.models.list)
        code_is(ctx, error, dead["code"])
        expect(attempts == [401], attempts)


@case("openai")
def unknown_model(ctx):
    import openai

    own = client(ctx)
    error = refused(
        openai.NotFoundError,
        lambda: own.chat.completions.create(model="no-such-model", messages=ask("hello")),
    )
    code_is(ctx, error, "model_not_found")
    refused(openai.NotFoundError, lambda: own.models.retrieve("no-such-model"))


@case("openai", "gateway")
def bad_body(ctx):
    import openai

    own = client(ctx)
    for body in [{"model": MODEL}, {"model": MODEL, "messages": "hello"}, {"messages": ask("hello")}]:
        error = refused(
            openai.BadRequestError,
            lambda: own.post("/chat/completions", body=body, cast_to=object),
        )
        expect(error.type == "invalid_request_error" and error.param, error.body)


@case("openai", "gateway")
def forbidden_model(ctx):
    import openai

    limited = ctx.need("limited")
    own = client(ctx, api_key=limited["key"])
    error = refused(
        openai.PermissionDeniedError,
        lambda: own.chat.completions.create(model=limited["model"], messages=ask("hello")),
    )
    code_is(ctx, error, "model_not_allowed")
    own.chat.completions.create(model=MODEL, messages=ask("hello"))


@case("openai", "gateway")
def too_large(ctx):
    import openai

    big = "x" * (33 << 20)
    try:
        client(ctx).chat.completions.create(model=MODEL, messages=ask(big))
    except openai.APIStatusError as error:
        expect(error.status_code == 413, error)
        return
    raise AssertionError("no 413")


@case("openai")
def upstream_fails(ctx):
    import openai

    for fault in ["500", "503", "html"]:
        attempts = []
        own = client(ctx, attempts)
        refused(
            openai.InternalServerError,
            lambda: own.chat.completions.create(model=MODEL, messages=ask(f"[sim fault={fault}]")),
        )
        expect(len(attempts) == 1 and attempts[0] >= 500, attempts)
        ctx.mend()


@case("openai", "gateway")
def upstream_errors_are_translated(ctx):
    """Whatever the upstream answers, the client sees OpenAI's shape and whose fault it is."""
    import openai

    for fault, kind, status, code in [
        ("410", openai.BadRequestError, 400, None),
        ("422", openai.BadRequestError, 400, None),
        ("429", openai.RateLimitError, 429, "rate_limit_exceeded"),
        ("500", openai.InternalServerError, 502, "upstream_error"),
        ("503", openai.InternalServerError, 503, "upstream_unavailable"),
        ("html", openai.InternalServerError, 502, "upstream_error"),
        ("wrong-key", openai.InternalServerError, 502, "upstream_auth"),
        ("error-200", openai.InternalServerError, 503, "upstream_unavailable"),
        ("garbage", openai.InternalServerError, 502, "upstream_bad_reply"),
        ("empty", openai.InternalServerError, 502, "upstream_bad_reply"),
        ("cut", openai.InternalServerError, 502, "upstream_bad_reply"),
        ("refuse-headers", openai.InternalServerError, 502, "upstream_closed"),
    ]:
        error = refused(
            kind,
            lambda: client(ctx).chat.completions.create(model=MODEL, messages=ask(f"[sim fault={fault}]")),
        )
        expect(error.status_code == status and error.code == code, fault, error.status_code, error.body)
        expect(error.response.headers.get("x-request-id"), fault)
        ctx.mend()


@case("openai")
def upstream_fails_is_retried(ctx):
    import openai

    attempts = []
    own = client(ctx, attempts, max_retries=2)
    refused(
        openai.InternalServerError,
        lambda: own.chat.completions.create(model=MODEL, messages=ask("[sim fault=500]")),
    )
    expect(len(attempts) == 3, attempts)
    ctx.mend()


@case("openai")
def error_in_stream(ctx):
    import openai

    faults = ["error-event=4", "cut=4", "close=4"] if ctx.target == "gateway" else ["error-event=4"]
    for fault in faults:
        seen = []
        stream = client(ctx).chat.completions.create(
            model=MODEL, messages=ask(f"[sim fault={fault}]"), stream=True
        )
        error = refused(openai.APIError, lambda: [seen.append(chunk) for chunk in stream])
        expect(len(seen) == 4, fault, len(seen), error)
        expect(ctx.target == "simulator" or error.code == "upstream_cut", fault, error.body)
        ctx.mend()


@case("openai", "gateway")
def day_refusal_is_final(ctx):
    import openai

    key = ctx.need("day_key")
    for _ in range(60):
        if ctx.post(key, {"model": MODEL, "messages": ask("hello")}) == 429:
            break
    attempts = []
    own = client(ctx, attempts, api_key=key, max_retries=2)
    began = time.monotonic()
    error = refused(
        openai.RateLimitError,
        lambda: own.chat.completions.create(model=MODEL, messages=ask("hello")),
    )
    code_is(ctx, error, "insufficient_quota")
    expect(attempts == [429] and time.monotonic() - began < 2, attempts)
    expect(error.response.headers["x-should-retry"] == "false", dict(error.response.headers))


@case("openai", "gateway")
def window_refusal_is_waited_for(ctx):
    import openai

    key = ctx.need("window_key")
    limited = {"model": MODEL, "messages": ask("hello"), "max_tokens": 1}
    full = any(ctx.post(key, limited) == 429 for _ in range(400))
    expect(full, "400 calls found no end of the window")
    completions = client(ctx, api_key=key).chat.completions

    # The window frees a call every 0.6 s, so it is filled again before each try.
    def call_once_full():
        expect(any(ctx.post(key, limited) == 429 for _ in range(20)), "no end of the window")
        completions.create(**limited)

    error = refused(openai.RateLimitError, lambda: [call_once_full() for _ in range(20)])
    code_is(ctx, error, "rate_limit_exceeded")
    hint = float(error.response.headers["retry-after"])
    expect(0 < hint <= 60, hint)
    exact = float(error.response.headers["retry-after-ms"])
    expect(0 < exact <= hint * 1000, exact, hint)
    attempts = []
    own = client(ctx, attempts, api_key=key, max_retries=2)
    # The first try may come too late for a refusal.
    for _ in range(5):
        expect(any(ctx.post(key, limited) == 429 for _ in range(20)), "no end of the window")
        attempts.clear()
        own.chat.completions.create(**limited)
        if attempts[0] == 429:
            break
    expect(attempts == [429, 200], attempts)
    return f"attempts {attempts}, told {hint:g} s or {exact:g} ms"


@case("openai", "simulator")
def retry_after_is_kept(ctx):
    """What `window_refusal_is_waited_for` relies on, without a window to fill."""
    import openai

    attempts = []
    own = client(ctx, attempts, max_retries=1)
    began = time.monotonic()
    refused(
        openai.RateLimitError,
        lambda: own.chat.completions.create(model=MODEL, messages=ask("[sim fault=429=1]")),
    )
    expect(attempts == [429, 429] and time.monotonic() - began >= 1, attempts)
