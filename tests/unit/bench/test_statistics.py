"""Figures from answers whose times are known."""

from collections.abc import Sequence

import pytest

from lmrun.bench.answers import Answer
from lmrun.bench.load import Round
from lmrun.bench.statistics import distribution, figures_of, is_good, load_of, spread


def answer(
    sent: float, texts: Sequence[float], prompt: int = 10, tokens: int | None = None
) -> Answer:
    """One that ended well with its last text."""
    return Answer(
        sent=sent,
        ended=texts[-1],
        error=None,
        status=200,
        texts=tuple(texts),
        prompt_tokens=prompt,
        completion_tokens=len(texts) if tokens is None else tokens,
        cached_tokens=2,
    )


FAILED = Answer(sent=0.0, ended=9.0, error="status 503: no engine.", status=503, texts=(5.0,))


def test_percentiles_interpolate_between_the_nearest_values() -> None:
    found = distribution([4.0, 1.0, 3.0, 2.0, 5.0])
    assert found is not None
    assert (found.count, found.mean, found.p50, found.max) == (5, 3.0, 3.0, 5.0)
    assert found.p90 == pytest.approx(4.6)
    assert found.p99 == pytest.approx(4.96)
    assert distribution([]) is None


def test_a_spread_has_the_median_of_the_rounds() -> None:
    found = spread([3.0, 9.0, 1.0])
    assert found is not None
    assert (found.min, found.median, found.max) == (1.0, 3.0, 9.0)
    assert spread([]) is None


def test_the_figures_of_a_level_are_those_of_its_answers() -> None:
    rounds = [
        Round((answer(0.0, [1.0, 1.5, 2.0]), answer(0.0, [2.0, 3.0, 4.0])), 4.0, 1.0),
        Round((answer(10.0, [10.5, 10.75, 11.0]), answer(11.0, [12.0, 12.5, 13.0])), 2.0, 2.0),
    ]
    load = load_of(rounds, 2)
    assert (load.concurrency, load.rounds, load.requests, load.errors) == (2, 2, 4, 0)
    assert load.seconds == 6.0
    assert (load.prompt_tokens, load.output_tokens) == (10.0, 3.0)
    assert load.ttft_ms is not None
    assert load.ttft_ms.p50 == pytest.approx(1000)  # of 500, 1000, 1000, 2000
    assert load.ttft_ms.max == pytest.approx(2000)
    assert load.itl_ms is not None
    assert load.itl_ms.count == 8
    assert load.itl_ms.mean == pytest.approx((1.0 + 2.0 + 0.5 + 1.0) / 8 * 1000)
    assert load.itl_ms.max == pytest.approx(1000)
    assert load.latency_ms is not None
    assert load.latency_ms.max == pytest.approx(4000)
    assert load.ttft_p50_ms is not None
    assert (load.ttft_p50_ms.min, load.ttft_p50_ms.max) == pytest.approx((750, 1500))
    assert load.itl_mean_ms is not None
    assert (load.itl_mean_ms.min, load.itl_mean_ms.max) == pytest.approx((375, 750))
    assert load.output_tokens_per_s is not None
    assert load.output_tokens_per_s.min == pytest.approx(6 / 4)
    assert load.output_tokens_per_s.median == pytest.approx((6 / 4 + 6 / 2) / 2)
    assert load.total_tokens_per_s is not None
    assert load.total_tokens_per_s.max == pytest.approx(26 / 2)
    assert load.requests_per_s is not None
    assert load.requests_per_s.min == pytest.approx(0.5)
    assert load.tokens_per_event == 1.0
    assert load.cached_tokens == 8
    assert load.client_cpu_share == pytest.approx(0.5)


def test_the_mean_inter_token_latency_counts_tokens_not_events() -> None:
    """Eleven tokens in three events over a second: a tenth of a second each."""
    load = load_of([Round((answer(0.0, [1.0, 1.8, 2.0], tokens=11),), 2.0, 0.0)], 1)
    assert load.itl_ms is not None
    assert load.itl_ms.mean == pytest.approx(100)
    assert load.itl_ms.max == pytest.approx(800)
    assert load.tokens_per_event == pytest.approx(11 / 3)


def test_failed_requests_are_counted_and_in_no_other_figure() -> None:
    load = load_of([Round((answer(0.0, [1.0, 2.0]), FAILED), 2.0, 0.0)], 2)
    assert (load.requests, load.errors, load.error) == (1, 1, "status 503: no engine.")
    assert load.ttft_ms is not None
    assert load.ttft_ms.count == 1
    assert load.output_tokens_per_s is not None
    assert load.output_tokens_per_s.max == pytest.approx(1.0)


def test_a_level_without_a_good_answer_has_no_figures() -> None:
    load = load_of([Round((FAILED,), 9.0, 0.0)], 1)
    assert load.requests == 0
    assert (load.ttft_ms, load.itl_ms, load.output_tokens_per_s, load.tokens_per_event) == (
        None,
        None,
        None,
        None,
    )
    assert figures_of([load]) is None


def test_completions_of_one_token_have_no_inter_token_latency() -> None:
    load = load_of([Round((answer(0.0, [1.0]),), 1.0, 0.0)], 1)
    assert (load.itl_ms, load.itl_mean_ms) == (None, None)
    figures = figures_of([load])
    assert figures is not None
    assert figures.itl_ms is None


def test_latency_is_compared_at_the_lightest_load_and_throughput_at_the_fastest() -> None:
    one = load_of([Round((answer(0.0, [1.0, 2.0]),), 2.0, 0.0)], 1)
    four = load_of([Round(tuple(answer(0.0, [2.0, 4.0]) for _ in range(4)), 4.0, 0.0)], 4)
    figures = figures_of([four, one])
    assert figures is not None
    assert figures.ttft_ms == pytest.approx(1000)
    assert figures.itl_ms == pytest.approx(1000)
    assert figures.tokens_per_s == pytest.approx(2.0)
    assert figures.requests_per_s == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("texts", "is_met"),
    [([0.9, 0.95, 1.0], True), ([1.1, 1.15, 1.2], False), ([0.5, 0.6, 0.7], False), ([0.9], True)],
)
def test_a_good_request_is_one_that_met_both_limits(texts: list[float], is_met: bool) -> None:
    assert is_good(answer(0.0, texts), max_ttft_ms=1000, max_itl_ms=60) is is_met


def test_a_failed_request_is_never_good() -> None:
    assert not is_good(FAILED, 1e9, 1e9)
