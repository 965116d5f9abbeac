"""Perplexity, KL divergence and top-1 agreement on a text, in one pass over its windows.

Standard errors are over windows: tokens of one window depend on each other (stories3m on the text
of `stories.valid.txt`: 0.0147 for the mean log-probability, where counting tokens as independent
would say 0.0086).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lmrun.engine.llm import LLM
from lmrun.engine.scoring import Scores
from lmrun.evals import divergence, statistics
from lmrun.evals.baseline import Reader
from lmrun.evals.report import Baseline, Protocol, Quality
from lmrun.evals.scoring import perplexity_of, scored
from lmrun.evals.texts import ScoredText
from lmrun.progress import progress_bar

Values = NDArray[np.float64]


def window_scores(llm: LLM, text: ScoredText, num_rows: int, task: str) -> Iterator[Scores]:
    """The scores of each window in order; those of the first ``num_rows`` predicted tokens of the
    text come with whole rows. ``task`` is what the progress is called."""
    whole, rest = divmod(num_rows, text.window - 1)
    partly = whole + (rest > 0)
    parts = (
        (text.windows[:whole], (0, text.window - 1)),
        (text.windows[whole:partly], (0, rest)),
        (text.windows[partly:], None),
    )
    done = 0
    with progress_bar(task, len(text.windows), unit="windows") as advance:
        for windows, rows in parts:
            name = partial(_window_name, text.name, done)
            for scores in scored(llm, windows, name, rows=rows):
                yield scores
                advance(1)
            done += len(windows)


def _window_name(text: str, first: int, index: int) -> str:
    return f"{text}: window {first + index}"


@dataclass(frozen=True)
class _Divergence:
    """Of the places that have rows, window by window."""

    kl: list[Values]
    agrees: list[Values]

    def figures(self, quality: Quality) -> Quality:
        kl = np.concatenate(self.kl)
        return replace(
            quality,
            kl=statistics.mean(kl),
            kl_standard_error=statistics.clustered_standard_error(self.kl),
            kl_p99=statistics.percentile(kl, 99),
            kl_max=float(kl.max()),
            top1=statistics.mean(np.concatenate(self.agrees)),
            top1_standard_error=statistics.clustered_standard_error(self.agrees),
        )


def text_figures(llm: LLM, text: ScoredText, baseline: Reader | None) -> Quality:
    """A `Quality` with what a text can tell; what needs a baseline is None without one.

    `StageError` where a number is not finite.
    """
    logprobs: list[Values] = []
    found = _Divergence([], [])
    num_rows = 0 if baseline is None else baseline.scored.kl_tokens
    place = 0
    for scores in window_scores(llm, text, num_rows, "perplexity"):
        logprobs.append(scores.logprobs.astype(np.float64))
        if scores.rows is not None and baseline is not None:
            count = len(scores.rows)
            rows = divergence.stored(scores.rows)
            same = divergence.best(scores.rows) == baseline.best[place : place + count]
            found.kl.append(divergence.kl(baseline.rows(place, count), rows))
            found.agrees.append(same.astype(np.float64))
            place += count
    quality = _perplexity(logprobs, text, num_rows)
    if baseline is None:
        return quality
    theirs = baseline.logprobs.reshape(len(logprobs), -1)
    worse = [left - right for left, right in zip(theirs, logprobs, strict=True)]
    ratio = math.exp(statistics.mean(np.concatenate(worse)))
    quality = replace(
        quality,
        ppl_ratio=ratio,
        ppl_ratio_standard_error=_times(ratio, statistics.clustered_standard_error(worse)),
        baseline=Baseline(baseline.perplexity, baseline.scored.engine),
    )
    return found.figures(quality) if num_rows else quality


def _perplexity(logprobs: list[Values], text: ScoredText, num_rows: int) -> Quality:
    mean = statistics.mean(np.concatenate(logprobs))
    error = statistics.clustered_standard_error(logprobs)
    perplexity = perplexity_of(mean, text.name)
    return Quality(
        perplexity=perplexity,
        perplexity_standard_error=_times(perplexity, error),
        mean_logprob=mean,
        mean_logprob_standard_error=error,
        protocol=Protocol(
            text=text.name,
            text_digest=text.digest,
            window=text.window,
            tokens=text.tokens,
            bos_token_id=text.bos_token_id,
            kl_tokens=num_rows,
        ),
    )


def _times(factor: float, error: float | None) -> float | None:
    """The error of exp(x) from that of x, to first order: d exp(x) = exp(x) dx."""
    return None if error is None else factor * error
