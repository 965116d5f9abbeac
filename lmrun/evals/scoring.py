"""The engine's answers to many sequences, checked to be finite; errors name the sequence."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count

import numpy as np
from numpy.typing import NDArray

from lmrun.engine.llm import LLM
from lmrun.engine.scoring import Scores
from lmrun.errors import EngineError, StageError

_CAUSE = (
    "Weights, scales or activations overflow: quantize with other settings, or see whether the"
    " checkpoint itself is damaged."
)


def scored(
    llm: LLM,
    sequences: Iterable[Sequence[int]],
    name: Callable[[int], str],
    *,
    rows: tuple[int, int] | None = None,
    first: Iterable[int] | None = None,
) -> Iterator[Scores]:
    """The engine's scores, sequence by sequence in order; no bit depends on the batching.

    ``rows`` and ``first`` are those of `LLM.score_full`: predictions whose whole rows are told, and
    for each sequence the first prediction that is told. `StageError` where a number is not
    finite; it says what ``name`` makes of the index of the sequence.
    """
    found = llm.score_full(sequences, rows=rows, first=first)
    for index in count():
        try:
            scores = next(found, None)
        except EngineError as error:
            raise not_finite(name(index), error) from error
        if scores is None:
            return
        _check_finite(scores.logprobs, name(index))
        if scores.rows is not None:
            _check_finite(scores.rows, name(index))
        yield scores


def not_finite(where: str, error: EngineError) -> StageError:
    """What the engine's refusal of such logits means to an evaluation."""
    return StageError(f"{where}: {error} {_CAUSE}")


def perplexity_of(mean_logprob: float, where: str) -> float:
    """`StageError`, which names ``where``, for one that no double holds."""
    try:
        return math.exp(-mean_logprob)
    except OverflowError:
        raise StageError(
            f"{where}: expected a mean log-probability above -709, got {mean_logprob:.6g}. {_CAUSE}"
        ) from None


def _check_finite(values: NDArray[np.float32], where: str) -> None:
    """`StageError`, which names the first place that is not finite."""
    if not np.isfinite(values).all():
        place = tuple(int(index) for index in np.argwhere(~np.isfinite(values))[0])
        token = f", token id {place[1]}" if len(place) > 1 else ""
        raise StageError(
            f"{where}, predicted token {place[0]}{token}: expected a finite log-probability, got"
            f" {values[place]}. {_CAUSE}"
        )
