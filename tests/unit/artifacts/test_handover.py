"""Folders that `lmrun export` hands over."""

import errno
import os
from pathlib import Path

import pytest

from lmrun.artifacts.handover import check_target, hand_over
from lmrun.artifacts.manifest import model_name
from lmrun.artifacts.store import Artifact, Store, read_manifest
from lmrun.errors import ArtifactError, UsageError
from unit.artifacts.builders import CONTENT, KEY, fill

NAMES = ["manifest.json", "model.json", "sub"]


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return Store(tmp_path / "home").build("convert", KEY, fill)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _beside(folder: Path) -> list[str]:
    return [name for name in _names(folder.parent) if name.startswith(".")]


def test_a_folder_gets_the_files_and_a_manifest_that_is_true_of_them(
    artifact: Artifact, tmp_path: Path
) -> None:
    target = tmp_path / "out"
    hand_over(artifact, target, model_name="tiny")
    assert _names(target) == NAMES
    assert (target / "sub" / "rank-0").read_bytes() == CONTENT
    manifest = read_manifest(target, KEY)
    info = (target / "model.json").stat()
    record = manifest.files["model.json"]
    assert (record.mtime_ns, record.inode) == (info.st_mtime_ns, info.st_ino)
    assert model_name(target) == "tiny"
    assert _beside(target) == []
    assert artifact.manifest.fields.model_name is None, "the store's own stays as it was"


def test_hard_links_take_no_bytes(artifact: Artifact, tmp_path: Path) -> None:
    target = tmp_path / "out"
    hand_over(artifact, target, model_name="tiny", link=True)
    assert (target / "model.json").samefile(artifact.path / "model.json")
    assert not (target / "manifest.json").samefile(artifact.path / "manifest.json")
    assert Store(tmp_path / "home").find("convert", KEY) == artifact


def test_an_empty_folder_and_an_earlier_export_are_replaced(
    artifact: Artifact, tmp_path: Path
) -> None:
    target = tmp_path / "out"
    target.mkdir()
    hand_over(artifact, target, model_name="one")
    (target / "model.json").write_text("an older export")
    hand_over(artifact, target, model_name="two")
    assert (target / "model.json").read_text() == "{}"
    assert model_name(target) == "two"
    assert _beside(target) == []


def _other_stage(folder: Path) -> None:
    file = folder / "manifest.json"
    file.write_text(file.read_text().replace('"stage": "convert"', '"stage": "quantize"'))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda folder: (folder / "manifest.json").unlink(),
            "expected an empty folder or an earlier export, got one that holds model.json."
            " Name another.",
        ),
        (
            lambda folder: (folder / "notes.txt").write_text("mine"),
            "notes.txt is not of the earlier export and would be lost."
            " Move it away, or name another folder.",
        ),
        (
            lambda folder: (folder / "mine").mkdir(),
            "mine is not of the earlier export and would be lost."
            " Move it away, or name another folder.",
        ),
        (
            _other_stage,
            "expected an earlier export of convert, got one of quantize. Name another.",
        ),
    ],
)
def test_what_is_not_an_earlier_export_is_left_alone(
    artifact: Artifact, tmp_path: Path, spoil: object, said: str
) -> None:
    assert callable(spoil)
    target = tmp_path / "out"
    hand_over(artifact, target, model_name="tiny")
    spoil(target)
    before = _names(target)
    with pytest.raises(UsageError) as caught:
        hand_over(artifact, target, model_name="tiny")
    assert str(caught.value) == f"{target}: {said}"
    assert _names(target) == before


def test_a_file_or_a_link_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link"):
        with pytest.raises(UsageError, match="expected a folder, got none"):
            check_target(tmp_path / name, "convert")
    with pytest.raises(UsageError, match="there is no folder"):
        check_target(tmp_path / "none" / "out", "convert")


def test_wrong_bytes_are_not_handed_over(artifact: Artifact, tmp_path: Path) -> None:
    (artifact.path / "sub" / "rank-0").write_bytes(CONTENT[::-1])
    target = tmp_path / "out"
    with pytest.raises(ArtifactError, match="rank-0: its bytes are not those that were written"):
        hand_over(artifact, target, model_name="tiny")
    assert not target.exists()
    assert _beside(target) == []


def test_a_full_disk_leaves_the_earlier_export(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out"
    hand_over(artifact, target, model_name="one")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("lmrun.artifacts.handover.shutil.copyfile", full)
    with pytest.raises(ArtifactError) as caught:
        hand_over(artifact, target, model_name="two")
    assert str(caught.value) == (
        f"{target}: cannot be written (No space left on device). Name another folder."
    )
    assert model_name(target) == "one"
    assert _beside(target) == []


def test_links_across_file_systems_are_explained(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def across(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(Path, "hardlink_to", across)
    target = tmp_path / "out"
    with pytest.raises(ArtifactError) as caught:
        hand_over(artifact, target, model_name="tiny", link=True)
    assert str(caught.value) == (
        f"--link: {target} is on another file system than the store, which hard links cannot"
        " cross. Leave --link out."
    )


def test_a_kill_between_the_renames_loses_neither_export(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What such a kill leaves: no folder, the earlier one aside. The next export puts it back
    before it replaces it."""
    target = tmp_path / "out"
    hand_over(artifact, target, model_name="one")
    dead = 2**22 + 1  # above the largest pid
    target.rename(tmp_path / f".lmrun-export-out.{dead}.old")
    (tmp_path / f".lmrun-export-out.{dead}").mkdir()
    (tmp_path / f".lmrun-export-other.{dead}").mkdir()
    hand_over(artifact, target, model_name="two")
    assert model_name(target) == "two"
    assert _beside(target) == [f".lmrun-export-other.{dead}"]
