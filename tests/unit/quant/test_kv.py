"""Rounding of keys and values is the engine's, and its error is what the formula says."""

import numpy as np
import pytest

from lmrun.quant import kv
from lmrun.quant.kv import KvError


@pytest.mark.parametrize("bits", [8, 4])
def test_each_vector_is_rounded_by_its_own_range(bits: int) -> None:
    rng = np.random.default_rng(1)
    x = (rng.standard_normal((2, 3, 5, 16)) * rng.uniform(0.1, 10, (2, 3, 5, 1))).astype(np.float32)
    found = kv.rounded(x, bits)
    step = (x.max(-1) - x.min(-1)) / (2**bits - 1)
    # half a step, and the scale and the zero rounded to f16 (11 bits)
    bound = step / 2 + np.abs(x).max(-1) * 2.0**-11 + step * 2**bits * 2.0**-11
    assert (np.abs(found - x).max(-1) <= bound).all()
    assert all(len(np.unique(row)) <= 2**bits for row in found.reshape(-1, 16))


def test_codes_are_rounded_half_to_even_between_the_stored_scale_and_zero() -> None:
    x = np.array([0, 0.5, 1.5, 2.5, 15], np.float32)
    assert kv.rounded(x, 4).tolist() == [0, 0, 2, 2, 15]


def test_a_constant_vector_is_its_zero_in_f16() -> None:
    x = np.full(8, 1 / 3, np.float32)
    assert kv.rounded(x, 4).tolist() == [float(np.float16(1 / 3))] * 8


def test_huge_values_saturate_as_the_engine_does() -> None:
    assert kv.rounded(np.array([1e6, -1e6], np.float32), 16).tolist() == [65504, -65504]
    assert np.isfinite(kv.rounded(np.array([1e38, -1e38, 0], np.float32), 8)).all()


def test_the_worst_layers_are_those_whose_output_suffers_most() -> None:
    errors = [KvError(9, 9, output) for output in (0.1, 0.4, 0.2, 0.4)]
    assert kv.worst_layers(errors, 0) == ()
    assert kv.worst_layers(errors, 1) == (1,)
    assert kv.worst_layers(errors, 3) == (1, 2, 3)
    assert kv.worst_layers(errors, 9) == (0, 1, 2, 3)
