"""From answers to the figures of a report."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np

from lmrun.bench.answers import Answer
from lmrun.bench.load import Round
from lmrun.bench.report import Bound, Distribution, Figures, Load, Spread

MS = 1e3

_Found = TypeVar("_Found", int, float)


def distribution(values: Sequence[float]) -> Distribution | None:
    """Percentiles interpolate linearly between the two nearest values; None of no values."""
    if not values:
        return None
    found = np.asarray(values, np.float64)
    p50, p90, p99 = (float(value) for value in np.percentile(found, (50, 90, 99)))
    return Distribution(
        count=found.size,
        mean=float(found.mean()),
        p50=p50,
        p90=p90,
        p99=p99,
        max=float(found.max()),
    )


def spread(values: Iterable[float]) -> Spread | None:
    """Of one value a round; None of no rounds."""
    found = np.asarray(list(values), np.float64)
    if not found.size:
        return None
    return Spread(min=float(found.min()), median=float(np.median(found)), max=float(found.max()))


def load_of(rounds: Sequence[Round], concurrency: int | None, bounds: Sequence[Bound] = ()) -> Load:
    """The figures of one load over its rounds."""
    good = [answer for one in rounds for answer in one.good]
    wrong = [answer for one in rounds for answer in one.answers if answer.error is not None]
    seconds = sum(one.seconds for one in rounds)
    gaps = distribution([gap for answer in good for gap in answer.gaps])
    return Load(
        concurrency=concurrency,
        rounds=len(rounds),
        requests=len(good),
        errors=len(wrong),
        error=wrong[0].error if wrong else None,
        seconds=seconds,
        prompt_tokens=_mean(_of(good, lambda answer: answer.prompt_tokens)),
        output_tokens=_mean([answer.tokens for answer in good]),
        ttft_ms=_ms(distribution(_of(good, lambda answer: answer.ttft))),
        itl_ms=_ms(_with_mean(gaps, _itl(good))),
        latency_ms=_ms(distribution([answer.latency for answer in good])),
        ttft_p50_ms=spread(
            MS * found.p50
            for one in rounds
            if (found := distribution(_of(one.good, lambda answer: answer.ttft)))
        ),
        itl_mean_ms=spread(MS * mean for one in rounds if (mean := _itl(one.good)) is not None),
        output_tokens_per_s=_rate(rounds, _output_tokens),
        total_tokens_per_s=_rate(rounds, _total_tokens),
        requests_per_s=_rate(rounds, lambda _: 1),
        tokens_per_event=_tokens_per_event(good),
        cached_tokens=_sum(_of(good, lambda answer: answer.cached_tokens)),
        client_cpu_share=sum(one.cpu_seconds for one in rounds) / seconds if seconds else 0.0,
        bounds=list(bounds),
    )


def figures_of(loads: Sequence[Load]) -> Figures | None:
    """The four figures of a comparison; None where no load has them all."""
    whole = [load for load in loads if load.ttft_p50_ms and load.output_tokens_per_s]
    if not whole:
        return None
    lightest = min(whole, key=lambda load: load.concurrency or 0)
    fastest = max(whole, key=_tokens_per_s)
    assert lightest.ttft_p50_ms is not None
    assert fastest.requests_per_s is not None
    return Figures(
        ttft_ms=lightest.ttft_p50_ms.median,
        itl_ms=lightest.itl_mean_ms.median if lightest.itl_mean_ms else None,
        tokens_per_s=_tokens_per_s(fastest),
        requests_per_s=fastest.requests_per_s.median,
    )


def is_good(answer: Answer, max_ttft_ms: float, max_itl_ms: float) -> bool:
    """Whether an answer ended well and in time; one of a single token has no ITL to keep."""
    if answer.error is not None or answer.ttft is None:
        return False
    return MS * answer.ttft <= max_ttft_ms and MS * (answer.itl or 0.0) <= max_itl_ms


def _tokens_per_s(load: Load) -> float:
    return load.output_tokens_per_s.median if load.output_tokens_per_s else 0.0


def _itl(answers: Sequence[Answer]) -> float | None:
    """Mean over the tokens of all answers: long answers count by their length."""
    timed = [answer for answer in answers if answer.itl is not None]
    if not timed:
        return None
    seconds = sum(answer.texts[-1] - answer.texts[0] for answer in timed)
    return seconds / sum(answer.tokens - 1 for answer in timed)


def _with_mean(found: Distribution | None, mean: float | None) -> Distribution | None:
    if found is None or mean is None:
        return None
    return Distribution(**{**vars(found), "mean": mean})


def _ms(found: Distribution | None) -> Distribution | None:
    """From seconds."""
    if found is None:
        return None
    scaled = {name: value * MS for name, value in vars(found).items() if name != "count"}
    return Distribution(count=found.count, **scaled)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _sum(values: Sequence[int]) -> int | None:
    return sum(values) if values else None


def _tokens_per_event(answers: Sequence[Answer]) -> float | None:
    events = sum(len(answer.texts) for answer in answers)
    return sum(answer.tokens for answer in answers) / events if events else None


def _rate(rounds: Sequence[Round], amount: Callable[[Answer], float]) -> Spread | None:
    """Of an amount of each good answer, per second."""
    return spread(
        sum(map(amount, one.good)) / one.seconds for one in rounds if one.good and one.seconds > 0
    )


def _output_tokens(answer: Answer) -> int:
    return answer.tokens


def _total_tokens(answer: Answer) -> int:
    return answer.tokens + (answer.prompt_tokens or 0)


def _of(answers: Sequence[Answer], take: Callable[[Answer], _Found | None]) -> list[_Found]:
    return [value for answer in answers if (value := take(answer)) is not None]
