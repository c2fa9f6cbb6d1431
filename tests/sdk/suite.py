"""Drives the gateway with the real Python clients, as an application would.

Run by `scripts/sdk`, once in each virtual environment:

    python suite.py openai|langchain|langchain-xai|llm|anthropic CONTEXT.json

The context names the base address, the keys and the simulator behind the gateway; `target` is
`gateway`, or `simulator` when the clients talk to the simulator itself, which knows no quotas.
Each case prints `ok NAME` or `FAIL NAME reason`; the last line counts them.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MODEL = "grok-4.3"
THINKER = "grok-4.20-0309-reasoning"
TOKENS = 24  # what the simulator says unless told otherwise
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a city",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
]

CASES = []


def case(suite, target=None):
    """Registers a case of a suite; one with a target needs that one."""

    def register(function):
        CASES.append((suite, target, function.__name__, function))
        return function

    return register


class Skip(Exception):
    """The case cannot be run here, and says why."""


def expect(condition, *seen):
    if not condition:
        raise AssertionError("seen: " + " ".join(repr(s) for s in seen))


def ask(text):
    return [{"role": "user", "content": text}]


class Context:
    """Where to go and with which key."""

    def __init__(self, path):
        with open(path) as file:
            self.raw = json.load(file)
        self.target = self.raw["target"]
        self.base_url = self.raw["base_url"]
        self.api_key = self.raw["api_key"]
        self.sim_url = self.raw["sim_url"]

    def need(self, name):
        if not self.raw.get(name):
            raise Skip(f"the context has no {name}")
        return self.raw[name]

    def truth(self, headers):
        """What the simulator says about the call these reply headers belong to."""
        ids = {headers.get("x-request-id"), headers.get("x-upstream-request-id")} - {None}
        return self.truth_of(lambda entry: entry["sim_id"] in ids or entry["request"] in ids)

    def truth_of(self, is_wanted, wait=5.0):
        """What the simulator says about the last call that is wanted."""
        until = time.monotonic() + wait
        while time.monotonic() < until:
            with urllib.request.urlopen(self.sim_url + "/sim/log?last=2000") as reply:
                for line in reversed(reply.read().splitlines()):
                    entry = json.loads(line)
                    if is_wanted(entry):
                        return entry
            time.sleep(0.02)
        raise AssertionError("the simulator does not know the call")

    def agrees(self, truth, prompt, output):
        """What a client was told is what the simulator said, and stands in the ledger (which the
        simulator alone has not got). Hidden reasoning is output. Gives the ledger's row."""
        expect((truth["prompt"], truth["completion"] + truth["reasoning"]) == (prompt, output), truth, prompt, output)
        if self.target != "gateway":
            return None
        row = self.charge("req_" + truth["request"].replace("-", ""))
        tokens = {name: truth[name] for name in ("prompt", "cached", "completion", "reasoning")}
        expect(row["tokens"] == {**tokens, "total": prompt + output}, row, truth)
        expect((row["status"], row["source"]) == ("complete", "reported"), row)
        return row

    def charge(self, request_id, wait=5.0):
        """The ledger's one row for a request."""
        url = self.base_url.removesuffix("/v1") + "/api/v1/usage/history?limit=200"
        request = urllib.request.Request(url, headers={"authorization": "Bearer " + self.api_key})
        until = time.monotonic() + wait
        while time.monotonic() < until:
            with urllib.request.urlopen(request) as reply:
                rows = [row for row in json.load(reply)["data"] if row["request_id"] == request_id]
            if rows:
                expect(len(rows) == 1, rows)
                return rows[0]
            time.sleep(0.02)
        raise AssertionError("the ledger does not know " + request_id)

    def post(self, key, body):
        """A plain call outside of any client; returns the status."""
        request = urllib.request.Request(self.base_url + "/chat/completions", json.dumps(body).encode())
        request.add_header("authorization", "Bearer " + key)
        request.add_header("content-type", "application/json")
        try:
            with urllib.request.urlopen(request) as reply:
                reply.read()
                return reply.status
        except urllib.error.HTTPError as refused:
            refused.read()
            return refused.code

    def mend(self):
        """Good calls after one that the upstream failed. All suites share that upstream, and together
        they would open its breaker."""
        if self.target == "gateway":
            for _ in range(2):
                self.post(self.need("mend_key"), {"model": MODEL, "messages": ask("hello"), "max_tokens": 1})


def client(ctx, attempts=None, **options):
    """A client; `attempts` collects a status for each try it makes."""
    import openai

    options = {"base_url": ctx.base_url, "api_key": ctx.api_key, "max_retries": 0, **options}
    if attempts is not None:
        hooks = {"response": [lambda reply: attempts.append(reply.status_code)]}
        options["http_client"] = openai.DefaultHttpxClient(event_hooks=hooks)
    return openai.OpenAI(**options)


def refused(kind, call):
    """Runs a call that must raise exactly this kind of error (LangChain has kinds below it)."""
    try:
        call()
    except Exception as error:
        is_langchains = type(error).__module__.startswith("langchain") and isinstance(error, kind)
        expect(type(error) is kind or is_langchains, type(error), error)
        return error
    raise AssertionError(f"no {kind.__name__}")


def code_is(ctx, error, code):
    """Only the gateway promises OpenAI's codes."""
    if ctx.target == "gateway":
        expect(error.code == code, error.code, error.body)
        expect(error.response.headers.get("x-request-id"), dict(error.response.headers))


# --- plain OpenAI client -------------------------------------------------------------------------


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
    error = refused(
        openai.RateLimitError,
        lambda: [client(ctx, api_key=key).chat.completions.create(**limited) for _ in range(20)],
    )
    code_is(ctx, error, "rate_limit_exceeded")
    hint = float(error.response.headers["retry-after"])
    expect(0 < hint <= 60, hint)
    exact = float(error.response.headers["retry-after-ms"])
    expect(0 < exact <= hint * 1000, exact, hint)
    attempts = []
    own = client(ctx, attempts, api_key=key, max_retries=2)
    # The window frees a call every 0.6 s, so the first try may come too late for a refusal.
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


# --- LangChain -----------------------------------------------------------------------------------


def chat_openai(ctx, **options):
    from langchain_openai import ChatOpenAI

    options = {"model": MODEL, "base_url": ctx.base_url, "api_key": ctx.api_key, "max_retries": 0, **options}
    return ChatOpenAI(**options)


@case("langchain")
def invoke(ctx):
    message = chat_openai(ctx).invoke("hello")
    expect(len(message.content) > TOKENS, message)
    usage = message.usage_metadata
    expect(usage["output_tokens"] == TOKENS, usage)


@case("langchain")
def stream_counts_once(ctx):
    reference = chat_openai(ctx).invoke("hello")
    total = None
    for chunk in chat_openai(ctx, stream_usage=True).stream("hello"):
        total = chunk if total is None else total + chunk
    expect(total.content == reference.content, total)
    expect(total.usage_metadata["total_tokens"] == reference.usage_metadata["total_tokens"], total.usage_metadata)
    return f"total={total.usage_metadata['total_tokens']}"


@case("langchain")
def stream_without_usage(ctx):
    total = None
    for chunk in chat_openai(ctx, stream_usage=False).stream("hello"):
        total = chunk if total is None else total + chunk
    expect(len(total.content) > TOKENS and total.usage_metadata is None, total)


@case("langchain")
def stream_async_counts_once(ctx):
    async def run():
        total = None
        async for chunk in chat_openai(ctx, stream_usage=True).astream("hello"):
            total = chunk if total is None else total + chunk
        return total

    expect(asyncio.run(run()).usage_metadata["output_tokens"] == TOKENS)


@case("langchain")
def bound_tools(ctx):
    bound = chat_openai(ctx).bind_tools(TOOLS)
    call = bound.invoke("use the tool").tool_calls[0]
    expect(call["name"] == "get_weather" and "city" in call["args"], call)
    total = None
    for chunk in bound.stream("use the tool"):
        total = chunk if total is None else total + chunk
    expect(total.tool_calls[0]["args"] == call["args"], total)


@case("langchain")
def two_generations(ctx):
    from langchain_core.messages import HumanMessage

    [both] = chat_openai(ctx, n=2).generate([[HumanMessage("hello")]]).generations
    expect(len(both) == 2 and both[0].text != both[1].text, both)


@case("langchain")
def langchain_abort(ctx):
    """A stream that is left early is cancelled upstream, here found by its size."""
    tokens = 911
    stream = chat_openai(ctx, max_tokens=tokens).stream(f"[sim tokens={tokens} token-ms=20]")
    for seen, _ in enumerate(stream):
        if seen == 3:
            break
    stream.close()
    closed_ms = time.time() * 1000
    truth = ctx.truth_of(lambda entry: entry["completion"] == tokens)
    expect(truth["aborted_by_client"] and truth["produced"] < 100, truth)
    expect(truth["ended_ms"] - closed_ms < 1000, truth["ended_ms"] - closed_ms)
    return f"upstream noticed after {max(truth['ended_ms'] - closed_ms, 0):.0f} ms"


@case("langchain", "gateway")
def window_refusal_is_waited_for_by_langchain(ctx):
    import openai

    key = ctx.need("window_key")
    limited = {"model": MODEL, "messages": ask("hello"), "max_tokens": 1}
    expect(any(ctx.post(key, limited) == 429 for _ in range(400)), "no end of the window")
    try:
        for _ in range(20):
            chat_openai(ctx, api_key=key, max_tokens=1).invoke("hello")
    except openai.RateLimitError as error:
        expect(error.code == "rate_limit_exceeded", error.body)
        chat_openai(ctx, api_key=key, max_tokens=1, max_retries=2).invoke("hello")
        return
    raise AssertionError("no RateLimitError")


@case("langchain", "gateway")
def day_refusal_is_final_for_langchain(ctx):
    import openai

    key = ctx.need("day_key")
    for _ in range(60):
        if ctx.post(key, {"model": MODEL, "messages": ask("hello")}) == 429:
            break
    began = time.monotonic()
    try:
        chat_openai(ctx, api_key=key, max_retries=2).invoke("hello")
    except openai.RateLimitError as error:
        expect(error.code == "insufficient_quota", error.body)
        expect(time.monotonic() - began < 2, time.monotonic() - began)
        return
    raise AssertionError("no RateLimitError")


@case("langchain")
def langchain_sees_errors(ctx):
    import openai

    for model, text, kind in [
        ("no-such-model", "hello", openai.NotFoundError),
        (MODEL, "[sim fault=500]", openai.InternalServerError),
    ]:
        refused(kind, lambda: chat_openai(ctx, model=model).invoke(text))


@case("langchain", "gateway")
def langchain_sees_refusals(ctx):
    import openai

    refused(openai.AuthenticationError, lambda: chat_openai(ctx, api_key="sk-wrong").invoke("hello"))
    limited = ctx.need("limited")
    own = chat_openai(ctx, api_key=limited["key"], model=limited["model"])
    refused(openai.PermissionDeniedError, lambda: own.invoke("hello"))


@case("langchain")
def error_in_langchain_stream(ctx):
    import openai

    for fault in ["error-event=4", "cut=4", "close=4"] if ctx.target == "gateway" else ["error-event=4"]:
        error = refused(openai.APIError, lambda: list(chat_openai(ctx).stream(f"[sim fault={fault}]")))
        expect(ctx.target == "simulator" or error.code == "upstream_cut", fault, error.body)
        ctx.mend()


@case("openai")
def responses(ctx):
    own = client(ctx)
    if not hasattr(own, "responses"):
        return "this SDK is older than responses"
    reply = own.responses.with_raw_response.create(model=MODEL, input="hello", max_output_tokens=50)
    first = reply.parse()
    truth = ctx.truth(reply.headers)
    usage = first.usage
    expect(first.status == "completed" and first.output_text, first)
    ctx.agrees(truth, usage.input_tokens, usage.output_tokens)
    second = own.responses.create(model=MODEL, input="and more", previous_response_id=first.id)
    expect(second.output_text, second)
    expect(own.responses.retrieve(first.id).id == first.id, first.id)
    own.responses.delete(first.id)


@case("openai")
def responses_stream(ctx):
    own = client(ctx)
    if not hasattr(own, "responses") or not hasattr(own.responses, "stream"):
        return "this SDK is older than streamed responses"
    for fault in ["none", "split", "crlf"]:
        said, numbers = "", []
        headers = {"x-sim-fault": fault}
        with own.responses.stream(model=MODEL, input="hello", extra_headers=headers) as stream:
            for event in stream:
                numbers.append(event.sequence_number)
                if event.type == "response.output_text.delta":
                    said += event.delta
            last = stream.get_final_response()
        expect(last.status == "completed" and last.output_text == said, said, last)
        expect(numbers == list(range(len(numbers))), numbers)
        expect(last.usage.output_tokens == TOKENS, last.usage)


@case("openai", "gateway")
def responses_of_others(ctx):
    import openai

    own = client(ctx)
    if not hasattr(own, "responses"):
        return "this SDK is older than responses"
    reply = own.responses.create(model=MODEL, input="hello")
    other = client(ctx, api_key=ctx.need("window_key"))
    refused(openai.NotFoundError, lambda: other.responses.retrieve(reply.id))
    again = {"model": MODEL, "input": "more", "previous_response_id": reply.id}
    refused(openai.NotFoundError, lambda: other.responses.create(**again))


@case("openai")
def broken_responses_stream(ctx):
    own = client(ctx)
    if not hasattr(own, "responses"):
        return "this SDK is older than responses"
    text = "[sim tokens=50 fault=error-event=9]"
    try:
        kinds = [event.type for event in own.responses.create(model=MODEL, input=text, stream=True)]
    except Exception as error:
        return type(error).__name__
    expect("response.completed" not in kinds and kinds[-1] == "error", kinds)


@case("openai")
def embeddings(ctx):
    """The SDK asks for base64 by itself, and decodes it."""
    call = client(ctx).embeddings.with_raw_response.create
    raw = call(model="simulated-embedding", input=["one text", "another"])
    reply = raw.parse()
    expect([item.index for item in reply.data] == [0, 1], reply)
    expect(all(len(item.embedding) == 8 for item in reply.data), reply)
    expect(reply.usage.prompt_tokens == reply.usage.total_tokens > 0, reply.usage)
    ctx.agrees(ctx.truth(raw.headers), reply.usage.prompt_tokens, 0)


@case("openai")
def older_completions(ctx):
    stream = client(ctx).completions.create(model=MODEL, prompt="hello", max_tokens=10, stream=True)
    chunks = list(stream)
    expect(chunks[-1].choices[0].finish_reason == "length", chunks[-1])
    whole = client(ctx).completions.create(model=MODEL, prompt="hello", max_tokens=10)
    expect("".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text, whole)


@case("openai")
def images(ctx):
    """An image has a price and no tokens."""
    call = client(ctx).images.with_raw_response.generate
    raw = call(model="grok-imagine-image", prompt="a lighthouse", n=2)
    reply, ticks = raw.parse(), json.loads(raw.http_response.text)["usage"]["cost_in_usd_ticks"]
    expect(len(reply.data) == 2 and reply.data[0].url, reply)
    row = ctx.agrees(ctx.truth(raw.headers), 0, 0)
    expect(not row or row["cost_micro_dollars"] * 10_000 == ticks > 0, row, ticks)


# --- LangChain for xAI -----------------------------------------------------------------------------


def chat_xai(ctx, headers=None, **options):
    """`headers` becomes those of the last reply."""
    import httpx
    from langchain_xai import ChatXAI

    if headers is not None:
        hooks = {"response": [lambda reply: headers.update(reply.headers)]}
        options["http_client"] = httpx.Client(event_hooks=hooks)
    options = {"model": MODEL, "base_url": ctx.base_url, "api_key": ctx.api_key, "max_retries": 0, **options}
    return ChatXAI(**options)


def added(chunks):
    total = None
    for chunk in chunks:
        total = chunk if total is None else total + chunk
    return total


@case("langchain-xai")
def xai_usage(ctx):
    """Whole and streamed, on both surfaces, and with reasoning, which ChatXAI adds by itself."""
    for model, thought in [(MODEL, 0), (THINKER, 7)]:
        for surface in [{}, {"use_responses_api": True}]:
            prompt, said = f"hello [sim reasoning={thought}]", []
            for call in [lambda own: own.invoke(prompt), lambda own: added(own.stream(prompt))]:
                headers = {}
                message = call(chat_xai(ctx, headers, model=model, **surface))
                usage = message.usage_metadata
                expect(usage["output_tokens"] == TOKENS + thought, usage)
                expect(usage["total_tokens"] == usage["input_tokens"] + TOKENS + thought, usage)
                expect(usage["output_token_details"]["reasoning"] == thought, usage)
                ctx.agrees(ctx.truth(headers), usage["input_tokens"], usage["output_tokens"])
                said.append(message.text)
            expect(said[0] == said[1] and len(said[0]) > TOKENS, said)


@case("langchain-xai")
def xai_stream_async(ctx):
    async def run():
        return added([chunk async for chunk in chat_xai(ctx).astream("hello")])

    expect(asyncio.run(run()).usage_metadata["output_tokens"] == TOKENS)


@case("langchain-xai")
def xai_bound_tools(ctx):
    bound = chat_xai(ctx).bind_tools(TOOLS)
    call = bound.invoke("use the tool").tool_calls[0]
    expect(call["name"] == "get_weather" and "city" in call["args"], call)
    expect(added(bound.stream("use the tool")).tool_calls[0]["args"] == call["args"], call)


@case("langchain-xai", "gateway")
def xai_sees_refusals(ctx):
    import openai

    refused(openai.AuthenticationError, lambda: chat_xai(ctx, api_key="sk-wrong").invoke("hello"))
    refused(openai.NotFoundError, lambda: chat_xai(ctx, model="no-such-model").invoke("hello"))
    error = refused(openai.APIError, lambda: list(chat_xai(ctx).stream("[sim fault=cut=4]")))
    expect(error.code == "upstream_cut", error.body)


# --- llm, the command ------------------------------------------------------------------------------


def llm(ctx, folder, *words):
    """Runs the command with a folder of its own; gives what it printed and what it logged."""
    chat = {"model_id": "chat", "model_name": MODEL, "api_base": ctx.base_url, "api_key_name": "knockx"}
    models = [chat, {**chat, "model_id": "responses", "responses": True}]
    # What is JSON is YAML too.
    (folder / "extra-openai-models.yaml").write_text(json.dumps(models))
    (folder / "keys.json").write_text(json.dumps({"knockx": ctx.api_key}))
    env = {**os.environ, "LLM_USER_PATH": str(folder)}

    def run(*words):
        done = subprocess.run([sys.executable, "-m", "llm", *words], env=env, capture_output=True, text=True)
        expect(done.returncode == 0, done.stderr)
        return done.stdout

    return run(*words), json.loads(run("logs", "--json", "-n", "1"))[0]


@case("llm")
def llm_usage(ctx):
    """Whole and streamed, on both surfaces."""
    with tempfile.TemporaryDirectory() as folder:
        for model in ["chat", "responses"]:
            said = []
            for way in [["--no-stream"], []]:
                printed, log = llm(ctx, Path(folder), "-m", model, *way, "hello")
                expect(printed.strip() == log["response"].strip() and len(printed) > TOKENS, printed, log)
                expect(log["output_tokens"] == TOKENS, log)
                truth = ctx.truth_of(lambda entry: entry["sim_id"] in log["response_json"]["id"])
                expect(truth["stream"] == (not way), truth)
                ctx.agrees(truth, log["input_tokens"], log["output_tokens"])
                said.append(printed)
            expect(said[0] == said[1], said)


@case("llm", "gateway")
def llm_sees_refusals(ctx):
    with tempfile.TemporaryDirectory() as folder:
        for key, told in [("sk-wrong", "Incorrect API key"), (ctx.need("dead_keys")[0]["key"], "has been revoked")]:
            try:
                llm(ctx, Path(folder), "-m", "chat", "--key", key, "hello")
            except AssertionError as error:
                expect("401" in str(error) and told in str(error), error)
                continue
            raise AssertionError("not refused")


# --- Anthropic's client ----------------------------------------------------------------------------


def anthropic_client(ctx, **options):
    import anthropic

    base_url = ctx.base_url.removesuffix("/v1")
    return anthropic.Anthropic(**{"base_url": base_url, "api_key": ctx.api_key, "max_retries": 0, **options})


@case("anthropic", "gateway")
def messages(ctx):
    own = anthropic_client(ctx)
    reply = own.messages.with_raw_response.create(model=MODEL, max_tokens=50, messages=ask("hello"))
    message, truth = reply.parse(), ctx.truth(reply.headers)
    expect(message.content[0].text and message.stop_reason == "end_turn", message)
    usage = message.usage
    prompt = usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens
    expect((truth["prompt"], truth["completion"]) == (prompt, usage.output_tokens), truth)
    own.messages.create(model=MODEL, max_tokens=50, system="Be brief.", messages=ask("hello"))
    count = own.messages.count_tokens(model=MODEL, messages=ask("hello"))
    expect(count.input_tokens == prompt, count, prompt)


@case("anthropic", "gateway")
def messages_stream(ctx):
    for fault in ["none", "split", "crlf", "comments"]:
        headers = {"x-sim-fault": fault}
        own = anthropic_client(ctx).messages
        with own.stream(model=MODEL, max_tokens=50, messages=ask("hello"), extra_headers=headers) as stream:
            said = "".join(stream.text_stream)
            last = stream.get_final_message()
        expect(said and last.content[0].text == said, said, last)
        expect(last.stop_reason == "end_turn" and last.usage.output_tokens == TOKENS, last.usage)


@case("anthropic", "gateway")
def messages_tools(ctx):
    schema = TOOLS[0]["function"]["parameters"]
    tools = [{"name": "get_weather", "description": "The weather", "input_schema": schema}]
    own = anthropic_client(ctx)
    reply = own.messages.create(model=MODEL, max_tokens=50, messages=ask("use the tool"), tools=tools)
    expect(reply.stop_reason == "tool_use", reply)
    expect(reply.content[-1].name == "get_weather" and "city" in reply.content[-1].input, reply)


@case("anthropic", "gateway")
def messages_refused(ctx):
    import anthropic

    call = {"model": MODEL, "max_tokens": 5, "messages": ask("hello")}
    for expected, options, change in [
        (anthropic.AuthenticationError, {"api_key": "sk-wrong"}, {}),
        (anthropic.NotFoundError, {}, {"model": "no-such-model"}),
        (anthropic.BadRequestError, {}, {"messages": []}),
    ]:
        error = refused(expected, lambda: anthropic_client(ctx, **options).messages.create(**{**call, **change}))
        expect(error.body["type"] == "error" and error.body["error"]["message"], error.body)
    own = anthropic_client(ctx)
    broken = {**call, "max_tokens": 50, "messages": ask("[sim tokens=50 fault=cut=9]")}
    error = refused(anthropic.APIStatusError, lambda: list(own.messages.create(stream=True, **broken)))
    expect("incomplete" in str(error), error)


def run(ctx, name, function):
    """True, False, or None for a case that was skipped."""
    try:
        told = function(ctx)
    except Skip as why:
        print(f"skip {name} {why}")
        return None
    except Exception as error:
        print(f"FAIL {name} {type(error).__name__}: {str(error)[:600]}")
        return False
    print(f"ok {name}" + (f" ({told})" if told else ""))
    return True


def main():
    suite, ctx = sys.argv[1], Context(sys.argv[2])
    wanted = sys.argv[3:]
    results = []
    for of, target, name, function in CASES:
        if of == suite and target in (None, ctx.target) and (not wanted or name in wanted):
            results.append(run(ctx, name, function))
            sys.stdout.flush()
    passed, failed = results.count(True), results.count(False)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
