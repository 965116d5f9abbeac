"""Packing of weights in NumPy: workspace tiles, and the 32-bit words of quantized checkpoints.

Workspace tiles are described in csrc/workspace/README.md; the C++ twin is csrc/quant/layout.h.
NumPy has no bfloat16: such elements travel as their bits in uint16, next to the name ``BF16``.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

U8Array = NDArray[np.uint8]
F16Array = NDArray[np.float16]
I32Array = NDArray[np.int32]
GroupArray = NDArray[Any]
"""Scales in float16 or float32, or uint8 zero points."""
FloatArray = NDArray[Any]
"""float32, float16, or uint16 that carries the bits of bfloat16."""

TILE_FEATURES = 16
"""Output features of a tile."""
U4_TILE_INPUTS = 8
"""Input features of a row of a 4-bit tile; the group size and K are multiples of it."""
U8_TILE_INPUTS = 4
"""Input features of a row of an 8-bit tile."""
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""Output column (of eight) that nibble i, counted from the low bits, of an AWQ word holds."""

NUMPY_DTYPES: dict[str, np.dtype[np.generic]] = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(np.uint16),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "I32": np.dtype(np.int32),
    "I64": np.dtype(np.int64),
}
"""NumPy element type that carries each safetensors dtype here."""


def num_tiles(n: int) -> int:
    """Tiles that hold n output features."""
    return -(-n // TILE_FEATURES)


def _padded_rows(rows: NDArray[Any]) -> NDArray[Any]:
    missing = -rows.shape[0] % TILE_FEATURES
    if missing == 0:
        return rows
    return np.concatenate([rows, np.zeros((missing, *rows.shape[1:]), rows.dtype)])


def pack_weight(weight: FloatArray) -> FloatArray:
    """Tiles of a float matrix [N, K]: [Np, K, 16] for float32, [Np, ceil(K/2), 16, 2] for 16 bits.

    float16 and bfloat16 bits (uint16) share a layout; the element type is kept.
    """
    if weight.ndim != 2:
        raise ValueError(f"weight: expected a matrix [N, K], got shape {weight.shape}.")
    rows = _padded_rows(weight)
    if weight.dtype == np.float32:
        tiles = rows.reshape(-1, TILE_FEATURES, rows.shape[1]).transpose(0, 2, 1)
        return np.ascontiguousarray(tiles)
    if weight.dtype not in (np.float16, np.uint16):
        raise ValueError(f"weight: expected float32, float16 or uint16, got {weight.dtype}.")
    if rows.shape[1] % 2:
        rows = np.concatenate([rows, np.zeros((rows.shape[0], 1), rows.dtype)], axis=1)
    pairs = rows.reshape(-1, TILE_FEATURES, rows.shape[1] // 2, 2).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(pairs)


def unpack_weight(tiles: FloatArray, n: int, k: int) -> FloatArray:
    """Inverse of `pack_weight`: the matrix [n, k], padding removed."""
    if tiles.dtype == np.float32:
        rows = tiles.transpose(0, 2, 1).reshape(-1, tiles.shape[1])
    else:
        rows = tiles.transpose(0, 2, 1, 3).reshape(-1, tiles.shape[1] * 2)
    return np.ascontiguousarray(rows[:n, :k])


def pack_codes(codes: U8Array) -> U8Array:
    """`.qweight` [Np, K/8, 16, 4] of 4-bit codes [N, K], one code a byte; 8 divides K."""
    if codes.ndim != 2 or codes.shape[1] % U4_TILE_INPUTS:
        raise ValueError(f"codes: expected [N, K] with K a multiple of 8, got {codes.shape}.")
    words: U8Array = _padded_rows(codes).reshape(
        -1, TILE_FEATURES, codes.shape[1] // U4_TILE_INPUTS, 2, 4
    )
    packed = words[:, :, :, 0] | (words[:, :, :, 1] << 4)
    return np.ascontiguousarray(packed.transpose(0, 2, 1, 3).astype(np.uint8))


def unpack_codes(tiles: U8Array, n: int) -> U8Array:
    """Inverse of `pack_codes`: codes [n, K], one a byte."""
    words: U8Array = tiles.transpose(0, 2, 1, 3)
    codes = np.stack([words & 15, words >> 4], axis=3)
    return np.ascontiguousarray(codes.reshape(-1, tiles.shape[1] * U4_TILE_INPUTS)[:n])


def pack_bytes(codes: U8Array) -> U8Array:
    """`.qweight` [Np, ceil(K/4), 16, 4] of 8-bit codes [N, K]; what is missing to 4 is 0."""
    if codes.ndim != 2:
        raise ValueError(f"codes: expected [N, K], got {codes.shape}.")
    missing = -codes.shape[1] % U8_TILE_INPUTS
    rows = _padded_rows(np.pad(codes, ((0, 0), (0, missing))) if missing else codes)
    words = rows.reshape(-1, TILE_FEATURES, rows.shape[1] // U8_TILE_INPUTS, U8_TILE_INPUTS)
    return np.ascontiguousarray(words.transpose(0, 2, 1, 3))


def unpack_bytes(tiles: U8Array, n: int, k: int) -> U8Array:
    """Inverse of `pack_bytes`: codes [n, k]."""
    rows = tiles.transpose(0, 2, 1, 3).reshape(-1, tiles.shape[1] * U8_TILE_INPUTS)
    return np.ascontiguousarray(rows[:n, :k])


def pack_groups(values: GroupArray) -> GroupArray:
    """`.scales` or `.zeros` [Np, K/G, 16] of values [N, K/G]; padding rows are 0."""
    tiles = _padded_rows(values).reshape(-1, TILE_FEATURES, values.shape[1]).transpose(0, 2, 1)
    return np.ascontiguousarray(tiles)


def unpack_groups(tiles: GroupArray, n: int) -> GroupArray:
    """Inverse of `pack_groups`: values [n, K/G]."""
    rows = tiles.transpose(0, 2, 1).reshape(-1, tiles.shape[1])
    return np.ascontiguousarray(rows[:n])


def pack_awq(codes: U8Array) -> I32Array:
    """AWQ words [rows, columns/8] of 4-bit codes [rows, columns], one code a byte.

    `qweight` takes codes [in, out], `qzeros` the zero points [in/G, out].
    """
    if codes.ndim != 2 or codes.shape[1] % 8:
        raise ValueError(f"codes: expected [rows, columns], 8 dividing columns, got {codes.shape}.")
    nibbles = codes.reshape(codes.shape[0], -1, 8)[:, :, list(AWQ_ORDER)]
    low_first = nibbles[:, :, 0::2] | (nibbles[:, :, 1::2] << 4)
    return np.ascontiguousarray(low_first.astype(np.uint8)).view("<i4").reshape(codes.shape[0], -1)


def unpack_awq(words: I32Array) -> U8Array:
    """Inverse of `pack_awq`: codes [rows, columns], one a byte."""
    if words.ndim != 2 or words.dtype != np.int32:
        raise ValueError(
            f"words: expected int32 [rows, columns/8], got {words.dtype} {words.shape}."
        )
    raw = np.ascontiguousarray(words).view(np.uint8).reshape(*words.shape, 4)
    nibbles = np.stack([raw & 15, raw >> 4], axis=3).reshape(*words.shape, 8)
    inverse = np.argsort(AWQ_ORDER)
    return np.ascontiguousarray(nibbles[:, :, inverse].reshape(words.shape[0], -1))


def pack_words(codes: U8Array, bits: int) -> I32Array:
    """Words [rows, ceil(columns · bits / 32)] of 4- or 8-bit codes [rows, columns], the first code
    of a word in its low bits; the last word of a row is filled up with zeros."""
    per_word = 32 // bits
    if codes.ndim != 2 or codes.dtype != np.uint8:
        raise ValueError(f"codes: expected uint8 [rows, columns], got {codes.dtype} {codes.shape}.")
    missing = -codes.shape[1] % per_word
    if missing:
        codes = np.pad(codes, ((0, 0), (0, missing)))
    packed: U8Array = codes
    if bits == 4:
        packed = (codes[:, 0::2] | (codes[:, 1::2] << 4)).astype(np.uint8)
    return np.ascontiguousarray(packed).view("<i4")


def unpack_words(words: I32Array, bits: int, columns: int) -> U8Array:
    """Inverse of `pack_words`: codes [rows, columns], one a byte."""
    if words.ndim != 2 or words.dtype != np.int32:
        raise ValueError(f"words: expected int32 [rows, words], got {words.dtype} {words.shape}.")
    raw = np.ascontiguousarray(words).view(np.uint8)
    if bits == 4:
        raw = np.stack([raw & 15, raw >> 4], axis=2).reshape(raw.shape[0], -1)
    return np.ascontiguousarray(raw[:, :columns])


def dequantize(codes: U8Array, scales: F16Array, zeros: U8Array) -> NDArray[np.float32]:
    """Weights [N, K] in float32 of codes [N, K], scales and zeros [N, K/G]."""
    n, groups = scales.shape
    grouped = codes.reshape(n, groups, -1).astype(np.float32)
    centred = grouped - zeros[:, :, None].astype(np.float32)
    return (centred * scales[:, :, None].astype(np.float32)).reshape(n, -1)
