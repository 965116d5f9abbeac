"""Orthogonal matrices of every order, made of ±1 where a construction reaches it."""

import pytest
import torch

from lmrun.quant.rotation import hadamard

HADAMARD = (1, 2, 4, 12, 20, 28, 36, 60, 64, 128, 192, 288, 384, 576, 960, 1280, 2560, 3584)
OTHERS = (3, 6, 7, 86, 172, 344)


@pytest.mark.parametrize("n", HADAMARD + OTHERS)
def test_rows_are_orthogonal_and_of_length_one(n: int) -> None:
    matrix = hadamard(n, seed=1).double()
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(n).double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("n", HADAMARD)
def test_every_entry_has_the_same_magnitude_where_a_construction_reaches_the_order(n: int) -> None:
    magnitudes = hadamard(n, seed=2).abs()
    torch.testing.assert_close(magnitudes, torch.full_like(magnitudes, n**-0.5))


@pytest.mark.parametrize("n", OTHERS)
def test_other_orders_mix_as_many_channels_as_their_power_of_two_allows(n: int) -> None:
    magnitudes = hadamard(n, seed=3).abs()
    assert int((magnitudes > 1e-9).sum(1).min()) == n
    assert float(magnitudes.max()) > 1.01 * n**-0.5


def test_the_seed_draws_the_signs() -> None:
    assert torch.equal(hadamard(192, seed=4), hadamard(192, seed=4))
    assert not torch.equal(hadamard(192, seed=4), hadamard(192, seed=5))
    assert not torch.equal(hadamard(172, seed=4).abs(), hadamard(172, seed=5).abs())


@pytest.mark.parametrize("n", [0, -4])
def test_an_order_that_is_no_count_is_refused(n: int) -> None:
    with pytest.raises(ValueError, match=f"n={n}: expected a positive order."):
        hadamard(n, seed=0)
