"""One timed run at a time."""

import os
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from lmrun.artifacts.files import is_locked
from lmrun.bench import alone
from lmrun.bench.alone import timed
from lmrun.errors import StageError

HOLD = """
import sys
from lmrun.bench.alone import timed
with timed("the other"):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def _own_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real bench may run beside these tests."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


def holder() -> subprocess.Popen[str]:
    """Another process that has the machine until it is told to let go."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_run_waits_says_for_whom_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="lmrun")
    other = holder()
    order: list[str] = []

    def wait() -> None:
        with timed("this one"):
            order.append("in")

    with other:
        thread = threading.Thread(target=wait)
        thread.start()
        while not caplog.messages:
            thread.join(0.05)
        order.append("let go")
        assert other.stdin is not None
        other.stdin.write("\n")
        other.stdin.close()
        thread.join()
    assert order == ["let go", "in"]
    assert caplog.messages == [
        f"this one: the other (pid {other.pid}) has the machine; waiting for its end",
        "this one: the machine is free",
    ]


def test_the_end_of_a_process_lets_go_whatever_ended_it() -> None:
    other = holder()
    other.kill()
    other.communicate()
    with timed():
        pass


def test_one_process_may_enter_again_and_holds_until_it_left_all(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with timed("sweep"):
        with timed("bench"):
            pass
        assert is_held()
    assert not is_held()
    assert caplog.messages == []


def test_an_error_inside_lets_go() -> None:
    with pytest.raises(ValueError, match="inside"), timed():
        raise ValueError("inside")
    assert not is_held()


def test_stores_of_one_user_share_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    before = alone.lock_file()
    monkeypatch.setenv("LMRUN_HOME", "/elsewhere")
    assert alone.lock_file() == before


def test_the_folder_is_the_users_alone() -> None:
    with timed():
        folder = alone.lock_file().parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert folder.stat().st_uid == os.getuid()


def test_a_place_that_cannot_be_locked_is_named(tmp_path: Path) -> None:
    alone.lock_file().parent.write_text("a file")
    with pytest.raises(StageError) as caught, timed():
        raise AssertionError("never inside")
    assert str(caught.value) == (
        f"{alone.lock_file()}: cannot be locked: File exists. Timed runs need it to keep apart."
    )


def test_a_folder_of_another_user_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a temporary directory that all may write to, anybody could have made it."""
    folder = alone.lock_file().parent
    folder.mkdir(mode=0o700)
    identity = os.getuid() + 1
    monkeypatch.setattr(alone, "_owner", lambda path: identity)
    with pytest.raises(StageError, match=r"belongs to another user"), timed():
        raise AssertionError("never inside")


def is_held() -> bool:
    """As anybody else sees it."""
    return is_locked(alone.lock_file())
