"""What the gateway writes itself holds against the types of OpenAI's and Anthropic's clients: translated replies, from
the golden files of the translation, and errors and endings, from a running gateway."""

import copy
import json
import urllib.error
import urllib.request
from pathlib import Path

import schema
from harness import MODEL, ask, case, expect

GOLDEN = Path(__file__).resolve().parents[2] / "crates/wire/src/translation/tests"
PATHS = {"chat": "chat/completions", "responses": "responses", "messages": "messages"}


def golden_files(surface):
    """The golden files of replies to callers of a surface."""
    replies = [*GOLDEN.glob(f"golden/{surface}-to-*/caller.*"), *GOLDEN.glob(f"golden_endings/{surface}-to-*/*")]
    expect(len(replies) > 10, surface, len(replies))
    return sorted(replies)


def check_file(types, file):
    where = f"{file.parent.name}/{file.name}"
    if file.suffix == ".json":
        types.check_reply(json.loads(file.read_text()), where)
        return 1
    return types.check_stream(file.read_text(), where)


def check_golden(surface):
    types, files = getattr(schema, surface)(), golden_files(surface)
    count = sum(check_file(types, file) for file in files)
    return f"{len(files)} files, {count} replies and events"


def body(surface, text="hello", **members):
    prompt = {"input": text} if surface == "responses" else {"messages": ask(text)}
    limit = {"max_tokens": 4000} if surface == "messages" else {}
    return {"model": MODEL, **prompt, **limit, **members}


def send(ctx, surface, content, key=None):
    """Status and text of a call; the body of a reply that breaks off is what came before."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    request = urllib.request.Request(f"{ctx.base_url}/{PATHS[surface]}", data)
    request.add_header("authorization", "Bearer " + (key or ctx.api_key))
    request.add_header("content-type", "application/json")
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.status, read(reply)
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def read(reply):
    import http.client

    try:
        return reply.read().decode()
    except http.client.IncompleteRead as broken:
        return broken.partial.decode()


def check_refusals(ctx, surface):
    types = getattr(schema, surface)()
    for status, content, key in [
        (401, body(surface), "sk-wrong"),
        (404, body(surface, model="no-such-model"), None),
        (400, b"{", None),
        (400, body(surface, stream="yes"), None),
        (429, body(surface, "[sim fault=429]"), None),
        (503, body(surface, "[sim fault=503]"), None),
        (502, body(surface, "[sim fault=html]"), None),
        (400, body(surface, "[sim fault=error-first]"), None),
    ]:
        got, text = send(ctx, surface, content, key)
        expect(got == status, surface, status, got, text)
        types.check_error(json.loads(text), f"{surface} {status}")
        ctx.mend()


def check_endings(ctx, surface, key):
    """Errors in a stream, and one that the gateway ends because the upstream generates more than the quota allows."""
    types, streams = getattr(schema, surface)(), {"stream": True}
    for fault in ["cut=9", "close=9", "error-event=9"]:
        _, text = send(ctx, surface, body(surface, f"[sim tokens=50 fault={fault}]", **streams))
        *_, (name, last) = schema.events(text)
        at = f"{surface} {fault}"
        expect("incomplete" in last, at, last)
        types.check_stream(as_event(name, last), at)
        ctx.mend()
    if surface == "chat":
        streams["stream_options"] = {"include_usage": True}
    if surface == "responses":
        # One that is stored reserves its whole output, and is never cut.
        streams["store"] = False
    status, text = send(ctx, surface, body(surface, "[sim tokens=3000 fault=overrun=2000]", **streams), key)
    expect(status == 200, status, text)
    # The events before it are the upstream's.
    own = [as_event(name, data) for name, data in schema.events(text)][-3:]
    expect(any(limit in "".join(own) for limit in ('"length"', "max_output_tokens", '"max_tokens"')), own)
    # That of responses repeats what xAI's object has beyond OpenAI's: the goldens hold our own.
    if surface != "responses":
        types.check_stream("".join(own), f"{surface} at the end of the quota")
    status, text = send(ctx, surface, body(surface, "hello " * 2000), key)
    expect(status == 429, status, text)
    types.check_error(json.loads(text), f"{surface} without quota")


def as_event(name, data):
    return (f"event: {name}\n" if name else "") + f"data: {data}\n\n"


def check_the_check(surface, ending):
    """Refuses each reply that lacks a required field, has another type in its place, or has an unknown one beside it."""
    types, other = getattr(schema, surface)(), "responses" if surface == "chat" else "chat"
    file = GOLDEN / "golden_endings" / f"{surface}-to-{other}" / f"{ending}.json"
    reply = json.loads(file.read_text())
    types.check_reply(reply, "unchanged")
    fields = list(schema.required_fields(types.reply, reply))
    expect(len(fields) > 8, fields)
    for path, name in fields:
        for change in [
            lambda place: place.pop(name),
            lambda place: place.update({name: {"not": "this"}}),
            lambda place: place.update({"no_such_field": 1}),
        ]:
            changed = copy.deepcopy(reply)
            place = changed
            for step in path:
                place = place[step]
            change(place)
            expect(refuses(types, changed), path, name, changed)
    return f"{len(fields)} required fields"


def refuses(types, reply):
    try:
        types.check_reply(reply, "changed")
    except schema.Mismatch:
        return True
    return False


@case("openai-schema")
def chat_goldens_hold(ctx):
    return check_golden("chat")


@case("openai-schema")
def responses_goldens_hold(ctx):
    return check_golden("responses")


@case("anthropic-schema")
def messages_goldens_hold(ctx):
    return check_golden("messages")


@case("openai-schema")
def chat_check_refuses_what_is_wrong(ctx):
    return check_the_check("chat", "calls")


@case("openai-schema")
def responses_check_refuses_what_is_wrong(ctx):
    return check_the_check("responses", "answer")


@case("anthropic-schema")
def messages_check_refuses_what_is_wrong(ctx):
    return check_the_check("messages", "answer")


@case("openai-schema", "gateway")
def openai_errors_hold(ctx):
    check_refusals(ctx, "chat")
    check_refusals(ctx, "responses")


@case("anthropic-schema", "gateway")
def anthropic_errors_hold(ctx):
    check_refusals(ctx, "messages")


@case("openai-schema", "gateway")
def openai_endings_hold(ctx):
    first, second = ctx.need("cut_keys")
    check_endings(ctx, "chat", first)
    check_endings(ctx, "responses", second)


@case("anthropic-schema", "gateway")
def anthropic_endings_hold(ctx):
    check_endings(ctx, "messages", ctx.need("cut_keys")[0])
