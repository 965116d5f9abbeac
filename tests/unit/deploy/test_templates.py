"""The workflow that we tell people to copy is legal, and what it runs works."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from e2e.deployment import TINY

from lmrun import events
from lmrun.cli import main
from lmrun.cli.list import TEMPLATES
from lmrun.errors import ExitStatus

WORKFLOW = TEMPLATES / "github-actions.yaml"
SCRIPTS = Path(sys.executable).parent


def test_the_workflow_obeys_the_schema_of_github() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "check_jsonschema",
            "--builtin-schema",
            "vendor.github-workflows",
            str(WORKFLOW),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_list_says_where_the_workflow_is(capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["list", "templates"]) is ExitStatus.OK
    out = capfd.readouterr().out
    assert "github-actions.yaml" in out
    assert f"{WORKFLOW}\n" in out


def test_the_steps_of_the_workflow_run_and_fill_the_summary(tmp_path: Path) -> None:
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    lines = ["model: {path: 'builtin:random-llama'}", "quant: {method: none}"]
    (recipes / "tiny.yaml").write_text("\n".join(lines) + "\n")
    names = ("GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")
    files = {name: str(tmp_path / name.lower()) for name in names}
    environment = {
        **{name: value for name, value in os.environ.items() if name != "LMRUN_HOME"},
        **files,
        "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}",
        "GITHUB_WORKSPACE": str(tmp_path),
        "RECIPE": "tiny",
    }
    home = {"LMRUN_HOME": str(tmp_path / ".lmrun")}
    run(["lmrun", "lock", "+recipe=tiny"], tmp_path, {**environment, **home})
    for command in commands():
        said = (tmp_path / "github_env").read_text() if "GITHUB_ENV" not in command else ""
        told = dict(line.split("=", 1) for line in said.splitlines())
        run(["bash", "-e", "-o", "pipefail", "-c", command], tmp_path, {**environment, **told})
    assert len((tmp_path / "github_output").read_text()) > len("key=\n") + 40
    summary = (tmp_path / "github_step_summary").read_text()
    for title in ("### lmrun plan\n", "### lmrun build: ", "### lmrun verify\n"):
        assert title in summary
    assert (tmp_path / "events.ndjson").read_text().count('"event": "command_finished"') == 3


def test_the_workflow_names_only_what_exists() -> None:
    used = {command.split()[1] for text in commands() for command in lmrun_calls(text)}
    assert used == {"plan", "store", "build", "verify"}
    assert used < set(main.VERBS)
    assert events.CommandFinished.name == "command_finished"
    assert TINY


def lmrun_calls(text: str) -> list[str]:
    """Every call of lmrun in a shell text."""
    lines = text.replace("$(", "\n").splitlines()
    return [line.strip() for line in lines if line.strip().startswith("lmrun ")]


def commands() -> list[str]:
    """The shell texts of the steps that use lmrun."""
    document: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text())
    [job] = document["jobs"].values()
    return [step["run"] for step in job["steps"] if "lmrun " in step.get("run", "")]


def run(words: list[str], cwd: Path, environment: dict[str, str]) -> None:
    """One command of the workflow; its output where it fails."""
    done = subprocess.run(
        words, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
