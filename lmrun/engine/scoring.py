"""What a score tells, and how many of them are in flight."""

from collections.abc import Iterable, Iterator, Sequence
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
    """Of one sequence of T tokens: its n = T − 1 predictions, natural logarithms.

    Where a first prediction was named, those before it are left out: n = T − 1 − first.
    """

    logprobs: npt.NDArray[np.float32]
    """log p(token[i + 1] | token[0..i]), [n]."""
    top_ids: npt.NDArray[np.int32] | None = None
    """The most probable tokens at each place, best first, ties by lowest id, [n, top]; None where
    none were asked for."""
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


@dataclass(frozen=True)
class ScoreRequest:
    """A sequence, and the first of its predictions that is told."""

    token_ids: Sequence[int]
    first: int


def requests(
    sequences: Iterable[Sequence[int]], first: Iterable[int] | None
) -> Iterator[ScoreRequest]:
    """The sequences with what ``first`` says of each."""
    if first is None:
        return (ScoreRequest(sequence, 0) for sequence in sequences)
    return (ScoreRequest(ids, begin) for ids, begin in zip(sequences, first, strict=True))


def start_score(
    engine: _engine.Engine, engine_id: int, request: ScoreRequest, detail: ScoreDetail
) -> None:
    """Queue a sequence; `RequestError` when it cannot run."""
    try:
        engine.score(
            engine_id,
            list(request.token_ids),
            top=detail.top,
            rows=detail.rows,
            first=request.first,
        )
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


class ScoreQueue:
    """Sequences that wait to be scored, and those in flight, in their order.

    Enough are in flight to fill the next step, and no more rows than are bearable. Of sequences one
    after another with the same context the first goes ahead: the others find it in the cache.
    """

    def __init__(
        self,
        requests: Iterable[ScoreRequest],
        detail: ScoreDetail,
        settings: EngineSettings,
        vocab_size: int,
    ) -> None:
        self._requests = iter(requests)
        self._next = next(self._requests, None)
        self._settings = settings
        begin, end = detail.rows or (0, 0)
        self._row_bytes = (end - begin) * vocab_size * _F32_BYTES
        self._context: tuple[int, ...] = ()
        self._leader: int | None = None
        """The sequence in front of which ``_context`` was not there."""
        self.in_flight: dict[int, int] = {}
        """Numbers of tokens by engine id."""

    def next(self) -> ScoreRequest | None:
        """What may be started now; `started` follows."""
        request = self._next
        if request is None or (self.in_flight and not self._has_room(request)):
            return None
        return request

    def started(self, engine_id: int, request: ScoreRequest) -> None:
        """The request is in flight."""
        self.in_flight[engine_id] = len(request.token_ids)
        context = self._context_of(request)
        if context != self._context:
            self._context, self._leader = context, engine_id
        self._next = next(self._requests, None)

    def _has_room(self, request: ScoreRequest) -> bool:
        num_seqs = len(self.in_flight)
        if self._leader in self.in_flight:
            context = self._context_of(request)
            if context and context == self._context:
                return False
        return (
            sum(self.in_flight.values()) < 2 * self._settings.max_batch_tokens
            and num_seqs < 2 * self._settings.max_num_seqs
            and (num_seqs + 1) * self._row_bytes <= _MOST_ROW_BYTES
        )

    def _context_of(self, request: ScoreRequest) -> tuple[int, ...]:
        """What the prefix cache may give: whole blocks before the first prediction."""
        if not self._settings.prefix_caching:
            return ()
        size = self._settings.block_size
        return tuple(request.token_ids[: request.first // size * size])
