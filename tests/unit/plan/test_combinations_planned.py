"""What the table of combinations lets pass is planned: stages, sizes, formats."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lmrun.config.schema import (
    CalibrationConfig,
    KvConfig,
    ModelConfig,
    PruneConfig,
    PruneMethod,
    QuantConfig,
    QuantMethod,
    RunConfig,
)
from lmrun.errors import ConfigError, PlanError
from lmrun.plan.planned_quant import check_settled
from lmrun.plan.planner import plan_run
from lmrun.quant import combinations

Bench = Any  # the fixture's class lives in conftest.py


def test_every_scheme_of_every_method_is_planned_or_refused_by_name(bench: Bench) -> None:
    """With its stages, and no more bytes than the format's bits of a weight say."""
    planned = 0
    for method, bits, group, symmetric, activations, prune in itertools.product(
        QuantMethod, (4, 8), (0, 32, 64, 128), (False, True), (16, 8), PruneMethod
    ):
        quant = QuantConfig(method, bits, group, symmetric, activation_bits=activations)
        run = RunConfig(
            model=ModelConfig(path=str(bench.checkpoint)),
            calibration=CalibrationConfig(data=str(bench.text)),
            quant=quant,
            prune=PruneConfig(prune),
        )
        refused = combinations.check(run)
        try:
            plan = plan_run(run, bench.store, machine=bench.machine)
        except ConfigError as error:
            assert str(error) == "\n".join(one.text for one in refused)
            continue
        assert not refused
        planned += 1
        expected = ["resolve"]
        expected += ["prune"] if prune is not PruneMethod.none else []
        needs_text = method not in (QuantMethod.none, QuantMethod.rtn)
        expected += ["calibrate"] if needs_text else []
        expected += ["quantize"] if method is not QuantMethod.none else []
        assert [stage.name for stage in plan.stages] == [*expected, "convert"]
        costs = [cost.stage for cost in plan.budget.offline]
        assert costs == [*expected[1:], "convert"]
        if method is not QuantMethod.none:
            row = next(row for row in plan.budget.weights if row.kind == "mlp")
            scale = 32 if activations == 8 else 16 + 8
            width = group or 128  # the shorter row of the model
            assert bits < row.bits_per_weight <= bits + scale / width + 0.01
    schemes = 16 + 1  # of floats, and of int8 activations
    assert planned == (2 * 16 + 6 * schemes + 1) * len(PruneMethod)


@pytest.mark.parametrize(
    ("kv", "bits", "token"),
    [
        (KvConfig(bits=4), 4, 2 * 2 * 2 * (16 + 4)),
        (KvConfig(bits=4, keep_layers=[1]), (4, 16), 2 * 2 * (16 + 4) + 2 * 2 * 64),
        (KvConfig(bits=4, keep_layers=[0], keep_bits=8), (8, 4), 2 * 2 * (16 + 4 + 32 + 4)),
        (KvConfig(bits=8, keep_layers=[0, 1]), (16, 16), 2 * 2 * 2 * 64),
    ],
)
def test_kept_layers_are_priced_and_handed_to_the_engine(
    bench: Bench, kv: KvConfig, bits: int | tuple[int, ...], token: int
) -> None:
    run = RunConfig(model=ModelConfig(path=str(bench.checkpoint)), kv=kv)
    plan = plan_run(run, bench.store, machine=bench.machine)
    assert plan.engine.kv_bits == bits
    assert plan.budget.kv_bytes_per_token == token
    assert sum(row.token_bytes for row in plan.budget.kv) == token
    assert plan.budget.block_bytes == token * kv.block_size


def test_what_is_quantized_already_is_neither_pruned_nor_measured(bench: Bench) -> None:
    run = RunConfig(model=ModelConfig(path=str(bench.checkpoint)))
    spec = plan_run(run, bench.store, machine=bench.machine).spec
    for change, text in (
        (
            {"prune": PruneConfig(PruneMethod.wanda)},
            "prune.method=wanda: the model is a workspace already. Prune the float checkpoint that"
            " it was made from.",
        ),
        (
            {"kv": KvConfig(bits=4, keep=1)},
            "kv.keep=1: the model is a workspace already, and errors of layers are found on its"
            " float checkpoint. Name layers by kv.keep_layers.",
        ),
    ):
        with pytest.raises(PlanError) as caught:
            check_settled(replace(run, **change), spec, "a workspace")
        assert str(caught.value) == text


def test_what_pruning_gives_is_said(bench: Bench) -> None:
    gain = (
        "prune.method=wanda: the engine computes with zeros as with other weights: a pruned model"
        " is neither faster nor smaller"
    )
    moved = (
        "prune.method=wanda: quant.method=gptq moves weights to make up for rounding, so that many"
        " of the zeros are gone"
    )
    words = ("prune=wanda", "calibration.seq_len=256")
    assert bench.plan(*words).notes == (gain,)
    assert bench.plan(*words, "quant=gptq_w4_g128").notes == (gain, moved)


def test_a_rotation_says_what_an_untied_head_costs(
    bench: Bench, write_checkpoint: Callable[..., Path]
) -> None:
    tied = write_checkpoint("tied", tie_word_embeddings=True)
    words = (f"model.path={tied}", "quant=gptq_w4_g128", "calibration.seq_len=256")
    plain, turned = bench.plan(*words), bench.plan(*words, "quant.rotate=true")
    assert turned.notes == (
        "quant.rotate: the head was the embedding and becomes a matrix of its own: 16,384 bytes"
        " more (64 x 128 in 16 bits)",
    )
    heads = [
        sum(row.num_bytes for row in plan.budget.weights if row.kind == "head")
        for plan in (plain, turned)
    ]
    assert heads == [0, 16384]
    assert bench.plan("quant=rotated_gptq_w4_g128", "calibration.seq_len=256").notes == ()
