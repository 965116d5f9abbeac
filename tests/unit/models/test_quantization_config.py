"""What other tools write into config.json is understood, or refused by name with what is legal."""

from typing import Any

import pytest

from lmrun.errors import PlanError
from lmrun.models.code_format import CodeFormat, Packing
from lmrun.models.quantization_config import code_format

LEGAL = (
    "Supported: awq (gemm, 4 bits), gptq (formats gptq and gptq_v2, 4 or 8 bits),"
    " compressed-tensors (pack-quantized, int-quantized), auto-round (auto_gptq, auto_awq) and"
    " smooth_quant (int8)."
)
TOKEN = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}


def group(weights: dict[str, Any], inputs: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "targets": ["Linear"],
        "weights": {"type": "int", "symmetric": True, "dynamic": False, **weights},
        "input_activations": inputs,
        "output_activations": None,
    }


def compressed(form: str, *groups: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "quant_method": "compressed-tensors",
        "format": form,
        "quantization_status": "compressed",
        "config_groups": {f"group_{index}": one for index, one in enumerate(groups)},
        "ignore": ["lm_head", "re:.*layers.0.mlp.*"],
        "kv_cache_scheme": None,
        "sparsity_config": {},
        "transform_config": {},
        **more,
    }


W4 = {"num_bits": 4, "strategy": "group", "group_size": 64}
W8 = {"num_bits": 8, "strategy": "channel", "group_size": None}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 64, "sym": True}
AUTO = {"quant_method": "auto-round", "bits": 4, "group_size": 32, "sym": True, "data_type": "int"}


@pytest.mark.parametrize(
    ("fields", "form"),
    [
        (
            {"quant_method": "awq", "bits": 4, "group_size": 64, "version": "gemm"},
            CodeFormat("awq", Packing.awq, 4, 64, False),
        ),
        (
            {"quant_method": "awq", "bits": 4, "group_size": -1, "version": "GEMM"},
            CodeFormat("awq", Packing.awq, 4, 0, False),
        ),
        (
            {"quant_method": "awq", "zero_point": False, "modules_to_not_convert": None},
            CodeFormat("awq", Packing.awq, 4, 128, True),
        ),
        (GPTQ, CodeFormat("gptq", Packing.gptq, 4, 64, True, zeros_less_one=True)),
        (
            {**GPTQ, "bits": 8, "sym": False, "desc_act": True, "checkpoint_format": "gptq_v2"},
            CodeFormat("gptq", Packing.gptq, 8, 64, False, act_order=True),
        ),
        (
            {**GPTQ, "dynamic": {"-:.*k_proj": {}, ".*q_proj": {"bits": 4}, ".*o_proj": {}}},
            CodeFormat("gptq", Packing.gptq, 4, 64, True, zeros_less_one=True),
        ),
        (
            {**AUTO, "packing_format": "auto_round:auto_gptq"},
            CodeFormat("auto-round", Packing.gptq, 4, 32, True, zeros_less_one=True),
        ),
        (
            {**AUTO, "sym": False, "packing_format": "auto_round:gptqmodel"},
            CodeFormat("auto-round", Packing.gptq, 4, 32, False),
        ),
        (
            {
                **AUTO,
                "packing_format": "auto_round:auto_awq",
                "extra_config": {"model.layers.0.mlp.up_proj": {"bits": 16}},
            },
            CodeFormat("auto-round", Packing.awq, 4, 32, True),
        ),
        (
            compressed("pack-quantized", group({**W4, "symmetric": False, "actorder": "static"})),
            CodeFormat("compressed-tensors", Packing.pack_quantized, 4, 64, False),
        ),
        (
            compressed("pack-quantized", group({**W4, "actorder": "group"})),
            CodeFormat("compressed-tensors", Packing.pack_quantized, 4, 64, True, act_order=True),
        ),
        (
            compressed("pack-quantized", group(W8)),
            CodeFormat("compressed-tensors", Packing.pack_quantized, 8, 0, True),
        ),
        (
            compressed("int-quantized", group(W8, TOKEN), group(W8, TOKEN)),
            CodeFormat("compressed-tensors", Packing.int_quantized, 8, 0, True, 8),
        ),
        (
            compressed("int-quantized", group({"num_bits": 8, "strategy": "tensor"})),
            CodeFormat("compressed-tensors", Packing.int_quantized, 8, 0, True),
        ),
        (
            {"quant_method": "smooth_quant", "quant_dtype": "int8"},
            CodeFormat("smooth_quant", Packing.smooth_quant, 8, 0, True, 8),
        ),
    ],
)
def test_a_config_that_is_served_becomes_a_format(fields: dict[str, Any], form: CodeFormat) -> None:
    assert code_format({"quantization_config": fields}, "config.json") == form


def test_a_model_of_floats_has_no_format() -> None:
    assert code_format({"quantization_config": None}, "config.json") is None
    assert code_format({}, "config.json") is None


def test_the_first_name_that_compressed_tensors_used_is_read() -> None:
    fields = compressed("pack-quantized", group(W4))
    found = code_format({"compression_config": fields}, "config.json")
    assert found == CodeFormat("compressed-tensors", Packing.pack_quantized, 4, 64, True)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "quant_method bitsandbytes"),
        ({"quant_method": "gguf"}, "quant_method gguf"),
        ({"quant_method": "mxfp4"}, "quant_method mxfp4"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "quant_method fp8"),
        ({"bits": 4}, "quant_method None"),
        ({"quant_method": "awq", "bits": 8}, "awq with bits 8"),
        ({"quant_method": "awq", "bits": 4, "version": "gemv"}, "awq with version gemv"),
        ({"quant_method": "awq", "bits": 4, "format": "marlin"}, "awq with format marlin"),
        ({**GPTQ, "bits": 3}, "gptq with bits 3"),
        ({**GPTQ, "bits": 2}, "gptq with bits 2"),
        ({**GPTQ, "checkpoint_format": "marlin"}, "gptq with checkpoint_format marlin"),
        ({**GPTQ, "is_marlin_format": True}, "gptq with is_marlin_format True"),
        ({**GPTQ, "pack_dtype": "int16"}, "gptq with pack_dtype int16"),
        ({**GPTQ, "lm_head": True}, "gptq with lm_head True"),
        (
            {**GPTQ, "dynamic": {".*down_proj": {"bits": 8}}},
            "gptq with bits 8 for .*down_proj (dynamic: several schemes)",
        ),
        (
            {**AUTO, "packing_format": "auto_round:exllamav2"},
            "auto-round with packing_format auto_round:exllamav2",
        ),
        (
            {**AUTO, "packing_format": "auto_round:auto_gptq", "data_type": "mx_fp"},
            "auto-round with data_type mx_fp",
        ),
        (
            {
                **AUTO,
                "packing_format": "auto_round:auto_gptq",
                "extra_config": {"lm_head": {"bits": 8}},
            },
            "auto-round with bits 8 for lm_head (extra_config: several schemes)",
        ),
        (
            {"quant_method": "smooth_quant", "quant_dtype": "float8_e4m3fn"},
            "smooth_quant with quant_dtype float8_e4m3fn",
        ),
        (
            compressed("float-quantized", group({**W8, "type": "float"})),
            "compressed-tensors with format float-quantized",
        ),
        (
            compressed("nvfp4-pack-quantized", group(W4)),
            "compressed-tensors with format nvfp4-pack-quantized",
        ),
        (
            compressed("pack-quantized", group({**W4, "type": "float"})),
            "compressed-tensors with type float",
        ),
        (
            compressed("pack-quantized", group({**W4, "num_bits": 3})),
            "compressed-tensors with pack-quantized of 3 bits",
        ),
        (
            compressed("pack-quantized", group({**W4, "strategy": "block"})),
            "compressed-tensors with strategy block",
        ),
        (
            compressed("pack-quantized", group(W4), group(W8)),
            "compressed-tensors with 2 schemes in config_groups",
        ),
        (
            compressed("int-quantized", group(W8, {**TOKEN, "dynamic": False})),
            "compressed-tensors with input_activations of dynamic False",
        ),
        (
            compressed("int-quantized", group(W8, {**TOKEN, "symmetric": False})),
            "compressed-tensors with input_activations of symmetric False",
        ),
        (
            compressed("pack-quantized", group(W4, TOKEN)),
            "compressed-tensors with 8-bit activations beside weights of 4 bits, not symmetric by"
            " row",
        ),
        (
            compressed("pack-quantized", group(W4), kv_cache_scheme={"num_bits": 8}),
            "compressed-tensors with kv_cache_scheme {'num_bits': 8}",
        ),
        (
            compressed("pack-quantized", group(W4), sparsity_config={"format": "sparse-24"}),
            "compressed-tensors with format sparse-24",
        ),
        (
            compressed("pack-quantized", group(W4), quantization_status="calibration"),
            "compressed-tensors with quantization_status calibration",
        ),
    ],
)
def test_what_is_not_served_is_refused_by_name(fields: dict[str, Any], what: str) -> None:
    with pytest.raises(PlanError) as caught:
        code_format({"quantization_config": fields}, "m/config.json")
    assert str(caught.value) == (
        f"m/config.json: quantization_config: {what} is not built yet. {LEGAL}"
    )


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ("awq", "expected an object, got 'awq'."),
        ({**GPTQ, "group_size": 0}, "group_size: expected a positive integer or -1, got 0."),
        ({**GPTQ, "desc_act": "yes"}, "desc_act: expected true or false, got 'yes'."),
        ({**GPTQ, "dynamic": [1]}, "dynamic: expected an object, got [1]."),
        (
            {"quant_method": "compressed-tensors", "format": "pack-quantized"},
            "config_groups: expected an object, got None.",
        ),
    ],
)
def test_a_damaged_config_is_refused(fields: Any, text: str) -> None:
    with pytest.raises(PlanError) as caught:
        code_format({"quantization_config": fields}, "m/config.json")
    assert str(caught.value) == f"m/config.json: quantization_config: {text}"
