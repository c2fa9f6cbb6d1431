"""What `scripts/chaos` does to the cluster, at moments and in ways that a seed decides."""

import asyncio
import signal
import time
from collections import Counter

from servers import LEASE_SECONDS, STOP_SECONDS


class Faults:
    def __init__(self, cluster, gateways, chance, flush, lose):
        self.cluster, self.gateways, self.chance = cluster, gateways, chance
        self.done, self.told = Counter(), []
        # When gateways died, and when Redis lost something.
        self.deaths, self.losses = [], []
        self.redis, self.postgres = asyncio.Lock(), asyncio.Lock()
        self.kinds = {
            self.kill_gateway: 4,
            self.freeze_gateway: 2,
            self.restart_gateway: 1,
            self.kill_redis: 2,
            self.kill_postgres: 2,
            self.spoil_wire: 8,
        }
        if flush:
            self.kinds[self.flush] = 1
        if lose:
            self.kinds[self.lose] = 3

    async def run(self, seconds):
        """Each fault is a task of its own, so that they meet; returns when all have healed."""
        end = time.monotonic() + seconds
        async with asyncio.TaskGroup() as tasks:
            while time.monotonic() < end:
                await asyncio.sleep(self.chance.uniform(0.3, 2.2))
                (kind,) = self.chance.choices(list(self.kinds), self.kinds.values())
                tasks.create_task(kind())
        for gateway in self.gateways:
            for proxy in gateway.proxies.values():
                proxy.heal()

    def note(self, kind, what):
        self.done[kind] += 1
        self.told.append(f"{time.time():.3f} {kind} {what}")

    async def kill_gateway(self):
        gateway, away = self.chance.choice(self.gateways), self.chance.choice([0.1, 1, LEASE_SECONDS + 2])
        if gateway.taken.locked():
            return
        async with gateway.taken:
            self.note("gateway-kill", gateway.name)
            gateway.kill()
            self.deaths.append((time.time(), gateway.name))
            await asyncio.sleep(away)
            await gateway.start()

    async def freeze_gateway(self):
        gateway, seconds = self.chance.choice(self.gateways), LEASE_SECONDS + self.chance.uniform(0.5, 4)
        if gateway.taken.locked():
            return
        async with gateway.taken:
            self.note("freeze", f"{gateway.name} for {seconds:.1f} s")
            gateway.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(seconds)
            gateway.process.send_signal(signal.SIGCONT)

    async def restart_gateway(self):
        gateway = self.chance.choice(self.gateways)
        if gateway.taken.locked():
            return
        async with gateway.taken:
            self.note("restart", gateway.name)
            await gateway.stop(STOP_SECONDS)
            await gateway.start()

    async def kill_redis(self):
        away = self.chance.choice([0, 0.5, 2, LEASE_SECONDS + 2])
        if self.redis.locked():
            return
        async with self.redis:
            self.note("redis-kill", f"for {away} s")
            self.cluster.redis.kill()
            await asyncio.sleep(away)
            await self.cluster.redis.start()

    async def kill_postgres(self):
        away = self.chance.choice([0, 1, 4])
        if self.postgres.locked():
            return
        async with self.postgres:
            self.note("postgres-kill", f"for {away} s")
            await self.cluster.postgres.end(signal.SIGQUIT)
            await asyncio.sleep(away)
            await self.cluster.postgres.start()

    async def flush(self):
        if self.redis.locked():
            return
        async with self.redis:
            self.note("flush", "all")
            self.losses.append(time.time())
            await self.cluster.redis.ask("FLUSHALL")

    async def lose(self):
        """Redis comes back without its last second."""
        if self.redis.locked():
            return
        async with self.redis:
            sizes = self.cluster.redis.sizes()
            await asyncio.sleep(self.chance.uniform(0.1, 1))
            self.note("lose", "what came last")
            self.cluster.redis.kill()
            self.losses.append(time.time())
            self.cluster.redis.forget(sizes)
            await self.cluster.redis.start()

    async def spoil_wire(self):
        """One way of one gateway, or of all."""
        chance = self.chance
        server = chance.choice(["redis", "redis", "postgres"])
        mode = chance.choice(["cut", "delay", "stall", "mute", "mute"])
        amount = chance.choice({"delay": [0.02, 0.15, 0.5], "mute": [0.02, 0.2, 1.0]}.get(mode, [0.0]))
        seconds = chance.choice([0.05, 0.6, 2, LEASE_SECONDS + 2])
        one = chance.choice(self.gateways)
        hit = self.gateways if chance.random() < 0.25 else [one]
        self.note(mode, f"{server} of {' '.join(g.name for g in hit)}, {amount} for {seconds} s")
        for gateway in hit:
            gateway.proxies[server].set(mode, amount)
        await asyncio.sleep(seconds)
        for gateway in hit:
            gateway.proxies[server].heal()
