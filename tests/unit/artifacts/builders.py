"""What fills an artifact in these tests; a module of its own, so that a child process finds it."""

import time
from pathlib import Path

from lmrun.artifacts.manifest import ManifestFields
from lmrun.artifacts.store import Store

KEY = "0123456789abcdef" * 4
CONTENT = bytes(range(256)) * 16


def fields(fingerprint: str = KEY) -> ManifestFields:
    return ManifestFields(
        stage="convert",
        code_version=1,
        fingerprint=fingerprint,
        inputs={},
        config={},
        numeric_class=None,
        seconds=0.1,
    )


def fill(folder: Path) -> ManifestFields:
    (folder / "sub").mkdir(exist_ok=True)
    (folder / "model.json").write_text("{}")
    (folder / "sub" / "rank-0").write_bytes(CONTENT)
    return fields()


def build_slowly(home: Path, log: Path, start: float) -> None:
    def make(partial: Path) -> ManifestFields:
        with log.open("a") as out:
            out.write("built\n")
        time.sleep(0.3)
        return fill(partial)

    time.sleep(max(0.0, start - time.time()))
    Store(home).build("convert", KEY, make)
