"""The simulator and the gateway of a soak, and what the gateway uses."""

import asyncio
import json
import os
import re
import signal
import socket
from typing import NamedTuple

START_SECONDS = 60
CONFIG = """
[database]
url = "sqlite:{folder}/knockx.db"
[telemetry]
log_filter = "warn"
[listener]
max_connections = 40000
connections_per_address = 40000
[[upstreams]]
name = "xai"
base_url = "{upstream}/v1"
api_key = "soak-upstream-key"
max_in_flight = 20000
[[plans]]
id = "wide"
name = "Wide"
price_cents = 0
max_tokens_per_day = 1000000000000
max_requests_per_day = 1000000000
rate_limit_requests = 1000000
concurrent_streams = 100000
"""


class Use(NamedTuple):
    mib: float
    descriptors: int


class Output(NamedTuple):
    code: int
    output: str


class Process:
    """A program that listens on a port."""

    process = None

    async def run(self, command, environment, log):
        self.process = await asyncio.create_subprocess_exec(
            *command, env=os.environ | environment, stdout=log, stderr=asyncio.subprocess.STDOUT
        )
        async with asyncio.timeout(START_SECONDS):
            while not await is_listening(self.port):
                if self.process.returncode is not None:
                    raise RuntimeError(f"{command[1]} ended before it listened")
                await asyncio.sleep(0.05)

    async def stop(self):
        if self.process and self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            await self.process.wait()


async def is_listening(port):
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def free_port():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


class Simulator(Process):
    def __init__(self, binary):
        self.binary, self.port = binary, free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    async def start(self):
        await self.run([self.binary, "simulate", "--listen", f"127.0.0.1:{self.port}"], {}, asyncio.subprocess.DEVNULL)


class Gateway(Process):
    def __init__(self, binary, folder):
        self.binary, self.folder, self.port = binary, folder, free_port()
        self.config = folder / "knockx.toml"

    async def start(self, upstream):
        self.config.write_text(CONFIG.format(folder=self.folder, upstream=upstream))
        added = await self.command("user", "add", "soak@example.com", "--plan", "wide", "--json")
        self.key = json.loads(added.output)["api_key"]
        environment = {"PORT": str(self.port), "ADMIN_PORT": "0"}
        with (self.folder / "log").open("w") as log:
            await self.run([self.binary, "serve", "--config", self.config], environment, log)

    async def command(self, *words):
        process = await asyncio.create_subprocess_exec(
            self.binary, *words, "--config", self.config, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        output, error = await process.communicate()
        return Output(process.returncode, (output + (error if process.returncode else b"")).decode())

    def use(self):
        status = open(f"/proc/{self.process.pid}/status").read()
        kib = int(re.search(r"VmRSS:\s+(\d+)", status).group(1))
        return Use(kib / 1024, len(os.listdir(f"/proc/{self.process.pid}/fd")))
