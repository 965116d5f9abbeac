"""Golden fingerprints: what moves them rebuilds every user's artifacts."""

from dataclasses import fields, replace
from typing import Any

import pytest

from lmrun.config import compose
from lmrun.config.schema import RunConfig
from lmrun.models import builtin
from lmrun.plan.fingerprint import (
    builtin_digest,
    config_subset,
    fingerprint,
    sample_text_digest,
)
from lmrun.plan.stage_specs import (
    BASELINE,
    BY_NAME,
    CALIBRATE,
    CONVERT,
    EVALUATE,
    PRUNE,
    QUANTIZE,
    RESOLVE,
    STAGES,
)

CLASS = {"device": "cpu", "vendor": "AuthenticAMD", "isa": "avx512", "torch": "2.9.0"}
A, B = "a" * 64, "b" * 64
ENGINE = {"device": "cpu", "cpu": "avx512", "isa": "avx512", "engine": A}


@pytest.mark.parametrize(
    ("stage", "inputs", "numeric_class", "golden"),
    [
        (RESOLVE, {"config.json": A, "model.safetensors": B}, None, "38851d2a4d412aa9"),
        (CALIBRATE, {"resolve": A, "text": B}, CLASS, "8f267269c82005ad"),
        (QUANTIZE, {"resolve": A, "calibrate": B}, CLASS, "3e3f881c9d644d63"),
        (CONVERT, {"resolve": A, "quantize": B}, None, "33e27fa406e2161e"),
        (BASELINE, {"resolve": A, "evaluation_text": B}, ENGINE, "3d3c16b6a8c35f2e"),
        (EVALUATE, {"convert": A, "baseline": B}, ENGINE, "4e077a207c56c403"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_golden_fingerprints_of_the_default_config(
    stage: Any, inputs: dict[str, str], numeric_class: dict[str, Any] | None, golden: str
) -> None:
    config = config_subset(stage, RunConfig())
    assert fingerprint(stage, config, inputs, numeric_class)[:16] == golden


AUTOMATIC = {"quant.range": "full", "quant.format": "awq"}
SCHEME = {
    "quant.bits": 4,
    "quant.group_size": 128,
    "quant.symmetric": False,
    "quant.activation_bits": 16,
    "quant.skip": [],
}
ROUNDED = {**SCHEME, **AUTOMATIC, "quant.rotate": False}
SOLVED = {**ROUNDED, "quant.range": "mse", "quant.act_order": True, "quant.damping": 0.01}
INT8 = {
    "quant.bits": 8,
    "quant.group_size": 0,
    "quant.symmetric": True,
    "quant.activation_bits": 8,
    "quant.skip": [],
    "quant.format": "compressed_tensors",
}
READ: dict[str, dict[str, Any]] = {
    "quant=none": {},
    "quant=rtn": ROUNDED,
    "quant=rtn_mse": {**ROUNDED, "quant.range": "mse"},
    "quant=awq_w4_g128": {**SCHEME, "quant.format": "awq", "quant.rotate": False},
    "quant=gptq_w4_g128": SOLVED,
    "quant=awq_gptq_w4_g128": SOLVED,
    "quant=rotated_gptq_w4_g128": {**SOLVED, "quant.rotate": True},
    "quant=autoround_w4_g128": {
        **SCHEME,
        **{"quant.format": "awq", "quant.preset": "light", "quant.rotate": False},
    },
    "quant=best_w4_g128": {
        **SCHEME,
        **{"quant.format": "awq", "quant.preset": "light", "quant.rotate": False},
    },
    "quant=w8a8": {**INT8, "quant.alpha": None, "quant.rotate": False},
    "quant=w8a16": {**ROUNDED, "quant.bits": 8, "quant.format": "gptq_v2"},
}


@pytest.mark.parametrize("option", READ)
def test_quantize_counts_what_its_method_reads_and_nothing_else(option: str) -> None:
    run = compose([option]).run
    wanted = {"quant.method": run.quant.method.value, **READ[option]}
    if run.quant.method.value not in ("none", "rtn"):
        wanted["calibration.batch_size"] = None
    assert config_subset(QUANTIZE, run) == wanted


def test_a_range_that_auto_stands_for_is_the_same_range() -> None:
    auto = config_subset(QUANTIZE, compose(["quant=gptq_w4_g128"]).run)
    named = compose(["quant=gptq_w4_g128", "quant.range=mse", "quant.format=awq"]).run
    assert config_subset(QUANTIZE, named) == auto


def test_a_stage_counts_pruning_and_kept_layers_only_where_there_are_some() -> None:
    plain = compose(["quant=awq_w4_g128"]).run
    assert config_subset(PRUNE, plain) == {"prune.method": "none"}
    assert "kv.keep" not in config_subset(EVALUATE, plain)
    assert "kv.keep_bits" not in config_subset(EVALUATE, plain)
    smallest = config_subset(PRUNE, compose(["prune=magnitude"]).run)
    assert smallest == {
        "prune.method": "magnitude",
        "prune.pattern": "unstructured",
        "prune.sparsity": 0.5,
    }
    fours = config_subset(PRUNE, compose(["prune=wanda_2_4"]).run)
    assert fours == {
        "prune.method": "wanda",
        "prune.pattern": "2:4",
        "calibration.samples": 128,
        "calibration.seq_len": 512,
        "calibration.seed": 0,
        "calibration.batch_size": None,
    }
    kept = config_subset(EVALUATE, compose(["kv=kv4", "kv.keep_layers=[3,1]"]).run)
    assert (kept["kv.keep_layers"], kept["kv.keep_bits"]) == ([1, 3], 16)
    assert "kv.keep" not in kept


def test_golden_digests_of_what_lmrun_makes_itself() -> None:
    found = {name: builtin_digest(model)[:16] for name, model in builtin.MODELS.items()}
    assert found == {
        "random-llama": "1a2d2828f320d533",
        "random-llama-1b": "f16b79f98eae11ac",
        "random-llama-1b-8k": "1c22880f4b2853ba",
        "random-internlm2_5-1.8b": "5520fbebfff888b9",
    }
    assert sample_text_digest()[:16] == "3dc1936571c4f571"


def test_order_and_spelling_do_not_count() -> None:
    config = {"quant.bits": 4, "quant.group_size": 64, "ratio": 0.1 + 0.2}
    turned = {"ratio": 0.3, "quant.group_size": 64.0, "quant.bits": 4}
    inputs = {"resolve": A, "calibrate": B}
    assert fingerprint(QUANTIZE, config, inputs, CLASS) == fingerprint(
        QUANTIZE, turned, dict(reversed(inputs.items())), dict(reversed(CLASS.items()))
    )


def test_everything_declared_counts() -> None:
    config, inputs = config_subset(QUANTIZE, RunConfig()), {"resolve": A, "calibrate": B}
    others = [
        fingerprint(QUANTIZE, {**config, "quant.group_size": 32}, inputs, CLASS),
        fingerprint(QUANTIZE, config, {**inputs, "calibrate": A}, CLASS),
        fingerprint(QUANTIZE, config, inputs, {**CLASS, "isa": "avx2"}),
        fingerprint(replace(QUANTIZE, code_version=99), config, inputs, CLASS),
        fingerprint(replace(QUANTIZE, name="convert"), config, inputs, CLASS),
    ]
    assert len({fingerprint(QUANTIZE, config, inputs, CLASS), *others}) == 6


def test_the_order_of_skipped_linears_does_not_count() -> None:
    first, second = RunConfig(), RunConfig()
    first.quant.skip = ["layers.1.mlp.down_proj", "layers.0.mlp.down_proj"]
    second.quant.skip = list(reversed(first.quant.skip))
    assert config_subset(QUANTIZE, first) == config_subset(QUANTIZE, second)


def test_calibrate_reads_nothing_of_bits_or_groups() -> None:
    assert not [key for key in CALIBRATE.config_keys if not key.startswith("calibration.")]


def test_declared_keys_exist_and_no_stage_reads_a_path() -> None:
    run = RunConfig()
    groups = {field.name for field in fields(run)}
    for stage in STAGES:
        for key in stage.config_keys:
            group, _, name = key.partition(".")
            assert group in groups
            assert hasattr(getattr(run, group), name)
            assert key not in ("model.path", "calibration.data", "evaluate.data", "evaluate.tools")


def test_stages_read_only_earlier_stages_or_the_outside() -> None:
    seen = {"checkpoint", "text", "workspace", "evaluation_text", "tasks", "tools"}
    seen |= {"template", "reference", "calibration_template"}
    for stage in STAGES:
        assert set(stage.inputs) <= seen
        seen.add(stage.name)
    names = ["resolve", "prune", "calibrate", "quantize", "convert", "baseline", "evaluate"]
    assert list(BY_NAME) == names
