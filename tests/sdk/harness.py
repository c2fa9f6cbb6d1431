"""What all suites share: the cases, the context, and what the simulator and the ledger say of a call."""

import json
import time
import urllib.error
import urllib.request

MODEL = "grok-4.3"
THINKER = "grok-4.20-0309-reasoning"
TOKENS = 24  # what the simulator says unless told otherwise
IMAGE_TOKENS = 1000  # the default of `image_tokens`
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a city",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
]

CASES = []


def case(suite, target=None):
    """Registers a case of a suite; one with a target needs that one."""

    def register(function):
        CASES.append((suite, target, function.__name__, function))
        return function

    return register


class Skip(Exception):
    """The case cannot be run here, and says why."""


def expect(condition, *seen):
    if not condition:
        raise AssertionError("seen: " + " ".join(repr(s) for s in seen))


def ask(text):
    return [{"role": "user", "content": text}]


class Context:
    """Where to go and with which key."""

    def __init__(self, path):
        with open(path) as file:
            self.raw = json.load(file)
        self.target = self.raw["target"]
        self.base_url = self.raw["base_url"]
        self.api_key = self.raw["api_key"]
        self.sim_url = self.raw["sim_url"]

    def need(self, name):
        if not self.raw.get(name):
            raise Skip(f"the context has no {name}")
        return self.raw[name]

    def truth(self, headers):
        """What the simulator says about the call these reply headers belong to."""
        ids = {headers.get("x-request-id"), headers.get("x-upstream-request-id")} - {None}
        return self.truth_of(lambda entry: entry["sim_id"] in ids or entry["request"] in ids)

    def truth_of(self, is_wanted, wait=5.0):
        """What the simulator says about the last call that is wanted."""
        until = time.monotonic() + wait
        while time.monotonic() < until:
            with urllib.request.urlopen(self.sim_url + "/sim/log?last=2000") as reply:
                for line in reversed(reply.read().splitlines()):
                    entry = json.loads(line)
                    if is_wanted(entry):
                        return entry
            time.sleep(0.02)
        raise AssertionError("the simulator does not know the call")

    def agrees(self, truth, prompt, output, images=0):
        """What a client was told is what the simulator said, and stands in the ledger (which the
        simulator alone has not got). Hidden reasoning is output, and so are the tokens
        that the gateway charges for images. Gives the ledger's row."""
        expect((truth["prompt"], truth["completion"] + truth["reasoning"]) == (prompt, output), truth, prompt, output)
        if self.target != "gateway":
            return None
        row = self.charge("req_" + truth["request"].replace("-", ""))
        tokens = {name: truth[name] for name in ("prompt", "cached", "completion", "reasoning")}
        tokens["completion"] += images * IMAGE_TOKENS
        expect(row["tokens"] == {**tokens, "total": prompt + output + images * IMAGE_TOKENS}, row, truth)
        expect((row["status"], row["source"]) == ("complete", "reported"), row)
        return row

    def charge(self, request_id, wait=5.0):
        """The ledger's one row for a request."""
        url = self.base_url.removesuffix("/v1") + "/api/v1/usage/history?limit=200"
        request = urllib.request.Request(url, headers={"authorization": "Bearer " + self.api_key})
        until = time.monotonic() + wait
        while time.monotonic() < until:
            with urllib.request.urlopen(request) as reply:
                rows = [row for row in json.load(reply)["data"] if row["request_id"] == request_id]
            if rows:
                expect(len(rows) == 1, rows)
                return rows[0]
            time.sleep(0.02)
        raise AssertionError("the ledger does not know " + request_id)

    def post(self, key, body):
        """A plain call outside of any client; returns the status."""
        request = urllib.request.Request(self.base_url + "/chat/completions", json.dumps(body).encode())
        request.add_header("authorization", "Bearer " + key)
        request.add_header("content-type", "application/json")
        try:
            with urllib.request.urlopen(request) as reply:
                reply.read()
                return reply.status
        except urllib.error.HTTPError as refused:
            refused.read()
            return refused.code

    def mend(self):
        """Good calls after one that the upstream failed. All suites share that upstream, and together
        they would open its breaker."""
        if self.target == "gateway":
            for _ in range(2):
                self.post(self.need("mend_key"), {"model": MODEL, "messages": ask("hello"), "max_tokens": 1})


def client(ctx, attempts=None, **options):
    """A client; `attempts` collects a status for each try it makes."""
    import openai

    options = {"base_url": ctx.base_url, "api_key": ctx.api_key, "max_retries": 0, **options}
    if attempts is not None:
        hooks = {"response": [lambda reply: attempts.append(reply.status_code)]}
        options["http_client"] = openai.DefaultHttpxClient(event_hooks=hooks)
    return openai.OpenAI(**options)


def refused(kind, call):
    """Runs a call that must raise exactly this kind of error (LangChain has kinds below it)."""
    try:
        call()
    except Exception as error:
        is_langchains = type(error).__module__.startswith("langchain") and isinstance(error, kind)
        expect(type(error) is kind or is_langchains, type(error), error)
        return error
    raise AssertionError(f"no {kind.__name__}")


def code_is(ctx, error, code):
    """Only the gateway promises OpenAI's codes."""
    if ctx.target == "gateway":
        expect(error.code == code, error.code, error.body)
        expect(error.response.headers.get("x-request-id"), dict(error.response.headers))
