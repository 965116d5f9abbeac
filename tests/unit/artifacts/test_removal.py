"""What `gc` and `rm` take, and what they leave."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from lmrun.artifacts import uses
from lmrun.artifacts.inventory import (
    Entry,
    bytes_under,
    chosen,
    entries,
    readers,
    unfinished,
)
from lmrun.artifacts.manifest import ManifestFields
from lmrun.artifacts.removal import remove, sweep
from lmrun.artifacts.store import Store
from lmrun.artifacts.uses import Use
from lmrun.errors import ArtifactError, PlanError, UsageError
from unit.artifacts.builders import CONTENT, KEY, fields, fill

OTHER = "0123456789abcdef" * 3 + "f" * 16
"""Its first 48 digits are those of KEY."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two artifacts, of 4098 bytes each."""
    made = Store(tmp_path / "home")
    for fingerprint in (KEY, OTHER):
        _build(made, fingerprint)
    return made


def _build(store: Store, fingerprint: str) -> None:
    def make(folder: Path) -> ManifestFields:
        fill(folder)
        return fields(fingerprint)

    store.build("convert", fingerprint, make)


def _there(store: Store) -> set[str]:
    return {entry.fingerprint for entry in entries(store)}


def _entry(store: Store, fingerprint: str) -> Entry:
    return next(one for one in entries(store) if one.fingerprint == fingerprint)


def _lock(folder: Path, fingerprint: str) -> Path:
    path = folder / "locks" / "a.lock.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"fingerprint: {fingerprint}\n")
    return path


def test_what_nobody_needs_goes_with_all_its_bytes(store: Store, tmp_path: Path) -> None:
    swept = sweep(store, tmp_path)
    assert sorted(one.title for one in swept.removed) == [f"convert {KEY[:12]}"] * 2
    manifest_bytes = swept.num_bytes - 2 * (len(CONTENT) + 2)
    assert 0 < manifest_bytes < 4000
    assert _there(store) == set()
    for folder in ("trash", "locks", "partial", "deployments"):
        assert list((store.home / folder).glob("*")) == []


def test_a_dry_run_says_the_same_and_touches_nothing(store: Store, tmp_path: Path) -> None:
    def state() -> list[tuple[str, int]]:
        return sorted((str(p), p.lstat().st_mtime_ns) for p in store.home.rglob("*"))

    before = state()
    pretended = sweep(store, tmp_path, dry_run=True)
    assert state() == before
    assert sweep(store, tmp_path) == pretended


def test_what_a_lock_file_names_stays(store: Store, tmp_path: Path) -> None:
    path = _lock(tmp_path, KEY)
    swept = sweep(store, tmp_path)
    assert _there(store) == {KEY}
    assert [(one.entry.fingerprint, one.why) for one in swept.kept] == [(KEY, f"needed by {path}")]
    uses.note_lock(store.home, path)
    sweep(store, None)
    assert _there(store) == {KEY}, "noted, though the working directory is another"
    path.unlink()
    sweep(store, None)
    assert _there(store) == set()


def test_an_unreadable_lock_file_stops_everything(store: Store, tmp_path: Path) -> None:
    (tmp_path / "locks" / "a.lock.yaml").mkdir(parents=True)
    with pytest.raises(ArtifactError, match="What it needs is unknown"):
        sweep(store, tmp_path)
    assert _there(store) == {KEY, OTHER}


def test_what_a_running_command_uses_stays(store: Store, tmp_path: Path) -> None:
    with uses.using(store.home, Use("up", {"convert": KEY}, port=23333)):
        swept = sweep(store, tmp_path)
        assert [one.why for one in swept.kept] == [f"used by up on port 23333 (pid {os.getpid()})"]
        assert _there(store) == {KEY}
    sweep(store, tmp_path)
    assert _there(store) == set()


def test_what_is_being_built_stays(store: Store, tmp_path: Path) -> None:
    with store.building("quantize", KEY) as partial:
        (partial / "half").write_bytes(b"x")
        swept = sweep(store, tmp_path)
        assert [(one.entry.stage, one.why) for one in swept.kept] == [("quantize", "being built")]
        assert (partial / "half").exists()
        assert [part.is_being_built for part in unfinished(store)] == [True]
    assert [part.is_being_built for part in unfinished(store)] == [False]
    swept = sweep(store, tmp_path)
    assert [one.title for one in swept.removed] == [f"quantize {KEY[:12]} (unfinished)"]
    assert not partial.exists()


def test_an_unfinished_artifact_that_a_lock_names_keeps_what_is_done(
    store: Store, tmp_path: Path
) -> None:
    with store.building("quantize", KEY) as partial:
        (partial / "half").write_bytes(b"x")
    _lock(tmp_path, KEY)
    sweep(store, tmp_path)
    assert (partial / "half").exists()


def test_an_age_spares_what_was_used_since(store: Store, tmp_path: Path) -> None:
    week_ago = time.time() - 7 * 86400
    for place in (_entry(store, KEY).path, _entry(store, KEY).path / "manifest.json"):
        os.utime(place, (week_ago, week_ago))
    swept = sweep(store, tmp_path, older_than_s=6 * 86400)
    assert [one.why for one in swept.kept] == ["used since"]
    assert _there(store) == {OTHER}
    with uses.using(store.home, Use("up", {"convert": OTHER})):
        pass
    sweep(store, tmp_path, older_than_s=3600)
    assert _there(store) == {OTHER}


def test_what_killed_processes_left_goes(store: Store, tmp_path: Path) -> None:
    (store.home / "trash" / "old").mkdir(parents=True)
    (store.home / "trash" / "old" / "file").write_bytes(b"1234")
    (store.home / "locks" / f"convert-{KEY}.lock").touch()
    stale, fresh = store.home / ".digests.json.1", store.home / ".digests.json.2"
    stale.write_text("{")
    fresh.write_text("{")
    listed = store.home / "hub" / ".org--tiny@0.json.1"
    listed.parent.mkdir()
    listed.write_text("{}")
    for old in (stale, listed):
        os.utime(old, (1, 1))
    _lock(tmp_path, KEY).write_text(f"{KEY} {OTHER}")
    swept = sweep(store, tmp_path)
    assert [(one.title, one.num_bytes) for one in swept.removed] == [
        ("trash old", 4),
        ("leftover .digests.json.1", 1),
        ("leftover .org--tiny@0.json.1", 2),
        (f"lock convert-{KEY}.lock", 0),
    ]
    assert not stale.exists()
    assert fresh.exists(), "perhaps it is being written now"
    assert list((store.home / "locks").iterdir()) == []
    assert _there(store) == {KEY, OTHER}


def test_a_damaged_artifact_goes_unless_it_is_needed(store: Store, tmp_path: Path) -> None:
    (_entry(store, KEY).path / "manifest.json").write_text("{")
    assert _entry(store, KEY).problem is not None
    sweep(store, tmp_path)
    assert _there(store) == set()


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    assert sweep(Store(tmp_path / "none"), tmp_path).removed == ()
    assert not (tmp_path / "none").exists()


def test_a_prefix_must_be_long_enough_and_name_one(store: Store) -> None:
    with pytest.raises(UsageError) as caught:
        chosen(store, "01234")
    assert str(caught.value) == (
        "01234: expected 6 or more digits of a fingerprint. `lmrun store ls` shows them."
    )
    with pytest.raises(
        UsageError, match="012345: expected one artifact, got 2: convert 0123456789"
    ):
        chosen(store, "012345")
    with pytest.raises(UsageError, match=r"ffffff: no artifact in .* has a fingerprint that"):
        chosen(store, "ffffff")
    assert chosen(store, OTHER[:50]).fingerprint == OTHER


def test_rm_takes_all_or_nothing(store: Store, tmp_path: Path) -> None:
    path = _lock(tmp_path, OTHER)
    doomed = [_entry(store, KEY), _entry(store, OTHER)]
    with pytest.raises(PlanError) as caught:
        remove(store, doomed, tmp_path, force=False)
    assert str(caught.value) == (
        f"convert {OTHER[:12]}: needed by {path}. --force removes it all the same; the next build"
        " makes it again."
    )
    assert _there(store) == {KEY, OTHER}
    assert remove(store, doomed, tmp_path, force=True) == sum(one.num_bytes for one in doomed)
    assert _there(store) == set()
    assert list((store.home / "trash").iterdir()) == []


def test_rm_never_pulls_an_artifact_from_under_a_running_command(
    store: Store, tmp_path: Path
) -> None:
    with (
        uses.using(store.home, Use("up", {"convert": KEY}, port=80)),
        pytest.raises(PlanError) as caught,
    ):
        remove(store, [_entry(store, KEY)], tmp_path, force=True)
    assert str(caught.value) == (
        f"convert {KEY[:12]}: used by up on port 80 (pid {os.getpid()}). Stop it first;"
        " --force does not pull an artifact from under a running command."
    )
    with (
        store.locked("convert", KEY),
        pytest.raises(PlanError, match="a process is building it"),
    ):
        remove(store, [_entry(store, KEY)], tmp_path, force=True)
    assert _there(store) == {KEY, OTHER}


def test_readers_are_the_artifacts_made_from_one(store: Store) -> None:
    def make(folder: Path) -> ManifestFields:
        fill(folder)
        return ManifestFields("evaluate", 1, "a" * 64, {"convert": KEY}, {}, None, seconds=0)

    store.build("evaluate", "a" * 64, make)
    everything = entries(store)
    assert [one.stage for one in readers(_entry(store, KEY), everything)] == ["evaluate"]
    assert readers(_entry(store, OTHER), everything) == []


def test_looking_while_it_is_removed_finds_nothing_rather_than_damage(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.is_dir
    folder = store.folder("convert", KEY)

    def gone_after_the_first_look(path: Path) -> bool:
        answer = real(path)
        if path == folder and answer:
            folder.rename(store.home / "gone")
        return answer

    monkeypatch.setattr(Path, "is_dir", gone_after_the_first_look)
    look = store.look("convert", KEY)
    assert (look.artifact, look.problem) == (None, None)


def test_a_folder_that_vanishes_while_it_is_counted_counts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "partial" / "sub"
    folder.mkdir(parents=True)
    (folder / "file").write_text("1234")
    assert bytes_under(tmp_path) == 4
    real = os.scandir

    def scan(path: Path | str) -> Any:
        if Path(path) == folder:
            (folder / "file").unlink()
            folder.rmdir()
        return real(path)

    monkeypatch.setattr(os, "scandir", scan)
    assert bytes_under(tmp_path) == 0
