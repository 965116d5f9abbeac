import errno
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from lmrun.artifacts.files import storage_errors
from lmrun.artifacts.manifest import ManifestFields
from lmrun.artifacts.store import RESUME, Artifact, Store
from lmrun.errors import ArtifactError
from unit.artifacts.builders import CONTENT, KEY, build_slowly, fields, fill


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


@pytest.fixture
def artifact(store: Store) -> Artifact:
    return store.build("convert", KEY, fill)


def problem(store: Store) -> str | None:
    look = store.look("convert", KEY)
    assert (look.artifact is None) == (look.problem is not None)
    return look.problem


def flip_a_bit(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.seek(1000)
        byte = opened.read(1)[0]
        opened.seek(1000)
        opened.write(bytes([byte ^ 1]))


def test_looking_into_a_store_that_is_not_there_creates_nothing(store: Store) -> None:
    assert store.find("convert", KEY) is None
    assert store.manifests("convert") == []
    assert not store.home.exists()


def test_a_committed_artifact_is_found_with_its_manifest(store: Store, artifact: Artifact) -> None:
    found = store.find("convert", KEY)
    assert found == artifact
    assert artifact.path == store.home / "artifacts" / "convert" / KEY
    assert sorted(artifact.manifest.files) == ["model.json", "sub/rank-0"]
    assert not (store.home / "partial" / f"convert-{KEY}").exists()
    assert [manifest.fingerprint for manifest in store.manifests("convert")] == [KEY]


def test_a_second_build_builds_nothing(store: Store, artifact: Artifact) -> None:
    def make(_: Path) -> ManifestFields:
        raise AssertionError("built twice")

    assert store.build("convert", KEY, make) == artifact


def test_what_a_killed_attempt_left_is_there_for_the_next(store: Store) -> None:
    def killed(partial: Path) -> ManifestFields:
        (partial / RESUME).mkdir()
        (partial / RESUME / "layer-0").write_bytes(b"done")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.build("convert", KEY, killed)
    assert store.find("convert", KEY) is None

    def resumed(partial: Path) -> ManifestFields:
        assert (partial / RESUME / "layer-0").read_bytes() == b"done"
        return fill(partial)

    artifact = store.build("convert", KEY, resumed)
    assert not (artifact.path / RESUME).exists()
    assert sorted(artifact.manifest.files) == ["model.json", "sub/rank-0"]


def test_a_commit_killed_before_its_rename_is_finished(store: Store, artifact: Artifact) -> None:
    partial = store.home / "partial" / f"convert-{KEY}"
    artifact.path.rename(partial)
    (partial / RESUME).mkdir()
    (partial / RESUME / "layer-0").write_bytes(b"done")

    def make(_: Path) -> ManifestFields:
        raise AssertionError("it was complete")

    assert store.build("convert", KEY, make).path == artifact.path
    assert not (artifact.path / RESUME).exists()


def test_a_commit_killed_while_flushing_is_built_again(store: Store, artifact: Artifact) -> None:
    partial = store.home / "partial" / f"convert-{KEY}"
    artifact.path.rename(partial)
    (partial / "sub" / "rank-0").write_bytes(CONTENT[:-1])  # what never reached the disk

    def make(folder: Path) -> ManifestFields:
        assert not (folder / "manifest.json").exists()
        return fill(folder)

    rebuilt = store.build("convert", KEY, make)
    assert (rebuilt.path / "sub" / "rank-0").read_bytes() == CONTENT
    assert problem(store) is None


def test_a_commit_killed_between_its_renames_is_finished(store: Store, artifact: Artifact) -> None:
    """The damaged artifact is already in the trash, the new one not yet in its place."""
    trash = store.home / "trash"
    trash.mkdir()
    artifact.path.rename(trash / f"convert-{KEY}")
    assert store.find("convert", KEY) is None
    store.build("convert", KEY, fill)
    assert problem(store) is None


def test_a_truncated_file_makes_the_artifact_absent(store: Store, artifact: Artifact) -> None:
    (artifact.path / "sub" / "rank-0").write_bytes(CONTENT[:-1])
    assert problem(store) == "sub/rank-0: expected 4096 bytes, got 4095"


def test_a_bit_flipped_in_place_makes_the_artifact_absent(store: Store, artifact: Artifact) -> None:
    flip_a_bit(artifact.path / "sub" / "rank-0")
    assert problem(store) == (
        "sub/rank-0: its bytes are not those that were written (SHA-256 differs)"
    )


def test_a_bit_flipped_behind_its_stamp_is_found_by_hashing(
    store: Store, artifact: Artifact
) -> None:
    file = artifact.path / "sub" / "rank-0"
    info = file.stat()
    flip_a_bit(file)
    os.utime(file, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert problem(store) is None  # a start trusts the stamp
    seen: list[tuple[Path, str]] = []
    thread = store.verify_in_background([artifact], lambda a, text: seen.append((a.path, text)))
    thread.join(10)
    text = "sub/rank-0: its bytes are not those that were written (SHA-256 differs)"
    assert seen == [(artifact.path, text)]
    assert problem(store) == text  # from now on, also at a start
    store.build("convert", KEY, fill)
    assert problem(store) is None


def test_full_verification_condemns_what_it_finds(store: Store, artifact: Artifact) -> None:
    file = artifact.path / "sub" / "rank-0"
    info = file.stat()
    flip_a_bit(file)
    os.utime(file, ns=(info.st_atime_ns, info.st_mtime_ns))
    with pytest.raises(ArtifactError, match="sub/rank-0: its bytes are not those"):
        store.verify(artifact)
    assert problem(store) is not None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.json", "model.json: missing"),
        ("manifest.json", "manifest.json: missing"),
    ],
)
def test_a_removed_file_makes_the_artifact_absent(
    store: Store, artifact: Artifact, name: str, expected: str
) -> None:
    (artifact.path / name).unlink()
    assert problem(store) == expected


def test_a_file_that_was_put_in_makes_the_artifact_absent(store: Store, artifact: Artifact) -> None:
    (artifact.path / "chat_template.jinja").write_text("{{ 1 }}")
    assert problem(store) == "chat_template.jinja: not in the manifest"


def test_a_manifest_that_is_no_json_makes_the_artifact_absent(
    store: Store, artifact: Artifact
) -> None:
    (artifact.path / "manifest.json").write_text('{"stage"')
    found = problem(store)
    assert found is not None
    assert found.startswith("manifest.json: expected JSON, got ")
    assert store.manifests("convert") == []


def test_a_manifest_that_cannot_be_read_makes_the_artifact_absent(
    store: Store, artifact: Artifact
) -> None:
    (artifact.path / "manifest.json").unlink()
    (artifact.path / "manifest.json").mkdir()
    assert problem(store) == "manifest.json: Is a directory"
    assert store.manifests("convert") == []


def test_a_folder_moved_to_another_fingerprint_is_not_trusted(
    store: Store, artifact: Artifact
) -> None:
    other = "f" * 64
    artifact.path.rename(store.folder("convert", other))
    look = store.look("convert", other)
    assert look.problem == f"manifest.json: is that of {KEY[:12]}"


def test_a_damaged_artifact_is_rebuilt_in_its_place(store: Store, artifact: Artifact) -> None:
    (artifact.path / "sub" / "rank-0").write_bytes(b"")
    rebuilt = store.build("convert", KEY, fill)
    assert (rebuilt.path / "sub" / "rank-0").read_bytes() == CONTENT
    assert problem(store) is None
    assert list((store.home / "trash").iterdir()) == []


def test_a_copied_store_is_hashed_once_and_trusted_again(store: Store, artifact: Artifact) -> None:
    file = artifact.path / "sub" / "rank-0"
    copy = file.with_name("copy")
    copy.write_bytes(CONTENT)
    copy.replace(file)
    assert problem(store) is None  # hashed, since the inode is another
    store.verify(artifact)
    found = store.find("convert", KEY)
    assert found is not None
    assert found.manifest.files["sub/rank-0"].inode == file.stat().st_ino


def test_right_bytes_in_a_store_that_cannot_be_written_are_right(
    store: Store, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store restored from a CI cache, read-only: the stamps moved and cannot be renewed."""
    os.utime(artifact.path / "model.json")

    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("lmrun.artifacts.store.manifests.write", read_only)
    store.verify(artifact)
    assert problem(store) is None


def test_damage_in_a_store_that_cannot_be_written_is_still_named(
    store: Store, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    flip_a_bit(artifact.path / "sub" / "rank-0")
    monkeypatch.setattr("lmrun.artifacts.store.write_text", read_only)
    with pytest.raises(ArtifactError, match="sub/rank-0: its bytes are not those"):
        store.verify(artifact)


def test_a_manifest_being_replaced_beside_us_is_no_damage(store: Store, artifact: Artifact) -> None:
    (artifact.path / ".manifest.json.4711").write_text("{")
    (artifact.path / "..damaged.4711").write_text("wro")
    assert problem(store) is None
    (artifact.path / "manifest.json.4711").write_text("{")
    assert problem(store) == "manifest.json.4711: not in the manifest"


def test_a_removed_artifact_is_not_condemned(store: Store, artifact: Artifact) -> None:
    artifact.path.rename(store.home / "gone")
    store.condemn(artifact, "wrong")
    assert not artifact.path.exists()


def test_a_stage_that_fills_nothing_is_refused(store: Store) -> None:
    with pytest.raises(ArtifactError, match="expected files, got none"):
        store.build("convert", KEY, lambda _: fields())
    assert store.find("convert", KEY) is None


def test_a_commit_to_another_fingerprint_is_refused(store: Store) -> None:
    with (
        store.building("convert", KEY) as partial,
        pytest.raises(ArtifactError, match="expected the folder that"),
    ):
        store.commit(partial, fields("e" * 64))


def test_two_processes_build_once(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log"
    context = multiprocessing.get_context("spawn")
    arguments = (store.home, log, time.time() + 2)
    processes = [context.Process(target=build_slowly, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert log.read_text() == "built\n"
    assert problem(store) is None


def test_a_full_disk_says_so(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as caught, storage_errors(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "x"))
    text = str(caught.value)
    assert text.startswith(f"store: no space left at {tmp_path} (")
    assert text.endswith(" GiB free). Free some, or name another folder by LMRUN_HOME.")


def test_a_read_only_store_says_so(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as caught, storage_errors(tmp_path):
        raise OSError(errno.EROFS, "Read-only file system", str(tmp_path / "x"))
    assert str(caught.value) == (
        f"store: cannot write {tmp_path}/x (Read-only file system)."
        " Name a writable folder by LMRUN_HOME."
    )


def test_an_error_of_another_kind_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), storage_errors(tmp_path):
        (tmp_path / "none").read_bytes()
