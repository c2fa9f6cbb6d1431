"""The callers of `scripts/chaos`: each calls in every way it may, and notes what it saw."""

import asyncio
import json
import random
import time
from dataclasses import dataclass, field

from http_stream import chunked, whole

CALL_SECONDS = 40
MODEL = "grok-4.3"
# What the upstream does to some of the calls; answers under the second kind are still whole.
BREAKING = ["cut=3", "reset=2", "close=2", "stall=3", "error-event=2", "429", "500", "503", "garbage", "empty",
            "refuse-headers", "error-200", "html"]  # fmt: skip
HARMLESS = ["slow-first-byte=300", "drip", "split", "crlf", "comments", "multiline", "no-usage", "usage-twice",
            "usage-every-chunk"]  # fmt: skip


@dataclass
class Call:
    """What a client saw of one call."""

    kind: str
    user: str
    gateway: str
    fault: str = ""
    began: float = field(default_factory=time.time)
    request: str = None
    status: int = None
    code: str = None
    finish: str = None
    usage: dict = None
    # The whole answer came.
    complete: bool = False
    # The client went away on purpose.
    left: bool = False
    ended: float = None


class Client:
    def __init__(self, gateways, users, seed):
        self.gateways, self.users, self.chance = gateways, users, random.Random(seed)
        self.calls = []

    async def run(self, ending):
        while not ending.is_set():
            gateway = self.chance.choice(self.gateways)
            address = gateway.address
            if address is None:
                await asyncio.sleep(0.02)
                continue
            call = Call(self.chance.choice(["stream", "stream", "whole", "abort"]), "", gateway.name)
            try:
                await asyncio.wait_for(self.make(call, address), CALL_SECONDS)
            except (OSError, EOFError, ValueError, asyncio.TimeoutError):
                # Cut off; what was seen until then is noted.
                pass
            call.ended = time.time()
            if call.status != 200:
                await asyncio.sleep(0.05)

    async def make(self, call, address):
        reader, writer = await asyncio.open_connection(*address, limit=1 << 20)
        self.calls.append(call)
        try:
            writer.write(self.request(call))
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            status, *lines = head.split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
            call.request, call.status = headers.get("x-request-id"), int(status.split()[1])
            chunks = chunked(reader) if "chunked" in headers.get("transfer-encoding", "") else whole(reader, headers)
            if call.status == 200 and call.kind != "whole":
                await self.read_events(call, chunks)
            else:
                read_whole(call, json.loads(b"".join([chunk async for chunk in chunks])))
        finally:
            writer.transport.abort()

    def request(self, call):
        chance, user = self.chance, self.chance.choice(self.users)
        call.user = user["id"]
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hello " * chance.randrange(20)}]}
        if call.kind != "whole":
            body["stream"] = True
            if chance.random() < 0.5:
                body["stream_options"] = {"include_usage": True}
        if chance.random() < 0.7:
            body["max_tokens"] = chance.choice([5, 50, 500])
        headers = {
            "host": "chaos",
            "authorization": "Bearer " + user["key"],
            "content-type": "application/json",
            "connection": "close",
            "x-sim-tokens": chance.choice([1, 20, 60, 400, 1200]),
            "x-sim-token-ms": chance.choice([0, 0, 2, 10, 20]),
        }
        if chance.random() < 0.2:
            call.fault = headers["x-sim-fault"] = chance.choice(chance.choice([BREAKING, HARMLESS]))
        text = json.dumps(body).encode()
        headers["content-length"] = len(text)
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"POST /v1/chat/completions HTTP/1.1\r\n{head}\r\n".encode() + text

    async def read_events(self, call, chunks):
        events_left = self.chance.randrange(40) if call.kind == "abort" else None
        rest = b""
        async for chunk in chunks:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if not line.startswith(b"data:"):
                    continue
                if line[5:].strip() == b"[DONE]":
                    call.complete = True
                    return
                event = json.loads(line[5:])
                call.usage = event.get("usage") or call.usage
                call.code = (event.get("error") or {}).get("code") or call.code
                for choice in event.get("choices", []):
                    call.finish = choice.get("finish_reason") or call.finish
                if events_left is not None:
                    events_left -= 1
                    if events_left < 0:
                        call.left = True
                        return


def read_whole(call, answer):
    if call.status == 200:
        call.finish, call.usage = answer["choices"][0]["finish_reason"], answer.get("usage")
        call.complete = True
    else:
        call.code = answer["error"]["code"]
