"""The faulty wire between one gateway and one server.

Its state is what it does to bytes that arrive now; `heal` lets them pass again. A connection that
was stalled may deliver late what it held, after its gateway has long given it up.
"""

import asyncio

CHUNK = 65536


class FaultProxy:
    def __init__(self, port, chance):
        self.target, self.chance = port, chance
        self.mode, self.amount = "pass", 0.0
        self.flows = asyncio.Event()
        self.flows.set()
        self.writers = set()
        self.port = self.server = None

    async def start(self):
        self.server = await asyncio.start_server(self.connection, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]

    def set(self, mode, amount=0.0):
        """`amount`: seconds of a delay, or the part of the replies that is dropped."""
        self.mode, self.amount = mode, amount
        if mode == "stall":
            self.flows.clear()
        if mode == "cut":
            self.cut()

    def heal(self):
        if self.mode == "stall" and self.chance.random() < 0.4:
            self.cut()
        self.mode = "pass"
        self.flows.set()

    def cut(self):
        for writer in list(self.writers):
            writer.transport.abort()

    def stop(self):
        self.server.close()
        self.cut()

    async def connection(self, reader, writer):
        self.writers.add(writer)
        there = None
        try:
            if self.mode == "cut":
                return
            # Half open: taken, and not answered.
            await self.flows.wait()
            back, there = await asyncio.open_connection("127.0.0.1", self.target)
            self.writers.add(there)
            await asyncio.gather(self.forward(reader, there), self.give_back(back, writer))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for end in (writer, there):
                if end:
                    self.writers.discard(end)
                    end.transport.abort()

    async def forward(self, reader, writer):
        """Whoever asked may be gone when it arrives: what is on its way stays on its way."""
        while data := await self.next(reader):
            await self.hand_over(data, writer)
        writer.write_eof()

    async def give_back(self, reader, writer):
        while data := await self.next(reader):
            if self.mode == "mute" and self.chance.random() < self.amount:
                raise ConnectionResetError
            await self.hand_over(data, writer)
        raise ConnectionResetError

    async def hand_over(self, data, writer):
        if writer.is_closing():
            raise ConnectionResetError
        writer.write(data)
        await writer.drain()

    async def next(self, reader):
        data = await reader.read(CHUNK)
        if self.mode == "delay":
            await asyncio.sleep(self.amount)
        await self.flows.wait()
        return data
