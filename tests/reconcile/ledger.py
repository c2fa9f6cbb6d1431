"""The upstream's bill beside the ledger: call by call, class by class, user by user."""

import json
import uuid
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from redis_accounts import accounts, days
from settings import HIDDEN_REASONING

# Of a plan's tokens of a day, what upstream and ledger may be apart for calls that were cut.
TOLERATED = 0.02
# On the smallest plan that is 20 tokens, fewer than a debug build on a busy machine may read late.
TOLERATED_TOKENS = 50
# Where the upstream says nothing of use, a count of the text decides: this much of it, and some tokens.
ESTIMATED, ESTIMATED_TOKENS = 0.1, 30
WORST = 5
UNREPORTED = ("no-usage", "zero-usage")

LEDGER = """
select coalesce(json_agg(row_to_json(rows)), '[]') from (
    select replace(request::text, '-', '') as id, replace(user_id::text, '-', '') as user, day::text, status, source,
        counted, cost_micro_dollars as cost, prompt + completion + reasoning as tokens, prompt, completion, reasoning
    from usage_event
) as rows
"""

# By the rule that their bill and their charge have to keep.
EQUAL, AT_LEAST, NEAR, ESTIMATE, NOTHING, OPEN = "equal", "not less", "near", "estimated", "nothing", "open"
ESTIMATE_AT_LEAST = "estimated, not less"
# For a user as a whole, or not judged: no single call breaks these.
LENIENT = (NEAR, OPEN)


@dataclass
class Line:
    """A class of calls."""

    rule: str
    calls: int = 0
    billed: int = 0
    charged: int = 0
    wrong: list = field(default_factory=list)


class LedgerCheck:
    def __init__(self, cluster, users, calls):
        self.cluster, self.calls = cluster, calls
        self.users = {uuid.UUID(user["id"].removeprefix("user_")).hex: user for user in users}
        self.call = {call.request.removeprefix("req_"): call for call in calls if call.request}
        # Where a call's answer was fetched by another, that one may carry the charge.
        self.fetches = {fetch: call for call in calls for fetch in call.fetches}
        self.lines, self.violations = {}, defaultdict(list)
        # What each user was not charged for calls that were cut, and what was charged too much.
        self.missing, self.beyond = Counter(), Counter()

    async def read(self):
        self.rows = await self.cluster.postgres.query(LEDGER)
        self.accounts = await accounts(self.cluster.redis, self.users.values())
        self.said = defaultdict(list)
        for entry in map(json.loads, self.cluster.simulator.truth.read_text().splitlines()):
            self.said[entry["request"].replace("-", "")].append(entry)

    def check(self):
        self.row = {row["id"]: row for row in self.rows}
        twice = [row for row, times in Counter(row["id"] for row in self.rows).items() if times > 1]
        self.violations["a call with two rows"] += twice
        self.violations["answered upstream, and no row"] += [
            (request, entries[-1]["surface"], entries[-1]["billed"]["tokens"])
            for request, entries in self.said.items()
            if request not in self.row
        ]
        for request, row in self.row.items():
            if request in self.fetches and request not in self.said:
                continue
            self.compare(request, row, self.said.get(request, []))
        self.check_users()
        self.check_counters()

    def compare(self, request, row, entries):
        name, rule = excused(*self.classify(request, row, entries), row, entries)
        line = self.lines.setdefault(name, Line(rule))
        billed = entries[-1]["billed"]["tokens"] if entries else 0
        call = self.call.get(request)
        fetches = [self.row[fetch]["tokens"] for fetch in (call.fetches if call else []) if fetch in self.row]
        charged = row["tokens"] + sum(fetches)
        line.calls, line.billed, line.charged = line.calls + 1, line.billed + billed, line.charged + charged
        if rule == NEAR:
            self.missing[row["user"]] += max(0, billed - charged)
            self.beyond[row["user"]] += max(0, charged - billed)
        wrong = self.breaks(rule, billed, charged) or self.cost_breaks(rule, row, entries)
        if wrong or rule in LENIENT:
            line.wrong.append(Difference(request, billed, charged, row, entries))

    def breaks(self, rule, billed, charged):
        """Whether a call's bill and charge are not as the rule says; NEAR holds for a user, not a call."""
        if rule == ESTIMATE:
            return charged == 0 < billed or abs(charged - billed) > billed * ESTIMATED + ESTIMATED_TOKENS
        if rule == ESTIMATE_AT_LEAST:
            return billed - charged > billed * ESTIMATED + ESTIMATED_TOKENS
        return {EQUAL: charged != billed, AT_LEAST: charged < billed, NOTHING: charged > 0}.get(rule, False)

    def cost_breaks(self, rule, row, entries):
        """Prices agree to the micro-dollar, unless the upstream was made to report nonsense."""
        if not entries or entries[-1]["fault"] or row["cost"] is None:
            return False
        apart = entries[-1]["billed"]["cost_ticks"] / 10_000 - row["cost"]
        if rule == EQUAL and row["source"] == "reported":
            return abs(apart) > 1
        # Images have no tokens, only a price.
        return rule == AT_LEAST and entries[-1]["surface"] == "images" and apart > 1

    def classify(self, request, row, entries):
        """The name of a call's class, and the rule for it."""
        if not entries and row["status"].startswith("cut_by_") and row["completion"] == 0:
            # It was sent, and may be billed: its prompt is charged, and the allowance of a model that reasons unseen.
            if row["reasoning"]:
                return "given up before its answer began, hidden reasoning", AT_LEAST
            return "cut before its answer began", NEAR
        if not entries:
            return "refused, here or upstream", NOTHING
        entry, call = entries[-1], self.call.get(request)
        shape = "stream" if entry["stream"] else "whole"
        if any(fault in (entry["fault"] or "") for fault in UNREPORTED):
            # A model that may reason unseen is charged an allowance for it, whether it did or not.
            if entry["reasoning"] or row["reasoning"]:
                return f"usage not reported, {shape}, hidden reasoning", OPEN
            if call and call.previous:
                # The reasoning of the response before is estimated as part of the prompt; not all upstreams bill it.
                return f"usage not reported, {shape}, continues a response", ESTIMATE_AT_LEAST
            return f"usage not reported, {shape}", ESTIMATE
        if entry["deferred"]:
            read = call is not None and call.read
            if read:
                return "deferred, fetched", EQUAL
            if entry["reasoning"]:
                # What was reserved is charged; no limit of the call bounds reasoning that is hidden.
                return "deferred, never fetched, hidden reasoning", OPEN
            return "deferred, never fetched", AT_LEAST
        if row["status"] == "cut_by_quota" and not self.ends_with_caller(entry):
            return f"cut by quota, {shape}, more is billed than was seen", AT_LEAST
        if row["status"] == "cut_by_quota":
            return f"cut by quota, {shape}", NEAR
        met_garbage = row["status"] == "cut_by_client" and "garbage" in (entry["fault"] or "")
        if entry["finished"] and (row["status"] == "cut_by_upstream" or met_garbage) and row["source"] != "reported":
            # The gateway stops reading at a broken event, whether or not the caller is still connected. The rest was in the
            # socket buffers already.
            return f"ended at a broken event, {shape}", NEAR
        if entry["finished"] and row["status"] == "cut_by_client" and row["source"] != "reported":
            # The upstream was faster than the hang-up; what it bills beyond the text must be known all the same.
            return f"left near the end, {shape}", NEAR if self.ends_with_caller(entry) else AT_LEAST
        if entry["finished"]:
            left = row["status"] == "cut_by_client"
            return f"{'left and drained' if left else 'ended by itself'}, {entry['surface']} {shape}", EQUAL
        if row["status"] == "failed" and not (entry["stream"] and entry["produced"]):
            # The upstream reported an error before any output, or broke off inside a response that is not streamed. The
            # caller gets an error and is not charged: docs/errors.md.
            return f"failed before any output, {shape}", NOTHING
        # A gateway that waits for a silent upstream no longer hangs up on it.
        by_caller = entry["aborted_by_client"] and "stall" not in (entry["fault"] or "")
        who = "the caller" if by_caller else "the upstream"
        if entry["goes_on"] and entry["stream"]:
            read = call is not None and call.read
            return f"stored, cut by {who}, {'read later' if read else 'never read'}", EQUAL if read else AT_LEAST
        if not self.ends_with_caller(entry):
            rule = AT_LEAST if by_caller else OPEN
            return f"cut by {who}, {shape}, more is billed than was seen", rule
        return f"cut by {who}, {shape}", NEAR

    @staticmethod
    def ends_with_caller(entry):
        """Whether all that the upstream bills was seen by the gateway."""
        return not entry["goes_on"] and not entry["reasoning"] and not entry["continues"]

    def check_users(self):
        for user, tokens in (self.missing + self.beyond).items():
            limit = max(self.users[user]["limits"]["tokens"] * TOLERATED, TOLERATED_TOKENS)
            for what, amount in ("not charged", self.missing[user]), ("charged too much", self.beyond[user]):
                if amount > limit:
                    plan = self.users[user]["plan"]
                    self.violations[f"cut calls {what} above 2 % of the plan"].append((user, plan, amount, limit))

    def check_counters(self):
        """Counters are the sums of the ledger, within the plan unless an upstream said more."""
        sums, requests = Counter(), Counter()
        for row in self.rows:
            sums[row["user"], row["day"]] += row["tokens"]
            requests[row["user"], row["day"]] += row["counted"]
        for (user, plan), numbers in zip(self.users.items(), self.accounts, strict=True):
            for day in set(days(numbers, "used")) | {day for one, day in sums if one == user}:
                counted = numbers.get(f"{day}:used", 0), numbers.get(f"{day}:requests", 0)
                if counted != (sums[user, day], requests[user, day]):
                    found = user, plan["plan"], counted, (sums[user, day], requests[user, day])
                    self.violations["counters differ from the ledger"].append(found)

    def share(self):
        """The largest part of a plan that one user was not charged for calls that were cut."""
        return max((self.missing[user] / self.users[user]["limits"]["tokens"] for user in self.missing), default=0)

    def wrong(self):
        by_line = sum(len(line.wrong) for line in self.lines.values() if line.rule not in LENIENT)
        return by_line + sum(map(len, self.violations.values()))

    def totals(self):
        return {
            "calls": len(self.calls),
            "users": len(self.users),
            "rows": len(self.rows),
            "billed": sum(entries[-1]["billed"]["tokens"] for entries in self.said.values()),
            "charged": sum(row["tokens"] for row in self.rows),
            "answered more than once": sum(len(entries) > 1 for entries in self.said.values()),
            "not charged, worst user": f"{self.share():.2%} of the plan",
            "violations": self.wrong(),
        }


def excused(name, rule, row, entries):
    """The class of a call whose bill no gateway can know, whatever ended it."""
    entry = entries[-1] if entries else None
    # Estimated: an allowance is charged for reasoning that the model hides, whether it reasoned or not.
    if entry and rule == NEAR and row["source"] != "reported" and entry["model"] in HIDDEN_REASONING:
        return f"{name}, hidden reasoning", OPEN
    # It was sent a limit, and went beyond it unseen.
    if entry and rule == AT_LEAST and "overrun" in (entry["fault"] or ""):
        return f"{name}, beyond its limit", OPEN
    return name, rule


class Difference:
    """A call whose bill and charge are not the same."""

    def __init__(self, request, billed, charged, row, entries):
        self.request, self.billed, self.charged, self.row = request, billed, charged, row
        self.entry = entries[-1] if entries else {}

    def apart(self):
        return abs(self.billed - self.charged)

    def __str__(self):
        entry = {k: self.entry.get(k) for k in ("surface", "prompt", "completion", "reasoning", "produced", "fault")}
        row = {k: self.row[k] for k in ("status", "source", "prompt", "completion", "reasoning")}
        return f"req_{self.request}: billed {self.billed}, charged {self.charged}; upstream {entry}, ledger {row}"
