"""Who needs which artifact: lock files and commands that run."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lmrun.artifacts import uses
from lmrun.artifacts.store import Store
from lmrun.artifacts.uses import Use
from lmrun.errors import ArtifactError
from unit.artifacts.builders import KEY, fill

OTHER = "b" * 64
USE = Use("up", {"convert": KEY}, port=23333, served_name="tiny")


def _lock_file(path: Path, *fingerprints: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"fingerprint: {one}\n" for one in fingerprints))
    return path


def test_a_noted_lock_file_counts_wherever_it_lies(tmp_path: Path) -> None:
    home = tmp_path / "home"
    path = _lock_file(tmp_path / "project" / "a.lock.yaml", KEY)
    uses.note_lock(home, path)
    uses.note_lock(home, path)
    assert uses.lock_files(home) == [path]
    needed = uses.needed(home)
    assert needed.locks == {KEY: (path,)}
    assert KEY in needed
    assert OTHER not in needed


def test_a_lock_file_that_vanished_is_forgotten(tmp_path: Path) -> None:
    home = tmp_path / "home"
    path = _lock_file(tmp_path / "a.lock.yaml", KEY)
    uses.note_lock(home, path)
    path.unlink()
    assert uses.needed(home).locks == {}
    assert uses.forget_vanished_locks(home) == 1
    assert list((home / "lock-files").iterdir()) == []


def test_lock_files_of_the_working_directory_count_without_a_note(tmp_path: Path) -> None:
    path = _lock_file(tmp_path / "locks" / "a.lock.yaml", KEY, OTHER)
    assert uses.needed(tmp_path / "home", tmp_path).locks == {KEY: (path,), OTHER: (path,)}
    assert not (tmp_path / "home").exists()


def test_a_lock_file_of_another_version_or_in_a_conflict_still_counts(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "a.lock.yaml"
    path.parent.mkdir()
    path.write_text(f"<<<<<<< ours\nschema_version: 99\nx: sha256:{KEY}\n=======\n{{{OTHER}}}\n")
    assert set(uses.needed(tmp_path / "home", tmp_path).locks) == {KEY, OTHER}


def test_a_lock_file_that_cannot_be_read_stops_the_question(tmp_path: Path) -> None:
    path = _lock_file(tmp_path / "locks" / "a.lock.yaml", KEY)
    path.unlink()
    path.mkdir()
    with pytest.raises(ArtifactError) as caught:
        uses.needed(tmp_path / "home", tmp_path)
    assert str(caught.value) == (
        f"{path}: expected a lock file, got Is a directory. What it needs is unknown:"
        " make it readable, or remove it."
    )


def test_a_command_is_noted_while_it_runs(tmp_path: Path) -> None:
    home = tmp_path / "home"
    artifact = Store(home).build("convert", KEY, fill)
    os.utime(artifact.path, (1, 1))
    with uses.using(home, USE):
        (one,) = uses.running(home)
        assert (one.pid, one.use) == (os.getpid(), USE)
        assert one.title == f"up on port 23333 (pid {os.getpid()})"
        assert uses.needed(home).running == {KEY: (one,)}
        assert artifact.path.stat().st_mtime > 1, "using it is its last use"
    assert uses.running(home) == []
    assert list((home / "deployments").iterdir()) == []


def test_the_record_of_a_killed_command_is_ignored_and_removed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    program = (
        "import sys, time; from pathlib import Path; from lmrun.artifacts.uses import *\n"
        f"with using(Path({str(home)!r}), Use('up', {{'convert': {KEY!r}}})):\n"
        "    print('noted', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"noted\n"
        assert [one.pid for one in uses.running(home)] == [child.pid]
        child.send_signal(signal.SIGKILL)
    assert uses.running(home) == []
    assert uses.needed(home).running == {}
    assert len(list((home / "deployments").iterdir())) == 2
    with uses.using(home, USE):
        assert len(list((home / "deployments").iterdir())) == 2, "its own alone"


def test_a_damaged_record_of_a_running_command_is_named(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with uses.using(home, USE):
        (file,) = (home / "deployments").glob("*.json")
        document = json.loads(file.read_text())
        file.write_text("{")
        with pytest.raises(ArtifactError, match="expected a deployment record, got"):
            uses.needed(home)
        file.write_text(json.dumps({**document, "schema_version": 2}))
        with pytest.raises(ArtifactError, match=r"got 2 \(a newer lmrun wrote it\)"):
            uses.needed(home)


def test_a_store_that_cannot_be_written_is_used_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = tmp_path / "home"
    home.write_text("a file")
    with uses.using(home, USE):
        pass
    assert caplog.messages == [
        f"up: not noted as running: store: cannot write {home}/locks (Not a directory)."
        " Name a writable folder by LMRUN_HOME."
    ]
    caplog.clear()
    uses.note_lock(home, tmp_path / "a.lock.yaml")
    assert "`lmrun store gc` will not know of this file: store: cannot write" in caplog.text
