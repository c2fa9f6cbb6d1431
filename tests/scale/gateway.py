"""The gateway under test, and those who ask it."""

import http.client
import json
import re
import signal
import subprocess
import sys
import time

from stores import TIED, environment

START_SECONDS = 120
STOP_SECONDS = 60
ADMIN, PASSWORD = "root@example.com", "correct horse battery staple"
SECRET = "scale-0123456789-scale-0123456789-scale"

# Throttles are for strangers; the timings here are those of somebody who is let in.
CONFIG = """
host = "127.0.0.1"
port = 0
admin_port = 0
[accounts]
access_token = 86400
account_tries = 1000000
address_tries = 1000000
account_changes = 1000000
address_registrations = 1000000
[telemetry]
log_format = "json"
log_filter = "{log}"
[[upstreams]]
name = "xai"
base_url = "http://127.0.0.1:9/v1"
api_key = ""
"""


class Gateway:
    def __init__(self, binary, folder, store):
        self.binary, self.folder, self.store = binary, folder, store
        self.log, self.process = folder / "gateway.log", None

    def start(self, log="info"):
        config = self.folder / "knockx.toml"
        config.write_text(CONFIG.format(log=log))
        env = environment(DATABASE_URL=self.store.url(), SECRET_KEY=SECRET, ADMIN_EMAIL=ADMIN, ADMIN_PASSWORD=PASSWORD)
        with open(self.log, "w") as told:
            self.process = subprocess.Popen(
                [*TIED, self.binary, "serve", "--config", config], stdin=subprocess.DEVNULL, stdout=told,
                stderr=told, env=env, cwd=self.folder,
            )  # fmt: skip
        end = time.monotonic() + START_SECONDS
        while not (found := re.search(r'"public":"127\.0\.0\.1:(\d+)"', self.log.read_text())):
            if time.monotonic() > end or self.process.poll() is not None:
                sys.exit("scale: the gateway does not start:\n" + self.log.read_text()[-2000:])
            time.sleep(0.05)
        self.port = int(found[1])

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def client(self):
        return Client(self.port)


class Client:
    """One connection, kept open."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def ask(self, method, path, token=None, body=None):
        """Status, reply, and the seconds that it took."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
        text = None if body is None else json.dumps(body)
        began = time.perf_counter()
        self.connection.request(method, path, text, headers)
        reply = self.connection.getresponse()
        raw = reply.read()
        took = time.perf_counter() - began
        is_json = reply.headers.get("Content-Type", "").startswith("application/json")
        return reply.status, json.loads(raw) if is_json else raw, took

    def log_in(self, email):
        status, reply, _ = self.ask("POST", "/api/v1/users/login", None, {"email": email, "password": PASSWORD})
        if status != 200:
            sys.exit(f"scale: {email} cannot log in: {reply}")
        return reply
