"""Environments of other programs, made for a test from the package index."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest


def run(
    words: list[str], folder: Path, timeout_s: int = 1800, **extra: str
) -> subprocess.CompletedProcess[str]:
    """A command in a folder, without this interpreter's variables."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        words,
        cwd=folder,
        env={**own, **extra},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def make(
    folder: Path, packages: list[str], unwanted: list[str] | None = None, timeout_s: int = 1800
) -> Path:
    """An interpreter with these packages, which is lent those of this one (torch above all).

    ``unwanted`` are taken out again: requirements whose builds do not fit the torch that is lent.
    Skips the test where the package index has them not.
    """
    run([sys.executable, "-m", "venv", "venv"], folder)
    made = folder / "venv" / "bin" / "python"
    own = run([str(made), "-c", "import sysconfig as s; print(s.get_path('purelib'))"], folder)
    (Path(own.stdout.strip()) / "zz_lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    done = run([str(made), "-m", "pip", "install", "-q", *packages], folder, timeout_s)
    if done.returncode != 0:
        pytest.skip(f"{packages[0]} is missing and cannot be installed: {done.stderr[-500:]}")
    if unwanted:
        run([str(made), "-m", "pip", "uninstall", "-q", "-y", *unwanted], folder)
    return made
