"""What a score tells, and how many of them are in flight."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lmrun import _engine
from lmrun.errors import EngineError, RequestError
from lmrun.plan.engine_settings import EngineSettings

_MOST_ROW_BYTES = 256 * 2**20
"""Of whole rows in flight, where more than one sequence has some."""
_F32_BYTES = 4


@dataclass(frozen=True)
class Scores:
    """Of one sequence of T tokens: T − 1 predictions, natural logarithms."""

    logprobs: npt.NDArray[np.float32]
    """log p(token[i + 1] | token[0..i]), [T − 1]."""
    top_ids: npt.NDArray[np.int32] | None = None
    """The most probable tokens at each place, best first, ties by lowest id, [T − 1, top]; None
    where none were asked for."""
    top_logprobs: npt.NDArray[np.float32] | None = None
    """Of ``top_ids``."""
    rows: npt.NDArray[np.float32] | None = None
    """Log-probabilities of every token at the predictions asked for, [end − begin, V]; None where
    none were asked for."""


@dataclass(frozen=True)
class ScoreDetail:
    """What is told beside the log-probabilities."""

    top: int = 0
    """How many of the most probable tokens at each place."""
    rows: tuple[int, int] | None = None
    """Predictions begin to end − 1 whose whole rows are told; prediction i is of token i + 1."""


def start_score(
    engine: _engine.Engine, engine_id: int, sequence: Sequence[int], detail: ScoreDetail
) -> None:
    """Queue a sequence; `RequestError` when it cannot run."""
    try:
        engine.score(engine_id, list(sequence), top=detail.top, rows=detail.rows)
    except (ValueError, TypeError, OverflowError) as error:
        raise RequestError(f"score: {error}") from error


def scores_of(output: _engine.StepOutput, model: str) -> Scores | EngineError:
    """What the last output of a score says; an error names the ``model``."""
    if output.scores is None:
        return EngineError(f"{model}: {output.error or 'the score was aborted.'}")
    top = output.score_top
    return Scores(
        logprobs=output.scores,
        top_ids=None if top is None else top[0],
        top_logprobs=None if top is None else top[1],
        rows=output.score_rows,
    )


def may_start(
    settings: EngineSettings, vocab_size: int, sizes: Sequence[int], detail: ScoreDetail
) -> bool:
    """Whether another sequence may be started beside those of ``sizes`` tokens in flight: enough to
    fill the next step, and no more rows than are bearable."""
    begin, end = detail.rows or (0, 0)
    row_bytes = (len(sizes) + 1) * (end - begin) * vocab_size * _F32_BYTES
    return not sizes or (
        sum(sizes) < 2 * settings.max_batch_tokens
        and len(sizes) < 2 * settings.max_num_seqs
        and row_bytes <= _MOST_ROW_BYTES
    )
