"""Drives the gateway with the real Python clients, as an application would.

Run by `scripts/sdk`, once in each virtual environment:

    python suite.py openai|langchain|langchain-xai|llm|anthropic|openai-schema|anthropic-schema CONTEXT.json

The context names the base address, the keys and the simulator behind the gateway; `target` is
`gateway`, or `simulator` when the clients talk to the simulator itself, which knows no quotas.
Each case prints `ok NAME` or `FAIL NAME reason`; the last line counts them.
"""

import sys

from harness import CASES, Context, Skip

# Each file registers its cases.
import openai_cases  # noqa: F401
import langchain_cases  # noqa: F401
import langchain_xai_cases  # noqa: F401
import llm_cases  # noqa: F401
import anthropic_cases  # noqa: F401
import schema_cases  # noqa: F401


def run(ctx, name, function):
    """True, False, or None for a case that was skipped."""
    try:
        told = function(ctx)
    except Skip as why:
        print(f"skip {name} {why}")
        return None
    except Exception as error:
        print(f"FAIL {name} {type(error).__name__}: {str(error)[:600]}")
        return False
    print(f"ok {name}" + (f" ({told})" if told else ""))
    return True


def main():
    suite, ctx = sys.argv[1], Context(sys.argv[2])
    wanted = sys.argv[3:]
    results = []
    for of, target, name, function in CASES:
        if of == suite and target in (None, ctx.target) and (not wanted or name in wanted):
            results.append(run(ctx, name, function))
            sys.stdout.flush()
    passed, failed = results.count(True), results.count(False)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
