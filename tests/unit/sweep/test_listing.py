"""Finding sweeps on disk."""

from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from filelock import FileLock

from lmrun.errors import ArtifactError, PlanError, UsageError
from lmrun.sweep import listing
from lmrun.sweep.rows import (
    LOCK,
    Status,
    Sweep,
    row_file,
    sweeps_folder,
    write_row,
    write_sweep,
)
from unit.sweep.grid import grid, sweep, with_status


def stored(home: Path, name: str, created: str = "2026-11-21T17:00:00Z", points: int = 3) -> Sweep:
    """A sweep of a few points, one of which failed and one waits."""
    folder = sweeps_folder(home) / name
    rows = list(grid(folder).rows[:points])
    rows[1] = with_status(rows[1], Status.failed, "died")
    rows[2] = with_status(rows[2], Status.waiting, "")
    made = replace(sweep(folder, rows), created=created)
    write_sweep(made)
    for row in made.rows[:2]:
        write_row(made, row)
    return made


def test_sweeps_are_listed_the_newest_first(tmp_path: Path) -> None:
    stored(tmp_path, "0123456789ab", "2026-11-20T09:00:00Z")
    stored(tmp_path, "ffff56789abc", "2026-11-21T09:30:00Z")
    found = listing.sweeps(tmp_path)
    assert [one.id for one in found] == ["ffff56789abc", "0123456789ab"]
    lines = listing.table(tmp_path, found).splitlines()
    assert lines[0].split() == [
        *("sweep", "when", "points", "ok", "failed", "waiting", "size", "command"),
    ]
    size = " ".join(lines[1].split()[7:9])
    assert lines[1].split()[:7] == ["ffff56789abc", "2026-11-21", "09:30", "3", "1", "1", "1"]
    assert size.endswith("KiB")
    assert lines[1].endswith("lmrun -m model=demo backend.threads=1 kv.bits=16,8,4 quant.…")
    assert lines[3].startswith("2 sweeps, ")


def test_the_document_fits_its_schema(tmp_path: Path) -> None:
    made = stored(tmp_path, "0123456789ab")
    (sweeps_folder(tmp_path) / "broken").mkdir()
    document = listing.document(tmp_path, listing.sweeps(tmp_path))
    jsonschema.validate(document, listing.SCHEMA)
    first, broken = document["sweeps"]
    assert first["points"] == {
        "ok": 1,
        "skipped": 0,
        "failed": 1,
        "gate_failed": 0,
        "waiting": 1,
    }
    assert first["command"] == list(made.command)
    assert first["bytes"] == sum(
        path.stat().st_size for path in made.folder.rglob("*") if path.is_file()
    )
    assert (broken["id"], broken["problem"], broken["points"]) == ("broken", "missing", None)
    assert "broken" in listing.table(tmp_path, listing.sweeps(tmp_path))
    assert "unreadable: missing" in listing.table(tmp_path, listing.sweeps(tmp_path))


def test_a_store_without_sweeps_says_how_to_make_one(tmp_path: Path) -> None:
    assert listing.sweeps(tmp_path) == []
    assert listing.table(tmp_path, []) == "no sweeps yet: `lmrun -m KEY=A,B` makes one\n"


def test_a_sweep_is_found_by_its_first_digits_or_as_the_latest(tmp_path: Path) -> None:
    stored(tmp_path, "0123456789ab", "2026-11-20T09:00:00Z")
    stored(tmp_path, "01ff56789abc", "2026-11-21T09:30:00Z")
    assert listing.find(tmp_path, "012").id == "0123456789ab"
    assert listing.find(tmp_path, "01ff56789abc").id == "01ff56789abc"
    assert listing.find(tmp_path, "latest").id == "01ff56789abc"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "01",
            "sweep 01: several begin so: 0123456789ab, 01ff56789abc. Write more of it.",
        ),
        ("zz", "sweep zz: no such sweep. Sweeps: 0123456789ab, 01ff56789abc."),
        ("", "sweep : no such sweep. Sweeps: 0123456789ab, 01ff56789abc."),
        ("../x", "sweep ../x: no such sweep. Sweeps: 0123456789ab, 01ff56789abc."),
    ],
)
def test_other_names_are_refused(tmp_path: Path, name: str, message: str) -> None:
    stored(tmp_path, "0123456789ab")
    stored(tmp_path, "01ff56789abc")
    with pytest.raises(UsageError) as caught:
        listing.find(tmp_path, name)
    assert str(caught.value) == message


def test_without_sweeps_there_is_no_latest(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        listing.find(tmp_path, "latest")
    assert str(caught.value) == (
        "sweep latest: there is no sweep yet. `lmrun -m KEY=A,B` makes one."
    )
    with pytest.raises(UsageError) as caught:
        listing.find(tmp_path, "01")
    assert str(caught.value) == "sweep 01: no such sweep. There is none yet."


def test_an_unreadable_sweep_says_what_is_wrong(tmp_path: Path) -> None:
    made = stored(tmp_path, "0123456789ab")
    (made.folder / "sweep.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"sweep\.json: "):
        listing.find(tmp_path, "0123")


def test_a_file_that_goes_while_sweeps_are_listed_is_no_error(tmp_path: Path) -> None:
    made = stored(tmp_path, "0123456789ab")
    (before,) = listing.sweeps(tmp_path)
    (made.folder / ".sweep.json.123").symlink_to("gone")  # as one that was listed and renamed
    assert listing.sweeps(tmp_path) == [before]


def test_removing_takes_the_folder_and_nothing_else(tmp_path: Path) -> None:
    made = stored(tmp_path, "0123456789ab")
    other = stored(tmp_path, "01ff56789abc")
    assert listing.remove(made.folder) > 0
    assert not made.folder.exists()
    assert row_file(other.folder, other.rows[0].point).is_file()


def test_a_sweep_that_runs_is_not_removed(tmp_path: Path) -> None:
    made = stored(tmp_path, "0123456789ab")
    with FileLock(made.folder / LOCK), pytest.raises(PlanError) as caught:
        listing.remove(made.folder)
    assert str(caught.value) == (
        "sweep 0123456789ab: a command runs it. Wait for its end, or stop it."
    )
    assert made.folder.is_dir()
