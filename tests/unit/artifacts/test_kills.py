"""`kill -9` at any point of a build leaves no wrong byte and nobody waiting."""

import random
import shutil
import signal
from pathlib import Path

import pytest

from unit.artifacts.smithy import Smithy, Undisturbed, check_finished, check_sound

KILLED = -signal.SIGKILL


def _finish(smithy: Smithy, home: Path, undisturbed: Undisturbed) -> None:
    ended = smithy.attempt(home)
    assert (ended.status, ended.error) == (0, "")
    check_finished(home, undisturbed.digests)


def test_builds_killed_at_ten_points_end_with_the_same_bytes(
    smithy: Smithy, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """Each on top of what the one before left; then one that nothing disturbs."""
    home = tmp_path / "home"
    steps = undisturbed.changes // 5
    for number in (3, steps, 7, steps, 11, 2 * steps, 13, steps, 17, 5):
        ended = smithy.attempt(home, die_at=number)
        assert ended.status in (KILLED, 0), ended.error
        check_sound(home, undisturbed.digests)
    _finish(smithy, home, undisturbed)


def test_a_commit_killed_before_each_of_its_changes_ends_with_the_same_bytes(
    smithy: Smithy, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """Of convert, the other artifacts being there: files, manifest, renames, locks, records."""

    def home_without_convert(name: str) -> Path:
        home = shutil.copytree(undisturbed.home, tmp_path / name)
        shutil.rmtree(home / "artifacts" / "convert")
        return home

    ended = smithy.attempt(home_without_convert("whole"))
    assert ended.changes is not None
    for number in range(ended.changes - 16, ended.changes + 1):
        home = home_without_convert(str(number))
        assert smithy.attempt(home, die_at=number).status == KILLED
        check_sound(home, undisturbed.digests)
        _finish(smithy, home, undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_builds_killed_before_each_of_their_changes_end_with_the_same_bytes(
    smithy: Smithy, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    for number in range(1, undisturbed.changes + 1):
        home = tmp_path / str(number)
        assert smithy.attempt(home, die_at=number).status == KILLED
        check_sound(home, undisturbed.digests)
        _finish(smithy, home, undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_builds_killed_at_two_hundred_moments_end_with_the_same_bytes(
    smithy: Smithy, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """Random moments, up to three kills on top of one another before a build may finish."""
    draw = random.Random(20261121)
    killed, homes = 0, 0
    while killed < 200:
        home = tmp_path / str(homes)
        homes += 1
        for _ in range(draw.randint(1, 3)):
            moment = draw.uniform(0, undisturbed.seconds)
            ended = smithy.attempt(home, die_after_s=moment)
            assert ended.status in (KILLED, 0), ended.error
            killed += ended.status == KILLED
            check_sound(home, undisturbed.digests)
        _finish(smithy, home, undisturbed)
