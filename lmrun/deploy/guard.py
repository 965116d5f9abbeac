"""Runs a module that must not outlive its parent: `python -m lmrun.deploy.guard PPID MODULE`.

The kernel kills the process when its parent goes, whatever ended the parent. The mark is set here,
after exec, and not between fork and exec, where a process with threads may not run Python.
"""

import runpy
import sys

from lmrun.engine.process import die_with_parent


def main() -> None:
    """Entry point: bind this process to its parent, then become the module."""
    parent, module = int(sys.argv[1]), sys.argv[2]
    die_with_parent(parent)
    sys.argv = [module, *sys.argv[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
