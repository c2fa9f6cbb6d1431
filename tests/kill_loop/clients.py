"""The callers of `scripts/kill-loop`: each calls in every way it may, and notes what it saw."""

import http.client
import json
import random
import threading
import time

END_SECONDS = 60


class Call:
    """What a client saw of one call."""

    def __init__(self, kind, key):
        self.kind, self.key, self.began_at = kind, key, time.monotonic()
        self.request = self.status = self.finish = None
        self.complete = self.left = False


class Client:
    """Calls one after another on its own thread, in every way a caller may."""

    def __init__(self, gateway, keys, seed):
        self.gateway, self.keys, self.chance = gateway, keys, random.Random(seed)
        self.calls, self.ending = [], threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.ending.is_set():
            address = self.gateway.address
            if address is None:
                time.sleep(0.002)
                continue
            call = Call(self.chance.choice(["stream", "stream", "whole", "abort"]), self.chance.choice(self.keys))
            connection = http.client.HTTPConnection(*address, timeout=30)
            try:
                connection.connect()
            except OSError:
                connection.close()
                time.sleep(0.002)
                continue
            self.calls.append(call)
            try:
                self.make(call, connection)
            except (OSError, http.client.HTTPException, ValueError):
                # Cut off; what was seen until then is noted.
                pass
            finally:
                connection.close()
            if call.status not in (None, 200):
                time.sleep(0.02)

    def make(self, call, connection):
        body = {"model": "grok-4.3", "messages": [{"role": "user", "content": "hello " * self.chance.randrange(20)}]}
        if call.kind != "whole":
            body["stream"] = True
            if self.chance.random() < 0.5:
                body["stream_options"] = {"include_usage": True}
        if self.chance.random() < 0.7:
            body["max_tokens"] = self.chance.choice([5, 50, 500])
        headers = {
            "authorization": "Bearer " + call.key,
            "content-type": "application/json",
            "x-sim-tokens": str(self.chance.choice([1, 20, 60, 400])),
            "x-sim-token-ms": str(self.chance.choice([0, 0, 2, 10])),
        }
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        reply = connection.getresponse()
        call.request, call.status = reply.getheader("x-request-id"), reply.status
        if call.status != 200:
            reply.read()
        elif call.kind == "whole":
            call.finish = json.loads(reply.read())["choices"][0]["finish_reason"]
            call.complete = True
        else:
            self.read_events(call, reply)

    def read_events(self, call, reply):
        lines_left = self.chance.randrange(40) if call.kind == "abort" else None
        for number, line in enumerate(reply):
            if line.strip() == b"data: [DONE]":
                call.complete = True
            elif line.startswith(b"data:"):
                for choice in json.loads(line[5:]).get("choices", []):
                    call.finish = choice.get("finish_reason") or call.finish
            if number == lines_left:
                call.left = True
                return

    def end(self):
        self.ending.set()
        if self.thread.ident:
            self.thread.join(END_SECONDS)
