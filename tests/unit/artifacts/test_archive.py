"""An artifact as a tar file: whole and equal bytes out, nothing unchecked in."""

import io
import os
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lmrun.artifacts import archive, canonical
from lmrun.artifacts.manifest import ManifestFields
from lmrun.artifacts.store import Artifact, Store
from lmrun.errors import ArtifactError
from unit.artifacts.builders import CONTENT, fill

MADE_OF = {
    "stage": "convert",
    "code_version": 1,
    "config": {"parallel.tp": 1, "x": 0.5},
    "inputs": {"resolve": "a" * 64},
    "numeric_class": None,
}
FINGERPRINT = canonical.digest(MADE_OF)
Member = tuple[tarfile.TarInfo, bytes]


def _make(folder: Path) -> ManifestFields:
    fill(folder)
    return ManifestFields(**MADE_OF, fingerprint=FINGERPRINT, seconds=1.5, model_name="tiny")


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return Store(tmp_path / "home").build("convert", FINGERPRINT, _make)


@pytest.fixture
def file(artifact: Artifact, tmp_path: Path) -> Path:
    archive.pack(artifact, tmp_path / "a.tar")
    return tmp_path / "a.tar"


@pytest.fixture
def other(tmp_path: Path) -> Store:
    return Store(tmp_path / "other")


def _members(file: Path) -> list[Member]:
    with tarfile.open(file) as opened:
        return [(one, opened.extractfile(one).read()) for one in opened]  # type: ignore[union-attr]


def _write(file: Path, members: list[Member], form: int = tarfile.GNU_FORMAT) -> None:
    with tarfile.open(file, "w", format=form) as out:
        for info, data in members:
            info.size = len(data) if info.isreg() else 0
            out.addfile(info, io.BytesIO(data))


def _refused(other: Store, file: Path) -> str:
    """What is said; the store must be as it was."""
    with pytest.raises(ArtifactError) as caught:
        archive.unpack(other, file)
    for folder in ("artifacts", "partial", "locks", "trash"):
        assert list((other.home / folder).glob("*")) == []
    return str(caught.value)


def test_what_was_exported_is_imported(artifact: Artifact, file: Path, other: Store) -> None:
    found, is_new = archive.unpack(other, file)
    assert is_new
    assert found.path == other.folder("convert", FINGERPRINT)
    assert (found.path / "sub" / "rank-0").read_bytes() == CONTENT
    assert found.manifest.fields == artifact.manifest.fields
    assert other.find("convert", FINGERPRINT) == found, "its stamps are those of the copies"
    other.verify(found)
    assert not list((other.home / "partial").iterdir())


def test_a_second_import_changes_nothing(file: Path, other: Store) -> None:
    first, _ = archive.unpack(other, file)
    stamp = first.path.stat()
    again, is_new = archive.unpack(other, file)
    assert (again, is_new) == (first, False)
    assert first.path.stat() == stamp


def test_equal_artifacts_give_equal_bytes(file: Path, other: Store, tmp_path: Path) -> None:
    copy, _ = archive.unpack(other, file)
    os.utime(copy.path / "model.json")
    other.verify(copy)
    found = other.find("convert", FINGERPRINT)
    assert found is not None
    assert archive.pack(found, tmp_path / "b.tar") == file.stat().st_size
    assert (tmp_path / "b.tar").read_bytes() == file.read_bytes()


def test_other_tools_read_it(file: Path) -> None:
    listed = subprocess.run(["tar", "-tf", str(file)], capture_output=True, text=True, check=True)
    assert listed.stdout.split() == ["manifest.json", "model.json", "sub/rank-0"]
    for info, _ in _members(file):
        assert (info.mode, info.uid, info.gid, info.mtime) == (0o644, 0, 0, 0)


def test_wrong_bytes_are_not_exported(artifact: Artifact, tmp_path: Path) -> None:
    (artifact.path / "sub" / "rank-0").write_bytes(CONTENT[::-1])
    target = tmp_path / "a.tar"
    target.write_bytes(b"what was there")
    with pytest.raises(ArtifactError, match="rank-0: its bytes are not those that were written"):
        archive.pack(artifact, target)
    assert target.read_bytes() == b"what was there"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "home"]


def test_a_file_that_cannot_be_written_is_named(artifact: Artifact, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        archive.pack(artifact, tmp_path / "none" / "a.tar")
    assert str(caught.value) == (
        f"{tmp_path}/none/a.tar: cannot be written (No such file or directory). Name another file."
    )


def test_a_file_that_is_not_there_is_named(other: Store, tmp_path: Path) -> None:
    assert _refused(other, tmp_path / "none.tar") == (
        f"{tmp_path}/none.tar: expected a file of `lmrun store export`,"
        " got No such file or directory."
    )


def test_a_file_cut_anywhere_is_refused(file: Path, other: Store, tmp_path: Path) -> None:
    whole = file.read_bytes()
    cut = tmp_path / "cut.tar"
    for length in (0, 1, 511, 512, 513, 1024, 2000, 2600, 4000, 6000, 7000, len(whole) - 10240 + 5):
        cut.write_bytes(whole[:length])
        assert " Nothing was imported." in _refused(other, cut)


def test_every_flipped_bit_that_counts_is_refused(file: Path, other: Store, tmp_path: Path) -> None:
    """One bit in each block of the file, and in each field of the first header."""
    whole = file.read_bytes()
    flipped = tmp_path / "flipped.tar"
    places = [*range(0, 512, 7), *range(512 + 3, len(whole), 97)]
    for place in places:
        content = bytearray(whole)
        content[place] ^= 1
        flipped.write_bytes(content)
        try:
            found, _ = archive.unpack(other, flipped)
        except ArtifactError:
            continue
        # Only what the manifest says beside digests and fingerprint may differ: names, seconds.
        assert (found.path / "sub" / "rank-0").read_bytes() == CONTENT
        assert (found.path / "model.json").read_bytes() == b"{}"
        other.verify(found)
        (tmp_path / "other").rename(tmp_path / f"other-{place}")


def _renamed(name: str) -> Callable[[Member], Member]:
    def change(member: Member) -> Member:
        member[0].name = name
        return member

    return change


def _of_type(kind: bytes, target: str = "/etc/passwd") -> Callable[[Member], Member]:
    def change(member: Member) -> Member:
        member[0].type = kind
        member[0].linkname = target
        return member

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_renamed("../../escaped"), "'../../escaped' where model.json was due"),
        (_renamed("/tmp/escaped"), "'/tmp/escaped' where model.json was due"),
        (_renamed("sub/other"), "'sub/other' where model.json was due"),
        (_of_type(tarfile.SYMTYPE), "a link ('model.json') where model.json was due"),
        (_of_type(tarfile.LNKTYPE), "a link ('model.json') where model.json was due"),
        (_of_type(tarfile.CHRTYPE), "no file ('model.json') where model.json was due"),
        (_of_type(tarfile.FIFOTYPE), "no file ('model.json') where model.json was due"),
        (_of_type(tarfile.DIRTYPE), "a folder ('model.json') where model.json was due"),
    ],
)
def test_members_that_are_not_the_files_are_refused(
    file: Path, other: Store, tmp_path: Path, change: Callable[[Member], Member], said: str
) -> None:
    members = _members(file)
    members[1] = change(members[1])
    bad = tmp_path / "bad.tar"
    _write(bad, members)
    assert said in _refused(other, bad)
    assert not (tmp_path / "escaped").exists()
    assert not Path("/tmp/escaped").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [("../x", "expected plain relative file names, got '../x'"), ("a" * 64 + "/" * 2, "plain")],
)
def test_a_manifest_with_names_that_lead_out_is_refused(
    file: Path, other: Store, tmp_path: Path, name: str, said: str
) -> None:
    members = _members(file)
    members[0] = (members[0][0], members[0][1].replace(b"model.json", name.encode()))
    bad = tmp_path / "bad.tar"
    _write(bad, members)
    assert said in _refused(other, bad)


def test_headers_that_promise_more_than_the_file_holds_are_refused(
    file: Path, other: Store, tmp_path: Path
) -> None:
    info = tarfile.TarInfo("manifest.json")
    info.size = 1 << 40
    bad = tmp_path / "bad.tar"
    bad.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + file.read_bytes()[512:])
    assert "manifest.json of 1099511627776 bytes with " in _refused(other, bad)
    with bad.open("wb") as out:
        info.size = archive.MAX_MANIFEST_BYTES + 1
        out.write(info.tobuf(tarfile.GNU_FORMAT))
        out.truncate(64 << 20)  # sparse
    assert f"a manifest of {archive.MAX_MANIFEST_BYTES + 1} bytes" in _refused(other, bad)


def test_extended_headers_are_refused_unread(file: Path, other: Store, tmp_path: Path) -> None:
    """PAX and GNU long names let a header have any size."""
    members = _members(file)
    members[0][0].pax_headers = {"comment": "x" * 4096}
    bad = tmp_path / "bad.tar"
    _write(bad, members, tarfile.PAX_FORMAT)
    assert "where manifest.json was due" in _refused(other, bad)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999", "[" * 5000 + "]" * 5000])
def test_a_manifest_with_numbers_that_are_none_is_refused(
    file: Path, other: Store, tmp_path: Path, value: str
) -> None:
    members = _members(file)
    text = members[0][1].decode().replace('"metrics": {}', f'"metrics": {{"a": {value}}}')
    _write(tmp_path / "b.tar", [(members[0][0], text.encode()), *members[1:]])
    assert "got a manifest that is no JSON (" in _refused(other, tmp_path / "b.tar")


def test_only_files_are_replaced_by_an_export(artifact: Artifact, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for target, shown in ((pipe, str(pipe)), (tmp_path, str(tmp_path)), (Path(), ".")):
        with pytest.raises(ArtifactError) as caught:
            archive.pack(artifact, target)
        assert str(caught.value) == (
            f"{shown}: expected the name of a file to write, got a folder or device."
            " Name another file."
        )
    assert pipe.is_fifo()


@pytest.mark.parametrize("extra", ["model.json", "more"])
def test_members_beyond_the_manifest_are_refused(
    file: Path, other: Store, tmp_path: Path, extra: str
) -> None:
    bad = tmp_path / "bad.tar"
    _write(bad, [*_members(file), (tarfile.TarInfo(extra), b"x")])
    assert "more members than the manifest names" in _refused(other, bad)


def test_other_bytes_under_a_digest_are_refused(file: Path, other: Store, tmp_path: Path) -> None:
    members = _members(file)
    members[2] = (members[2][0], CONTENT[::-1])
    bad = tmp_path / "bad.tar"
    _write(bad, members)
    assert "sub/rank-0 with other bytes than were exported" in _refused(other, bad)


def test_a_fingerprint_that_is_not_of_the_inputs_is_refused(
    artifact: Artifact, other: Store, tmp_path: Path
) -> None:
    fields = replace(artifact.manifest.fields, config={"parallel.tp": 2})
    wrong = Artifact(artifact.path, replace(artifact.manifest, fields=fields))
    archive.pack(wrong, tmp_path / "bad.tar")
    assert "expected the fingerprint of what it says the artifact was made from" in _refused(
        other, tmp_path / "bad.tar"
    )


def test_an_archive_of_a_newer_lmrun_says_so(file: Path, other: Store, tmp_path: Path) -> None:
    members = _members(file)
    newer = members[0][1].replace(b'"schema_version": 1', b'"schema_version": 9')
    members[0] = (members[0][0], newer)
    bad = tmp_path / "bad.tar"
    _write(bad, members)
    assert "expected 1, got 9 (a newer lmrun wrote it)" in _refused(other, bad)


def test_what_an_interrupted_build_left_survives_a_refused_import(
    file: Path, other: Store, tmp_path: Path
) -> None:
    with other.building("convert", FINGERPRINT) as partial:
        (partial / "kept").write_bytes(b"x")
    cut = tmp_path / "cut.tar"
    cut.write_bytes(file.read_bytes()[:4000])
    with pytest.raises(ArtifactError):
        archive.unpack(other, cut)
    assert (partial / "kept").exists()
    archive.unpack(other, file)
    assert not partial.exists()


def test_a_damaged_artifact_is_replaced_by_an_import(
    artifact: Artifact, file: Path, tmp_path: Path
) -> None:
    store = Store(tmp_path / "home")
    (artifact.path / "model.json").write_text("{ }")
    assert store.find("convert", FINGERPRINT) is None
    _, is_new = archive.unpack(store, file)
    assert is_new
    assert store.find("convert", FINGERPRINT) is not None
    assert list((store.home / "trash").iterdir()) == []
