"""What a gateway of some years would have in its store: the same for both dialects."""

import datetime
import itertools
import json
import random
import time

DAY_MS = 24 * 3600 * 1000
BOUNDS = [50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000]
PLANS = [("baby-free", 0.60), ("leveler", 0.25), ("log-min", 0.10), ("high-max", 0.05)]
MODELS = ["grok-4.3", "grok-4.5", "grok-4.7", "grok-build-0.1"]
# Called in the first days alone: to find it, a page has to look far back.
OLD_MODEL = "grok-4.20-0309-reasoning"
# Quarters of an hour are kept for so many days.
QUARTER_DAYS = 7
STATUSES = [("complete", 930), ("cut_by_client", 30), ("failed", 22), ("cut_by_upstream", 10), ("cut_by_quota", 8)]
ACTIVE_SHARE = 0.055
REGULARS_SHARE = 0.005
BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
HASH = "$argon2id$v=19$m=19456,t=2,p=1$" + "c2NhbGVzY2FsZXNjYWxl" + "$" + "x" * 43

LEDGER = (
    "request, admitted_at, user_id, key_id, model, day, upstream, prompt, cached, completion, reasoning,"
    " cost_micro_dollars, status, source, counted, first_token_ms, total_ms"
)
SUMS = "sum(prompt), sum(cached), sum(completion), sum(reasoning), sum(cost_micro_dollars)"
CALLS = "count(*) filter (where counted), count(*), count(*) filter (where status in ('failed', 'cut_by_upstream'))"


def v7(ms, chance):
    """A UUIDv7 of that time, as a number."""
    return ms << 80 | 7 << 76 | chance.getrandbits(12) << 64 | 2 << 62 | chance.getrandbits(62)


class SeedRows:
    def __init__(self, store, options):
        self.store, self.chance = store, random.Random(1)
        self.users, self.rows, self.days = options.users, options.rows, options.days
        self.now = int(time.time() * 1000)
        self.midnight = self.now - self.now % DAY_MS
        self.ids, self.keys = [], []

    def run(self):
        began = time.monotonic()
        for what in (self.add_plans, self.add_users, self.add_keys, self.add_sessions, self.add_ledger,
                     self.add_rollups, self.add_upgrades, self.add_audit, self.store.finish):  # fmt: skip
            what()
            print(f"{time.monotonic() - began:6.0f} s  {what.__name__}", flush=True)

    def add_plans(self):
        row, boolean = self.store.row, self.store.boolean
        limits = (10**6, 10**4, 100, 60, 50, "UTC")
        self.store.load(
            "plan",
            "id, name, price_cents, retired, changed, tokens_per_day, requests_per_day, window_capacity,"
            " window_refill_seconds, concurrent_streams, time_zone",
            (row(f"team-{n}", f"Team {n}", 100 * n, boolean(n % 3 == 0), boolean(True), *limits) for n in range(30)),
        )

    def add_users(self):
        """Registered over two years, in this order; the first is the heaviest."""
        step = 2 * 365 * DAY_MS // self.users
        plans, weights = zip(*PLANS)
        change = 1000

        def rows():
            for n in range(self.users):
                at = self.now - (self.users - n) * step
                self.ids.append(v7(at, self.chance))
                plan = f"team-{n % 30}" if n % 500 == 7 else self.chance.choices(plans, weights)[0]
                name = f"user{n}" if n % 10 < 7 else None
                status = "suspended" if n % 50 == 9 else "active"
                email = f"someone.{n}@example{n % 40}.com"
                yield self.store.row(self.store.id(self.ids[-1]), email, name, HASH, "user", status, plan, 1 + n % 5,
                                     change + n, at)  # fmt: skip

        columns = "id, email, username, password_hash, role, status, plan_id, version, change_seq, created_at"
        self.store.load("users", columns, rows())
        if self.store.kind == "Postgres":
            self.store.run(f"update change_number set last = {change + self.users}")

    def add_keys(self):
        def rows():
            for n, user in enumerate(self.ids):
                mine = ["".join(self.chance.choices(BASE62, k=12)) for _ in range(20 if n == 0 else 1 + n % 3)]
                self.keys.append(mine)
                for at, key in enumerate(mine):
                    created = (user >> 80) + at * 1000
                    revoked = created + DAY_MS if at == 2 else None
                    yield self.store.row(key, self.store.id(user), self.store.digest(self.chance.randbytes(32)), "abcd",
                                         f"key {at}", created, revoked)  # fmt: skip

        self.store.load("api_key", "id, user_id, digest, last_four, name, created_at, revoked_at", rows())

    def add_sessions(self):
        def rows():
            for user in self.ids[::3]:
                at = self.now - self.chance.randrange(14 * DAY_MS)
                yield self.store.row(self.store.id(v7(at, self.chance)), self.store.id(user),
                                     self.store.digest(self.chance.randbytes(32)), at, at + 14 * DAY_MS)  # fmt: skip

        self.store.load("session", "id, user_id, digest, created_at, expires_at", rows())

    def add_ledger(self):
        """Calls of so many days, each day some five in a hundred of the users, a few of them most."""
        today = datetime.datetime.fromtimestamp(self.midnight // 1000, datetime.timezone.utc).date()
        first = today - datetime.timedelta(days=self.days - 1)
        self.store.prepare(first, self.days)
        self.store.load_ledger(LEDGER, self.calls_of_days(first))

    def calls_of_days(self, first):
        tails = self.tails()
        for number in range(self.days):
            calls = self.rows * (number + 1) // self.days - self.rows * number // self.days
            yield from self.calls_of_day(first + datetime.timedelta(days=number), number, calls, tails)

    def calls_of_day(self, day, number, calls, tails):
        begins = self.midnight - (self.days - 1 - number) * DAY_MS
        # Of today only what has passed; all its calls, so that the day is a full one.
        length = DAY_MS if begins < self.midnight else self.now - self.midnight
        drawn = []
        for user, times in self.active(calls):
            hours = [self.chance.randrange(24) for _ in range(min(1 + times // 8, 10))]
            ways = self.ways(user, number, day)
            for _ in range(times):
                at = (self.chance.choice(hours) + self.chance.random()) / 24
                drawn.append((begins + int(at * length), self.chance.choice(ways)))
        drawn.sort()
        store, chance = self.store, self.chance
        for at, way in drawn:
            request = store.row(store.id(v7(at, chance)), at)
            yield store.joined(request, way, tails[chance.getrandbits(12)])

    def active(self, calls):
        """Who calls on a day, and how often."""
        regulars = max(1, int(self.users * REGULARS_SHARE))
        others = min(max(1, int(self.users * ACTIVE_SHARE)), calls) - regulars
        users = [*range(regulars), *self.chance.sample(range(regulars, self.users), max(0, others))]
        weights = list(itertools.accumulate(1 / (place + 6) for place in range(len(users))))
        times = [1] * len(users)
        for place in self.chance.choices(range(len(users)), cum_weights=weights, k=max(0, calls - len(users))):
            times[place] += 1
        return zip(users, times)

    def ways(self, user, number, day):
        """A user's keys and models of a day, as parts of rows."""
        keys = self.keys[user]
        pairs = [(keys[0], MODELS[user % 3])]
        if user % 2 == 0:
            pairs.append((keys[-1], MODELS[0]))
        if user % 5 == 0:
            pairs += [(self.chance.choice(keys), self.chance.choice(MODELS)) for _ in range(2)]
        if number < 3:
            pairs.append((keys[0], OLD_MODEL))
        return [self.store.row(self.store.id(self.ids[user]), key, model, day.isoformat()) for key, model in pairs]

    def tails(self):
        """The rest of a row: as many as twelve bits have numbers."""
        names, weights = zip(*STATUSES)

        def tail():
            status = self.chance.choices(names, weights)[0]
            prompt, completion = int(self.chance.lognormvariate(6, 1)), int(self.chance.lognormvariate(5, 1))
            total = int(self.chance.lognormvariate(8, 1))
            first = None if status == "failed" else total // 4
            return self.store.row("xai", prompt, prompt // 3, completion, completion // 4, prompt * 2 + completion * 6,
                                  status, "reported", self.store.boolean(status != "failed"), first, total)  # fmt: skip

        return [tail() for _ in range(1 << 12)]

    def add_rollups(self):
        """What the triggers would have made of each row, from all of them at once."""
        below = [0, *[bound + 1 for bound in BOUNDS]]
        took = [f"count(*) filter (where total_ms between {low} and {high})" for low, high in zip(below, BOUNDS)]
        took.append(f"count(*) filter (where total_ms > {BOUNDS[-1]})")
        names = [f"took_{bound}" for bound in [*BOUNDS, "longer"]]
        sums = "prompt, cached, completion, reasoning, cost_micro_dollars"
        self.store.run(
            f"insert into usage_daily (day, user_id, key_id, model, requests, calls, failed, {sums}, last_at,"
            f" {', '.join(names)}) select day, user_id, key_id, model, {CALLS}, {SUMS}, max(admitted_at),"
            f" {', '.join(took)} from usage_event group by day, user_id, key_id, model"
            " order by day, user_id, key_id, model",
        )
        self.store.run(
            f"insert into usage_quarter_hourly (user_id, day, quarter, model, requests, calls, failed, {sums})"
            f" select user_id, day, admitted_at / 900000, model, {CALLS}, {SUMS} from usage_event"
            f" where day >= '{self.first_quarter_day()}' group by 1, 2, 3, 4 order by 1, 2, 3, 4"
        )
        self.store.run(
            "insert into key_use (user_id, key_id, last_at)"
            " select user_id, key_id, max(last_at) from usage_daily group by user_id, key_id"
        )

    def first_quarter_day(self):
        """Older quarters of an hour are pruned every day."""
        today = datetime.datetime.fromtimestamp(self.midnight // 1000, datetime.timezone.utc).date()
        return today - datetime.timedelta(days=QUARTER_DAYS)

    def add_upgrades(self):
        """Every fifth user has asked once; the last two in a hundred still wait."""
        def rows():
            for n in range(0, self.users, 5):
                at = self.now - (self.users - n) * 60_000
                waits = n >= self.users * 0.98 or n % 100 == 0
                status = "pending" if waits else self.chance.choice(["approved", "rejected", "superseded"])
                decided = (None, None) if waits else (at + 1000, "operator")
                yield self.store.row(self.store.id(v7(at, self.chance)), self.store.id(self.ids[n]), "baby-free",
                                     "leveler", status, at, *decided)  # fmt: skip

        columns = "id, user_id, from_plan, to_plan, status, asked_at, decided_at, decided_by"
        self.store.load("upgrade", columns, rows())

    def add_audit(self):
        """Three entries a user, and what the operator does to the heaviest all the time."""
        shown = json.dumps({"email": "someone@example.com", "plan": "leveler", "status": "active", "version": 3})

        def rows():
            for n in range(3 * self.users):
                at = self.now - (3 * self.users - n) * 20_000
                user = self.ids[0 if n % 50 == 0 else self.chance.randrange(self.users)]
                name = "user:" + "-".join(cut(f"{user:032x}", 8, 4, 4, 4, 12))
                actor = "operator" if n % 3 == 0 else name
                yield self.store.row(self.store.id(v7(at, self.chance)), at, actor, "user.change", name, shown, shown)

        self.store.load("audit", "id, at, actor, action, subject, before, after", rows())


def cut(text, *lengths):
    letters = iter(text)
    return ["".join(itertools.islice(letters, length)) for length in lengths]
