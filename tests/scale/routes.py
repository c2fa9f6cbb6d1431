"""What is asked: every route that reads, with what makes it slow, and those that write.

A visit is a generator that yields what to ask and is given the reply, so that it may go on from it.
"""

import datetime
import random
from collections import namedtuple
from urllib.parse import quote

from seed_rows import OLD_MODEL
from gateway import ADMIN, PASSWORD

# `name` has the route as the description has it, and after a comma what is special about it.
Ask = namedtuple("Ask", "name path who body", defaults=[None, None])

V1 = "/api/v1"

# What is told and not held to the bound, and why.
HASHES = "hashes a password, which is meant to take its time"
EXEMPT = {
    f"POST {V1}/users/login": HASHES,
    f"POST {V1}/users/register": HASHES,
    f"POST {V1}/users/change-password": HASHES,
    f"GET {V1}/users/export": "reads everything that is stored about a user",
    f"GET {V1}/admin/usage/top-users, asked for the first time": "adds up all days of a period; then it is kept",
    f"GET {V1}/admin/usage, by model for the first time": "adds up all days of a period; then it is kept",
    f"PATCH {V1}/admin/plans/{{id}}, new limits for most users": "gives each of its users a new version",
}


class World:
    """Who asks, and what there is to ask for."""

    def __init__(self, client, store, users, days):
        # Names that no earlier run has used.
        self.chance = random.SystemRandom()
        self.client, self.users = client, users
        self.today = datetime.datetime.now(datetime.timezone.utc).date()
        self.first = self.today - datetime.timedelta(days=days - 1)
        self.store = store
        self.admin = client.log_in(ADMIN)["access_token"]
        logged_in = client.log_in("someone.0@example0.com")
        self.heavy, self.heavy_id = logged_in["access_token"], logged_in["user"]["id"]
        self.heavy_plan = logged_in["user"]["plan"]["id"]
        self.find_places()

    def find_places(self):
        """Cursors deep in each list, and things to change."""
        admin, page = self.admin, f"{V1}/admin/users?limit=200"
        self.some = [user["id"] for user in self.read(page, admin)["data"]]
        self.user_cursor = self.some[-1]
        last = self.read(f"{page}&search={quote(f'someone.{self.users * 9 // 10}@')}", admin)["data"]
        if last:
            self.user_cursor = last[0]["id"]
        self.some += [user["id"] for user in self.read(f"{page}&cursor={self.user_cursor}", admin)["data"]]
        self.some = [user for user in self.some if user != self.heavy_id]
        self.audit_cursor = self.deep(f"{V1}/admin/audit?limit=200&actor=operator", admin)
        self.upgrade_cursor = self.deep(f"{V1}/admin/upgrades?limit=200", admin)
        middle = (self.first + (self.today - self.first) / 2).isoformat()
        page = self.read(f"{V1}/usage/history?limit=1&to={middle}", self.heavy)
        self.history_cursor = page["next_cursor"] or self.deep(f"{V1}/usage/history?limit=200", self.heavy)
        self.heavy_keys = [key["id"] for key in self.read(f"{V1}/keys", self.heavy)["data"]]
        self.pending, cursor = [], ""
        while cursor is not None:
            page = self.read(f"{V1}/admin/upgrades?limit=200&status=pending{cursor}", admin)
            # The heavy user asks again before these are decided, which ends what was asked before.
            self.pending += [asked for asked in page["data"] if asked["user_id"] != self.heavy_id]
            cursor = page["next_cursor"] and f"&cursor={page['next_cursor']}"

    def deep(self, path, who):
        cursor = ""
        for _ in range(20):
            following = self.read(path + cursor, who)["next_cursor"]
            if following is None:
                break
            cursor = f"&cursor={following}"
        # A small store has one page: then the place after its first row.
        if not cursor:
            cursor = self.read(path.replace("limit=200", "limit=1"), who)["next_cursor"] or ""
        return cursor.removeprefix("&cursor=")

    def read(self, path, who):
        status, reply, _ = self.client.ask("GET", path, who)
        if status != 200:
            raise RuntimeError(f"{path}: {status} {reply}")
        return reply


def reads(world):
    """Name, path (of a number: the caller's nth), who asks."""
    admin, heavy, first, today = world.admin, world.heavy, world.first, world.today
    year = f"from={today - datetime.timedelta(days=365)}&to={today}"
    month = f"from={today - datetime.timedelta(days=29)}&to={today}"
    for path in ("/", "/api", "/health", "/health/ping", "/health/ready", "/health/database", "/health/keep-alive"):
        yield f"GET {path}", path, None
    yield f"GET {V1}/plans", f"{V1}/plans", None
    yield f"GET {V1}/plans/{{plan_id}}", f"{V1}/plans/leveler", None
    yield f"GET {V1}/plans/compare/pricing", f"{V1}/plans/compare/pricing", None
    of_a_user = ("users/profile", "users/sessions", "users/identities", "users/second-factor", "keys", "chat/usage")
    for name in (*of_a_user, "usage/current", "usage/daily", "usage/monthly"):
        yield f"GET {V1}/{name}", f"{V1}/{name}", heavy

    stats = f"{V1}/usage/stats"
    yield f"GET {stats}, 30 days", stats, heavy
    yield f"GET {stats}, a year", f"{stats}?{year}", heavy

    history = f"{V1}/usage/history"
    some_key = world.heavy_keys[len(world.heavy_keys) // 2]
    some_call = world.read(f"{history}?limit=1&to={first}", heavy)["data"][0]["request_id"]
    for what, query in [
        ("newest", ""),
        ("200 rows as CSV", "limit=200&format=csv"),
        ("deep cursor", f"limit=200&cursor={world.history_cursor}"),
        ("a model of old days", f"model={OLD_MODEL}"),
        ("a model without calls", "model=nothing"),
        ("a status without calls", "status=abandoned"),
        ("a rare status", "status=failed&limit=200"),
        ("a key hardly used", f"key={some_key}"),
        ("the first day", f"from={first}&to={first}"),
        ("a request", f"request_id={some_call}"),
        ("a request of the client's name", "request_id=nothing"),
        ("everything at once", f"{year}&model={OLD_MODEL}&status=abandoned&key={some_key}"),
    ]:
        yield f"GET {history}, {what}", f"{history}?{query}", heavy

    yield f"GET {history}/{{request_id}}", f"{history}/{some_call}", heavy
    yield f"GET {V1}/admin/calls/{{request_id}}", f"{V1}/admin/calls/{some_call}", admin
    calls = f"{V1}/admin/users/{world.heavy_id}/calls"
    for what, query in [("newest", ""), ("a rare status", "status=failed&limit=200"), ("a request", f"request_id={some_call}")]:
        yield f"GET {V1}/admin/users/{{id}}/calls, {what}", f"{calls}?{query}", admin
    yield f"GET {V1}/announcements", f"{V1}/announcements", None
    for name in ("announcements", "config", "models", "upstreams", "stats/overview", "stats/daily"):
        yield f"GET {V1}/admin/{name}", f"{V1}/admin/{name}", admin
    users = f"{V1}/admin/users"
    for what, query in [
        ("first page", "limit=200"),
        ("deep cursor", f"limit=200&cursor={world.user_cursor}"),
        ("search without match", "search=nobody{n}at"),
        ("search for one", "search=user{n}99"),
        ("search for a letter", "search=z"),
        ("search for a common part", "search=someone"),
        ("search in a small plan", "search=nobody&plan=team-7"),
        ("a small plan", "plan=team-7&limit=200"),
        ("a plan and status", "plan=high-max&status=suspended&limit=200"),
        ("suspended", "status=suspended&limit=200"),
        ("admins", "role=admin"),
        ("suspended admins", "role=admin&status=suspended"),
    ]:
        yield f"GET {users}, {what}", f"{users}?{query}", admin
    yield f"GET {users}/{{id}}, the heaviest", f"{users}/{world.heavy_id}", admin
    yield f"GET {users}/{{id}}, any", lambda n: f"{users}/{world.some[n % len(world.some)]}", admin
    yield f"GET {users}/{{id}}/keys, the heaviest", f"{users}/{world.heavy_id}/keys", admin
    yield f"GET {users}/{{id}}/keys, any", lambda n: f"{users}/{world.some[n % len(world.some)]}/keys", admin

    top = f"{V1}/admin/usage/top-users"
    for by in ("tokens", "requests", "cost"):
        yield f"GET {top}, 30 days by {by}", f"{top}?by={by}&{month}", admin
        yield f"GET {top}, a year by {by}", f"{top}?by={by}&limit=200&{year}", admin
    yield f"GET {top}, today", f"{top}?from={today}", admin
    yield f"GET {top}, asked for the first time", lambda n: f"{top}?{earlier(today, n)}", admin

    usage = f"{V1}/admin/usage"
    this_month, last_month = f"month={today:%Y-%m}", f"month={today.replace(day=1) - datetime.timedelta(days=1):%Y-%m}"
    for what, query in [
        ("a month", f"{last_month}"),
        ("200 rows of a month", f"{last_month}&limit=200"),
        ("200 rows of this month", f"{this_month}&limit=200"),
        ("deep cursor", f"{last_month}&limit=200&cursor={world.user_cursor}"),
        ("by user", f"{last_month}&by=user&limit=200"),
        ("90 days", f"from={first}&to={today}&limit=200"),
        ("a year", f"{year}&limit=200"),
        ("a month without calls", "month=2020-02&limit=200"),
        ("by model", f"{last_month}&by=model"),
    ]:
        yield f"GET {usage}, {what}", f"{usage}?{query}", admin
    yield f"GET {usage}, by model for the first time", lambda n: f"{usage}?by=model&{earlier(today, n)}", admin

    upgrades = f"{V1}/admin/upgrades"
    for what, query in [
        ("newest", "limit=200"), ("deep cursor", f"cursor={world.upgrade_cursor}"),
        ("pending", "status=pending&limit=200"), ("superseded", "status=superseded"),
    ]:  # fmt: skip
        yield f"GET {upgrades}, {what}", f"{upgrades}?{query}", admin

    audit = f"{V1}/admin/audit"
    subject = f"subject=user:{world.heavy_id}"
    for what, query in [
        ("newest", "limit=200"), ("by subject", f"{subject}&limit=200"), ("by an unknown subject", "subject=user:none"),
        ("by actor, deep cursor", f"actor=operator&cursor={world.audit_cursor}"),
        ("by actor and subject", f"actor=gateway&{subject}"), ("an actor without entries", "actor=user:none"),
        ("by action", "action=user.change&limit=200"), ("by an unknown action", "action=none"),
        ("by action and day", f"action=user.change&from={first}&to={first}"),
    ]:  # fmt: skip
        yield f"GET {audit}, {what}", f"{audit}?{query}", admin
    yield f"GET {V1}/admin/system/health", f"{V1}/admin/system/health", admin


def earlier(today, n):
    """A period of some weeks that was not asked for before."""
    to = today - datetime.timedelta(days=n % 60)
    return f"from={to - datetime.timedelta(days=20 + n // 60)}&to={to}"


def read(name, path, who):
    """A visit that reads once."""
    def visit(n):
        yield Ask(name, path(n) if callable(path) else path.replace("{n}", str(n)), who)

    return visit


def writes(world):
    """Visits that change something."""
    admin, heavy = world.admin, world.heavy
    some = lambda n: world.some[n % len(world.some)]  # noqa: E731

    def profile(n):
        yield Ask(f"PATCH {V1}/users/profile", f"{V1}/users/profile", heavy, {"username": f"heavy-{n}"})

    def keys(n):
        made = yield Ask(f"POST {V1}/keys", f"{V1}/keys", heavy, {"name": f"key {n}"})
        by_key = made["api_key"]
        path = f"{V1}/keys/{made['id']}"
        yield Ask(f"GET {V1}/usage/current, with a new key", f"{V1}/usage/current", by_key)
        yield Ask(f"PATCH {V1}/keys/{{id}}", path, heavy, {"max_requests_per_day": n})
        yield Ask(f"DELETE {V1}/keys/{{id}}", path, heavy)

    def regenerate(_):
        yield Ask(f"POST {V1}/users/regenerate-api-key", f"{V1}/users/regenerate-api-key", heavy)

    def user(n):
        form = {"plan_id": ["leveler", "log-min"][n % 2], "overrides": {"max_tokens_per_day": 1000 + n}}
        yield Ask(f"PATCH {V1}/admin/users/{{id}}", f"{V1}/admin/users/{some(n)}", admin, form)

    def reset(n):
        yield Ask(f"POST {V1}/admin/users/{{id}}/reset-usage", f"{V1}/admin/users/{some(n)}/reset-usage", admin)

    def plans(n):
        name = f"scale-{world.chance.getrandbits(60):x}"
        form = {"id": name, "name": name, "price_cents": 100, "max_tokens_per_day": 1000, "max_requests_per_day": 10,
                "window": {"requests": 10, "seconds": 60}, "concurrent_streams": 5}  # fmt: skip
        yield Ask(f"POST {V1}/admin/plans", f"{V1}/admin/plans", admin, form)
        path = f"{V1}/admin/plans/{name}"
        yield Ask(f"PATCH {V1}/admin/plans/{{id}}, no user", path, admin, {"max_tokens_per_day": 2000 + n})
        yield Ask(f"DELETE {V1}/admin/plans/{{id}}", path, admin)

    def upgrade(n):
        others = [plan for plan in ("leveler", "log-min", "high-max") if plan != world.heavy_plan]
        yield Ask(f"POST {V1}/plans/upgrade", f"{V1}/plans/upgrade", heavy, {"plan_id": others[n % 2]})

    def decide(n):
        if world.pending:
            what, asked = ["approve", "reject"][n % 2], world.pending.pop()
            # As it was when they asked: a request of somebody who has another plan by now is out of date.
            path, form = f"{V1}/admin/users/{asked['user_id']}", {"plan_id": asked["from"]}
            yield Ask(f"PATCH {V1}/admin/users/{{id}}", path, admin, form)
            path = f"{V1}/admin/upgrades/{asked['id']}/{what}"
            yield Ask(f"POST {V1}/admin/upgrades/{{id}}/{what}", path, admin)

    def reload(_):
        yield Ask(f"POST {V1}/admin/config/reload", f"{V1}/admin/config/reload", admin)

    def session(_):
        form = {"email": ADMIN, "password": PASSWORD}
        begun = yield Ask(f"POST {V1}/users/login", f"{V1}/users/login", None, form)
        form = {"refresh_token": begun["refresh_token"]}
        begun = yield Ask(f"POST {V1}/users/refresh", f"{V1}/users/refresh", None, form)
        yield Ask(f"POST {V1}/users/logout", f"{V1}/users/logout", begun["access_token"])

    def account(n):
        form = {"email": f"new-{world.chance.getrandbits(60):x}@example.com", "password": PASSWORD}
        begun = yield Ask(f"POST {V1}/users/register", f"{V1}/users/register", None, form)
        form = {"current_password": PASSWORD, "new_password": PASSWORD + str(n)}
        path = f"{V1}/users/change-password"
        yield Ask(f"POST {path}", path, begun["access_token"], form)

    def export(_):
        yield Ask(f"GET {V1}/users/export", f"{V1}/users/export", heavy)

    def large_plan(n):
        path = f"{V1}/admin/plans/baby-free"
        yield Ask(f"PATCH {V1}/admin/plans/{{id}}, new name for most users", path, admin, {"name": f"Baby {n}"})
        limit = {"max_tokens_per_day": 1001 + n}
        yield Ask(f"PATCH {V1}/admin/plans/{{id}}, new limits for most users", path, admin, limit)

    return [profile, keys, regenerate, user, reset, plans, upgrade, decide, reload, session, account, export, large_plan]
