"""`lmrun sweep` as a command."""

import io
import json
from pathlib import Path

import jsonschema
import pandas
import pytest

from lmrun import env
from lmrun.cli import main
from lmrun.cli.schema import document
from lmrun.errors import ExitStatus
from lmrun.sweep.rows import Status, Sweep, sweeps_folder, write_row, write_sweep
from unit.sweep.grid import grid, sweep, with_status
from unit.sweep.test_write_recipe import measured_sweep

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def stored() -> Sweep:
    """A sweep in the store, with a point of each end."""
    folder = sweeps_folder(env.home()) / "0123456789ab"
    rows = list(grid(folder).rows)
    rows[5] = with_status(rows[5], Status.failed, "build: no space left")
    rows[26] = with_status(rows[26], Status.skipped, "too large")
    return kept(sweep(folder, rows))


def kept(made: Sweep) -> Sweep:
    write_sweep(made)
    for row in made.rows:
        if row.status in (Status.ok, Status.failed):
            write_row(made, row)
    return made


def refused(words: list[str], capsys: Captured) -> tuple[ExitStatus, str]:
    status = main.run(["sweep", *words])
    out, err = capsys.readouterr()
    assert out == ""
    return status, err


def test_ls_lists_the_sweeps(stored: Sweep, capsys: Captured) -> None:
    assert main.run(["sweep", "ls"]) is ExitStatus.OK
    assert stored.id in capsys.readouterr().out
    assert main.run(["sweep", "--json", "ls"]) is ExitStatus.OK
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, document("sweep-ls"))
    assert [one["id"] for one in found["sweeps"]] == [stored.id]


@pytest.mark.parametrize("words", [["0123"], ["latest"], []])
def test_show_prints_the_table(stored: Sweep, words: list[str], capsys: Captured) -> None:
    assert main.run(["sweep", "show", *words]) is ExitStatus.OK
    out = capsys.readouterr().out
    assert out.startswith("sweep 0123456789ab: 27 points; 25 ok, 1 failed, 1 skipped\n")
    assert "build: no space left" in out


def test_show_prints_csv_or_json_alone(stored: Sweep, capsys: Captured) -> None:
    for words in (["--csv", "-"], ["--csv=-"]):
        assert main.run(["sweep", "show", *words]) is ExitStatus.OK
        assert len(pandas.read_csv(io.StringIO(capsys.readouterr().out))) == 27
    words = ["show", "--json", "--choose", "max tokens_per_s where ppl_ratio < 1.02"]
    assert main.run(["sweep", *words]) is ExitStatus.OK
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, document("sweep-show"))
    assert found["chosen"]["expression"] == "max tokens_per_s where ppl_ratio < 1.02"


def test_show_writes_files_and_says_so(stored: Sweep, capsys: Captured) -> None:
    words = ["show", "--csv", "a.csv", "--html", "a.html", "--choose", "min memory_gib"]
    assert main.run(["sweep", *words]) is ExitStatus.OK
    out = capsys.readouterr().out
    assert "\nchosen: 24  kv.bits=4 quant.method=rtn quant.group_size=128\n" in out
    assert out.endswith("\n\na.csv\n\na.html\n")
    assert len(pandas.read_csv("a.csv")) == 27
    assert "<b>Chosen: 24</b>" in Path("a.html").read_text()


def test_the_files_of_a_sweep_are_written_where_no_point_meets_the_conditions(
    stored: Sweep, capsys: Captured
) -> None:
    words = ["show", "--csv", "a.csv", "--html", "a.html", "--choose", "min kl where kl < 0"]
    assert main.run(["sweep", *words]) is ExitStatus.REFUSED
    assert "choose" in capsys.readouterr().err
    assert len(pandas.read_csv("a.csv")) == 27
    assert Path("a.html").is_file()


def test_a_recipe_is_written_and_plans(capsys: Captured) -> None:
    made = measured_sweep("model=random_llama", "kv.bits=16,8")
    folder = sweeps_folder(env.home()) / made.id
    kept(Sweep(**{**vars(made), "folder": folder}))
    assert main.run(["sweep", "show", "--write-recipe", "mine"]) is ExitStatus.OK
    assert capsys.readouterr().out.endswith(
        "\n\nrecipes/mine.yaml\n\n    lmrun plan +recipe=mine\n"
    )
    assert main.run(["plan", "+recipe=mine"]) is ExitStatus.OK
    assert main.run(["sweep", "show", "--write-recipe", "mine"]) is ExitStatus.USAGE


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ([], ExitStatus.USAGE, "sweep: expected a command, got none. Commands: ls, show, rm."),
        (
            ["shw"],
            ExitStatus.USAGE,
            "sweep shw: no such command. Did you mean show? Commands: ls, show, rm.",
        ),
        (["show", "ff"], ExitStatus.USAGE, "sweep ff: no such sweep. Sweeps: 0123456789ab."),
        (["show", "01", "02"], ExitStatus.USAGE, "sweep show: expected one sweep, got 2."),
        (["ls", "01"], ExitStatus.USAGE, "sweep ls: expected flags alone, got '01'."),
        (
            ["rm"],
            ExitStatus.USAGE,
            "sweep rm: expected a sweep, got none. `lmrun sweep ls` shows them.",
        ),
        (["rm", "ff"], ExitStatus.USAGE, "sweep ff: no such sweep. Sweeps: 0123456789ab."),
        (
            ["show", "--csv", "-", "--json"],
            ExitStatus.USAGE,
            "--csv - and --json: both write to stdout. Take one.",
        ),
        (
            ["show", "--force"],
            ExitStatus.USAGE,
            "--force: belongs to --write-recipe, which is not there.",
        ),
        (
            ["show", "--html", "no/a.html"],
            ExitStatus.USAGE,
            "--html no/a.html: no is no folder. Make it, or name another.",
        ),
        (
            ["show", "--html", "-"],
            ExitStatus.USAGE,
            "--html -: expected a file; stdout has other data.",
        ),
        (["show", "--csv", "."], ExitStatus.USAGE, "--csv .: is a folder. Name a file."),
        (
            ["show", "--choose", "fastest"],
            ExitStatus.USAGE,
            "choose: expected max or min, got 'fastest'. Write: max|min FIGURE"
            " [where FIGURE <|<=|>|>=|== NUMBER [and ...]].",
        ),
        (
            ["show", "--write-recipe", "a.b"],
            ExitStatus.USAGE,
            "a.b: expected the name of a recipe: letters from a to z, digits, - and _, not a number"
            " alone. Choose another name.",
        ),
    ],
)
def test_what_cannot_be_is_refused(
    stored: Sweep, words: list[str], status: ExitStatus, message: str, capsys: Captured
) -> None:
    assert refused(words, capsys) == (status, f"lmrun: {message}\n")
    assert stored.folder.is_dir()


def test_a_choice_that_no_point_meets_has_status_4_below_the_table(
    stored: Sweep, capsys: Captured
) -> None:
    words = ["show", "--choose", "max tokens_per_s where ppl_ratio < 1"]
    assert main.run(["sweep", *words]) is ExitStatus.REFUSED
    out, err = capsys.readouterr()
    assert out.startswith(f"sweep {stored.id}: ")
    assert err == (
        "lmrun: choose: no point of 25 has ppl_ratio < 1. Nearest: 1 (kv.bits=16"
        " quant.method=none quant.group_size=32) with ppl_ratio 1.\n"
    )


def test_a_recipe_of_a_front_of_several_points_needs_a_choice(
    stored: Sweep, capsys: Captured
) -> None:
    assert main.run(["sweep", "show", "--write-recipe", "mine"]) is ExitStatus.REFUSED
    assert "Pick one with --choose" in capsys.readouterr().err
    assert not Path("recipes").exists()


def test_rm_removes(stored: Sweep, capsys: Captured) -> None:
    assert main.run(["sweep", "rm", "0123", "0123456789ab"]) is ExitStatus.OK
    assert capsys.readouterr().out.startswith("removed  0123456789ab, ")
    assert not stored.folder.exists()
