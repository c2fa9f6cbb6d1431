"""Counters and charges under way, as Redis holds them; logs of gateways."""

import json
import uuid


def account(user):
    """The name of a user's numbers in Redis."""
    number = uuid.UUID(user.removeprefix("user_")).bytes
    return f"kx:{{{number[15] % 64}}}:user:{number.hex()}"


def days(numbers, part):
    """One part of an account (`u`, `r`, `q`, `o`) by day."""
    return {name[: -len(part) - 1]: int(n) for name, n in numbers.items() if name.endswith(":" + part)}


async def accounts(redis, users):
    """All numbers of each user."""
    flat = await redis.ask_all([("HGETALL", account(user["id"])) for user in users])
    return [dict(zip(each[::2], each[1::2], strict=True)) for each in flat]


async def unfinished(cluster, users):
    """What is still under way, in words; empty when all is quiet."""
    names = await cluster.redis.ask("KEYS", "kx:*")
    outboxes = [name for name in names if name.endswith(":outbox")]
    waiting = sum(await cluster.redis.ask_all([("XLEN", name) for name in outboxes]))
    leases = [name for name in names if ":lease:" in name]
    spooled = list(cluster.spool.glob("*")) if cluster.spool.exists() else []
    held = [numbers for numbers in await accounts(cluster.redis, users) if any(days(numbers, "r").values())]
    found = {"leases": len(leases), "charges in outboxes": waiting, "files in the spool": len(spooled),
             "users with tokens held": len(held)}  # fmt: skip
    return ", ".join(f"{number} {what}" for what, number in found.items() if number)


def read_log(path):
    for line in path.read_text(errors="replace").splitlines():
        try:
            entry = json.loads(line)
            fields = entry.get("fields", entry)
            yield fields.get("message", ""), fields
        except ValueError:
            yield line, line
