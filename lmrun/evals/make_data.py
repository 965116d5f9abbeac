"""Writes the data that evaluations ship with: `python -m lmrun.evals.make_data [stories] [tools]`.

Both come from the generators of the demo model, with seeds that its training never uses; the tools,
the requests and the values of `tools` are worded with the lists that training leaves out. The same
generators write the same bytes.
"""

import json
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lmrun.demo.generate import stories
from lmrun.errors import UsageError
from lmrun.models import builtin_data

SEED = 5
STORIES_BYTES = 290_000
TOOLS_BYTES = 100_000
NUM_ONE_STEP, NUM_TWO_STEPS, NUM_NO_TOOL = 50, 15, 20
"""A task of two steps makes two items: its first call, and its second after the first's result."""


def stories_text() -> str:
    """Different stories with a blank line between two, up to `STORIES_BYTES`."""
    rng = random.Random(f"evaluate/stories/{SEED}")
    found: dict[str, None] = {}
    size = 0
    while True:
        story = stories.grammar_story(rng)[1]
        if story in found:
            continue
        size += len(story.encode()) + 2
        if size > STORIES_BYTES:
            return "\n\n".join(found) + "\n"
        found[story] = None


def tools_text() -> str:
    """A tools file of `lmrun.evals.tool_files`, its sorts of items mixed, up to `TOOLS_BYTES`."""
    from lmrun.demo import scoring  # noqa: PLC0415 - stories need no lists of tools

    items: list[dict[str, Any]] = []
    for task in scoring.one_step(NUM_ONE_STEP, SEED) + scoring.two_steps(NUM_TWO_STEPS, SEED):
        messages: list[dict[str, Any]] = [{"role": "user", "content": task.request}]
        for call in task.calls:
            made = {"name": call.name, "arguments": dict(call.arguments)}
            items.append({"messages": list(messages), "tools": task.tools, "calls": [made]})
            turn = [{"type": "function", "function": made}]
            messages.append({"role": "assistant", "content": "", "tool_calls": turn})
            messages.append({"role": "tool", "content": call.result})
    for task in scoring.no_tool(NUM_NO_TOOL, SEED):
        request = [{"role": "user", "content": task.request}]
        items.append({"messages": request, "tools": task.tools, "calls": []})
    random.Random(f"evaluate/tools/{SEED}").shuffle(items)
    return _lines(items, TOOLS_BYTES)


def _lines(items: Sequence[dict[str, Any]], most_bytes: int) -> str:
    """A line each of as many items, from the first on, as fit."""
    found = ""
    for item in items:
        line = json.dumps(item, ensure_ascii=False, separators=(",", ":")) + "\n"
        if len((found + line).encode()) > most_bytes:
            break
        found += line
    return found


MAKERS: dict[str, tuple[Path, Callable[[], str]]] = {
    "stories": (builtin_data.TEXTS["stories"], stories_text),
    "tools": (builtin_data.TOOLS["tools"], tools_text),
}
"""Name → where the file ships, what makes its content."""


def main(names: Sequence[str]) -> None:
    """Write the files of these names; all where none is given."""
    for name in names:
        if name not in MAKERS:
            raise UsageError(f"{name}: no such data. Legal: {', '.join(MAKERS)}.")
    for name in names or MAKERS:
        path, make = MAKERS[name]
        path.parent.mkdir(exist_ok=True)
        path.write_text(make(), encoding="utf-8", newline="\n")
        sys.stdout.write(f"{path}: {path.stat().st_size} bytes\n")


if __name__ == "__main__":
    main(sys.argv[1:])
