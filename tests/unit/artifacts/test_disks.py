"""A full, limited or read-only disk: a clear sentence, nothing lost, and the next run goes on."""

import errno
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from unit.artifacts.smithy import Smithy, Undisturbed, check_finished, check_sound

FULL = "store: no space left at "
READ_ONLY = "store: cannot write "


def test_a_disk_that_fills_up_at_any_step_loses_nothing(
    smithy: Smithy, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """Every change from the N-th on fails, the removing of files apart; each build goes on where
    the one before was stopped, and gets further until it is done."""
    home = tmp_path / "home"
    for number in range(1, undisturbed.changes + 1, max(1, undisturbed.changes // 12)):
        ended = smithy.attempt(home, fail_from=number, errno=errno.ENOSPC)
        check_sound(home, undisturbed.digests)
        if ended.status == 0:
            break
        assert ended.status == 5
        assert ended.error.startswith(FULL)
        assert ended.error.endswith(" free). Free some, or name another folder by LMRUN_HOME.")
    ended = smithy.attempt(home)
    assert (ended.status, ended.error) == (0, "")
    check_finished(home, undisturbed.digests)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_disk_that_fills_up_at_every_single_step_loses_nothing(
    smithy: Smithy, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    for number in range(1, undisturbed.changes + 1):
        home = tmp_path / str(number)
        ended = smithy.attempt(home, fail_from=number, errno=errno.ENOSPC)
        assert ended.status in (0, 5)
        assert ended.status == 0 or ended.error.startswith(FULL)
        check_sound(home, undisturbed.digests)
        assert smithy.attempt(home).status == 0
        check_finished(home, undisturbed.digests)


def test_a_limit_on_the_size_of_files_says_so_and_loses_nothing(
    smithy: Smithy, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """Writes that stop in the middle of a file, as on a full disk, at the limit of a process."""
    home = tmp_path / "home"
    for limit in (10, 4096, 30_000, 100_000):
        ended = smithy.attempt(home, file_bytes=limit)
        assert ended.status == 5
        assert ended.error.startswith("store: ")
        assert ended.error.endswith(
            " would be larger than this process or file system may write (ulimit -f)."
            " Raise the limit, or name another folder by LMRUN_HOME."
        )
        check_sound(home, undisturbed.digests)
    assert smithy.attempt(home).status == 0
    check_finished(home, undisturbed.digests)


def test_a_read_only_store_serves_what_it_holds(
    smithy: Smithy, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    home = shutil.copytree(undisturbed.home, tmp_path / "home")
    ended = smithy.attempt(home, fail_from=1, errno=errno.EROFS)
    assert (ended.status, ended.error) == (0, "")
    check_finished(home, undisturbed.digests)


def test_a_read_only_store_that_lacks_something_says_where_it_could_not_write(
    smithy: Smithy, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    home = shutil.copytree(undisturbed.home, tmp_path / "home")
    shutil.rmtree(home / "artifacts" / "convert")
    ended = smithy.attempt(home, fail_from=1, errno=errno.EROFS)
    assert ended.status == 5
    assert ended.error.startswith(READ_ONLY + str(home))
    assert ended.error.endswith(" (Read-only file system). Name a writable folder by LMRUN_HOME.")
    assert smithy.attempt(home).status == 0
    check_finished(home, undisturbed.digests)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 4 MiB: what a build needs, and little more."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"mounting a tmpfs is not permitted: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_real_disk_that_fills_up_under_a_build_loses_nothing(
    smithy: Smithy, undisturbed: Undisturbed, small_disk: Path
) -> None:
    """Planning sees what is free and refuses; so the disk is filled when the build is under way."""
    home, taken = small_disk / "home", small_disk / "taken"
    for number, leave in ((12, 0), (20, 8192), (30, 40960), (10, 65536), (8, 122880), (6, 4096)):
        ended = smithy.attempt(home, fill_at=number, leave=leave, filler=str(taken))
        assert ended.status == 5
        assert ended.error.startswith(FULL)
        taken.unlink()
        check_sound(home, undisturbed.digests)
    assert smithy.attempt(home).status == 0
    check_finished(home, undisturbed.digests)


def test_a_plan_that_does_not_fit_the_disk_is_refused_before_anything_is_written(
    smithy: Smithy, small_disk: Path
) -> None:
    home = small_disk / "home"
    (small_disk / "taken").write_bytes(bytes(shutil.disk_usage(small_disk).free - 65536))
    ended = smithy.attempt(home)
    assert ended.status == 4
    assert ended.error.endswith(" Free some, or name another folder by LMRUN_HOME.")
    assert not (home / "artifacts").exists()
