"""CSV and JSON of a conclusion: pandas reads both, and finds the figures again."""

import io
import json
from pathlib import Path

import jsonschema
import pandas
import pytest

from lmrun.sweep import export
from lmrun.sweep.choose import choose
from lmrun.sweep.conclusion import Conclusion, conclude
from lmrun.sweep.rows import Status
from unit.sweep.grid import bench, grid, measured, quality, sweep, with_status


@pytest.fixture
def conclusion(tmp_path: Path) -> Conclusion:
    """The grid with a point of each end."""
    rows = list(grid(tmp_path).rows)
    rows[5] = with_status(rows[5], Status.failed, 'build: no space left, "/tmp"')
    rows[6] = with_status(rows[6], Status.gate_failed, "worse")
    rows[26] = with_status(rows[26], Status.skipped, "too large")
    return conclude(sweep(tmp_path, rows))


def repeated(folder: Path) -> Conclusion:
    """Two settings, three seeds each."""
    return conclude(
        sweep(
            folder,
            [
                measured(
                    index,
                    {"kv.bits": 8 if index < 3 else 4, "bench.seed": index % 3},
                    quality(1.01),
                    bench(10 + index, 2, 500),
                )
                for index in range(6)
            ],
        )
    )


def test_pandas_reads_the_csv(conclusion: Conclusion) -> None:
    frame = pandas.read_csv(io.StringIO(export.to_csv(conclusion)))
    assert list(frame.columns[:8]) == [
        "point",
        "id",
        "status",
        "pareto",
        "kv.bits",
        "quant.method",
        "quant.group_size",
        "seeds",
    ]
    assert list(frame["point"]) == list(range(1, 28))
    assert set(frame["quant.method"]) == {"none", "rtn", "awq"}
    assert frame["pareto"].dtype == bool
    assert frame["memory [GiB]"].dtype == float
    by_point = frame.set_index("point")
    for entry in conclusion.entries:
        found = by_point.loc[entry.number]
        assert found["memory [GiB]"] == entry.values["memory_gib"].mean
        assert found["tokens [1/s]"] == entry.values["tokens_per_s"].mean
        assert found["pareto"] == entry.is_pareto
    assert by_point.loc[6, "status"] == "failed"
    assert by_point.loc[6, "why"] == 'build: no space left, "/tmp"'
    assert by_point.loc[[6, 27], "ppl"].isna().all()
    assert by_point.loc[7, "status"] == "gate_failed"
    assert by_point.loc[7, "why"] == "gate failed: worse"


def test_pandas_reads_the_json_as_a_table_and_normalized(conclusion: Conclusion) -> None:
    text = json.dumps(export.to_json(conclusion))
    table = pandas.read_json(io.StringIO(text), orient="table")
    flat = pandas.json_normalize(json.loads(text), "data").set_index("point")
    assert list(table.index) == list(range(1, 28))
    assert table.index.name == "point"
    for entry in conclusion.entries:
        for name, value in entry.values.items():
            assert table.loc[entry.number, name] == pytest.approx(value.mean, rel=1e-9)
            assert flat.loc[entry.number, name] == value.mean
    assert table["pareto"].sum() == flat["pareto"].sum() == len(conclusion.pareto)
    assert table["memory_gib"].dtype == float
    assert table["kv.bits"].dtype == "int64"


def test_the_document_fits_its_schema_and_says_the_units(conclusion: Conclusion) -> None:
    chosen = choose(conclusion, "max tokens_per_s where ppl_ratio < 1.02")
    document = export.to_json(conclusion, chosen)
    jsonschema.Draft202012Validator.check_schema(export.SCHEMA)
    jsonschema.validate(document, export.SCHEMA)
    fields = {field["name"]: field for field in document["schema"]["fields"]}
    assert fields["memory_gib"]["unit"] == "GiB"
    assert fields["tokens_per_s"]["better"] == "higher"
    assert document["front"] == ["memory_gib", "ppl_ratio", "ttft_ms", "tokens_per_s"]
    assert document["chosen"]["point"] == chosen.entry.number
    assert document["chosen"]["overrides"] == list(chosen.entry.rows[0].point.overrides)
    assert export.to_json(conclusion)["chosen"] is None
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_deviations_have_columns_of_their_own(tmp_path: Path) -> None:
    found = repeated(tmp_path)
    frame = pandas.read_csv(io.StringIO(export.to_csv(found)))
    assert list(frame["seeds"]) == [3, 3]
    assert list(frame["ttft [ms]"]) == [11.0, 14.0]
    assert list(frame["ttft deviation [ms]"]) == [1.0, 1.0]
    assert list(frame["ppl deviation"]) == [0.0, 0.0]
    table = pandas.read_json(io.StringIO(json.dumps(export.to_json(found))), orient="table")
    assert list(table["ttft_ms_deviation"]) == [1.0, 1.0]
    assert list(table["seconds"]) == [94.5, 94.5]


def test_swept_values_of_any_kind_are_one_cell(tmp_path: Path) -> None:
    values = [None, [1, 4], True, 0.5]
    rows = [measured(n, {"bench.concurrency": value}) for n, value in enumerate(values)]
    found = conclude(sweep(tmp_path, rows))
    frame = pandas.read_csv(io.StringIO(export.to_csv(found)), dtype=str, keep_default_na=False)
    assert list(frame["bench.concurrency"]) == ["", "[1,4]", "true", "0.5"]
    document = export.to_json(found)
    assert [one["bench.concurrency"] for one in document["data"]] == [None, "[1,4]", True, 0.5]
    assert len(pandas.read_json(io.StringIO(json.dumps(document)), orient="table")) == 4


def test_a_sweep_without_figures_is_still_a_table(tmp_path: Path) -> None:
    rows = [with_status(one, Status.waiting, "") for one in grid(tmp_path).rows]
    found = conclude(sweep(tmp_path, rows))
    assert len(pandas.read_csv(io.StringIO(export.to_csv(found)))) == 27
    document = export.to_json(found)
    jsonschema.validate(document, export.SCHEMA)
    assert len(pandas.read_json(io.StringIO(json.dumps(document)), orient="table")) == 27
