"""LangChain's client for xAI."""

import asyncio

from harness import MODEL, THINKER, TOKENS, TOOLS, case, expect, refused


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
