"""The processes of a cluster under test, each started and ended by its own number."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

START_SECONDS = 90
STOP_SECONDS = 60
LEASE_SECONDS = 3
SECRET = "chaos-0123456789-chaos-0123456789-chaos"

# Nothing may be left behind, even when this program is killed.
TIED = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []

CONFIG = """
[telemetry]
log_format = "json"
log_filter = "warn,knockx::quota=info,knockx::app=info"
[[upstreams]]
name = "xai"
base_url = "http://127.0.0.1:1/v1"
api_key_env = ["GROK_API_KEY"]
first_byte_timeout = 5
idle_timeout = 2
[[models]]
id = "grok-4.3"
upstreams = [{ name = "xai" }]
context_tokens = 1000000
prices = { input = 1.25, cached_input = 0.20, output = 2.50 }
"""

PLAN = """
[[plans]]
id = "{id}"
name = "{id}"
price_cents = 0
max_tokens_per_day = {tokens}
max_requests_per_day = {requests}
rate_limit_requests = 1000000
rate_limit_window = 60
concurrent_streams = {streams}
"""


def environment(**more):
    """Nothing of the caller's own configuration reaches the gateway."""
    names = ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "HOST", "PORT", "ADMIN_PORT", "ENVIRONMENT")
    prefixes = ("KNOCKX", "GROK_", "XAI_", "RATE_LIMIT_", "ADMIN_", "CORS_", "NEON_", "RUST_LOG", "LOG_")
    kept = {k: v for k, v in os.environ.items() if k not in names and not k.startswith(prefixes)}
    return kept | more


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


async def until(what, ready, seconds=START_SECONDS, pause=0.05):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if await ready():
            return
        await asyncio.sleep(pause)
    raise TimeoutError(f"chaos: no {what} within {seconds} s")


class Process:
    """Something that is started, killed, and started again."""

    def __init__(self, folder, name):
        self.folder, self.name, self.log = folder, name, folder / f"{name}.log"
        self.process = None

    def spawn(self, command, env=None):
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                [*TIED, *map(str, command)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=env or environment(), cwd=self.folder, start_new_session=True,
            )  # fmt: skip

    def lives(self):
        return self.process is not None and self.process.poll() is None

    async def end(self, how, seconds=STOP_SECONDS):
        """Sends a signal and waits; the exit code, or None when it had to be killed."""
        if not self.lives():
            return self.process and self.process.returncode
        self.process.send_signal(how)
        try:
            await until(f"end of {self.name}", self.ended, seconds, 0.01)
        except TimeoutError:
            self.process.kill()
            self.process.wait()
            return None
        return self.process.returncode

    async def ended(self):
        return not self.lives()

    def kill(self):
        if self.lives():
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()


class Redis(Process):
    def __init__(self, folder, fsync):
        super().__init__(folder, "redis")
        self.fsync, self.port = fsync, free_port()
        self.data = folder / "redis"
        self.data.mkdir()

    async def start(self):
        self.spawn(
            ["redis-server", "--port", self.port, "--bind", "127.0.0.1", "--dir", self.data, "--save", "",
             "--appendonly", "yes", "--appendfsync", self.fsync, "--maxmemory-policy", "noeviction"]
        )  # fmt: skip
        await until("answer from Redis", self.answers)

    async def answers(self):
        try:
            return await self.ask("PING") == "PONG"
        except (OSError, RuntimeError, asyncio.IncompleteReadError):
            return False

    async def ask(self, *words):
        return (await self.ask_all([words]))[0]

    async def ask_all(self, commands):
        """The answers to several commands, past every proxy."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 24)
        try:
            writer.write(b"".join(written(words) for words in commands))
            return [await self.answer(reader) for _ in commands]
        finally:
            writer.close()

    async def answer(self, reader):
        line = (await reader.readuntil(b"\r\n"))[:-2]
        kind, rest = line[:1], line[1:].decode()
        if kind == b"-":
            raise RuntimeError(rest)
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if int(rest) < 0:
            return None
        if kind == b"$":
            return (await reader.readexactly(int(rest) + 2))[:-2].decode(errors="surrogateescape")
        return [await self.answer(reader) for _ in range(int(rest))]


    def sizes(self):
        return {file: file.stat().st_size for file in self.data.glob("appendonlydir/*.incr.aof")}

    def forget(self, sizes):
        """Loses what was written since, as a machine or a failover does; it must not run."""
        for file, size in sizes.items():
            os.truncate(file, min(size, file.stat().st_size))


def written(words):
    """A command as it goes over the wire."""
    parts = [str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


class Postgres(Process):
    def __init__(self, folder):
        super().__init__(folder, "postgres")
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: float(p.parts[-3]))
        self.bin = found[-1].parent if found else sys.exit("chaos: install Postgres first (Debian: postgresql)")
        self.port, self.home = free_port(), folder / "postgres"
        self.home.mkdir()
        self.account = []
        if os.geteuid() == 0:
            # Postgres refuses to run as root.
            self.account = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
            shutil.chown(self.home, "postgres", "postgres")
        made = subprocess.run(
            [*self.account, self.bin / "initdb", "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8",
             "-D", self.home / "data"], cwd=folder, capture_output=True, text=True,
        )  # fmt: skip
        if made.returncode:
            sys.exit("chaos: Postgres cannot make its files:\n" + made.stderr)

    def url(self, port=None):
        return f"postgres://postgres@127.0.0.1:{port or self.port}/postgres"

    async def start(self):
        account = self.account and [*self.account, "--pdeathsig", "KILL"]
        self.spawn(
            [*account, self.bin / "postgres", "-D", self.home / "data", "-h", "127.0.0.1", "-p", self.port,
             "-k", self.home, "-c", "max_connections=200"]
        )  # fmt: skip
        await until("answer from Postgres", self.answers)

    async def answers(self):
        try:
            return await self.query("select 1") == 1
        except RuntimeError:
            return False

    def kill(self):
        """Ends it without saving, but not by SIGKILL: its children and its shared memory would stay behind."""
        if self.lives():
            self.process.send_signal(signal.SIGQUIT)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                super().kill()

    async def query(self, sql):
        """The one value that `sql` gives, read as JSON."""
        command = [self.bin / "psql", "-X", "-A", "-t", "-q", "-d", self.url(), "-c", sql]
        done = await run(command, environment())
        if done.code:
            raise RuntimeError(done.error)
        return json.loads(done.output or "null")


class Done:
    def __init__(self, code, output, error):
        self.code, self.output, self.error = code, output, error


async def run(command, env):
    process = await asyncio.create_subprocess_exec(
        *TIED, *map(str, command), env=env, cwd="/tmp",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    output, error = await process.communicate()
    return Done(process.returncode, output.decode(), error.decode())


class Simulator(Process):
    """The upstream, which is never killed."""

    def __init__(self, binary, folder):
        super().__init__(folder, "simulator")
        self.binary, self.truth, self.url = binary, folder / "truth.jsonl", None

    async def start(self):
        self.spawn([self.binary, "simulate", "--listen", "127.0.0.1:0", "--log", self.truth])
        await until("address of the simulator", self.told)

    async def told(self):
        words = self.log.read_text().split()
        self.url = next((word for word in words if word.startswith("http://")), None)
        return self.url is not None


class Gateway(Process):
    """One of the gateways; each start is on other ports."""

    def __init__(self, place, cluster, proxies=None):
        super().__init__(cluster.folder, f"gateway-{place}")
        # Ways to Redis and Postgres that can be broken; without them it goes straight.
        self.cluster, self.proxies = cluster, proxies or {}
        # What is done to the process is done by one fault at a time.
        self.taken = asyncio.Lock()
        self.address = None
        self.unasked_ends = []

    def spawn_serve(self):
        port = free_port()
        ports = {name: proxy.port for name, proxy in self.proxies.items()}
        env = self.cluster.environment(**ports)
        env |= {"PORT": str(port), "ADMIN_PORT": "0"}
        self.spawn([self.cluster.binary, "serve", "--config", self.cluster.config], env)
        return ("127.0.0.1", port)

    async def start(self):
        """Tries again when it gave up, as a supervisor does: faults may go on all the while."""
        address = self.spawn_serve()
        began = time.monotonic()
        while not await self.is_ready(address):
            if not self.lives():
                address = self.spawn_serve()
            if time.monotonic() - began > 2 * START_SECONDS:
                raise TimeoutError(f"chaos: {self.name} does not start")
            await asyncio.sleep(0.05)
        self.address = address

    async def is_ready(self, address):
        try:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"GET /health/ready HTTP/1.0\r\nhost: chaos\r\n\r\n")
            head = await asyncio.wait_for(reader.read(64), 5)
            writer.close()
            return b" 200 " in head
        except (OSError, asyncio.TimeoutError):
            return False

    def kill(self):
        self.leave()
        super().kill()

    async def stop(self, seconds):
        """The exit code of a soft end."""
        self.leave()
        return await self.end(signal.SIGTERM, seconds)

    def leave(self):
        if self.address and not self.lives():
            self.unasked_ends.append(self.process.returncode)
        self.address = None


class Cluster:
    """What the gateways share."""

    def __init__(self, binary, folder, redis, postgres, simulator, plans, config=CONFIG):
        self.binary, self.folder = binary, folder
        self.redis, self.postgres, self.simulator = redis, postgres, simulator
        self.config, self.spool = folder / "knockx.toml", folder / "spool"
        self.config.write_text(config + "".join(PLAN.format(**plan) for plan in plans))

    def environment(self, redis=None, postgres=None):
        """What `knockx` needs; with other ports when it goes through a proxy."""
        return environment(
            REDIS_URL=f"redis://127.0.0.1:{redis or self.redis.port}",
            DATABASE_URL=self.postgres.url(postgres),
            SECRET_KEY=SECRET,
            GROK_API_KEY="sim-chaos",
            GROK_BASE_URL=self.simulator.url + "/v1",
            KNOCKX__REDIS__LEASE=str(LEASE_SECONDS),
            KNOCKX__REDIS__SPOOL=str(self.spool),
        )

    async def command(self, *words):
        return await run([self.binary, *words, "--config", self.config], self.environment())

    async def add_user(self, email, plan):
        done = await self.command("user", "add", email, "--plan", plan, "--json")
        if done.code:
            sys.exit("chaos: " + done.error)
        told = json.loads(done.output)
        return {"id": told["user"]["id"], "key": told["api_key"], "plan": plan}
