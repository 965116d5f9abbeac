"""Every refusal of a value says where the value was set, whoever refuses it."""

from pathlib import Path

import pytest

from lmrun.artifacts.store import Store
from lmrun.cli import main
from lmrun.config import compose, flat, keys
from lmrun.config.located import located, with_origin
from lmrun.errors import ExitStatus, LmrunError, PlanError
from lmrun.plan.planner import make_plan

COMPOSED = ["frontend.port=8000", "kv.memory=2GiB", "model.path=/models/tiny"]


@pytest.mark.parametrize("key", keys.table())
@pytest.mark.parametrize("has_value", [True, False], ids=["with value", "key alone"])
def test_the_origin_stands_behind_the_value_of_every_key(key: str, *, has_value: bool) -> None:
    composed = compose(COMPOSED)
    where = f"{key}={flat(composed.run)[key]}" if has_value else key
    with pytest.raises(PlanError) as caught, located(composed):
        raise PlanError(f"{where}: must be another: really. Take one.")
    expected = f"{where} ({composed.origins[key]}): must be another: really. Take one."
    assert str(caught.value) == expected
    assert with_origin(expected, composed) == expected


def test_a_value_shown_in_another_spelling_gets_its_origin_too() -> None:
    composed = compose(COMPOSED)
    text = "kv.memory=2 GiB: one sequence needs more."
    assert with_origin(text, composed) == "kv.memory=2 GiB (command line): one sequence needs more."


def test_a_file_of_the_model_is_traced_to_the_key_that_named_the_model() -> None:
    composed = compose(COMPOSED)
    text = "/models/tiny/config.json: expected JSON, got nothing."
    assert with_origin(text, composed) == (
        "/models/tiny/config.json (model.path, command line): expected JSON, got nothing."
    )


@pytest.mark.parametrize("text", ["plan: needs 9 GiB, device has 8 GiB.", "kv.bitsy=4: x", "kv: x"])
def test_what_is_about_no_value_is_left_alone(text: str) -> None:
    assert with_origin(text, compose(COMPOSED)) == text


WRONG = {
    "model:\n  path: /nowhere/at-all\n": "model.path=/nowhere/at-all (recipes/mine.yaml:2): no",
    "quant:\n  method: rtn\n  group_size: 160\n": (
        "quant.group_size=160 (recipes/mine.yaml:3): expected"
    ),
    "quant:\n  method: rtn\n  skip: [nothing]\n": "quant.skip (recipes/mine.yaml:3): no linear",
    "quant:\n  method: awq\ncalibration:\n  data: words.bin\n": (
        "calibration.data=words.bin (recipes/mine.yaml:4): expected a file that ends in"
    ),
    "kv:\n  bits: 4\n  keep_layers: [99]\n": (
        "kv.keep_layers=[99] (recipes/mine.yaml:3): no layer 99"
    ),
    "quant:\n  method: rtn\n  damping: 0.5\n": (
        "quant.damping=0.5 (recipes/mine.yaml:3): quant.method=rtn does not read it."
    ),
    "kv:\n  memory: 1B\n": "kv.memory=1 B (recipes/mine.yaml:2): one sequence",
    "backend:\n  context_length: 9999999\n": (
        "backend.context_length=9999999 (recipes/mine.yaml:2): must be at most"
    ),
    "model:\n  path: builtin:nothing\n": "model.path=builtin:nothing (recipes/mine.yaml:2): no",
    "model:\n  path: null\n": "model.path (recipes/mine.yaml:2): expected",
    "parallel:\n  tp: 3\n": "parallel.tp=3 (recipes/mine.yaml:2): ",
    "frontend:\n  port: 0\n": "frontend.port=0 (recipes/mine.yaml:2): expected",
}


@pytest.mark.parametrize("text", WRONG)
def test_the_planners_refusals_name_file_and_line(
    text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("recipes").mkdir()
    Path("recipes/mine.yaml").write_text(text)
    assert main.run(["plan", "+recipe=mine"]) in (ExitStatus.CONFIG, ExitStatus.REFUSED)
    assert capfd.readouterr().err.startswith(f"lmrun: {WRONG[text]}")


def test_each_of_several_refusals_names_its_origin(capfd: pytest.CaptureFixture[str]) -> None:
    Path("recipes").mkdir()
    Path("recipes/mine.yaml").write_text("quant:\n  method: rtn\n  damping: 0.5\n")
    assert main.run(["plan", "+recipe=mine", "quant.alpha=0.5"]) is ExitStatus.CONFIG
    assert capfd.readouterr().err == (
        "lmrun: quant.damping=0.5 (recipes/mine.yaml:3): quant.method=rtn does not read it. Leave"
        " it out, or use quant.method=gptq or awq_gptq.\n"
        "quant.alpha=0.5 (command line): quant.method=rtn does not read it. Leave it out, or use"
        " quant.method=smoothquant.\n"
    )


def test_what_stands_against_a_plan_that_is_only_priced_names_its_origin(tmp_path: Path) -> None:
    Path("recipes").mkdir()
    text = "backend:\n  rope_scaling: linear\nquant:\n  symmetric: true\n"
    Path("recipes/mine.yaml").write_text(text)
    refusals = make_plan(compose(["+recipe=mine"]), Store(tmp_path)).refusals
    assert refusals
    assert all("(recipes/mine.yaml:" in text for text in refusals)


def test_a_file_of_the_model_names_its_origin_in_a_real_refusal(
    capfd: pytest.CaptureFixture[str],
) -> None:
    Path("broken").mkdir()
    Path("broken/config.json").write_text("{")
    assert main.run(["plan", "model.path=./broken"]) is ExitStatus.REFUSED
    assert "config.json (model.path, command line): expected JSON" in capfd.readouterr().err


def test_the_class_and_status_of_the_error_stay() -> None:
    composed = compose([])
    for kind in (PlanError, LmrunError):
        with pytest.raises(kind) as caught, located(composed):
            raise kind("kv.bits=16: no.")
        assert caught.value.status is kind.status
