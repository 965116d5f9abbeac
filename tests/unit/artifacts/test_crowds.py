"""Builds, gc, verify and ls at once, each again and again, in processes of their own."""

import multiprocessing
import time
from pathlib import Path

import pytest

from lmrun.artifacts import uses
from lmrun.artifacts.manifest import ManifestFields
from lmrun.artifacts.removal import sweep
from lmrun.artifacts.store import Store
from lmrun.artifacts.uses import Use
from unit.artifacts import crowd
from unit.artifacts.builders import fields, fill

SECONDS = 3.0


def test_a_crowd_hurts_nobody(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    until = time.time() + 2.0 + SECONDS  # they start within two seconds
    context = multiprocessing.get_context("spawn")
    works = (
        crowd.build_and_use,
        crowd.build_and_use,
        crowd.sweep_again,
        crowd.sweep_again,
        crowd.verify_again,
        crowd.list_again,
    )
    processes = [
        context.Process(target=work, args=(home, seed, until), name=work.__name__)
        for seed, work in enumerate(works)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [(process.name, process.exitcode) for process in processes] == [
        (process.name, 0) for process in processes
    ]
    sweep(Store(home), None)
    for folder in ("artifacts/convert", "partial", "trash", "locks", "deployments"):
        assert list((home / folder).glob("*")) == [], folder


def test_a_sweep_between_looking_and_using_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The use is noted under the lock of the sweep: it comes before the sweep, or sees its work."""
    store = Store(tmp_path / "home")
    store.build(
        "convert", crowd.FINGERPRINTS[0], lambda folder: _filled(folder, crowd.FINGERPRINTS[0])
    )
    use = Use("up", {"convert": crowd.FINGERPRINTS[0]})
    real = uses.needed

    def needed_while_another_starts(home: Path, folder: Path | None = None) -> uses.Needed:
        found = real(home, folder)
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=crowd.note_and_look, args=(home, use, at_the_door))
        process.start()
        while not at_the_door.exists():
            time.sleep(0.01)
        time.sleep(0.2)  # it waits for the lock that the sweep holds
        started.append(process)
        return found

    at_the_door = tmp_path / "at-the-door"
    started: list[multiprocessing.process.BaseProcess] = []
    monkeypatch.setattr("lmrun.artifacts.removal.uses.needed", needed_while_another_starts)
    sweep(store, None)
    started[0].join(30)
    assert started[0].exitcode == 3, "it saw that the artifact is gone"


def _filled(folder: Path, fingerprint: str) -> ManifestFields:
    fill(folder)
    return fields(fingerprint)
