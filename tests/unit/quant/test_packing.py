"""Packing: element by element against the formulas of csrc/workspace/README.md, and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmrun.quant import packing

RNG = np.random.Generator(np.random.PCG64(7))
SHAPES = [(16, 8), (1, 8), (17, 24), (48, 192), (33, 64)]


@pytest.mark.parametrize(("n", "k"), [*SHAPES, (5, 7), (16, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint16])
def test_float_tiles_hold_what_the_format_says(n: int, k: int, dtype: type) -> None:
    weight = (RNG.standard_normal((n, k)) * 100).astype(np.int16).astype(dtype)
    tiles = packing.pack_weight(weight)
    padded = np.zeros((packing.num_tiles(n) * 16, k + k % 2), dtype)
    padded[:n, :k] = weight
    if dtype is np.float32:
        assert tiles.shape == (packing.num_tiles(n), k, 16)
        for p, t, lane in np.ndindex(*tiles.shape):
            assert tiles[p, t, lane] == padded[16 * p + lane, t]
    else:
        assert tiles.shape == (packing.num_tiles(n), (k + 1) // 2, 16, 2)
        for p, t, lane, j in np.ndindex(*tiles.shape):
            assert tiles[p, t, lane, j] == padded[16 * p + lane, 2 * t + j]
    back = packing.unpack_weight(tiles, n, k)
    assert back.dtype == weight.dtype
    assert np.array_equal(back, weight)


@pytest.mark.parametrize(("n", "k"), SHAPES)
def test_code_tiles_hold_what_the_format_says(n: int, k: int) -> None:
    codes = RNG.integers(0, 16, (n, k), dtype=np.uint8)
    tiles = packing.pack_codes(codes)
    assert tiles.shape == (packing.num_tiles(n), k // 8, 16, 4)
    padded = np.zeros((packing.num_tiles(n) * 16, k), np.uint8)
    padded[:n] = codes
    for p, t, lane, j in np.ndindex(*tiles.shape):
        assert tiles[p, t, lane, j] & 15 == padded[16 * p + lane, 8 * t + j]
        assert tiles[p, t, lane, j] >> 4 == padded[16 * p + lane, 8 * t + 4 + j]
    assert np.array_equal(packing.unpack_codes(tiles, n), codes)


@pytest.mark.parametrize("dtype", [np.float16, np.uint8])
def test_group_tiles_hold_what_the_format_says(dtype: type) -> None:
    values = RNG.integers(0, 16, (21, 3)).astype(dtype)
    tiles = packing.pack_groups(values)
    assert tiles.shape == (2, 3, 16)
    for n, g in np.ndindex(*values.shape):
        assert tiles[n // 16, g, n % 16] == values[n, g]
    assert not tiles[1, :, 5:].any()
    assert np.array_equal(packing.unpack_groups(tiles, 21), values)


def test_an_awq_word_holds_columns_0_2_4_6_1_3_5_7_from_the_low_bits() -> None:
    codes = np.arange(8, dtype=np.uint8)[None, :]
    word = int(packing.pack_awq(codes).view(np.uint32)[0, 0])
    assert [(word >> 4 * i) & 15 for i in range(8)] == [0, 2, 4, 6, 1, 3, 5, 7]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_every_packing_gives_back_what_went_in(n: int, eighths: int, seed: int) -> None:
    rng = np.random.Generator(np.random.PCG64(seed))
    codes = rng.integers(0, 16, (n, 8 * eighths), dtype=np.uint8)
    assert np.array_equal(packing.unpack_codes(packing.pack_codes(codes), n), codes)
    assert np.array_equal(packing.unpack_awq(packing.pack_awq(codes)), codes)


@pytest.mark.parametrize("shape", [(4, 9), (8,)])
def test_codes_that_do_not_fill_words_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="codes: expected"):
        packing.pack_codes(np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match="codes: expected"):
        packing.pack_awq(np.zeros(shape, np.uint8))


def test_dequantize_follows_the_formula() -> None:
    codes = RNG.integers(0, 16, (3, 8), dtype=np.uint8)
    scales = RNG.random((3, 2)).astype(np.float16)
    zeros = RNG.integers(0, 16, (3, 2), dtype=np.uint8)
    weight = packing.dequantize(codes, scales, zeros)
    for n, k in np.ndindex(*codes.shape):
        code, zero = int(codes[n, k]), int(zeros[n, k // 4])
        assert weight[n, k] == np.float32(code - zero) * np.float32(scales[n, k // 4])
