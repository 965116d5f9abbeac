"""`lmrun bench quality`: rows through the store, beside the figures of other tools."""

import json
from pathlib import Path

import jsonschema
import pytest

from lmrun.bench.quality import Peers, Report, compared
from lmrun.bench.quality_rows import METHODS, Row, Settings, Way, overrides, ways
from lmrun.bench.quality_text import report_text
from lmrun.cli import main
from lmrun.cli.schema import document
from lmrun.errors import ExitStatus
from unit.stages import projects
from unit.stages.projects import TEXT

HELD_OUT = "The teacher counted the stones while a quiet boat crossed the river. " * 40


def _row(method: str, group_size: int | None, perplexity: float, **more: object) -> Row:
    peers = Peers.read()
    fields = {
        "text_sha256": peers.protocol["text_sha256"],
        "tokens": peers.protocol["tokens"],
        "shape": (192, 6, 4096),
        **more,
    }
    return Row("mine", method, group_size, perplexity=perplexity, **fields)  # type: ignore[arg-type]


def test_every_way_is_a_row_and_only_four_bits_have_groups() -> None:
    settings = Settings(models=("a", "b"), group_sizes=(64, 32))
    found = list(ways(settings))
    assert len(found) == 2 * (1 + 7 * 2 + 2)
    assert found[0] == Way("a", "float", None)
    assert [way.title for way in found[-4:]] == ["best g64", "best g32", "w8a8", "w8a16 g128"]
    assert {way.method for way in found} == set(METHODS)


def test_rows_differ_in_the_quantizer_alone() -> None:
    settings = Settings()
    one = overrides(Way("m", "rotated_gptq", 64), settings)
    other = overrides(Way("m", "best", 64), settings)
    assert set(one) - set(other) == {"quant.method=gptq", "quant.rotate=true"}
    assert set(other) - set(one) == {"quant.method=best", "quant.preset=light"}


def test_the_figures_that_ship_name_their_source_and_known_models() -> None:
    peers = Peers.read()
    assert "llm-compressor 0.14.0.1" in peers.source
    assert {one.model for one in peers.figures} == set(peers.models)
    assert all(one.perplexity > 4.7 for one in peers.figures)


def test_a_model_is_told_by_shape_text_and_float_perplexity() -> None:
    peers = Peers.read()
    assert peers.model_of(_row("float", None, 4.7085)) == "stories3m"
    assert peers.model_of(_row("float", None, 4.80)) is None, "another model of that shape"
    assert peers.model_of(_row("float", None, 4.7085, shape=(192, 7, 4096))) is None
    assert peers.model_of(_row("float", None, 4.7085, tokens=4096)) is None
    assert peers.model_of(_row("float", None, 4.7085, text_sha256="0" * 64)) is None


def test_each_row_is_held_against_the_best_peer_of_its_method_and_best_against_all() -> None:
    rows = [
        _row("float", None, 4.7081),
        _row("rtn", 64, 6.114),
        _row("awq", 64, 5.60),
        _row("gptq", 64, 5.30),
        _row("awq_gptq", 64, 5.2),
        _row("best", 64, 5.10),
        _row("best", 32, 5.0),
    ]
    found = {(one.row.method, one.row.group_size): one for one in compared(rows, Peers.read())}
    assert {key for key, one in found.items() if one.peer is not None} == {
        ("awq", 64),
        ("gptq", 64),
        ("best", 64),
    }
    awq, gptq, best = (found[name, 64].peer for name in ("awq", "gptq", "best"))
    assert awq is not None and (awq.tool, awq.perplexity) == ("AutoAWQ, repaired", 5.595)
    assert gptq is not None and (gptq.tool, gptq.perplexity) == ("GPTQModel", 5.323)
    assert best is not None and (best.tool, best.perplexity) == ("AutoRound, light", 5.141)
    report = Report(Settings(), "somebody", tuple(found.values()))
    assert [one.row.method for one in report.worse] == ["awq"]
    assert report.unbeaten == ()
    lines = report_text(report).splitlines()
    assert lines[-3] == "3 rows beside other tools; ours is worse in 1: mine awq g64 by 0.09%"
    assert lines[-2] == "best is better than every peer's best figure"


def test_a_best_that_is_beaten_is_said() -> None:
    rows = [_row("float", None, 4.7081), _row("best", 64, 5.2)]
    report = Report(Settings(), "somebody", tuple(compared(rows, Peers.read())))
    assert "best is not better than every peer in: mine best g64" in report_text(report)


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """A tiny model and its texts."""
    (tmp_path / "text.txt").write_text(TEXT)
    (tmp_path / "held_out.txt").write_text(HELD_OUT)
    model = projects.write_checkpoint(tmp_path / "tiny")
    flags = {
        "--models": str(model),
        "--text": str(tmp_path / "held_out.txt"),
        "--calibration": str(tmp_path / "text.txt"),
        "--samples": "8",
        "--seq-len": "48",
        "--window": "32",
        "--max-tokens": "600",
        "--kl-tokens": "100",
    }
    return ["bench", "quality", *(word for pair in flags.items() for word in pair)]


def test_rows_are_built_and_evaluated_and_what_cannot_be_is_said(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words += ["--methods", "float,rtn,gptq", "--group-sizes", "64,32"]
    assert main.run(words) is ExitStatus.OK
    *shown, last = capsys.readouterr().out.splitlines()
    found = json.loads(last)
    jsonschema.Draft202012Validator(document("bench-quality")).validate(found)
    rows = {(row["method"], row["group_size"]): row for row in found["rows"]}
    assert rows["float", None]["kl"] == pytest.approx(0, abs=1e-6)
    assert 0 < rows["gptq", 32]["kl"] < rows["rtn", 32]["kl"]
    for method in ("rtn", "gptq"):  # 64 does not divide 96
        assert rows[method, 64]["is_refused"]
        assert "group_size=64" in rows[method, 64]["problem"]
    assert any(line.startswith("  rtn g64: ") for line in shown)
    assert (
        "no row is of a model, text and length that figures of other tools are known for" in shown
    )


def test_a_row_that_fails_is_a_failure(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "held_out.txt").write_text("short")
    assert main.run([*words, "--methods", "float"]) is ExitStatus.STAGE_FAILED


def test_other_words_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["bench", "quality", "--group-sizes", "48"]) is ExitStatus.USAGE
    assert "--group-sizes: 48: expected one of 128, 64, 32." in capsys.readouterr().err
    assert main.run(["bench", "quality", "--preset", "worst"]) is ExitStatus.USAGE
    assert "--preset: worst: expected one of light, best." in capsys.readouterr().err
