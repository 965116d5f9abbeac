"""A process that is measured: what it printed, how much memory it had, who else used the cores."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lmrun.bench.peers import tied
from lmrun.errors import StageError

_SHOWN_LINES = 12
_STAT = Path("/proc/stat")


@dataclass(frozen=True)
class Ended:
    """A process that ended well."""

    stdout: str
    stderr: str
    started_at: float
    """Seconds of the epoch."""
    seconds: float
    peak_rss_bytes: int
    others_busy: float
    """Cores that other processes used meanwhile, on average."""


@dataclass(frozen=True)
class Others:
    """Watches what the machine does beside us."""

    begin: float
    busy_s: float

    @classmethod
    def watch(cls) -> "Others":
        """From now on."""
        return cls(time.monotonic(), _busy_s())

    def cores(self, own_s: float) -> float:
        """Busy cores on average since then, less ``own_s`` of CPU time that were ours."""
        return max(0.0, (_busy_s() - self.busy_s - own_s) / (time.monotonic() - self.begin))


def run_child(command: Sequence[str], words: str = "", cwd: Path | None = None) -> Ended:
    """Run a program to its end; it dies with this process. `StageError` with the end of what it
    said where it fails or cannot be run."""
    name = Path(command[0]).name
    with tempfile.TemporaryDirectory(prefix="lmrun-") as folder:
        out, err, usage = (Path(folder) / part for part in ("out", "err", "usage"))
        others, started_at, begin = Others.watch(), time.time(), time.monotonic()
        with out.open("w") as stdout, err.open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-I", tied.__file__, str(usage), *command],
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=stderr,
                text=True,
                cwd=cwd or folder,
            )
            try:
                process.communicate(words)
            except BaseException:
                process.kill()
                process.wait()
                raise
        seconds = time.monotonic() - begin
        texts = [file.read_text(encoding="utf-8", errors="replace") for file in (out, err)]
        if process.returncode != 0:
            said = [line for line in "\n".join(texts).splitlines() if line.strip()]
            raise StageError(
                f"bench: {name} ended with status {process.returncode}:\n"
                + "\n".join(f"    {line}" for line in said[-_SHOWN_LINES:])
            )
        used = json.loads(usage.read_text(encoding="utf-8"))
    busy = others.cores(used["cpu_s"])
    return Ended(texts[0], texts[1], started_at, seconds, used["peak_rss_kib"] * 1024, busy)


def _busy_s() -> float:
    """CPU time of all processes since the system started; 0 where it does not say."""
    if not _STAT.is_file():
        return 0.0
    fields = _STAT.read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _wait, irq, softirq, steal = (int(field) for field in fields[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
