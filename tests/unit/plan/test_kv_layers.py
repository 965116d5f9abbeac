"""Layers of the KV cache that are kept at more bits: chosen by what calibrate found."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lmrun.artifacts.manifest import ManifestFields
from lmrun.plan.kv_layers import CALIBRATION_FILE
from lmrun.plan.plan import Action, Plan, StagePlan
from lmrun.plan.text import plan_text
from lmrun.quant import kv
from lmrun.stages import calibrate
from unit.plan.conftest import fill

Bench = Any  # the fixture's class lives in conftest.py
KEEP = ("kv.bits=4", "kv.keep=1")
SHORT = "calibration.seq_len=256"  # within the model's context


def _calibrated(folder: Path, stage: StagePlan, errors: list[float]) -> ManifestFields:
    """The artifact of calibrate, as far as a plan reads it."""
    tensors = {
        kv.tensor_name(layer, bits): np.array([0.0, 0.0, error], np.float32)
        for layer, error in enumerate(errors)
        for bits in kv.BITS
    }
    save_file(tensors, folder / CALIBRATION_FILE)
    return fill(folder, stage, {})


def _build_calibrate(bench: Bench, plan: Plan, errors: list[float]) -> None:
    stage = plan.stage("calibrate")
    assert stage is not None
    assert stage.fingerprint is not None
    work = partial(_calibrated, stage=stage, errors=errors)
    bench.store.build("calibrate", stage.fingerprint, work)


def test_the_file_is_that_of_calibrate() -> None:
    assert CALIBRATION_FILE == calibrate.FILE_NAME


def test_layers_are_not_known_before_calibrate(bench: Bench) -> None:
    plan = bench.plan(*KEEP, SHORT, "quant=none")
    assert [stage.name for stage in plan.stages] == ["resolve", "calibrate", "convert"]
    assert plan.notes == (
        "kv.keep=1: the layers kept at 16 bits are chosen after calibrate, by their expected error"
        " at 4 bits",
    )
    text = plan_text(plan)
    assert "64 tokens x 336 B, 4 and 16 bits)" in text
    assert (
        "a token: 1 layer x 2 KV heads x 2 x (16 B + 4 B of scale and zero)"
        " + 1 layer x 2 KV heads x 2 x 64 B = 336 B"
    ) in text


@pytest.mark.parametrize(("errors", "kept"), [([0.5, 0.1], 0), ([0.1, 0.5], 1)])
def test_the_layer_with_the_largest_error_is_kept(
    bench: Bench, errors: list[float], kept: int
) -> None:
    _build_calibrate(bench, bench.plan(*KEEP, SHORT), errors)
    plan = bench.plan(*KEEP, SHORT)
    bits = [4, 4]
    bits[kept] = 16
    assert plan.engine.kv_bits == tuple(bits)
    assert plan.notes == (f"kv.keep=1: 16 bits in layers {kept}, 4 bits in the others",)
    assert Plan.from_json(plan.to_json()) == plan


def test_all_layers_of_equal_bits_are_one_number(bench: Bench) -> None:
    assert bench.plan("kv.bits=4").engine.kv_bits == 4
    assert bench.plan("kv.bits=4", "kv.keep_layers=[1]").engine.kv_bits == (4, 16)


def test_a_launch_needs_calibrate_though_everything_that_reads_it_is_cached(bench: Bench) -> None:
    plan = bench.plan(*KEEP)
    for stage in plan.stages:
        if stage.name in ("quantize", "convert"):
            assert stage.fingerprint is not None
            work = partial(fill, stage=stage, checkpoint={})
            bench.store.build(stage.name, stage.fingerprint, work)
    assert [stage.name for stage in bench.plan(*KEEP).missing_to_launch] == ["calibrate"]
    assert bench.plan("kv.bits=4").stage("calibrate").action is Action.cached


def test_an_evaluation_counts_the_kept_layers_by_what_chose_them(bench: Bench) -> None:
    words = [f"evaluate.data={bench.text}", "evaluate.window=32", "evaluate.kl_tokens=4"]

    def evaluate(*more: str) -> StagePlan:
        stage: StagePlan = bench.plan(*words, *more).stage("evaluate")
        return stage

    chosen = evaluate(*KEEP)
    assert chosen.inputs["calibrate"] == bench.plan(*words, *KEEP).stage("calibrate").fingerprint
    assert chosen.config["kv.keep"] == 1
    named = evaluate("kv.bits=4", "kv.keep_layers=[1]")
    assert "calibrate" not in named.inputs
    assert len({chosen.fingerprint, named.fingerprint, evaluate("kv.bits=4").fingerprint}) == 3
