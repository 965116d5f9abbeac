"""What the processes of a crowd do to one store; in a module that they can import."""

import random
import time
from pathlib import Path

from lmrun.artifacts import uses
from lmrun.artifacts.inventory import entries, unfinished
from lmrun.artifacts.manifest import ManifestFields
from lmrun.artifacts.removal import sweep
from lmrun.artifacts.store import Artifact, Store
from lmrun.artifacts.uses import Use
from lmrun.errors import ArtifactError
from unit.artifacts.builders import CONTENT, fields, fill

FINGERPRINTS = [f"{number:064x}" for number in range(3)]


def build_and_use(home: Path, seed: int, until: float) -> None:
    """What `up` does: note the use, build what is missing, and rely on it."""
    draw, store = random.Random(seed), Store(home)
    while time.time() < until:
        fingerprint = draw.choice(FINGERPRINTS)

        def make(folder: Path, fingerprint: str = fingerprint) -> ManifestFields:
            fill(folder)
            time.sleep(draw.uniform(0, 0.01))
            return fields(fingerprint)

        with uses.using(home, Use("up", {"convert": fingerprint})):
            found = store.find("convert", fingerprint)
            artifact = found or store.build("convert", fingerprint, make)
            for _ in range(3):
                time.sleep(draw.uniform(0, 0.01))
                assert (artifact.path / "sub" / "rank-0").read_bytes() == CONTENT
                look = store.look("convert", fingerprint)
                assert look.artifact is not None, look.problem


def sweep_again(home: Path, seed: int, until: float) -> None:
    draw, store = random.Random(seed), Store(home)
    while time.time() < until:
        sweep(store, None, dry_run=draw.random() < 0.2)
        time.sleep(draw.uniform(0, 0.03))


def verify_again(home: Path, seed: int, until: float) -> None:
    """Nothing is ever damaged; it may only be gone."""
    store = Store(home)
    while time.time() < until:
        for entry in entries(store):
            if entry.manifest is None:
                assert not entry.path.is_dir(), entry.problem
                continue
            try:
                store.verify(Artifact(entry.path, entry.manifest))
            except ArtifactError as error:
                text = str(error)
                assert text.endswith((": missing", ": removed while it was verified")), text


def list_again(home: Path, seed: int, until: float) -> None:
    store = Store(home)
    while time.time() < until:
        entries(store)
        unfinished(store)
        uses.needed(home)
        time.sleep(0.005)


def note_and_look(home: Path, use: Use, at_the_door: Path) -> None:
    """Exit status 3 where the artifact is gone once the use is noted, 4 where it is there."""
    at_the_door.touch()
    with uses.using(home, use):
        is_there = Store(home).find("convert", FINGERPRINTS[0]) is not None
    raise SystemExit(4 if is_there else 3)
