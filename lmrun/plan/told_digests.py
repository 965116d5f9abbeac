"""Digests of package data, as the installer wrote them down: a first plan knows them unhashed."""

import base64
import binascii
import csv
from functools import cache
from pathlib import Path

from lmrun.models import builtin

_ALGORITHM = "sha256="


def of_folder(folder: Path) -> dict[str, str]:
    """File name → SHA-256, in hex, of the files of the demo model; empty for any other folder, and
    where lmrun is not installed from a wheel.

    They are those of the wheel: a build hashes the files all the same.
    """
    demo = builtin.demo_folder()
    if folder != demo:
        return {}
    return read(demo)


@cache
def read(folder: Path) -> dict[str, str]:
    """What the RECORD file of the installed package (PEP 376) says of the files of a folder that
    is two levels below the place of installation."""
    package = folder.parent
    found: dict[str, str] = {}
    for record in package.parent.glob(f"{package.name}-*.dist-info/RECORD"):
        with record.open(encoding="utf-8", newline="") as lines:
            for row in csv.reader(lines):
                path, digest = Path(row[0]), row[1] if len(row) > 1 else ""
                if path.parent == Path(package.name, folder.name):
                    decoded = _decoded(digest)
                    if decoded is not None:
                        found[path.name] = decoded
    return found


def _decoded(digest: str) -> str | None:
    """Hex of `sha256=` and unpadded urlsafe base64; None for anything else."""
    if not digest.startswith(_ALGORITHM):
        return None
    text = digest.removeprefix(_ALGORITHM)
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).hex()
    except binascii.Error:
        return None
