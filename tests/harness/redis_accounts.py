"""Counters and charges under way, as Redis holds them; logs of gateways."""

import json
import struct
import uuid
from datetime import datetime


# The first byte of a lease; see crates/quota/src/redis/lease.lua.
LEASE = "\x01"
# The numbers of a day in an account.
PARTS = ("used", "reserved", "expected", "requests", "open")


def account(user):
    """The name of a user's numbers in Redis."""
    number = uuid.UUID(user.removeprefix("user_")).bytes
    return f"kx:{{{number[15] % 64}}}:user:{number.hex()}"


def days(numbers, part):
    """One of `PARTS` of an account, by day."""
    assert part in PARTS, part
    return {name[: -len(part) - 1]: int(n) for name, n in numbers.items() if name.endswith(":" + part)}


async def accounts(redis, users):
    """All numbers of each user, by name; those of a day begin with it."""
    found = await redis.ask_all([("GET", account(user["id"])) for user in users])
    return [decoded((text or "").encode(errors="surrogateescape")) for text in found]


def decoded(account):
    """The numbers of an account; its layout is described in crates/quota/src/redis/account.lua."""
    if not account:
        return {}
    head = ("streams", "units", "filled_at", "capacity", "seconds")
    numbers = dict(zip(head, struct.unpack_from("<5d", account), strict=True))
    for date, *of_day in struct.iter_unpack("<6d", account[40:]):
        day = datetime.strptime(str(int(date)), "%Y%m%d").date()
        numbers |= zip((f"{day}:{part}" for part in PARTS), of_day, strict=True)
    return {name: int(number) for name, number in numbers.items()}


async def unfinished(cluster, users):
    """What is still under way, in words; empty when all is quiet."""
    names = await cluster.redis.ask("KEYS", "kx:*")
    outboxes = [name for name in names if name.endswith(":outbox")]
    waiting = sum(await cluster.redis.ask_all([("XLEN", name) for name in outboxes]))
    calls = await cluster.redis.ask_all([("GETRANGE", name, "0", "0") for name in names if ":lease:" in name])
    # All others are tombstones.
    leases = [call for call in calls if call == LEASE]
    spooled = list(cluster.spool.glob("*")) if cluster.spool.exists() else []
    reserved = [numbers for numbers in await accounts(cluster.redis, users) if any(days(numbers, "reserved").values())]
    found = {"leases": len(leases), "charges in outboxes": waiting, "files in the spool": len(spooled),
             "users with reserved tokens": len(reserved)}  # fmt: skip
    return ", ".join(f"{number} {what}" for what, number in found.items() if number)


def read_log(path):
    for line in path.read_text(errors="replace").splitlines():
        try:
            entry = json.loads(line)
            fields = entry.get("fields", entry)
            yield fields.get("message", ""), fields
        except ValueError:
            yield line, line
