"""Runs a module that must not outlive its parent: ``python -m lmrun.deploy.guard PPID … MODULE …``.

The kernel kills the process when its parent goes, whatever ended the parent. The mark is set here,
after exec, and not between fork and exec, where a process with threads may not run Python. The
flags before MODULE say how the child reports (see `words`); those after it are its own.
"""

import argparse
import runpy
import sys
from collections.abc import Sequence

from lmrun import events, log
from lmrun.engine.process import die_with_parent


def words(name: str, module: str, arguments: Sequence[str], parent_pid: int) -> list[str]:
    """What `main` is given so that the child ``name`` logs and sends events as this process."""
    reporting = ("--name", name, *log.arguments(), *events.arguments())
    return [str(parent_pid), *reporting, module, *arguments]


def main() -> None:
    """Entry point: bind this process to its parent, then become the module."""
    parser = argparse.ArgumentParser(prog="lmrun.deploy.guard")
    parser.add_argument("parent", type=int)
    parser.add_argument("--name", required=True)
    parser.add_argument("--log-level")
    parser.add_argument("--log-format", default="text")
    parser.add_argument("--events")
    parser.add_argument("--run")
    parser.add_argument("module")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    die_with_parent(given.parent)
    if given.log_level is not None:
        log.setup(given.log_level, given.log_format, given.name)
    if given.events is not None:
        events.setup(given.events, run=given.run, process=given.name)
    sys.argv = [given.module, *given.arguments]
    runpy.run_module(given.module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
