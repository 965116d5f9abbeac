"""CPU time of the verbs that only look: each in a process of its own, the least of some runs.

User and system time of the process, since wall time says more about what else the machine does.
"""

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lmrun.errors import EngineError

GOAL_S = 0.5
"""CPU seconds that each of these verbs stays below."""
SHOWN_IMPORTS = 4
_ENTRY = "from lmrun.cli.main import main; main()"
_IMPORT = re.compile(r"import time:\s*(\d+) \|\s*\d+ \|\s*(\S+)")


@dataclass(frozen=True)
class Startup:
    """One command."""

    command: tuple[str, ...]
    """Words after ``lmrun``."""
    cpu_s: float
    """User and system time, the least of the runs."""
    imports_ms: dict[str, float]
    """Heaviest packages → milliseconds in importing their own modules, in one slowed run."""


def commands(overrides: Sequence[str]) -> list[tuple[str, ...]]:
    """What is timed, for the deployment that the overrides describe."""
    given = tuple(overrides)
    return [
        ("--help",),
        ("list",),
        ("explain", "kv.bits", *given),
        ("plan", *given),
        ("diff", *given, "--", *given, "kv.block_size=32"),
    ]


def measure(command: Sequence[str], runs: int) -> Startup:
    """Run a command; `EngineError` with its last line where it fails."""
    best = min(_cpu_s(command) for _ in range(runs))
    return Startup(tuple(command), round(best, 3), _imports(command))


def document(results: Sequence[Startup], runs: int) -> dict[str, Any]:
    """The JSON form."""
    return {
        "schema_version": 1,
        "bench": "startup",
        "runs": runs,
        "goal_s": GOAL_S,
        "commands": [{**asdict(result), "command": list(result.command)} for result in results],
    }


def text(results: Sequence[Startup], runs: int) -> str:
    """The table for people."""
    names = ["lmrun " + " ".join(result.command) for result in results]
    width = max(map(len, names))
    lines = [f"CPU seconds, user and system, least of {runs}; the goal is {GOAL_S:g}"]
    for name, result in zip(names, results, strict=True):
        heavy = ", ".join(f"{package} {ms:.0f} ms" for package, ms in result.imports_ms.items())
        lines.append(f"  {name:<{width}}  {result.cpu_s:.2f}  {heavy}".rstrip())
    return "\n".join(lines)


def _run(command: Sequence[str], *flags: str) -> tuple[float, str]:
    """CPU seconds of one run, and what it wrote to stderr."""
    before = os.times()
    result = subprocess.run(
        [sys.executable, *flags, "-c", _ENTRY, *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    after = os.times()
    if result.returncode != 0:
        last = (result.stderr.strip().splitlines() or ["no output"])[-1]
        raise EngineError(f"bench startup: lmrun {' '.join(command)} failed: {last}")
    user = after.children_user - before.children_user
    return user + after.children_system - before.children_system, result.stderr


def _cpu_s(command: Sequence[str]) -> float:
    return _run(command)[0]


def _imports(command: Sequence[str]) -> dict[str, float]:
    _, written = _run(command, "-X", "importtime")
    found: Counter[str] = Counter()
    for microseconds, module in _IMPORT.findall(written):
        found[module.partition(".")[0]] += int(microseconds)
    return {name: round(us / 1000, 1) for name, us in found.most_common(SHOWN_IMPORTS)}
