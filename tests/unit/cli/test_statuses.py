"""Every exit status of the design that exists, provoked by a real command.

1 (a bug) is provoked in `test_main`, 0 after a drained stop in `tests/e2e`. 6 and 10 come with the
quality gate and with sweeps.
"""

import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from e2e.deployment import TINY, command, free_port, wait_until

from lmrun.cli import help as texts
from lmrun.errors import ExitStatus

RECIPE = """\
model: {path: 'builtin:random-llama'}
quant: {method: none}
backend: {threads: 1}
"""


@dataclass(frozen=True)
class Case:
    """A command and how it ends."""

    status: ExitStatus
    words: tuple[str, ...]
    says: str = ""
    """On stderr or stdout."""
    variables: tuple[tuple[str, str], ...] = ()


CASES = {
    "data is printed": Case(ExitStatus.OK, ("list", "recipes", "--json")),
    "a plan fits": Case(ExitStatus.OK, ("plan", "+recipe=tiny")),
    "a lock holds": Case(ExitStatus.OK, ("verify", "+recipe=tiny"), "holds"),
    "two sides are equal": Case(
        ExitStatus.OK, ("diff", "+recipe=tiny", "--", "+recipe=tiny", "--exit-code")
    ),
    "no such verb": Case(ExitStatus.USAGE, ("plna",), "Did you mean plan?"),
    "no such flag": Case(ExitStatus.USAGE, ("plan", "--jsn"), "Did you mean --json?"),
    "a wrong environment": Case(
        ExitStatus.CONFIG, ("plan",), "LMRUN_LOG: expected", (("LMRUN_LOG", "loud"),)
    ),
    "an illegal value": Case(ExitStatus.CONFIG, ("plan", "kv.bits=5"), "expected one of 4, 8,"),
    "no such recipe": Case(ExitStatus.CONFIG, ("up", "+recipe=tinny"), "Did you mean tiny?"),
    "not built yet": Case(ExitStatus.REFUSED, ("up", *TINY, "parallel.tp=2"), "not built yet"),
    "a verb of later": Case(ExitStatus.REFUSED, ("logs",), "logs: not built yet."),
    "it cannot fit": Case(
        ExitStatus.REFUSED, ("build", "+recipe=tiny", "kv.memory=900GiB"), "kv.memory"
    ),
    "no such folder": Case(
        ExitStatus.REFUSED, ("build", "model.path=/nowhere"), "model.path=/nowhere"
    ),
    "the store is no folder": Case(
        ExitStatus.STAGE_FAILED, ("build", "+recipe=tiny"), "", (("LMRUN_HOME", "/dev/null/x"),)
    ),
    "something drifted": Case(
        ExitStatus.DRIFT, ("build", "+recipe=tiny", "kv.bits=8", "--locked"), "kv.bits"
    ),
    "verify finds drift": Case(ExitStatus.DRIFT, ("verify", "+recipe=tiny", "kv.bits=8")),
    "two sides differ": Case(
        ExitStatus.DIFFERENCE,
        ("diff", "+recipe=tiny", "--", "+recipe=tiny", "kv.bits=8", "--exit-code"),
        "kv.bits",
    ),
    "a difference that is not asked for": Case(
        ExitStatus.OK, ("diff", "+recipe=tiny", "--", "+recipe=tiny", "kv.bits=8")
    ),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe, its lock, and a store of its own in ``home``."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "recipes").mkdir()
    (folder / "recipes" / "tiny.yaml").write_text(RECIPE)
    done = finished(folder, "lock", "+recipe=tiny")
    assert done.returncode == 0, done.stderr
    return folder


def environment(folder: Path, variables: tuple[tuple[str, str], ...] = ()) -> dict[str, str]:
    """With the project's own store."""
    return {**os.environ, "LMRUN_HOME": str(folder / "home"), **dict(variables)}


def finished(
    folder: Path, *words: str, variables: tuple[tuple[str, str], ...] = ()
) -> subprocess.CompletedProcess[str]:
    """A command run to its end in the project."""
    return subprocess.run(
        command(*words),
        cwd=folder,
        env=environment(folder, variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("name", CASES)
def test_a_command_ends_with_its_status_and_says_so_in_its_events(
    name: str, project: Path, tmp_path: Path
) -> None:
    case = CASES[name]
    events = ("--events", str(tmp_path / "events"))
    done = finished(project, *case.words, *events, variables=case.variables)
    assert done.returncode == case.status, done.stdout + done.stderr
    assert case.says in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    if name == "a wrong environment":
        return  # there is no log yet, so no events
    last = json.loads((tmp_path / "events").read_text().splitlines()[-1])
    assert (last["event"], last["status"]) == ("command_finished", case.status)


@pytest.mark.parametrize("verb", ["build", "up"])
def test_an_interrupt_before_ready_is_130(verb: str, tmp_path: Path) -> None:
    port = f"frontend.port={free_port()}"
    with subprocess.Popen(
        [*command(verb, *TINY, port), "--events", str(tmp_path / "events")],
        env=environment(tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_until(lambda: '"planned"' in said(tmp_path / "events"), timeout_s=60)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == ExitStatus.INTERRUPTED, err
    last = json.loads(said(tmp_path / "events").splitlines()[-1])
    assert (last["event"], last["status"]) == ("command_finished", 130)


def said(path: Path) -> str:
    """A file that may not be there yet."""
    return path.read_text() if path.is_file() else ""


def test_the_help_names_every_status_that_exists() -> None:
    existing = set(ExitStatus) - {ExitStatus.GATE_FAILED, ExitStatus.SWEEP_PARTLY_FAILED}
    tail = texts.FULL[texts.FULL.index("exit statuses:") :]
    assert [number for number in existing if f"{int(number)} " not in tail] == []
    assert {case.status for case in CASES.values()} | {
        ExitStatus.BUG,
        ExitStatus.INTERRUPTED,
    } == existing
