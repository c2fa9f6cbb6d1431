"""Checks JSON against a type of OpenAI's or Anthropic's client, which they generate from their OpenAPI documents.

The clients themselves read leniently: they fill nothing in, refuse nothing, and keep what they do not know. Here a
value must have every required field, each of the right JSON type and with a known literal, and no field that the
type does not know, except those in `EXTENSIONS`.
"""

import json
from functools import lru_cache
from typing import Annotated, Literal, get_args, get_origin

# Fields beyond the types -> the reason that they are written.
EXTENSIONS = {
    ("CompletionUsage", "cost_in_usd_ticks"): "xAI's price of a call, which its own client reads",
    ("ResponseUsage", "cost_in_usd_ticks"): "xAI's price of a call, which its own client reads",
    ("ChoiceDelta", "reasoning_content"): "reasoning, as xAI, DeepSeek and vLLM name it",
    ("ChatCompletionMessage", "reasoning_content"): "reasoning, as xAI, DeepSeek and vLLM name it",
    ("WebSearchTool", "external_web_access"): "repeats the request of Codex",
    ("Response", "store"): "OpenAI sends it, although its document does not have it",
    ("ResponseCustomToolCall", "status"): "OpenAI sends it, although its document does not have it",
    ("ResponseFunctionCallArgumentsDoneEvent", "name"): "required by older versions of the client",
    ("ErrorObject", "details"): "the gateway's numbers for programs",
    ("RateLimitErrorObject", "details"): "the gateway's numbers for programs",
}


class Mismatch(Exception):
    """The value is not of the type."""


def check(kind, value, where):
    """Refuses a value that is not exactly of the type."""
    kind = narrowed(kind, value, where)
    try:
        parsed = adapter(kind).validate_json(json.dumps(value), strict=True)
    except ValueError as error:
        details = "; ".join(f"{place(one['loc'])}: {one['msg']}" for one in error.errors()[:4])
        raise Mismatch(f"{where}: not a {name_of(kind)}: {details}: {json.dumps(value)[:300]}") from None
    for path, model, field in unknown_fields(parsed):
        if (model, field) not in EXTENSIONS:
            raise Mismatch(f"{where}: {model} has no field {path}.{field}: {json.dumps(value)[:300]}")


@lru_cache(maxsize=None)
def adapter(kind):
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def narrowed(kind, value, where):
    """The member of a union with the value's `type`: errors of all the others would hide the one that matters."""
    members = members_of(kind)
    if not members:
        return kind
    tag = value.get("type") if isinstance(value, dict) else None
    fitting = [member for member in members if tag in literals(member, "type")]
    if len(fitting) != 1:
        raise Mismatch(f"{where}: the type {tag!r} is not one of {name_of(kind)}")
    return fitting[0]


def members_of(kind):
    """The models that a union consists of; none for a single model."""
    if get_origin(kind) is Annotated:
        return members_of(get_args(kind)[0])
    if hasattr(kind, "model_fields"):
        return []
    return [model for member in get_args(kind) for model in (members_of(member) or [member])]


def literals(model, field):
    annotation = model.model_fields[field].annotation
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def unknown_fields(parsed, path="$"):
    """Path, model and name of each field that its model does not know."""
    if isinstance(parsed, (list, tuple)):
        for index, element in enumerate(parsed):
            yield from unknown_fields(element, f"{path}[{index}]")
    elif isinstance(parsed, dict):
        for name, element in parsed.items():
            yield from unknown_fields(element, f"{path}.{name}")
    elif hasattr(type(parsed), "model_fields"):
        for field in parsed.model_extra or {}:
            yield path, type(parsed).__name__, field
        for field in type(parsed).model_fields:
            yield from unknown_fields(getattr(parsed, field), f"{path}.{field}")


def required_fields(kind, value):
    """Path of the object and name of each required field in a value that is of the type."""
    parsed = adapter(kind).validate_json(json.dumps(value), strict=True)
    yield from required_in(parsed, ())


def required_in(parsed, path):
    if isinstance(parsed, list):
        for index, element in enumerate(parsed):
            yield from required_in(element, (*path, index))
    elif hasattr(type(parsed), "model_fields"):
        for name, field in type(parsed).model_fields.items():
            if field.is_required():
                yield path, name
            yield from required_in(getattr(parsed, name), (*path, name))


def place(loc):
    return ".".join(str(part) for part in loc) or "$"


def name_of(kind):
    return getattr(kind, "__name__", None) or f"union of {len(members_of(kind))} types"


def events(stream):
    """Name and data of each event; comments have none, and are left out."""
    for block in stream.replace("\r\n", "\n").split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        if not lines:
            continue
        name = next((line.removeprefix("event: ") for line in lines if line.startswith("event: ")), None)
        data = "\n".join(line.removeprefix("data: ") for line in lines if line.startswith("data: "))
        yield name, data


class Surface:
    """The types of one API: its whole reply, its events, and its errors."""

    def __init__(self, reply, event, error, named):
        self.reply, self.event, self.error, self.named = reply, event, error, named

    def check_reply(self, body, where):
        check(self.reply, body, where)

    def check_error(self, body, where):
        self.error(body, where)

    def check_stream(self, stream, where):
        """Returns the number of events."""
        count = 0
        for count, (name, data) in enumerate(events(stream), 1):
            at = f"{where} event {count}"
            if data == "[DONE]" and not self.named:
                continue
            event = json.loads(data)
            if self.named and name != event.get("type"):
                raise Mismatch(f"{at}: the event {name!r} has the type {event.get('type')!r}")
            if "error" in event and (not self.named or name == "error"):
                self.error(event, at)
            else:
                check(self.event, event, at)
        if not count:
            raise Mismatch(f"{where}: no events")
        return count


def openai_error(body, where):
    from openai.types.shared import ErrorObject

    if set(body) != {"error"}:
        raise Mismatch(f"{where}: an error has the fields {sorted(body)}")
    check(ErrorObject, body["error"], where)


def anthropic_error(body, where):
    from anthropic.types import ErrorResponse

    check(ErrorResponse, body, where)


def chat():
    from openai.types.chat import ChatCompletion, ChatCompletionChunk

    return Surface(ChatCompletion, ChatCompletionChunk, openai_error, named=False)


def responses():
    from openai.types.responses import Response, ResponseStreamEvent

    return Surface(Response, ResponseStreamEvent, openai_error, named=True)


def messages():
    from anthropic.types import Message, RawMessageStreamEvent

    return Surface(Message, RawMessageStreamEvent, anthropic_error, named=True)
