import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lmrun.models import builtin
from lmrun.models.registry import builtin_spec, spec_from_config
from lmrun.quant import layout, packing
from lmrun.quant.layout import KvLayout, WeightQuant

HEADER = Path(__file__).parents[3] / "csrc" / "quant" / "layout.h"
SPEC = builtin_spec(builtin.get("builtin:random-llama"))


OF_THE_ENGINE_ALONE = ("MostDigits", "KvKeysTogether", "KvValuesTogether")
"""What lies in no file: digits of inputs, and the order within a block of the KV cache."""


def test_the_constants_are_those_of_the_engine() -> None:
    text = HEADER.read_text(encoding="utf-8")
    constants = {
        name: int(value)
        for name, value in re.findall(r"constexpr int64_t k(\w+) = (\d+);", text)
        if name not in OF_THE_ENGINE_ALONE
    }
    assert constants == {
        "TileFeatures": layout.TILE_FEATURES,
        "TileBytes": layout.TILE_BYTES,
        "U4TileInputs": layout.U4_TILE_INPUTS,
        "U8TileInputs": layout.U8_TILE_INPUTS,
        "MostParts": max(len(roles) for _, roles in layout.MATRICES),
    }
    params = re.search(r"code_bytes\(\) \+ \(has_params\(\) \? (\d+) : 0\)", text)
    assert params is not None
    assert int(params[1]) == layout.PARAM_BYTES


@pytest.mark.parametrize(("bits", "mebibytes"), [(32, 64), (16, 32), (8, 16.5), (4, 8.5)])
def test_a_block_of_64_tokens_of_llama_2_7b(bits: int, mebibytes: float) -> None:
    kv = KvLayout(num_layers=32, num_kv_heads=32, head_dim=128, block_size=64, bits=bits)
    assert kv.block_bytes == mebibytes * 2**20
    assert kv.token_bytes * 64 == kv.block_bytes


@pytest.mark.parametrize(("n", "k"), [(1, 32), (16, 64), (17, 96), (43, 32)])
def test_sizes_are_those_of_the_packed_arrays(n: int, k: int) -> None:
    weight = np.zeros((n, k), np.float32)
    assert layout.float_matrix("w", "F32", n, k)[0].shape == packing.pack_weight(weight).shape
    half = packing.pack_weight(weight.astype(np.float16))
    assert layout.float_matrix("w", "F16", n, k)[0].shape == half.shape
    codes, scales, zeros = layout.cpu_code_matrix("w", n, k, WeightQuant("rtn", 32))
    assert codes.shape == packing.pack_codes(np.zeros((n, k), np.uint8)).shape
    groups = packing.pack_groups(np.zeros((n, k // 32), np.float16))
    assert scales.shape == zeros.shape == groups.shape
    assert scales.num_bytes == groups.nbytes


def test_odd_input_features_take_a_padded_word() -> None:
    weight = np.zeros((16, 43), np.float16)
    size = layout.float_matrix("w", "F16", 16, 43)[0]
    assert size.shape == packing.pack_weight(weight).shape == (1, 22, 16, 2)


def test_four_bit_weights_cost_the_bits_that_the_formula_says() -> None:
    codes, scales, zeros = layout.cpu_code_matrix("w", 256, 512, WeightQuant("rtn", 128))
    bits = 8 * (codes.num_bytes + scales.num_bytes + zeros.num_bytes) / (256 * 512)
    assert bits == 4 + 24 / 128


def sizes_of(
    quant: WeightQuant, n: int = 17, k: int = 96
) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {
        size.name: (size.dtype, size.shape)
        for size in layout.code_matrix("w", n, k, quant, layout.CPU, orders=3)
    }


def test_a_whole_row_may_be_a_group() -> None:
    assert sizes_of(WeightQuant("rtn", 0)) == {
        "w.qweight": ("U8", (2, 12, 16, 4)),
        "w.scales": ("F16", (2, 1, 16)),
        "w.zeros": ("U8", (2, 1, 16)),
    }


def test_eight_bit_codes_of_symmetric_weights_have_zero_points_too() -> None:
    quant = WeightQuant("rtn", 32, bits=8, is_symmetric=True, scale_dtype="F32")
    assert sizes_of(quant) == {
        "w.qweight": ("U8", (2, 24, 16, 4)),
        "w.scales": ("F32", (2, 3, 16)),
        "w.zeros": ("U8", (2, 3, 16)),
    }


def test_weights_that_meet_eight_bit_activations_have_a_scale_a_row() -> None:
    quant = WeightQuant("smoothquant", bits=8, is_symmetric=True, activation_bits=8)
    assert sizes_of(quant, k=97) == {
        "w.qweight": ("U8", (2, 25, 16, 4)),
        "w.row_scales": ("F32", (2, 16)),
    }


def test_an_order_of_columns_stands_beside_codes() -> None:
    quant = WeightQuant("gptq", 32, has_order=True)
    assert sizes_of(quant)["w.order"] == ("I32", (3, 96))


def test_linears_share_an_order_where_their_rows_do_not_fill_tiles() -> None:
    quant = WeightQuant("gptq", 64, has_order=True)
    shapes = {size.name: size.shape for size in layout.workspace_tensors(SPEC, "F16", quant)}
    assert shapes["layers.0.attention.w_qkv.0.order"][0] == 3
    assert shapes["layers.0.feed_forward.w13.0.order"][0] == 2
    assert shapes["layers.0.feed_forward.w2.0.order"][0] == 1
    odd = replace(SPEC, head_dim=24, num_heads=2, num_kv_heads=1)
    assert layout.order_rows(odd, odd.layer(0)[:3]) == 1


def test_layers_may_keep_their_keys_and_values_in_other_bits() -> None:
    kv = KvLayout(num_layers=3, num_kv_heads=2, head_dim=64, block_size=16, bits=(4, 16, 8))
    parts = [KvLayout(1, 2, 64, 16, bits).block_bytes for bits in (4, 16, 8)]
    assert kv.block_bytes == sum(parts)
    assert kv.token_bytes * 16 == kv.block_bytes


def test_a_quantized_workspace_has_codes_in_every_matrix_but_the_embedding() -> None:
    names = {t.name for t in layout.workspace_tensors(SPEC, "F16", WeightQuant("awq", 64))}
    assert "tok_embeddings.weight" in names
    assert "output.weight" not in names
    for matrix, _ in layout.MATRICES:
        assert f"layers.3.{matrix}.0.qweight" in names
        assert f"layers.3.{matrix}.0.weight" not in names


def test_a_skipped_linear_stays_float() -> None:
    quant = WeightQuant("awq", 64, frozenset({"layers.0.mlp.down_proj"}))
    names = {tensor.name for tensor in layout.workspace_tensors(SPEC, "F16", quant)}
    assert "layers.0.feed_forward.w2.0.weight" in names
    assert "layers.1.feed_forward.w2.0.qweight" in names


def test_biases_and_norms_of_heads_have_their_places() -> None:
    config = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 32,
        "max_position_embeddings": 64,
    }
    second, third = (
        {
            tensor.name: tensor.shape
            for tensor in layout.workspace_tensors(
                spec_from_config({**config, "architectures": [name]}, "c"),
                "F32",
                WeightQuant("none"),
            )
        }
        for name in ("Qwen2ForCausalLM", "Qwen3ForCausalLM")
    )
    assert second["layers.0.attention.w_qkv.0.bias"] == (128,)
    assert third["layers.0.attention.q_norm.weight"] == (16,)
    assert third["output.weight"] == (2, 64, 16)


def test_tensors_are_aligned_and_the_file_is_rounded() -> None:
    size = layout.workspace_bytes(SPEC, "F16", WeightQuant("awq", 64))
    assert size % layout.TENSOR_ALIGNMENT == 0
    assert layout.file_bytes(SPEC, "F16", WeightQuant("awq", 64)) == 2 * 2**20
    assert 2**20 < size < 2 * 2**20
