"""Rows of cells as lines."""

from lmrun.columns import columns


def test_cells_stand_below_each_other_and_an_empty_column_is_left_out() -> None:
    rows = [("stage", "", "why"), ("quantize", "", "cached"), ("a", "", "")]
    assert list(columns(rows)) == ["stage     why", "quantize  cached", "a"]
    assert list(columns(rows[:1], gap=" | ")) == ["stage | why"]
    assert list(columns([])) == []
