"""How long stages took, and will take."""

from functools import partial
from typing import Any

import pytest

from lmrun.plan.plan import Plan
from lmrun.plan.stage_specs import JUDGING
from lmrun.plan.text import plan_text
from unit.plan.conftest import fill

Bench = Any


def built(bench: Bench, seconds: float, size: int = 100) -> Plan:
    """A plan whose every stage took that long, and wrote that many bytes."""
    plan: Plan = bench.plan()
    for stage in plan.stages[1:]:
        assert stage.fingerprint is not None
        inputs = plan.stages[0].inputs
        bench.store.build(
            stage.name,
            stage.fingerprint,
            partial(fill, stage=stage, checkpoint=inputs, seconds=seconds, size=size),
        )
    return bench.plan()


def test_a_cached_stage_says_how_long_it_took(bench: Bench) -> None:
    plan = built(bench, 7.04)
    assert [stage.seconds for stage in plan.stages] == [None, 7.04, 7.04, 7.04]
    assert "cached; took 7.0 s" in plan_text(plan)


def test_nothing_is_said_without_an_entry(bench: Bench) -> None:
    assert {stage.seconds for stage in bench.plan().stages} == {None}


def test_a_missing_stage_is_scaled_from_the_nearest_entry(bench: Bench) -> None:
    built(bench, 8.0, size=100_000)
    plan = bench.plan("calibration.statistics_samples=32")
    calibrate, quantize = plan.stages[1:3]
    assert calibrate.seconds == pytest.approx(16.0)
    disk = next(cost.disk_bytes for cost in plan.budget.offline if cost.stage == "quantize")
    assert quantize.seconds == pytest.approx(8.0 * disk / 100_000)
    assert "; about 16.0 s" in plan_text(plan)


def test_the_seconds_of_a_tiny_model_say_nothing_about_a_large_one(bench: Bench) -> None:
    built(bench, 8.0)
    plan = bench.plan("calibration.statistics_samples=32")
    disk = next(cost.disk_bytes for cost in plan.budget.offline if cost.stage == "quantize")
    assert disk > 16 * 100
    assert next(stage for stage in plan.stages if stage.name == "quantize").seconds is None


def test_another_method_is_another_amount_of_work(bench: Bench) -> None:
    built(bench, 8.0)
    for change in ("quant.method=rtn", "quant.rotate=true"):
        plan = bench.plan(change)
        assert next(stage for stage in plan.stages if stage.name == "quantize").seconds is None


def test_an_evaluation_takes_as_long_as_one_of_the_same_model_on_the_same_data(
    bench: Bench,
) -> None:
    words = [f"evaluate.data={bench.text}", "evaluate.window=32"]
    plan = bench.plan(*words)
    for name, seconds in (("baseline", 5.0), ("evaluate", 9.0)):
        stage = plan.stage(name)
        fingerprint = stage.fingerprint
        work = partial(fill, stage=stage, checkpoint={}, seconds=seconds)
        bench.store.build(name, fingerprint, work)

    def seconds_of(*more: str) -> dict[str, float | None]:
        stages = bench.plan(*words, *more).stages
        return {stage.name: stage.seconds for stage in stages if stage.name in JUDGING}

    assert seconds_of("kv.bits=4") == {"baseline": 5.0, "evaluate": 9.0}
    assert seconds_of("evaluate.window=64") == {"baseline": None, "evaluate": None}
