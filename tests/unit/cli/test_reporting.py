"""Events, JSON lines, -v and -q: how a command tells what it does."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from e2e.deployment import TINY, command, free_port, run, wait_until

import lmrun
from lmrun import events, log
from lmrun.cli import main, reporting
from lmrun.errors import ExitStatus, UsageError

BUILD = ("build", *TINY)


def read(path: Path) -> list[dict[str, Any]]:
    """The events of a file, each checked against the schema."""
    validator = jsonschema.Draft202012Validator(events.schema())
    found = [json.loads(line) for line in path.read_text().splitlines()]
    for event in found:
        validator.validate(event)
    return found


def names(found: list[dict[str, Any]]) -> list[str]:
    """What happened, without how far it was."""
    return [event["event"] for event in found if event["event"] != "progress"]


def test_a_build_tells_its_stages(tmp_path: Path) -> None:
    done = run(tmp_path / "home", *BUILD, "--events", str(tmp_path / "events"))
    assert done.returncode == 0, done.stderr
    found = read(tmp_path / "events")
    assert names(found) == [
        "command_started",
        "planned",
        "stage_started",
        "stage_finished",
        "stage_started",
        "stage_finished",
        "command_finished",
    ]
    assert found[0] | {"verb": "build", "version": lmrun.__version__} == found[0]
    assert [stage["action"] for stage in found[1]["stages"]] == ["run", "run"]
    assert found[-1]["status"] == 0
    assert len({event["run"] for event in found}) == 1
    assert {event["process"] for event in found} == {"lmrun", "stages"}
    assert len({event["pid"] for event in found}) == 2
    moments = [event["time"] for event in found]
    assert moments == sorted(moments)
    progress = [event for event in found if event["event"] == "progress"]
    assert {event["task"] for event in progress} == {"write random-llama", "convert"}
    assert all(event["done"] <= event["total"] for event in progress)
    last = {event["task"]: event for event in progress}
    assert all(event["done"] == event["total"] for event in last.values())


def test_a_second_command_appends_with_a_name_of_its_own(tmp_path: Path) -> None:
    file = str(tmp_path / "events")
    for _ in range(2):
        assert main.run(["plan", "kv.bits=8", "--events", file, "-q"]) is ExitStatus.OK
    found = read(tmp_path / "events")
    assert names(found) == 2 * ["command_started", "planned", "command_finished"]
    assert len({event["run"] for event in found}) == 2


def test_an_error_is_an_event_with_its_status(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["plan", "kv.bits=5", f"--events={tmp_path / 'e'}"]) is ExitStatus.CONFIG
    *_, error, finished = read(tmp_path / "e")
    message = "kv.bits=5 (command line): expected one of 4, 8, 16 or 32."
    assert (error["kind"], error["message"], error["status"]) == ("ConfigError", message, 3)
    assert (finished["event"], finished["status"]) == ("command_finished", 3)
    assert capfd.readouterr().err == f"lmrun: {message}\n"


def test_a_bug_is_an_event_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(main.VERBS, "plan", "lmrun.cli.nowhere:run")
    with pytest.raises(ModuleNotFoundError):
        main.run(["plan", "--events", str(tmp_path / "e")])
    *_, error, finished = read(tmp_path / "e")
    assert (error["kind"], error["status"], finished["status"]) == ("ModuleNotFoundError", 1, 1)


def test_a_failed_stage_is_an_event(tmp_path: Path) -> None:
    (tmp_path / "home" / "artifacts").mkdir(parents=True)
    (tmp_path / "home" / "artifacts" / "convert").touch()  # where its artifact belongs
    done = run(tmp_path / "home", *BUILD, "--events", str(tmp_path / "events"))
    assert done.returncode == ExitStatus.STAGE_FAILED
    found = read(tmp_path / "events")
    failed = [event for event in found if event["event"] == "stage_failed"]
    assert [event["stage"] for event in failed] == ["convert"]
    assert failed[0]["message"] in done.stderr
    assert names(found)[-2:] == ["error", "command_finished"]


def test_a_deployment_tells_its_life(tmp_path: Path) -> None:
    port = free_port()
    words = command("up", *TINY, f"frontend.port={port}", "--events", str(tmp_path / "events"))
    process = subprocess.Popen(
        [*words, "--log-format", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "LMRUN_HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path)},
    )
    try:
        wait_until(
            lambda: (
                process.poll() is not None
                or (
                    (tmp_path / "events").is_file()
                    and '"ready"' in (tmp_path / "events").read_text()
                )
            ),
            timeout_s=120,
        )
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, err
    found = read(tmp_path / "events")
    tail = ["engine_launched", "ready", "draining", "stopped", "command_finished"]
    assert names(found)[-5:] == tail
    ready = next(event for event in found if event["event"] == "ready")
    assert ready["url"] == f"http://127.0.0.1:{port}"
    assert ready["model"] == "random-llama"
    assert next(event for event in found if event["event"] == "stopped")["in_time"] is True
    assert f"api    http://127.0.0.1:{port}/v1\n" in out
    lines = [json.loads(line) for line in err.splitlines()]
    assert {"lmrun", "stages", "server"} <= {line["process"] for line in lines}
    assert all({"time", "level", "message"} <= set(line) for line in lines)
    assert "listening on" in "".join(line["message"] for line in lines)


def test_every_kind_of_event_is_in_the_schema() -> None:
    assert {event.name for event in events.EVENTS} == set(
        events.schema()["properties"]["event"]["enum"]
    )
    samples: tuple[events.Event, ...] = (
        events.Progress("convert", 1, None, "tensors"),
        events.ChildEnded("engine", "it ended"),
        events.PageReady("http://127.0.0.1:1"),
    )
    head = {"schema_version": 1, "time": log.now(), "run": "a", "process": "b", "pid": 1}
    validator = jsonschema.Draft202012Validator(events.schema())
    for event in samples:
        body = {**head, "event": event.name, **vars(event)}
        validator.validate(body)
        assert not validator.is_valid({**body, "event": "nothing"})
        missing = {key: value for key, value in body.items() if key != next(iter(vars(event)))}
        assert not validator.is_valid(missing)


def test_a_disk_that_is_full_ends_the_events_and_not_the_command(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert main.run(["list", "recipes", "--events", "/dev/full"]) is ExitStatus.OK
    err = capfd.readouterr().err
    text = "--events /dev/full: cannot be written any more: No space left on device"
    assert err == f"WARNING lmrun: {text}\n"


REFUSED = {
    ("list", "--events", "-"): (
        "--events -: expected a file; stdout belongs to the command's own data."
        " Write --events /dev/stderr, or a file."
    ),
    ("list", "--events", "/nowhere/file"): (
        "--events /nowhere/file: cannot be written: No such file or directory. Give a file in a"
        " folder that exists."
    ),
    ("list", "--events"): "--events: expected a value, got none. Write --events VALUE.",
    ("--events", "-q", "list"): "--events: expected a value, got none. Write --events VALUE.",
    ("list", "-v", "-q"): "-v, -q: expected one of them, got both.",
    ("list", "-q", "-q"): "-q: expected once, got twice. Give it one time.",
    ("list", "-q=1"): "-q: takes no value, got '1'. Write -q alone.",
    ("list", "--log-format=xml"): "--log-format: expected one of text, json, got 'xml'.",
}


@pytest.mark.parametrize("argv", REFUSED, ids=" ".join)
def test_a_wrong_flag_is_refused(argv: tuple[str, ...], capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(argv) is ExitStatus.USAGE
    assert capfd.readouterr() == ("", f"lmrun: {REFUSED[argv]}\n")


def test_flags_stand_anywhere_and_values_of_others_are_left_alone() -> None:
    how, rest = reporting.take(["-q", "chat", "--system", "-v", "--log-format=json"], ["--system"])
    assert how == reporting.Reporting(None, "json", "error")
    assert rest == ["chat", "--system", "-v"]
    with pytest.raises(UsageError):
        reporting.take(["--system", "-v", "-v", "-q"], ["--system"])


def test_quiet_leaves_the_data_and_the_errors(tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = run(home, *BUILD, "-q")
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(done.stdout.strip()).is_dir()
    failed = run(home, *BUILD, "kv.bits=5", "-q")
    assert failed.stderr == "lmrun: kv.bits=5 (command line): expected one of 4, 8, 16 or 32.\n"


def test_without_flags_a_build_shows_the_plan_and_its_stages(tmp_path: Path) -> None:
    done = run(tmp_path / "home", *BUILD)
    assert "INFO lmrun.stages.runner: convert: done in" in done.stderr
    assert "random weights" in done.stderr
    assert "\x1b" not in done.stderr


def test_verbose_shows_debug_of_children_too(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMRUN_LOG", "error")
    assert main.run(["list", "recipes", "-v"]) is ExitStatus.OK
    assert log.get("lmrun").level == 10
    assert list(log.arguments()) == ["--log-level", "debug", "--log-format", "text"]
    assert main.run(["list", "recipes"]) is ExitStatus.OK
    assert list(log.arguments())[1] == "error"
    capfd.readouterr()


def test_json_lines_carry_errors_and_bugs(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main.run(["plna", "--log-format", "json"]) is ExitStatus.USAGE
    line = json.loads(capfd.readouterr().err)
    assert line["level"] == "error"
    assert line["message"] == "plna: no such verb. Did you mean plan?"
    monkeypatch.setitem(main.VERBS, "plan", "lmrun.cli.nowhere:run")
    assert main.run(["plan", "--log-format", "json"]) is ExitStatus.BUG
    line = json.loads(capfd.readouterr().err)
    assert "ModuleNotFoundError" in line["traceback"]


def test_among_json_lines_other_libraries_write_json_too() -> None:
    code = (
        "import logging, warnings; from lmrun import log; log.setup('info', 'json', 'stages')\n"
        "logging.getLogger('urllib3').warning('retrying %s', 1)\n"
        "warnings.warn('old')\n"
        "log.get('lmrun.x').info('once')\n"
        "log.setup('info')\n"
        "log.get('lmrun.x').info('text')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *lines, last = done.stderr.splitlines()
    documents = [json.loads(line) for line in lines]
    assert [document["level"] for document in documents] == ["warning", "warning", "info"]
    assert [document["logger"] for document in documents] == ["urllib3", "py.warnings", "lmrun.x"]
    assert {document["process"] for document in documents} == {"stages"}
    assert "old" in documents[1]["message"]
    assert last == "INFO lmrun.x: text"


def test_a_json_build_prints_nothing_but_json_lines(tmp_path: Path) -> None:
    done = run(tmp_path / "home", *BUILD, "--log-format", "json")
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert {line["process"] for line in lines} == {"lmrun", "stages"}
    assert Path(done.stdout.strip()).is_dir()


@pytest.mark.parametrize("no_color", [False, True])
def test_a_terminal_gets_bars_and_no_colours_where_none_are_wanted(
    no_color: bool, tmp_path: Path
) -> None:
    code = (
        "import sys; from lmrun import log; from lmrun.progress import progress_bar; log.setup();\n"
        "with progress_bar('hash inputs', 4096, unit='bytes') as advance:\n"
        "    advance(4096)\n"
    )
    shown = on_a_terminal(code, {"NO_COLOR": "1"} if no_color else {})
    assert "hash inputs" in shown
    assert "4.1/4.1 kB" in shown or "4.0/4.0 KiB" in shown
    assert ("\x1b[38" in shown or "\x1b[35" in shown or "\x1b[36" in shown) is not no_color


@pytest.mark.parametrize("setup", ["log.setup('error')", "log.setup('info', 'json')"])
def test_quiet_and_json_show_no_bars_on_a_terminal(setup: str) -> None:
    code = (
        f"from lmrun import log; from lmrun.progress import progress_bar; {setup}\n"
        "with progress_bar('hash inputs', 4) as advance:\n"
        "    advance(4)\n"
    )
    assert on_a_terminal(code, {}) == ""


def on_a_terminal(code: str, variables: dict[str, str]) -> str:
    """What Python code shows where stderr is a terminal."""
    mine, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", **variables}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=theirs, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        seen = b""
        while process.poll() is None or select.select([mine], [], [], 0)[0]:
            if not select.select([mine], [], [], 0.1)[0]:
                continue
            try:
                seen += os.read(mine, 4096)
            except OSError:
                break
    os.close(mine)
    assert process.returncode == 0, seen
    return seen.decode()


def test_a_summary_that_cannot_be_written_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "/nowhere/summary")
    assert main.run(["plan", "model=random_llama"]) is ExitStatus.OK
    text = "GITHUB_STEP_SUMMARY=/nowhere/summary: cannot be written: No such file or directory"
    assert text in capfd.readouterr().err


def test_the_plan_joins_the_job_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    assert main.run(["plan", "model=random_llama"]) is ExitStatus.OK
    shown = capfd.readouterr().out
    written = (tmp_path / "summary").read_text()
    assert written == f"### lmrun plan\n\n```text\n{shown.rstrip()}\n```\n\n"


def test_a_comparison_joins_the_job_summary_as_markdown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    sides = ["model=random_llama", "--", "model=random_llama", "kv.bits=8"]
    assert main.run(["diff", "--markdown", *sides]) is ExitStatus.OK
    shown = capfd.readouterr().out
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    assert main.run(["diff", *sides]) is ExitStatus.OK
    assert (tmp_path / "summary").read_text() == f"{shown}\n"
