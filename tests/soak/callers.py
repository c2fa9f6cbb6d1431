"""The callers of a soak."""

import asyncio
import json
import random

# A stream of 30 s: one event in each half second.
TOKENS, TOKEN_MS = 60, 500
# Well below the gateway's keep-alive time.
IDLE_SECONDS = 20
HANG_UPS_A_SECOND = 10
# New connections in each tenth of a second, so that none waits in the listener's queue.
AT_ONCE = 50


class Callers:
    def __init__(self, gateway, options):
        self.gateway, self.options = gateway, options
        self.whole = self.broken = self.hung_up = 0
        self.trouble, self.tasks, self.leaving = "", [], False
        self.chance = random.Random(1)

    async def warm_up(self):
        for _ in range(50):
            await asyncio.gather(*(self.stream(tokens=4, token_ms=1) for _ in range(10)))

    def come(self):
        self.tasks = [
            asyncio.create_task(self.arrive(self.options.streams, self.streams)),
            asyncio.create_task(self.arrive(self.options.idle, self.idle)),
            asyncio.create_task(self.arrive(self.options.slow, self.slow)),
            asyncio.create_task(self.hang_ups()),
        ]

    async def leave(self):
        """All go; those in the middle of a stream hang up."""
        self.leaving = True
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def arrive(self, number, do):
        for arrived in range(number):
            self.tasks.append(asyncio.create_task(do()))
            if arrived % AT_ONCE == 0:
                await asyncio.sleep(0.1)

    async def streams(self):
        # They begin at different times, so that they do not all end at once.
        await asyncio.sleep(self.chance.random() * TOKENS * TOKEN_MS / 1000)
        while not self.leaving:
            await self.stream()

    async def idle(self):
        while not self.leaving:
            reader, writer = await self.connect()
            try:
                while not self.leaving:
                    writer.write(b"GET /health/ping HTTP/1.1\r\nhost: soak\r\n\r\n")
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                    await reader.readexactly(length)
                    await asyncio.sleep(IDLE_SECONDS)
            except (OSError, asyncio.IncompleteReadError) as error:
                self.note(f"an idle connection ended: {error!r}")
            finally:
                writer.close()

    async def slow(self):
        """Reads a line a second, of a stream that comes faster."""
        while not self.leaving:
            reader, writer = await self.ask(tokens=200, token_ms=20)
            try:
                while await reader.readline():
                    await asyncio.sleep(0.2)
            except OSError:
                pass
            finally:
                writer.close()

    async def hang_ups(self):
        while not self.leaving:
            await asyncio.sleep(1 / HANG_UPS_A_SECOND)
            self.tasks.append(asyncio.create_task(self.hang_up()))
            self.tasks = [task for task in self.tasks if not task.done()]

    async def hang_up(self):
        reader, writer = await self.ask(tokens=500, token_ms=100)
        try:
            await reader.readuntil(b"data:")
            await asyncio.sleep(self.chance.random())
            self.hung_up += 1
        except asyncio.IncompleteReadError as error:
            self.note(f"a stream to hang up on ended early: {error.partial[:300]!r}")
        except OSError as error:
            self.note(f"a stream to hang up on ended: {error!r}")
        finally:
            writer.close()

    async def stream(self, tokens=TOKENS, token_ms=TOKEN_MS):
        reader, writer = await self.ask(tokens, token_ms)
        try:
            reply = await reader.read(-1)
            if b"data: [DONE]" in reply:
                self.whole += 1
            else:
                self.note(reply[:300].decode(errors="replace"))
        except OSError as error:
            self.note(f"a stream ended: {error!r}")
        finally:
            writer.close()

    async def ask(self, tokens, token_ms):
        body = json.dumps({"model": "grok-4.3", "stream": True,
                           "messages": [{"role": "user", "content": "soak"}]})  # fmt: skip
        reader, writer = await self.connect()
        writer.write(
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: soak\r\nconnection: close\r\n"
            f"authorization: Bearer {self.gateway.key}\r\ncontent-type: application/json\r\n"
            f"x-sim-tokens: {tokens}\r\nx-sim-token-ms: {token_ms}\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
        )
        return reader, writer

    async def connect(self):
        return await asyncio.open_connection("127.0.0.1", self.gateway.port, limit=4096)

    def note(self, trouble):
        self.broken += 1
        self.trouble = self.trouble or trouble
