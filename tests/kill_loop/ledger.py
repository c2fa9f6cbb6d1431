"""The checker of `scripts/kill-loop`: callers, simulator and ledger must tell the same story.

It reads the database file itself, when the last process has ended; `journal` is what `knockx journal verify` says then.
"""

import json
import sqlite3
from collections import Counter


class LedgerCheck:
    """What the clients saw, what the simulator said, what the ledger holds."""

    def __init__(self, folder, calls, small_tokens, journal):
        self.calls, self.small_tokens = calls, small_tokens
        self.truth = [json.loads(line) for line in (folder / "truth.jsonl").read_text().splitlines()]
        store = sqlite3.connect(folder / "data" / "knockx.db")
        store.row_factory = sqlite3.Row
        self.rows = store.execute("select 'req_' || lower(hex(request)) as id, * from usage_event").fetchall()
        self.journal = journal
        self.small = store.execute(
            "select email, sum(prompt + completion + reasoning) from usage_event"
            " join users on users.id = user_id where plan_id = 'small' group by email, day"
        ).fetchall()
        store.close()
        self.row = {row["id"]: row for row in self.rows}
        # The gateway's id goes upstream as a bare UUID.
        for entry in self.truth:
            entry["request"] = "req_" + entry["request"].replace("-", "")
        self.said = {entry["request"]: entry for entry in self.truth}

    def lost(self):
        """Calls that the upstream answered, or whose answer had begun, and that nobody pays for."""
        begun = {call.request for call in self.calls if call.status == 200}
        return [request for request in begun | set(self.said) if request not in self.row]

    def doubled(self):
        ids = [row["id"] for row in self.rows], [call.request for call in self.calls if call.request]
        ids = *ids, [entry["request"] for entry in self.truth]
        return [request for each in ids for request, times in Counter(each).items() if times > 1]

    def tell(self):
        seen = Counter("complete" if call.complete else str(call.status or "no reply") for call in self.calls)
        seen["200, not complete"] = seen.pop("200", 0)
        told = Counter(row["status"] for row in self.rows)
        print(f"calls {len(self.calls)}: " + ", ".join(f"{what} {n}" for what, n in sorted(seen.items())))
        print(f"ledger rows {len(self.rows)}: " + ", ".join(f"{what} {n}" for what, n in sorted(told.items())))
        complete = sum(call.complete for call in self.calls)
        abandoned = told["abandoned"]
        lost, doubled = len(self.lost()), len(self.doubled())
        print(f"complete {complete}, abandoned {abandoned}, lost {lost}, doubled {doubled}")

    def check(self, exit_code, verified, last_start):
        """Prints each check; returns how many failed."""
        complete = [call for call in self.calls if call.complete]
        headless = sum(call.request is None for call in self.calls)
        seen = {call.request for call in self.calls}
        abandoned = [row["id"] for row in self.rows if row["status"] == "abandoned"]
        whole = {call.request for call in complete}
        unseen = [request for request in abandoned if request not in seen]
        soft = [call for call in self.calls if call.began_at > last_start and call.status == 200]
        overdrawn = [(email, tokens) for email, tokens in self.small if tokens > self.small_tokens]
        checks = [
            ("the load was one", [] if len(complete) > 100 else [f"only {len(complete)} complete calls"]),
            ("every answer that was begun has a row", self.lost()),
            ("no request has two rows, two callers or two answers", self.doubled()),
            ("every complete answer is charged as the upstream says", self.wrong(complete)),
            ("abandoned rows belong to calls that were cut", [a for a in abandoned if a in whole]),
            ("abandoned calls were ours", unseen if len(unseen) > headless else []),
            ("no plan is overdrawn", overdrawn),
            ("no lease is left", [] if self.journal["open_leases"] == 0 else [self.journal]),
            ("the journal is whole", [self.journal] if self.journal["problems"] or self.journal["torn_bytes"] else []),
            ("counters, ledger and rollups agree", [found for found in verified if found]),
            ("the soft end is a success", [] if exit_code == 0 else [f"exit code {exit_code}"]),
            ("the soft end cuts nobody", [c.request for c in soft if not (c.complete or c.left)]),
        ]
        for name, found in checks:
            told = f"FAIL {name}: {len(found)}, such as {found[:5]}" if found else f"ok   {name}"
            print(told)
        failed = sum(bool(found) for _, found in checks)
        print(f"{len(checks) - failed} passed, {failed} failed")
        return failed

    def wrong(self, complete):
        counts = ("prompt", "cached", "completion", "reasoning")
        wrong = []
        for call in complete:
            row, said = self.row.get(call.request), self.said.get(call.request)
            if row is None or said is None:
                wrong.append((call.request, "no row" if row is None else "no answer"))
            elif row["status"] == "cut_by_quota":
                # The gateway ended it with `length`: charged as counted, never above what was said.
                if call.finish != "length" or row["completion"] > said["completion"]:
                    wrong.append((call.request, row["status"], call.finish))
            elif row["status"] != "complete" or any(row[count] != said[count] for count in counts):
                wrong.append((call.request, row["status"], [(row[count], said[count]) for count in counts]))
        return wrong
