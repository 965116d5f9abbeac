import errno
import hashlib
import os
from pathlib import Path

import pytest

from lmrun.artifacts.digests import DigestCache
from lmrun.errors import ArtifactError, StageError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(b"x" * 3_000_000)
    return path


def test_looking_up_creates_nothing(tmp_path: Path, file: Path) -> None:
    home = tmp_path / "home"
    assert DigestCache(home).lookup(file) is None
    assert not home.exists()


def test_a_hashed_file_is_known_to_the_next_process(tmp_path: Path, file: Path) -> None:
    seen: list[int] = []
    digests = DigestCache(tmp_path / "home").hash_files([file], seen.append)
    assert digests == {file: hashlib.sha256(file.read_bytes()).hexdigest()}
    assert sum(seen) == 3_000_000
    assert DigestCache(tmp_path / "home").lookup(file) == digests[file]


def test_a_known_file_is_not_read_again(tmp_path: Path, file: Path) -> None:
    DigestCache(tmp_path / "home").hash_files([file])
    seen: list[int] = []
    DigestCache(tmp_path / "home").hash_files([file], seen.append)
    assert seen == []


def test_a_touched_or_replaced_file_is_unknown(tmp_path: Path, file: Path) -> None:
    cache = DigestCache(tmp_path / "home")
    cache.hash_files([file])
    info = file.stat()
    os.utime(file, ns=(info.st_atime_ns, info.st_mtime_ns + 1))
    assert cache.lookup(file) is None
    cache.hash_files([file])
    copy = tmp_path / "copy"
    copy.write_bytes(file.read_bytes())
    os.utime(copy, ns=(info.st_atime_ns, info.st_mtime_ns + 1))
    copy.replace(file)  # same size and mtime, another inode
    assert cache.lookup(file) is None


def test_a_file_may_be_older_than_the_epoch(tmp_path: Path, file: Path) -> None:
    os.utime(file, ns=(-5, -5))
    digests = DigestCache(tmp_path / "home").hash_files([file])
    assert DigestCache(tmp_path / "home").lookup(file) == digests[file]


def test_a_link_and_its_target_are_one_file(tmp_path: Path, file: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(file)
    cache = DigestCache(tmp_path / "home")
    assert cache.hash_files([link])[link] == cache.lookup(file)


def test_two_caches_keep_each_others_entries(tmp_path: Path, file: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"y")
    first, second = DigestCache(tmp_path / "home"), DigestCache(tmp_path / "home")
    first.hash_files([file])
    second.hash_files([other])
    both = DigestCache(tmp_path / "home")
    assert both.lookup(file) is not None
    assert both.lookup(other) is not None


def test_a_damaged_cache_is_forgotten_and_another_version_refused(
    tmp_path: Path, file: Path
) -> None:
    home = tmp_path / "home"
    DigestCache(home).hash_files([file])
    (home / "digests.json").write_text("{")
    assert DigestCache(home).lookup(file) is None
    (home / "digests.json").write_text('{"schema_version": 2, "files": {}}')
    with pytest.raises(ArtifactError, match=r"digests\.json \(a cache: it may be deleted\)"):
        DigestCache(home)


def test_a_home_that_is_a_file_is_named(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.write_text("not a folder")
    with pytest.raises(ArtifactError) as caught:
        DigestCache(home)
    assert str(caught.value) == (
        f"store: cannot read {home / 'digests.json'} (Not a directory)."
        " Name another folder by LMRUN_HOME."
    )


def test_hashing_anew_trusts_no_stamp_and_keeps_what_it_finds(tmp_path: Path, file: Path) -> None:
    cache = DigestCache(tmp_path / "home")
    old = cache.hash_files([file])[file]
    info = file.stat()
    with file.open("r+b") as opened:
        opened.write(b"y")
    os.utime(file, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert cache.hash_files([file])[file] == old, "the stamp is the old one"
    found = cache.hash_files([file], anew=True)[file]
    assert found == hashlib.sha256(file.read_bytes()).hexdigest() != old
    assert DigestCache(tmp_path / "home").lookup(file) == found


def test_digests_that_cannot_be_kept_are_known_all_the_same(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, document: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr("lmrun.artifacts.digests.write_json", refuse)
    cache = DigestCache(tmp_path / "home")
    with pytest.raises(ArtifactError, match=r"cannot write .*Read-only file system"):
        cache.hash_files([file])
    assert cache.lookup(file) == hashlib.sha256(file.read_bytes()).hexdigest()


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(StageError) as folder:
        DigestCache(tmp_path / "home").hash_files([tmp_path])
    assert str(folder.value) == f"{tmp_path}: cannot be read (Is a directory)."
    with pytest.raises(StageError) as missing:
        DigestCache(tmp_path / "home").hash_files([tmp_path / "none"])
    assert str(missing.value) == f"{tmp_path}/none: cannot be read (No such file or directory)."


def test_a_cache_of_many_levels_is_forgotten(tmp_path: Path, file: Path) -> None:
    (tmp_path / "digests.json").write_text("[" * 100_000)
    assert DigestCache(tmp_path).lookup(file) is None
