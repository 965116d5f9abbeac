"""Runs a program that dies with its parent, and writes what it used: peak memory in KiB, CPU
seconds. `python tied.py USAGE_FILE PROGRAM WORD...`

The kernel counts what a process was before `exec` into its peak, so the program is the child of
this small process, not of the one that asks.
"""

import ctypes
import json
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def main(usage_file: str, command: list[str]) -> int:
    """Returns the exit status, as a shell counts it."""
    _die_with_parent()
    child = os.fork()
    if child == 0:
        _die_with_parent()
        try:
            os.execv(command[0], command)
        except OSError as error:
            sys.stderr.write(f"{command[0]}: {error.strerror}\n")
            os._exit(127)
    _, status, usage = os.wait4(child, 0)
    found = {"peak_rss_kib": usage.ru_maxrss, "cpu_s": usage.ru_utime + usage.ru_stime}
    with open(usage_file, "w", encoding="utf-8") as file:
        json.dump(found, file)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
