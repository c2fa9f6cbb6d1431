"""Anthropic's client."""

from harness import MODEL, TOKENS, TOOLS, ask, case, expect, refused


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
