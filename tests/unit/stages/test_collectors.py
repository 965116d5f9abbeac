"""What is gathered over a text is what NumPy finds on all of it at once."""

import numpy as np
import pytest
import torch

from lmrun.stages.collectors import Magnitudes, SecondMoments, TokenSample
from lmrun.stages.decoder import LayerTrace
from lmrun.stages.workers import Workers

K = 700
BATCHES = 9


def _traces(dtype: torch.dtype) -> list[LayerTrace]:
    """Batches of inputs that hang together, with a loud channel and a mean."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(40, K, generator=generator) * 0.3
    mix[:, 5] *= 30
    traces = []
    for _ in range(BATCHES):
        x = (torch.randn(3, 50, 40, generator=generator) @ mix + 1).to(dtype)
        traces.append(LayerTrace(x.float(), {"qkv": x}, x, x))
    return traces


def _rows(traces: list[LayerTrace]) -> np.ndarray:
    rows = torch.cat([trace.inputs["qkv"].flatten(0, 1) for trace in traces])
    return rows.double().numpy()


def _moments(traces: list[LayerTrace], threads: int) -> torch.Tensor:
    collector = SecondMoments(Workers(threads), ["qkv"])
    for trace in traces:
        collector.add(collector.of(trace))
    return collector.result()["qkv"]


def test_second_moments_of_float32_are_exact() -> None:
    traces = _traces(torch.float32)
    rows = _rows(traces)
    found = _moments(traces, 2)
    np.testing.assert_allclose(found.numpy(), rows.T @ rows / len(rows), rtol=1e-4, atol=1e-4)
    assert torch.equal(found, found.T)


def test_second_moments_of_bfloat16_are_added_up_in_float32() -> None:
    traces = _traces(torch.bfloat16)
    rows = _rows(traces)
    found = _moments(traces, 2)
    np.testing.assert_allclose(found.numpy(), rows.T @ rows / len(rows), rtol=1e-4, atol=1e-4)
    assert torch.equal(found, found.T)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_second_moments_do_not_depend_on_the_number_of_workers(dtype: torch.dtype) -> None:
    traces = _traces(dtype)
    assert torch.equal(_moments(traces, 1), _moments(traces, 3))


def test_magnitudes_are_means_sums_and_largest() -> None:
    traces = _traces(torch.bfloat16)
    rows = _rows(traces)
    collector = Magnitudes()
    for trace in traces:
        collector.add(collector.of(trace))
    found = collector.result()["qkv"]
    np.testing.assert_allclose(found.abs_mean.numpy(), np.abs(rows).mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.square_sum.numpy(), np.square(rows).sum(0), rtol=1e-5)
    np.testing.assert_array_equal(found.abs_max.numpy(), np.abs(rows).max(0).astype(np.float32))


def test_a_sample_is_spread_over_the_whole_text() -> None:
    traces = _traces(torch.float32)
    collector = TokenSample(90, BATCHES * 150)
    for trace in traces:
        collector.add(collector.of(trace))
    found = collector.result()["qkv"]
    assert found.shape == (90, K)
    np.testing.assert_array_equal(found.double().numpy(), _rows(traces)[::15])
