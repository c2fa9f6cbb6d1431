"""HTTP as a caller that may leave at any moment needs it: a request, a head, and pieces of a body."""

import asyncio


async def chunked(reader):
    while length := int(await reader.readline() or b"0", 16):
        yield (await reader.readexactly(length + 2))[:-2]


async def whole(reader, headers):
    if "content-length" in headers:
        yield await reader.readexactly(int(headers["content-length"]))
        return
    while data := await reader.read(65536):
        yield data


def head(method, path, headers, body):
    """The bytes of a request."""
    lines = {"host": "gateway", "connection": "close", "content-length": len(body)} | headers
    lines = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


class Exchange:
    """One request on a connection of its own."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.status, self.headers = None, {}

    @classmethod
    async def send(cls, address, method, path, headers, body=b""):
        reader, writer = await asyncio.open_connection(*address, limit=1 << 20)
        writer.write(head(method, path, headers, body))
        return cls(reader, writer)

    async def read_head(self):
        status, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.status = int(status.split()[1])
        self.headers = dict(line.lower().split(": ", 1) for line in lines if ": " in line)

    def pieces(self):
        if "chunked" in self.headers.get("transfer-encoding", ""):
            return chunked(self.reader)
        return whole(self.reader, self.headers)

    async def body(self):
        return b"".join([piece async for piece in self.pieces()])

    def leave(self):
        """Hangs up at once."""
        self.writer.transport.abort()
