"""The callers of `scripts/reconcile`: each user calls every surface, alone and in bursts, and hangs up
at every stage. What the upstream is to do is said by a marker in the prompt."""

import asyncio
import json
import random
import time
from dataclasses import dataclass, field

from settings import EMBEDDINGS, IMAGES, PLAIN, REASONING
from http_stream import Exchange

CALL_SECONDS = 60
# Calls open at the same time, of all users together.
OPEN_CALLS = 48
PATHS = {"chat": "/v1/chat/completions", "deferred": "/v1/chat/completions", "responses": "/v1/responses",
         "completions": "/v1/completions", "messages": "/v1/messages", "embeddings": "/v1/embeddings",
         "images": "/v1/images/generations"}  # fmt: skip
SURFACES = {"chat": 5, "responses": 4, "completions": 1, "messages": 2, "embeddings": 1, "images": 1, "deferred": 2}
STAGES = {"stay": 10, "before-head": 2, "after-head": 2, "middle": 4, "end": 2}
BREAKING = ["cut=3", "reset=2", "close=2", "stall=3", "error-event=2"]
REFUSING = ["429", "422", "410", "garbage", "empty", "error-200", "error-first"]
ACCOUNTING = ["no-usage", "zero-usage", "usage-twice", "usage-every-chunk", "duplicate-keys", "odd-index",
              "cached-over", "overrun=5"]  # fmt: skip
SHAPES = ["drip", "split", "crlf", "comments", "multiline", "slow-first-byte=300", "interim=3", "trailers=20"]
# Milliseconds between tokens, and the most that come at such a pace: a debug build keeps up with these.
PACES, PACED_TOKENS = (10, 20), 200
LAST_EVENTS = {"response.completed", "response.incomplete", "message_stop"}


@dataclass
class Call:
    """What is asked for, and what the caller saw of it."""

    user: dict
    surface: str
    model: str = PLAIN
    stream: bool = False
    # When the caller hangs up.
    stage: str = "stay"
    tokens: int = 20
    limit: int = None
    token_ms: int = 0
    reasoning: int = 0
    fault: str = ""
    store: bool = False
    # The stored answer that it goes on from.
    previous: str = None
    # Whether a deferred or stored answer is read later.
    later: bool = False
    request: str = None
    status: int = None
    code: str = None
    # Tokens of the day that are left, as the reply's head says.
    remaining: int = None
    # The id of a stored or deferred answer, and whether it was read.
    answer: str = None
    read: bool = False
    # The requests by which it was asked for.
    fetches: list = field(default_factory=list)
    complete: bool = False
    left: bool = False

    def marker(self):
        words = [f"tokens={self.tokens}", f"token-ms={self.token_ms}"]
        words += [f"reasoning={self.reasoning}"] if self.model == REASONING else []
        words += [f"fault={self.fault}"] if self.fault else []
        return f"[sim {' '.join(words)}]"


class Callers:
    def __init__(self, gateways, chance):
        self.gateways, self.chance = gateways, chance
        self.room = asyncio.Semaphore(OPEN_CALLS)
        self.calls = []

    async def run(self, users, seconds):
        end = time.monotonic() + seconds
        async with asyncio.TaskGroup() as tasks:
            for user in users:
                tasks.create_task(User(self, user, self.chance.randrange(1 << 32)).run(end))

    async def make(self, call):
        """Makes a call; being cut off is a way for it to end."""
        self.calls.append(call)
        async with self.room:
            try:
                await asyncio.wait_for(self.exchange(call), CALL_SECONDS)
            except (OSError, EOFError, ValueError, asyncio.TimeoutError):
                pass

    async def send(self, user, method, path, body=b""):
        """A request to any of the gateways."""
        headers = {"authorization": "Bearer " + user["key"], "content-type": "application/json"}
        return await Exchange.send(self.chance.choice(self.gateways).address, method, path, headers, body)

    async def exchange(self, call):
        exchange = await self.send(call.user, "POST", PATHS[call.surface], json.dumps(body(call)).encode())
        try:
            if call.stage == "before-head":
                await asyncio.sleep(self.chance.uniform(0.01, 0.4))
                call.left = True
                return
            await exchange.read_head()
            call.request, call.status = exchange.headers.get("x-request-id"), exchange.status
            remaining = exchange.headers.get("x-kx-quota-day-tokens-remaining")
            call.remaining = int(remaining) if remaining else None
            if call.stage == "after-head":
                call.left = True
            elif call.status == 200 and call.stream:
                await self.read_events(call, exchange)
            else:
                self.read_whole(call, json.loads(await exchange.body()))
        finally:
            exchange.leave()

    async def read_events(self, call, exchange):
        left = {"middle": self.chance.randrange(1, call.tokens + 1), "end": call.tokens}.get(call.stage, 1 << 40)
        rest = b""
        async for piece in exchange.pieces():
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                if not line.startswith(b"data:"):
                    continue
                if line[5:].strip() == b"[DONE]":
                    call.complete = True
                    return
                event = json.loads(line[5:])
                call.answer = call.answer or (event.get("response") or {}).get("id")
                call.code = (event.get("error") or {}).get("code") or call.code
                if event.get("type") in LAST_EVENTS:
                    call.complete = True
                    return
                left -= 1
                if left < 0:
                    call.left = True
                    return

    def read_whole(self, call, answer):
        if call.status != 200:
            call.code = answer["error"].get("code") or answer["error"]["type"]
            return
        call.complete = True
        call.answer = answer.get("request_id") if call.surface == "deferred" else answer.get("id")

    async def read_later(self):
        """Reads those stored and deferred answers that are to be read, until each is whole."""
        wanted = [call for call in self.calls if call.later and call.answer and not call.read]
        await asyncio.gather(*(self.fetch(call) for call in wanted))

    async def fetch(self, call):
        path = "/v1/chat/deferred-completion/" if call.surface == "deferred" else "/v1/responses/"
        end = time.monotonic() + CALL_SECONDS
        while time.monotonic() < end:
            async with self.room:
                exchange = await self.send(call.user, "GET", path + call.answer)
                try:
                    await exchange.read_head()
                    text = await exchange.body()
                    call.fetches.append(exchange.headers.get("x-request-id", "").removeprefix("req_"))
                finally:
                    exchange.leave()
            if exchange.status == 200 and text and json.loads(text).get("status") != "in_progress":
                call.read = True
                return
            if exchange.status not in (200, 202, 503):
                return
            await asyncio.sleep(0.3)


class User:
    """One user's calls, of a size that its plan has room for several of."""

    def __init__(self, callers, user, seed):
        self.callers, self.user, self.chance = callers, user, random.Random(seed)
        self.plan = user["limits"]
        self.last_answer = None

    async def run(self, end):
        await asyncio.sleep(self.chance.random())
        while time.monotonic() < end:
            if self.chance.random() < 0.1:
                await self.burst()
                continue
            call = self.call()
            await self.callers.make(call)
            if call.store and call.complete:
                self.last_answer = call.answer
            if call.surface == "deferred" and call.later and call.answer:
                await self.callers.fetch(call)
            refused = call.code == "insufficient_quota"
            await asyncio.sleep(5 if refused else self.chance.uniform(0, 0.5))

    async def burst(self):
        """Parallel streams of which only some fit the day, with limits and without."""
        tokens = min(300, self.plan["tokens"] // self.chance.choice([4, 8, 16]))
        number = self.chance.choice([6, 12, 18])
        await self.leave_only(tokens * number // 2)
        calls = []
        for _ in range(number):
            call = Call(self.user, self.chance.choice(["chat", "responses", "messages"]), stream=True, tokens=tokens)
            call.token_ms = self.chance.choice(PACES)
            call.store = self.chance.random() < 0.2
            call.limit = tokens if call.surface == "messages" or self.chance.random() < 0.5 else None
            calls.append(call)
        await asyncio.gather(*(self.callers.make(call) for call in calls))

    async def leave_only(self, tokens):
        """Uses most of the day by one answer in one piece."""
        call = Call(self.user, "chat", tokens=5)
        await self.callers.make(call)
        if call.remaining is not None and call.remaining > tokens + 100:
            size = call.remaining - tokens
            await self.callers.make(Call(self.user, "chat", tokens=size, limit=size))

    def call(self):
        chance, size = self.chance, self.plan["tokens"]
        (surface,) = chance.choices(list(SURFACES), SURFACES.values())
        call = Call(self.user, surface)
        call.tokens = min(2000, chance.choice([5, 20, 60, size // 100, size // 40, size // 10]) or 5)
        if call.tokens <= PACED_TOKENS:
            call.token_ms = chance.choice([0, 0, *PACES])
        call.model = {"images": IMAGES, "embeddings": EMBEDDINGS}.get(surface) or chance.choice([PLAIN, PLAIN, REASONING])
        call.reasoning = chance.choice([0, 30, min(900, size // 20)])
        call.stream = surface in ("chat", "responses", "completions", "messages") and chance.random() < 0.6
        if surface == "responses":
            call.store, call.previous = chance.random() < 0.6, chance.choice([None, self.last_answer])
        call.later = chance.random() < 0.5
        if surface == "messages" or chance.random() < 0.6:
            call.limit = chance.choice([call.tokens, call.tokens * 2, max(1, call.tokens // 2)])
        if surface != "deferred":
            (call.stage,) = chance.choices(list(STAGES), STAGES.values())
        if call.stage != "stay" and call.stream:
            # No upstream writes an answer faster than its caller can hang up.
            call.tokens, call.token_ms = min(call.tokens, PACED_TOKENS), chance.choice(PACES)
        if chance.random() < 0.2 and surface != "deferred":
            call.fault = chance.choice(chance.choice([BREAKING, REFUSING, ACCOUNTING, ACCOUNTING, SHAPES]))
        return call


def body(call):
    """The request, as each surface wants it."""
    text = "hello " * (call.tokens % 7) + call.marker()
    limits = {"responses": "max_output_tokens"}.get(call.surface, "max_tokens")
    asked = {"model": call.model}
    if call.limit is not None and call.surface not in ("images", "embeddings"):
        asked[limits] = call.limit
    if call.stream:
        asked["stream"] = True
    if call.surface in ("chat", "messages", "deferred"):
        asked["messages"] = [{"role": "user", "content": text}]
    elif call.surface in ("responses", "embeddings"):
        asked["input"] = text
    else:
        asked["prompt"] = text
    if call.surface == "responses":
        asked["store"] = call.store
        if call.previous:
            asked["previous_response_id"] = call.previous
    if call.surface == "deferred":
        asked["deferred"] = True
    return asked
