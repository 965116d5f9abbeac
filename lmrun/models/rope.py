"""Inverse frequencies of the rotary embedding.

Each step is rounded to float32, as transformers does it (`modeling_rope_utils`); powers are taken
in float64 first, so that the values do not depend on the machine's vector library.
"""

import math

import numpy as np
from numpy.typing import NDArray

from lmrun.models.spec import ModelSpec

F32 = np.float32


def inv_freq(spec: ModelSpec) -> NDArray[np.float32]:
    """[head_dim / 2] float32, RoPE scaling applied."""
    rope = spec.rope
    exponents = np.arange(0, spec.head_dim, 2, dtype=F32) / F32(spec.head_dim)
    powers = np.array([math.pow(rope.theta, float(exponent)) for exponent in exponents], dtype=F32)
    plain: NDArray[np.float32] = F32(1.0) / powers
    if rope.kind == "linear":
        return plain / F32(rope.factor)
    if rope.kind == "llama3":
        return _llama3(plain, spec)
    return plain


def _llama3(plain: NDArray[np.float32], spec: ModelSpec) -> NDArray[np.float32]:
    rope = spec.rope
    old_length = rope.original_max_position_embeddings
    low_wavelength = F32(old_length / rope.low_freq_factor)
    high_wavelength = F32(old_length / rope.high_freq_factor)
    wavelength = F32(2 * math.pi) / plain
    scaled = np.where(wavelength > low_wavelength, plain / F32(rope.factor), plain)
    smooth = (F32(old_length) / wavelength - F32(rope.low_freq_factor)) / F32(
        rope.high_freq_factor - rope.low_freq_factor
    )
    smoothed = (F32(1) - smooth) * scaled / F32(rope.factor) + smooth * scaled
    is_medium = ~(wavelength < high_wavelength) & ~(wavelength > low_wavelength)
    return np.where(is_medium, smoothed, scaled).astype(F32)
