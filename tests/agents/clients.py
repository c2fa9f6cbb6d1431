"""Agent clients as their users run them: one command a turn, with nothing configured but where the gateway is.

Each client knows its command for a turn, the call of its tool that writes a file, and what it says of the
tokens it used.
"""

import json
import re


class Codex:
    name = "codex"
    package = "@openai/codex"

    def command(self, place, model, prompt, again):
        provider = f'{{name="KnockX",base_url="{place.url}/v1",env_key="KX_KEY",wire_api="responses"}}'
        settings = ["-c", "model_provider=kx", "-c", f"model_providers.kx={provider}", "-m", model]
        common = ["--skip-git-repo-check", "--json", *settings]
        if again:
            return ["codex", "exec", "resume", "--last", *common, prompt]
        return ["codex", "exec", "-s", "danger-full-access", *common, prompt]

    def environment(self, place):
        return {"KX_KEY": place.key, "CODEX_HOME": str(place.home / ".codex")}

    def writes(self, path, text):
        return "exec_command", {"cmd": f"printf %s {text} > {path}"}

    def usage(self, output):
        """Of one turn; a thread's later turns say the sum of all."""
        turns = [event for event in map(as_json, output.splitlines()) if event.get("type") == "turn.completed"]
        usage = turns[-1]["usage"]
        return {"prompt": usage["input_tokens"], "cached": usage["cached_input_tokens"], "output": usage["output_tokens"]}


class ClaudeCode:
    name = "claude"
    package = "@anthropic-ai/claude-code"
    # Puts its binary in place.
    after_install = ["node", "install.cjs"]

    def command(self, place, model, prompt, again):
        more = ["--continue"] if again else []
        return ["claude", "-p", *more, "--model", model, "--output-format", "json", "--allowedTools", "Write", "--", prompt]

    def environment(self, place):
        quiet = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1"}
        return {"ANTHROPIC_BASE_URL": place.url, "ANTHROPIC_AUTH_TOKEN": place.key, **quiet}

    def writes(self, path, text):
        return "Write", {"file_path": str(path), "content": text}

    def usage(self, output):
        (usage,) = as_json(output)["modelUsage"].values()
        cached = usage["cacheReadInputTokens"]
        return {"prompt": usage["inputTokens"] + cached, "cached": cached, "output": usage["outputTokens"]}


class Copilot:
    name = "copilot"
    package = "@github/copilot"

    def command(self, place, model, prompt, again):
        more = ["--continue"] if again else []
        return ["copilot", *more, "--allow-all-tools", "--model", model, "-p", prompt]

    def environment(self, place):
        provider = {"BASE_URL": f"{place.url}/v1", "TYPE": "openai", "API_KEY": place.key}
        provider = {f"COPILOT_PROVIDER_{name}": value for name, value in provider.items()}
        return {"COPILOT_OFFLINE": "true", "COPILOT_MODEL": place.model, **provider}

    def writes(self, path, text):
        return "create", {"path": str(path), "file_text": text}

    def usage(self, output):
        """It rounds what it says."""
        return None


class OpenCode:
    name = "opencode"
    package = "opencode-ai"
    after_install = ["node", "postinstall.mjs"]

    def command(self, place, model, prompt, again):
        options = {"baseURL": f"{place.url}/v1", "apiKey": place.key}
        provider = {"npm": "@ai-sdk/openai-compatible", "options": options, "models": {model: {}}}
        settings = {"autoupdate": False, "share": "disabled", "provider": {"kx": provider}}
        (place.work / "opencode.json").write_text(json.dumps(settings))
        more = ["--continue"] if again else []
        return ["opencode", "run", *more, "--format", "json", "-m", f"kx/{model}", prompt]

    def environment(self, place):
        return {"OPENCODE_DISABLE_MODELS_FETCH": "1"}

    def writes(self, path, text):
        return "write", {"filePath": str(path), "content": text}

    def usage(self, output):
        """Of the conversation; a first turn also asks for a title, whose tokens it does not say."""
        return None


class Aider:
    name = "aider"
    package = None

    def command(self, place, model, prompt, again):
        quiet = ["--no-check-update", "--analytics-disable", "--no-show-model-warnings", "--no-pretty"]
        more = ["--restore-chat-history"] if again else []
        return ["aider", *more, "--model", f"openai/{model}", "--no-git", "--yes-always", *quiet, "--message", prompt]

    def environment(self, place):
        return {"OPENAI_API_BASE": f"{place.url}/v1", "OPENAI_API_KEY": place.key}

    def writes(self, path, text):
        """It edits by what the model writes, without tools."""
        return None

    def usage(self, output):
        said = re.search(r"Tokens: ([\d.]+k?) sent(?:, ([\d.]+k?) cache hit)?, (\d+) received", output)
        return {"output": int(said[3])}


CLIENTS = {client.name: client for client in (Codex(), ClaudeCode(), Copilot(), OpenCode(), Aider())}


def as_json(text):
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
