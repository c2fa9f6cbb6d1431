"""LangChain's client for OpenAI."""

import asyncio
import json
import time

from harness import MODEL, TOKENS, TOOLS, ask, case, client, expect, refused


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
    chat = chat_openai(ctx, api_key=key, max_tokens=1)
    try:
        for _ in range(20):
            # The window frees a call every 0.6 s, so it is filled again before each try.
            expect(any(ctx.post(key, limited) == 429 for _ in range(400)), "no end of the window")
            chat.invoke("hello")
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
    """An upstream bills an image by its price; the gateway also charges tokens for it."""
    call = client(ctx).images.with_raw_response.generate
    raw = call(model="grok-imagine-image", prompt="a lighthouse", n=2)
    reply, ticks = raw.parse(), json.loads(raw.http_response.text)["usage"]["cost_in_usd_ticks"]
    expect(len(reply.data) == 2 and reply.data[0].url, reply)
    row = ctx.agrees(ctx.truth(raw.headers), 0, 0, images=2)
    expect(not row or row["cost_micro_dollars"] * 10_000 == ticks > 0, row, ticks)
