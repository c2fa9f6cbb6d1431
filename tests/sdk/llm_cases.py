"""The command `llm`."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import MODEL, TOKENS, case, expect


def llm(ctx, folder, *words):
    """Runs the command with a folder of its own; gives what it printed and what it logged."""
    chat = {"model_id": "chat", "model_name": MODEL, "api_base": ctx.base_url, "api_key_name": "knockx"}
    models = [chat, {**chat, "model_id": "responses", "responses": True}]
    # What is JSON is YAML too.
    (folder / "extra-openai-models.yaml").write_text(json.dumps(models))
    (folder / "keys.json").write_text(json.dumps({"knockx": ctx.api_key}))
    env = {**os.environ, "LLM_USER_PATH": str(folder)}

    def run(*words):
        done = subprocess.run([sys.executable, "-m", "llm", *words], env=env, capture_output=True, text=True)
        expect(done.returncode == 0, done.stderr)
        return done.stdout

    return run(*words), json.loads(run("logs", "--json", "-n", "1"))[0]


@case("llm")
def llm_usage(ctx):
    """Whole and streamed, on both surfaces."""
    with tempfile.TemporaryDirectory() as folder:
        for model in ["chat", "responses"]:
            said = []
            for way in [["--no-stream"], []]:
                printed, log = llm(ctx, Path(folder), "-m", model, *way, "hello")
                expect(printed.strip() == log["response"].strip() and len(printed) > TOKENS, printed, log)
                expect(log["output_tokens"] == TOKENS, log)
                truth = ctx.truth_of(lambda entry: entry["sim_id"] in log["response_json"]["id"])
                expect(truth["stream"] == (not way), truth)
                ctx.agrees(truth, log["input_tokens"], log["output_tokens"])
                said.append(printed)
            expect(said[0] == said[1], said)


@case("llm", "gateway")
def llm_sees_refusals(ctx):
    with tempfile.TemporaryDirectory() as folder:
        for key, told in [("sk-wrong", "Incorrect API key"), (ctx.need("dead_keys")[0]["key"], "has been revoked")]:
            try:
                llm(ctx, Path(folder), "-m", "chat", "--key", key, "hello")
            except AssertionError as error:
                expect("401" in str(error) and told in str(error), error)
                continue
            raise AssertionError("not refused")
