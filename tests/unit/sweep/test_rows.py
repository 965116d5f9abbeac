"""A sweep on disk."""

from pathlib import Path

import pytest

from lmrun.errors import ArtifactError
from lmrun.sweep.rows import Status, read_sweep, row_file, write_row, write_sweep
from unit.sweep.example import example_sweep


def test_a_sweep_reads_back_as_it_was_written(tmp_path: Path) -> None:
    sweep = example_sweep(tmp_path / "sweeps" / "0123456789ab")
    write_sweep(sweep)
    for row in sweep.rows:
        if row.status not in (Status.skipped, Status.waiting):
            write_row(sweep, row)
    assert read_sweep(sweep.folder) == sweep


def test_a_row_that_is_missing_or_damaged_waits(tmp_path: Path) -> None:
    sweep = example_sweep(tmp_path / "sweep")
    write_sweep(sweep)
    write_row(sweep, sweep.rows[0])
    write_row(sweep, sweep.rows[1])
    file = row_file(sweep.folder, sweep.rows[1].point)
    file.write_text(file.read_text()[:-20])
    read = read_sweep(sweep.folder)
    assert [row.status.value for row in read.rows[:3]] == ["ok", "waiting", "waiting"]


def test_a_folder_without_a_sweep_says_so(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        read_sweep(tmp_path)
    assert str(caught.value) == f"{tmp_path}/sweep.json: missing"
