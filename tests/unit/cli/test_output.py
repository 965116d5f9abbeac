"""What the command prints reaches any terminal, pipe and file, and no odd one is a bug."""

import subprocess

import pytest
from e2e.deployment import command

from lmrun.cli import main, output
from lmrun.errors import ExitStatus

DIFF = ("diff", "quant=none", "--", "quant=none", "kv.bits=8")


def shell(line: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, encoding="ascii", check=False
    )


@pytest.mark.parametrize(
    "variables",
    [
        "PYTHONIOENCODING=ascii",
        "PYTHONIOENCODING=ascii:surrogateescape",
        "LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0",
    ],
)
def test_a_terminal_of_ascii_gets_plain_letters(variables: str) -> None:
    done = shell(f"{variables} {' '.join(command(*DIFF))}")
    assert done.returncode == ExitStatus.OK, done.stderr
    assert "  kv.bits  16  ->  8  " in done.stdout


def test_letters_that_have_no_plain_form_are_escaped() -> None:
    words = " ".join(command("explain", "model.served_name", "'model.served_name=\"né\"'"))
    done = shell(f"PYTHONIOENCODING=ascii {words}")
    assert done.returncode == ExitStatus.OK, done.stderr
    assert "model.served_name = n\\xe9\n" in done.stdout


def test_a_reader_that_leaves_early_sees_no_error() -> None:
    line = " ".join(command("explain", "--all"))
    done = shell(f"{line} | true; exit ${{PIPESTATUS[0]}}")
    assert (done.returncode, done.stderr) == (ExitStatus.STAGE_FAILED, "")


def test_a_full_disk_under_stdout_is_named() -> None:
    done = shell(f"{' '.join(command('plan'))} > /dev/full")
    assert done.returncode == ExitStatus.STAGE_FAILED
    assert done.stderr == "lmrun: stdout: cannot be written: No space left on device.\n"


def test_a_full_disk_under_a_long_text_is_named() -> None:
    done = shell(f"{' '.join(command('schema', 'recipe'))} > /dev/full")
    assert done.returncode == ExitStatus.STAGE_FAILED
    assert done.stderr == "lmrun: stdout: cannot be written: No space left on device.\n"


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_stop_nothing(closed: str) -> None:
    assert shell(f"{' '.join(command('plan'))} {closed}").returncode == ExitStatus.OK


def test_a_file_that_the_system_refuses_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    name = "x" * 5000
    assert main.run(["plan", f"+recipe={name}"]) is ExitStatus.STAGE_FAILED
    said = capfd.readouterr().err
    assert said.endswith(
        "xxx…: cannot be used: File name too long. Give another, or the rights to it.\n"
    )
    assert len(said) < 300


def test_other_errors_of_the_system_are_bugs() -> None:
    assert output.of_a_file(FileNotFoundError(2, "No such file", "x")) is None
    assert output.of_a_file(ConnectionResetError(104, "reset")) is None
    assert output.of_a_file(PermissionError(13, "Permission denied", b"x")) == (
        "x: cannot be used: Permission denied. Give another, or the rights to it."
    )
