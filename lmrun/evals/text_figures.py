"""Perplexity, KL divergence and top-1 agreement on a text, in one pass over its windows."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from lmrun.engine.llm import LLM
from lmrun.engine.scoring import Scores
from lmrun.evals import divergence, statistics
from lmrun.evals.baseline import Reader
from lmrun.evals.report import Baseline, Protocol, Quality
from lmrun.evals.scoring import scored
from lmrun.evals.texts import ScoredText
from lmrun.progress import progress_bar


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
    """Of the places that have rows."""

    kl: list[np.ndarray]
    agrees: list[np.ndarray]

    def figures(self, quality: Quality) -> Quality:
        kl = np.concatenate(self.kl)
        agrees = np.concatenate(self.agrees).astype(np.float64)
        return replace(
            quality,
            kl=statistics.mean(kl),
            kl_standard_error=statistics.standard_error(kl),
            kl_p99=statistics.percentile(kl, 99),
            kl_max=float(kl.max()),
            top1=statistics.mean(agrees),
            top1_standard_error=statistics.standard_error(agrees),
        )


def text_figures(llm: LLM, text: ScoredText, baseline: Reader | None) -> Quality:
    """A `Quality` with what a text can tell; what needs a baseline is None without one."""
    logprobs: list[np.ndarray] = []
    found = _Divergence([], [])
    num_rows = 0 if baseline is None else baseline.scored.kl_tokens
    place = 0
    for scores in window_scores(llm, text, num_rows, "perplexity"):
        logprobs.append(scores.logprobs.astype(np.float64))
        if scores.rows is not None and baseline is not None:
            count = len(scores.rows)
            rows = divergence.stored(scores.rows)
            found.kl.append(divergence.kl(baseline.rows(place, count), rows))
            found.agrees.append(
                divergence.best(scores.rows) == baseline.best[place : place + count]
            )
            place += count
    ours = np.concatenate(logprobs)
    mean, error = statistics.mean(ours), statistics.standard_error(ours)
    perplexity = math.exp(-mean)
    quality = Quality(
        perplexity=perplexity,
        perplexity_standard_error=None if error is None else perplexity * error,
        mean_logprob=mean,
        mean_logprob_standard_error=error,
        protocol=Protocol(
            text=text.name,
            text_digest=text.digest,
            window=text.window,
            tokens=len(ours),
            bos_token_id=text.bos_token_id,
            kl_tokens=num_rows,
        ),
    )
    if baseline is None:
        return quality
    worse = baseline.logprobs - ours
    ratio = math.exp(statistics.mean(worse))
    error = statistics.standard_error(worse)
    quality = replace(
        quality,
        ppl_ratio=ratio,
        ppl_ratio_standard_error=None if error is None else ratio * error,
        baseline=Baseline(baseline.perplexity, baseline.scored.engine),
    )
    return found.figures(quality) if num_rows else quality
