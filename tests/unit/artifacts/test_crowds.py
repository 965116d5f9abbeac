"""Builds, gc, verify and ls at once, each again and again, in processes of their own."""

import multiprocessing
import random
import time
from pathlib import Path

import pytest

from lmrun.artifacts import uses
from lmrun.artifacts.inventory import entries, unfinished
from lmrun.artifacts.manifest import ManifestFields
from lmrun.artifacts.removal import sweep
from lmrun.artifacts.store import Artifact, Store
from lmrun.artifacts.uses import Use
from lmrun.errors import ArtifactError
from unit.artifacts.builders import CONTENT, fields, fill

FINGERPRINTS = [f"{number:064x}" for number in range(3)]
SECONDS = 3.0


def _build_and_use(home: Path, seed: int, until: float) -> None:
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


def _sweep(home: Path, seed: int, until: float) -> None:
    draw, store = random.Random(seed), Store(home)
    while time.time() < until:
        sweep(store, None, dry_run=draw.random() < 0.2)
        time.sleep(draw.uniform(0, 0.03))


def _verify(home: Path, seed: int, until: float) -> None:
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


def _list(home: Path, seed: int, until: float) -> None:
    store = Store(home)
    while time.time() < until:
        entries(store)
        unfinished(store)
        uses.needed(home)
        time.sleep(0.005)


def test_a_crowd_hurts_nobody(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    until = time.time() + 2.0 + SECONDS  # they start within two seconds
    context = multiprocessing.get_context("spawn")
    works = (_build_and_use, _build_and_use, _sweep, _sweep, _verify, _list)
    crowd = [
        context.Process(target=work, args=(home, seed, until), name=work.__name__)
        for seed, work in enumerate(works)
    ]
    for process in crowd:
        process.start()
    for process in crowd:
        process.join(60)
    assert [(process.name, process.exitcode) for process in crowd] == [
        (process.name, 0) for process in crowd
    ]
    sweep(Store(home), None)
    for folder in ("artifacts/convert", "partial", "trash", "locks", "deployments"):
        assert list((home / folder).glob("*")) == [], folder


def test_a_sweep_between_looking_and_using_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The use is noted under the lock of the sweep: it comes before the sweep, or sees its work."""
    store = Store(tmp_path / "home")
    store.build("convert", FINGERPRINTS[0], lambda folder: _filled(folder, FINGERPRINTS[0]))
    use = Use("up", {"convert": FINGERPRINTS[0]})
    real = uses.needed

    def needed_while_another_starts(home: Path, folder: Path | None = None) -> uses.Needed:
        found = real(home, folder)
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=_note_and_look, args=(home, use))
        process.start()
        time.sleep(1.5)  # it waits for the lock that the sweep holds
        started.append(process)
        return found

    started: list[multiprocessing.process.BaseProcess] = []
    monkeypatch.setattr("lmrun.artifacts.removal.uses.needed", needed_while_another_starts)
    sweep(store, None)
    started[0].join(30)
    assert started[0].exitcode == 3, "it saw that the artifact is gone"


def _filled(folder: Path, fingerprint: str) -> ManifestFields:
    fill(folder)
    return fields(fingerprint)


def _note_and_look(home: Path, use: Use) -> None:
    with uses.using(home, use):
        is_there = Store(home).find("convert", FINGERPRINTS[0]) is not None
    raise SystemExit(4 if is_there else 3)
