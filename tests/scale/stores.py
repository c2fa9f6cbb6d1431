"""The stores of `scripts/scale`: each is started, filled in bulk, and asked."""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

START_SECONDS = 60

# Nothing may be left behind, even when this program is killed.
TIED = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []


def environment(**more):
    """Nothing of the caller's own configuration reaches what is started here."""
    names = ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "HOST", "PORT", "ADMIN_PORT", "ENVIRONMENT")
    prefixes = ("KNOCKX", "GROK_", "XAI_", "RATE_LIMIT_", "ADMIN_", "CORS_", "NEON_", "RUST_LOG", "LOG_", "PG")
    kept = {k: v for k, v in os.environ.items() if k not in names and not k.startswith(prefixes)}
    return kept | more


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Postgres:
    """A server of its own. Values of rows are texts, and rows are put together with `+`."""

    kind = "Postgres"
    # What makes rows come in faster; a crash while filling costs the folder alone.
    FILLING = ["fsync=off", "full_page_writes=off", "max_wal_size=8GB", "maintenance_work_mem=512MB", "work_mem=256MB"]
    EXPLAINING = [
        "session_preload_libraries=auto_explain", "auto_explain.log_analyze=on", "auto_explain.log_buffers=on",
        "auto_explain.log_timing=off",
    ]  # fmt: skip

    def __init__(self, folder):
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: float(p.parts[-3]))
        self.bin = found[-1].parent if found else sys.exit("scale: install Postgres first (Debian: postgresql)")
        self.home, self.log, self.port = folder / "postgres", folder / "postgres.log", None
        self.process, self.account = None, []
        self.is_new = not self.home.exists()
        if os.geteuid() == 0:
            # Postgres refuses to run as root.
            self.account = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        if self.is_new:
            self.make()

    def make(self):
        self.home.mkdir()
        if self.account:
            shutil.chown(self.home, "postgres", "postgres")
        made = subprocess.run(
            [*self.account, self.bin / "initdb", "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8",
             "-D", self.home / "data"], cwd="/tmp", capture_output=True, text=True,
        )  # fmt: skip
        if made.returncode:
            sys.exit("scale: Postgres cannot make its files:\n" + made.stderr)

    def start(self, settings=()):
        self.port = free_port()
        account = [*self.account, "--pdeathsig", "KILL"] if self.account else TIED
        flags = [word for setting in settings for word in ("-c", setting)]
        command = [*account, self.bin / "postgres", "-D", self.home / "data", "-h", "127.0.0.1",
                   "-p", str(self.port), "-k", self.home, *flags]  # fmt: skip
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/tmp",
                                            env=environment(), start_new_session=True)  # fmt: skip
        end = time.monotonic() + START_SECONDS
        while subprocess.run([self.bin / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]).returncode:
            if time.monotonic() > end or self.process.poll() is not None:
                sys.exit("scale: Postgres does not start:\n" + self.log.read_text()[-2000:])
            time.sleep(0.05)

    def stop(self):
        if self.process and self.process.poll() is None:
            # Cuts its connections and ends in good order.
            self.process.send_signal(signal.SIGINT)
            self.process.wait()

    def url(self):
        return f"postgres://postgres@127.0.0.1:{self.port}/postgres"

    def psql(self, *commands):
        words = [word for command in commands for word in ("-c", command)]
        # Triggers and foreign keys do nothing: what they would do to each row is done once, to all.
        options = {"PGOPTIONS": "-c session_replication_role=replica"}
        return subprocess.Popen(
            [*TIED, self.bin / "psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-d", self.url(), *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(**options),
        )  # fmt: skip

    def run(self, *commands):
        psql = self.psql(*commands)
        told, _ = psql.communicate()
        if psql.returncode:
            sys.exit("scale: Postgres refuses " + commands[-1][:200])
        return told.strip()

    def load(self, table, columns, rows):
        psql = self.psql(f"copy {table} ({columns}) from stdin")
        psql.stdin.writelines(row + "\n" for row in rows)
        psql.communicate()
        if psql.returncode:
            sys.exit(f"scale: Postgres does not take rows of {table}")

    def prepare(self, first, days):
        self.run(f"select prepare_usage_event('{first}', {days})")

    def load_ledger(self, columns, rows):
        self.load("usage_event", columns, rows)

    def finish(self):
        self.run("vacuum (analyze, parallel 2)")

    @staticmethod
    def row(*values):
        return "\t".join(["\\N" if value is None else str(value) for value in values])

    @staticmethod
    def joined(first, *others):
        return "\t".join((first, *others))

    @staticmethod
    def id(number):
        return f"{number:032x}"

    @staticmethod
    def digest(raw):
        return "\\\\x" + raw.hex()

    @staticmethod
    def boolean(value):
        return "t" if value else "f"

    def explain(self, milliseconds):
        """From now on each statement that takes as long is told in the log, with its plan."""
        self.run(f"alter system set auto_explain.log_min_duration = {milliseconds}", "select pg_reload_conf()")


class Sqlite:
    """A file. Rows are tuples, and are put together with `+`."""

    kind = "SQLite"

    def __init__(self, folder):
        self.file = folder / "knockx.db"
        self.is_new = not self.file.exists()

    def start(self, _settings=()):
        pass

    def stop(self):
        pass

    def url(self):
        return f"sqlite:{self.file}"

    def open(self):
        connection = sqlite3.connect(self.file, isolation_level=None)
        # Nothing of this outlives the connection.
        for setting in ("synchronous = off", "cache_size = -1000000", "foreign_keys = off", "temp_store = memory"):
            connection.execute(f"pragma {setting}")
        return connection

    def run(self, *commands):
        with self.opened() as connection:
            told = [connection.execute(command).fetchall() for command in commands]
        return "\n".join("|".join(map(str, row)) for row in told[-1])

    def load(self, table, columns, rows):
        with self.opened() as connection:
            self.insert(connection, table, columns, rows)

    @staticmethod
    def insert(connection, table, columns, rows):
        places = ", ".join("?" * (columns.count(",") + 1))
        connection.execute("begin")
        connection.executemany(f"insert into {table} ({columns}) values ({places})", rows)
        connection.execute("commit")

    def prepare(self, _first, _days):
        """Takes triggers and indexes of the ledger away, to be made again over all rows at once."""
        self.ledger = self.open()
        found = self.ledger.execute(
            "select type, name, sql from sqlite_master where tbl_name = 'usage_event' and sql is not null"
            " and type in ('index', 'trigger')"
        ).fetchall()
        for kind, name, _ in found:
            self.ledger.execute(f"drop {kind} {name}")
        self.taken_away = [sql for _, _, sql in found]

    def load_ledger(self, columns, rows):
        self.insert(self.ledger, "usage_event", columns, rows)

    def finish(self):
        for sql in self.taken_away:
            self.ledger.execute(sql)
        self.ledger.execute("analyze")
        self.ledger.close()
        self.run("pragma wal_checkpoint(truncate)")

    def opened(self):
        return Closing(self.open())

    @staticmethod
    def row(*values):
        return values

    @staticmethod
    def joined(*rows):
        return sum(rows, ())

    @staticmethod
    def id(number):
        return number.to_bytes(16, "big")

    @staticmethod
    def digest(raw):
        return raw

    @staticmethod
    def boolean(value):
        return int(value)


class Closing:
    def __init__(self, connection):
        self.connection = connection

    def __enter__(self):
        return self.connection

    def __exit__(self, *_):
        self.connection.close()
