"""Each format, element by element against what its makers' files hold, and back bit by bit."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lmrun.models.code_format import CodeFormat, Packing
from lmrun.models.quantization_config import code_format
from lmrun.models.spec import LinearSpec
from lmrun.quant.formats import gptq, registry
from lmrun.quant.formats.codes import LinearCodes

N, K = 24, 64
LINEAR = LinearSpec("layers.0.mlp.up_proj", 0, "up_proj", K, N, False)
PREFIX = "model.layers.0.mlp.up_proj"
AWQ_COLUMNS = (0, 2, 4, 6, 1, 3, 5, 7)
Tensors = dict[str, NDArray[Any]]


def made(form: CodeFormat, seed: int = 3, *, order: bool = False) -> LinearCodes:
    """Seeded codes that a format can hold; ``order`` shuffles the groups' input features."""
    rng = np.random.Generator(np.random.PCG64(seed))
    groups = form.groups(K)
    top = 2**form.bits
    shape = (N, groups)
    index = np.repeat(np.arange(groups, dtype=np.int32), K // groups)
    return LinearCodes(
        codes=rng.integers(0, top, (N, K), dtype=np.uint8),
        scales=rng.uniform(0.001, 1, shape).astype(np.float16),
        zeros=np.full(shape, top // 2, np.uint8)
        if form.is_symmetric
        else rng.integers(0, top, shape, dtype=np.uint8),
        bits=form.bits,
        group_index=rng.permutation(index) if order else None,
    )


def nibble(word: Any, position: int, bits: int) -> int:
    return (int(word) & 0xFFFFFFFF) >> (bits * position) & (2**bits - 1)


def element_by_element(tensors: Tensors, form: CodeFormat) -> NDArray[np.float64]:
    """The weights of a linear as the makers of each format describe it, one at a time."""
    held = {name.removeprefix(f"{PREFIX}."): array for name, array in tensors.items()}
    bits, per_word = form.bits, 32 // form.bits
    size = form.group_size or K
    found = np.zeros((N, K))
    for n, k in np.ndindex(N, K):
        group = k // size
        if form.packing is Packing.awq:
            lane = AWQ_COLUMNS.index(n % 8)
            code = nibble(held["qweight"][k, n // 8], lane, 4)
            zero = nibble(held["qzeros"][group, n // 8], lane, 4)
            scale = held["scales"][group, n]
        elif form.packing is Packing.gptq:
            group = int(held["g_idx"][k]) if "g_idx" in held else group
            code = nibble(held["qweight"][k // per_word, n], k % per_word, bits)
            word = int(held["qzeros"][group, n // per_word])
            if form.zeros_less_one:
                word += sum(1 << (bits * one) for one in range(per_word))
            zero = nibble(word, n % per_word, bits)
            scale = held["scales"][group, n]
        elif form.packing is Packing.pack_quantized:
            code = nibble(held["weight_packed"][n, k // per_word], k % per_word, bits)
            zero = 2 ** (bits - 1)
            if not form.is_symmetric:
                word = held["weight_zero_point"][n // per_word, group]
                zero = nibble(word, n % per_word, bits)
            scale = held["weight_scale"][n, group]
        else:
            code, zero = int(held["weight"][n, k]), 0
            if not form.is_symmetric:
                zero = int(held["weight_zero_point"][n, group])
            name = "scale" if form.packing is Packing.smooth_quant else "weight_scale"
            scale = held[name][n, group]
        found[n, k] = (code - zero) * float(scale)
    return found


FORMS = [
    registry.choose("awq", 4, 32, symmetric=False),
    registry.choose("awq", 4, 0, symmetric=True),
    registry.choose("gptq", 4, 32, symmetric=False),
    registry.choose("gptq", 4, 16, symmetric=True),
    registry.choose("gptq", 8, 32, symmetric=False),
    registry.choose("gptq", 8, 0, symmetric=True),
    registry.choose("gptq_v2", 4, 64, symmetric=False),
    registry.choose("gptq_v2", 8, 16, symmetric=True),
    registry.choose("compressed_tensors", 4, 32, symmetric=False),
    registry.choose("compressed_tensors", 4, 0, symmetric=True),
    registry.choose("compressed_tensors", 8, 16, symmetric=False),
    registry.choose("compressed_tensors", 8, 0, symmetric=True),
    registry.choose("compressed_tensors", 8, 0, symmetric=True, activation_bits=8),
    CodeFormat("compressed-tensors", Packing.int_quantized, 8, 16, False),
    CodeFormat("auto-round", Packing.gptq, 4, 32, True, zeros_less_one=True),
    CodeFormat("auto-round", Packing.gptq, 8, 32, False),
    CodeFormat("auto-round", Packing.awq, 4, 16, False),
    CodeFormat("smooth_quant", Packing.smooth_quant, 8, 0, True, 8),
]
IDS = [f"{one.method}-{one.packing}-{one.bits}-{one.group_size}" for one in FORMS]


@pytest.mark.parametrize("form", FORMS, ids=IDS)
def test_files_hold_what_their_makers_say_and_are_read_back_bit_by_bit(form: CodeFormat) -> None:
    weight = made(form)
    tensors = registry.write(PREFIX, weight, form)
    assert np.array_equal(element_by_element(tensors, form), weight.dequantize().astype(float))
    back = registry.read(tensors.__getitem__, LINEAR, form)
    assert back.bits == weight.bits
    assert back.group_index is None
    for one, other in ((back.codes, weight.codes), (back.zeros, weight.zeros)):
        assert one.dtype == other.dtype == np.uint8
        assert np.array_equal(one, other)
    assert np.array_equal(back.scales, weight.scales)


@pytest.mark.parametrize("form", FORMS, ids=IDS)
def test_the_tensors_written_are_those_a_checkpoint_is_checked_for(form: CodeFormat) -> None:
    tensors = registry.write(PREFIX, made(form), form)
    expected = form.tensors(LINEAR)
    names = {f"{PREFIX}.{suffix}" for suffix, one in expected.items() if not one.is_optional}
    assert names <= set(tensors) <= {f"{PREFIX}.{suffix}" for suffix in expected}
    dtypes = {"int32": "I32", "int64": "I64", "int8": "I8", "float16": "F16", "float32": "F32"}
    for name, array in tensors.items():
        one = expected[name.removeprefix(f"{PREFIX}.")]
        assert array.shape == one.shapes[0]
        assert dtypes[array.dtype.name] in one.dtypes
        assert array.flags.c_contiguous


@pytest.mark.parametrize("form", FORMS, ids=IDS)
def test_the_config_written_is_read_as_the_format_it_was_written_for(form: CodeFormat) -> None:
    other = LinearSpec("layers.0.mlp.down_proj", 0, "down_proj", K, N, False)
    fields = registry.quantization_config(form, [LINEAR, other], {other.name})
    found = code_format({"quantization_config": fields}, "config.json")
    if form.packing is Packing.awq and form.method == "awq":  # zero points are stored all the same
        form = CodeFormat("awq", Packing.awq, 4, form.group_size, False)
    assert found == form


def test_what_stays_floats_is_named_as_each_program_looks_for_it() -> None:
    other = LinearSpec("layers.0.mlp.down_proj", 0, "down_proj", K, N, False)

    def fields(name: str) -> dict[str, Any]:
        form = registry.choose(name, 4, 32, symmetric=False)
        return registry.quantization_config(form, [LINEAR, other], {other.name})

    kept = ["lm_head", "model.layers.0.mlp.down_proj"]
    assert fields("awq")["modules_to_not_convert"] == kept
    assert fields("compressed_tensors")["ignore"] == kept
    gptq_fields = fields("gptq_v2")
    assert gptq_fields["modules_to_not_convert"] == kept
    assert gptq_fields["dynamic"] == {r"-:^model\.layers\.0\.mlp\.down_proj$": {}}
    assert gptq_fields["modules_in_block_to_quantize"] == [[PREFIX]]


@pytest.mark.parametrize("v1", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
def test_groups_out_of_order_survive(bits: int, v1: bool) -> None:
    form = CodeFormat("gptq", Packing.gptq, bits, 16, False, zeros_less_one=v1, act_order=True)
    weight = made(form, order=True)
    tensors = registry.write(PREFIX, weight, form)
    assert np.array_equal(element_by_element(tensors, form), weight.dequantize().astype(float))
    back = registry.read(tensors.__getitem__, LINEAR, form)
    assert back.group_index is not None
    assert np.array_equal(back.group_index, weight.group_index)
    assert np.array_equal(back.dequantize(), weight.dequantize())


def test_groups_out_of_order_survive_in_compressed_tensors() -> None:
    form = CodeFormat("compressed-tensors", Packing.pack_quantized, 4, 16, True, act_order=True)
    weight = made(form, order=True)
    tensors = registry.write(PREFIX, weight, form)
    assert np.array_equal(tensors[f"{PREFIX}.weight_g_idx"], weight.group_index)
    back = registry.read(tensors.__getitem__, LINEAR, form)
    assert np.array_equal(back.dequantize(), weight.dequantize())


@given(zeros=st.lists(st.integers(0, 15), min_size=8, max_size=8))
def test_v1_zero_points_borrow_across_a_word(zeros: list[int]) -> None:
    """One 32-bit subtraction of 0x11111111: a zero point of 0 takes one from its neighbour."""
    form = registry.choose("gptq", 4, 0, symmetric=False)
    linear = LinearSpec("layers.0.mlp.up_proj", 0, "up_proj", 8, 8, False)
    weight = LinearCodes(
        np.zeros((8, 8), np.uint8), np.ones((8, 1), np.float16), np.array([zeros], np.uint8).T, 4
    )
    tensors = gptq.write(PREFIX, weight, form)
    word = sum(zero << (4 * place) for place, zero in enumerate(zeros))
    stored = int(tensors[f"{PREFIX}.qzeros"].view(np.uint32)[0, 0])
    assert stored == (word - 0x11111111) % 2**32
    assert registry.read(tensors.__getitem__, linear, form).zeros[:, 0].tolist() == zeros


def test_zero_points_of_older_compressed_tensors_are_bytes() -> None:
    form = registry.choose("compressed_tensors", 4, 32, symmetric=False)
    weight = made(form)
    tensors = registry.write(PREFIX, weight, form)
    tensors[f"{PREFIX}.weight_zero_point"] = (weight.zeros.astype(np.int16) - 8).astype(np.int8)
    back = registry.read(tensors.__getitem__, LINEAR, form)
    assert np.array_equal(back.zeros, weight.zeros)


@pytest.mark.parametrize("shape", [(1,), (), (N,), (N, 1)])
def test_one_scale_for_all_rows_becomes_one_a_row(shape: tuple[int, ...]) -> None:
    form = registry.choose("compressed_tensors", 8, 0, symmetric=True, activation_bits=8)
    tensors = registry.write(PREFIX, made(form), form)
    scales = np.linspace(1, 2, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    tensors[f"{PREFIX}.weight_scale"] = scales
    back = registry.read(tensors.__getitem__, LINEAR, form)
    assert np.array_equal(back.scales, np.broadcast_to(scales.reshape(-1, 1), (N, 1)))


@pytest.mark.parametrize(
    ("name", "bits", "activation_bits", "text"),
    [
        ("awq", 8, 16, "awq holds codes of 4 bits, got 8. Use gptq_v2."),
        ("awq", 8, 8, "awq has no 8-bit activations. Use compressed_tensors."),
        ("gguf", 4, 16, "expected one of awq, gptq, gptq_v2, compressed_tensors, got gguf."),
    ],
)
def test_a_scheme_that_a_format_cannot_hold_is_refused(
    name: str, bits: int, activation_bits: int, text: str
) -> None:
    with pytest.raises(ValueError) as caught:
        registry.choose(name, bits, 0, symmetric=True, activation_bits=activation_bits)
    assert str(caught.value) == text


def test_codes_that_are_not_what_the_format_says_are_refused() -> None:
    form = registry.choose("gptq_v2", 4, 32, symmetric=True)
    weight = made(registry.choose("gptq_v2", 4, 32, symmetric=False))
    with pytest.raises(ValueError, match=r"expected zero points of the middle code"):
        registry.write(PREFIX, weight, form)
    with pytest.raises(ValueError, match=r"expected 1 groups a row, got scales \(24, 2\)"):
        registry.write(PREFIX, weight, registry.choose("gptq_v2", 4, 0, symmetric=False))
    with pytest.raises(ValueError, match=r"expected codes of 8 bits, got 4"):
        registry.write(PREFIX, weight, registry.choose("gptq_v2", 8, 32, symmetric=False))
    narrow = LinearCodes(weight.codes[:20], weight.scales[:20], weight.zeros[:20], 4)
    with pytest.raises(ValueError, match=r"8 must divide 20 output features"):
        registry.write(PREFIX, narrow, registry.choose("awq", 4, 32, symmetric=False))
