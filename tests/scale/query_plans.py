"""How the store goes about what takes long: the real statements with their real values."""

import json
import re
import sqlite3
import time

SLOW_MS = 20


def print_query_plans(store, gateway, world, visits):
    told = set()
    if store.kind == "Postgres":
        store.explain(SLOW_MS)
        source, read = store.log, plans_of_postgres
    else:
        gateway.stop()
        gateway.start(log="info,sqlx::query=debug")
        world.client = gateway.client()
        source, read = gateway.log, lambda text: statements_of_gateway(text, store)
    for visit in visits:
        asked = next(visit(0))
        place = source.stat().st_size
        world.client.ask(asked.name.split(" ")[0], asked.path, asked.who, asked.body)
        time.sleep(0.05)
        with open(source) as log:
            log.seek(place)
            for statement, plan in read(log.read()):
                if statement not in told:
                    told.add(statement)
                    print(f"\n-- {asked.name}\n{plan}", flush=True)


def plans_of_postgres(log):
    """Entries of auto_explain: the statement, and the plan below it."""
    for entry in re.split(r"\n(?=\d{4}-\d\d-\d\d )", log):
        found = re.search(r"duration: ([\d.]+) ms\s+plan:\n(.*)", entry, re.DOTALL)
        if found:
            text = re.sub(r"^\t", "", found[2], flags=re.MULTILINE)
            yield text.split("\n\n")[0].split("(cost=")[0], f"{float(found[1]):.1f} ms\n{text.rstrip()}"


def statements_of_gateway(log, store):
    """Statements that the gateway tells of, with the plan that SQLite makes of each."""
    connection = sqlite3.connect(f"file:{store.file}?mode=ro", uri=True)
    for line in log.splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue
        fields = said.get("fields", said)
        statement = (fields.get("db.statement") or fields.get("summary") or "").strip()
        took = float(fields.get("elapsed_secs") or 0) * 1000
        is_asked = statement.startswith(("select", "with")) and "change_seq >" not in statement
        # What the gateway watches by itself belongs to no route.
        if took < SLOW_MS or not is_asked:
            continue
        count = max([statement.count("?"), *map(int, re.findall(r"\?(\d+)", statement))])
        steps = connection.execute("explain query plan " + statement, [None] * count).fetchall()
        depth = {0: 0}
        lines = []
        for place, parent, _, text in steps:
            depth[place] = depth.get(parent, 0) + 1
            lines.append("  " * (depth[place] - 1) + text)
        yield statement, f"{took:.1f} ms\n{statement}\n" + "\n".join(lines)
