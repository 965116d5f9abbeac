"""A child process that never outlives its parent."""

import ctypes
import os
import signal
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int | None) -> None:
    """Ask the kernel to kill this process when its parent dies; Linux only, elsewhere nothing.

    ``parent_pid`` closes the gap between fork and this call: when the parent is already another
    process, exit at once. The kernel looks at the parent *thread*: start children from a thread
    that lives as long as they shall.
    """
    if os.uname().sysname != "Linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if parent_pid is not None and os.getppid() != parent_pid:
        raise SystemExit(1)


@dataclass(frozen=True)
class Rss:
    """Resident memory of this process, in bytes."""

    now: int
    peak: int


def rss(status: Path = Path("/proc/self/status")) -> Rss:
    """As the kernel counts it; zeros where it does not say."""
    found = {"VmRSS": 0, "VmHWM": 0}
    if status.is_file():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name in found:
                found[name] = int(value.split()[0]) * 1024
    return Rss(found["VmRSS"], found["VmHWM"])
