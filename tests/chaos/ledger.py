"""The checker of `scripts/chaos`: callers, simulator, Redis and ledger must tell the same story."""

import json
import uuid
from collections import Counter, defaultdict

from redis_accounts import accounts, days, read_log

# Nothing was taken and nothing was sent upstream.
REFUSALS = {"insufficient_quota", "quota_store_unavailable", "key_store_unavailable", "shutting_down"}
# No call runs for longer.
LONGEST_SECONDS = 60
# What Redis may lose with `everysec`; gateways resend it, and until then it may be granted again.
LOST_SECONDS = 3
COUNTS = ("prompt", "cached", "completion", "reasoning")
# Signs of a bug, whatever the ledger says.
ALARMS = ("background task failed", "moved it to the dead letters",
          "unexpected settle reply from redis")  # fmt: skip
# Signs of a bug unless Redis was made to lose something.
REPAIRS = ("quota drift repaired", "redis lost charges that it had acknowledged", "restored leases that redis lost")

LEDGER = """
select coalesce(json_agg(row_to_json(rows)), '[]') from (
    select 'req_' || replace(request::text, '-', '') as id, user_id::text, key_id, day::text, status, source, counted,
        admitted_at / 1000.0 as admitted_at, prompt, cached, completion, reasoning, prompt + completion + reasoning as tokens
    from usage_event
) as rows
"""


class LedgerCheck:
    """What the clients saw, what the simulator said, what ledger and Redis hold."""

    def __init__(self, cluster, users, plans, calls, faults):
        self.cluster, self.users, self.calls = cluster, users, calls
        self.deaths, self.losses = faults.deaths, faults.losses
        self.limits = {user["id"]: plans[user["plan"]] for user in users}
        self.violations = defaultdict(list)

    async def read(self, gateways):
        postgres, redis = self.cluster.postgres, self.cluster.redis
        self.rows = await postgres.query(LEDGER)
        self.dead = await postgres.query("select count(*) from usage_dead")
        self.accounts = await accounts(redis, self.users)
        lines = self.cluster.simulator.truth.read_text().splitlines()
        self.said = {"req_" + entry["request"].replace("-", ""): entry for entry in map(json.loads, lines)}
        self.row = {row["id"]: row for row in self.rows}
        self.gateway = {call.request: call.gateway for call in self.calls if call.request}
        self.log = [entry for gateway in gateways for entry in read_log(gateway.log)]
        self.messages = Counter(message for message, _ in self.log)

    def check(self):
        self.check_rows()
        self.check_refusals()
        self.check_abandoned()
        self.check_sums()
        for alarm in ALARMS + (() if self.losses else REPAIRS):
            self.violations[alarm] += [alarm] * self.messages[alarm]
        for message, entry in self.log:
            if "panicked" in message:
                self.violations["a panic"].append(entry)
        if self.dead:
            self.violations["charges among the dead"].append(self.dead)

    def check_rows(self):
        """Every answer that was begun has one row, every whole answer the true one."""
        found = self.violations
        begun = {call.request for call in self.calls if call.status == 200} | set(self.said)
        missing = [request for request in begun if request not in self.row]
        found["no row for a call that was begun"] += [r for r in missing if not self.taken_along(r)]
        self.lost = [request for request in missing if self.taken_along(request)]
        # Redis kept the reservation and lost the charge: what is left is charged as abandoned.
        abandoned = {row["id"] for row in self.rows if row["status"] == "abandoned"}
        whole = {call.request for call in self.calls if call.complete}
        self.lost += [request for request in abandoned & whole if self.taken_along(request)]
        ids = Counter(row["id"] for row in self.rows), Counter(call.request for call in self.calls if call.request)
        found["a request twice"] += [request for each in ids for request, times in each.items() if times > 1]
        for call in self.calls:
            if call.complete and call.request in self.row and call.request not in self.lost:
                wrong = self.wrong(call, self.row[call.request], self.said.get(call.request))
                if wrong:
                    found["a whole answer charged wrongly"].append((call.request, wrong, call.fault))
        for row in self.rows:
            said = self.said.get(row["id"])
            if row["source"] == "reported" and not self.is_true(row, said):
                found["a reported row that is not what was reported"].append(row["id"])
            if row["status"] == "failed" and row["tokens"]:
                found["a failed call that is charged"].append(row["id"])
        seen = {call.request for call in self.calls} | set(self.said)
        unseen = [row["id"] for row in self.rows if row["id"] not in seen]
        headless = sum(call.request is None for call in self.calls)
        if len(unseen) > headless:
            found["rows of calls that nobody made"] += unseen

    def is_true(self, row, said):
        """A client may leave while usage still grows."""
        grows = row["status"] != "complete" and said["fault"] == "usage-every-chunk"
        return all(row[count] == said[count] or grows and row[count] < said[count] for count in COUNTS)

    def taken_along(self, request):
        """Whether Redis lost it or its charge, and the gateway that remembered it died as well."""
        began = next((call.began for call in self.calls if call.request == request), None)
        if began is None:
            began = self.said[request]["began_ms"] / 1000
        soon = began, began + LONGEST_SECONDS
        died = self.died({"id": request, "admitted_at": began})
        return died and any(soon[0] < at < soon[1] for at in self.losses)

    def wrong(self, call, row, said):
        if said is None:
            return "no answer"
        if row["status"] == "cut_by_quota":
            # The gateway ended it with `length`: charged as counted, never above what was said.
            is_right = call.finish == "length" and row["completion"] <= said["completion"]
        elif call.fault == "no-usage":
            is_right = row["status"] == "complete"
        else:
            is_right = row["status"] == "complete" and all(row[count] == said[count] for count in COUNTS)
        return None if is_right else (row, {count: said[count] for count in COUNTS})

    def check_refusals(self):
        for call in self.calls:
            if call.status not in (None, 200) and call.code in REFUSALS:
                if call.request in self.said:
                    self.violations["refused, and sent upstream"].append((call.request, call.code))
                row = self.row.get(call.request)
                # A gateway that was killed could not undo what it had taken.
                if row and (row["tokens"] or row["counted"]) and not self.died(row):
                    self.violations["refused, and charged"].append((call, row))

    def check_abandoned(self):
        """A gateway that lives knows what its calls came to, in the end."""
        abandoned = [row for row in self.rows if row["status"] == "abandoned"]
        self.violations["abandoned, but nobody died"] += [row["id"] for row in abandoned if not self.died(row)]

    def died(self, row):
        """Whether the gateway of a call was killed while it may have run."""
        mine = self.gateway.get(row["id"])
        times = [at for at, name in self.deaths if mine in (None, name)]
        return any(row["admitted_at"] - 1 < at < row["admitted_at"] + LONGEST_SECONDS for at in times)

    def check_sums(self):
        """Counters are what the ledger says, and within the limits; nothing stays reserved."""
        tokens, requests = Counter(), Counter()
        for row in self.rows:
            tokens[row["user_id"], row["day"]] += row["tokens"]
            requests[row["user_id"], row["day"]] += row["counted"]
        found = self.violations
        for user, numbers in zip(self.users, self.accounts, strict=True):
            mine, limit = user["id"].removeprefix("user_"), self.limits[user["id"]]
            mine = str(uuid.UUID(mine))
            for day in set(days(numbers, "used")) | {day for one, day in tokens if one == mine}:
                sums = tokens[mine, day], requests[mine, day]
                counted = int(numbers.get(day + ":used", 0)), int(numbers.get(day + ":requests", 0))
                again = self.granted_again(mine, day)
                if sums[0] - again[0] > limit["tokens"] or sums[1] - again[1] > limit["requests"]:
                    found["a plan overdrawn"].append((mine, user["plan"], sums, limit))
                if counted != sums:
                    found["counters differ from the ledger"].append((mine, counted, sums))
            reserved = {name: n for name, n in numbers.items() if name.endswith((":reserved", ":open", "streams"))}
            if any(reserved.values()):
                found["tokens or calls stay reserved"].append((mine, reserved))

    def granted_again(self, user, day):
        """Tokens and requests that Redis may have granted twice, since it lost the calls of its last seconds."""
        lost = [
            row
            for row in self.rows
            if (row["user_id"], row["day"]) == (user, day)
            and any(at - LOST_SECONDS < row["admitted_at"] < at for at in self.losses)
        ]
        return sum(row["tokens"] for row in lost), sum(row["counted"] for row in lost)

    def figures(self):
        status = Counter(row["status"] for row in self.rows)
        late = "charged an abandoned call"
        reaped = {entry.get("request_id") for message, entry in self.log if message == late}
        corrected = [request for request in reaped if self.row.get(request, {}).get("status") != "abandoned"]
        refused = Counter(call.code for call in self.calls if call.status not in (None, 200))
        needless = sum(
            row["status"] == "cut_by_quota" and self.limits_of(row)["tokens"] > 10_000_000 for row in self.rows
        )
        return {
            "requests": len(self.calls),
            "completed": sum(call.complete for call in self.calls),
            "refused": sum(refused.values()),
            "rows": len(self.rows),
            "abandoned": status["abandoned"],
            "corrected late": len(corrected),
            "cut needlessly": needless,
            "lost with Redis and gateway": len(self.lost),
            "repaired": sum(self.messages[repair] for repair in REPAIRS),
            "violations": sum(map(len, self.violations.values())),
        }, refused, status

    def limits_of(self, row):
        return next(limit for user, limit in self.limits.items() if user.endswith(row["user_id"]))
