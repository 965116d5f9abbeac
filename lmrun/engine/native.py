"""From messages to the native engine and back: the one place that spells its arguments."""

from collections.abc import Sequence
from dataclasses import asdict

import msgspec

from lmrun import _engine
from lmrun.engine.messages import FinishReason, SamplingParams, Scored, Stats, Tokens
from lmrun.errors import EngineError
from lmrun.plan.engine_settings import EngineSettings

_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "abort": "abort",
    "error": "error",
}


def build_engine(settings: EngineSettings) -> _engine.Engine:
    """Map the workspace and allocate the KV blocks; `EngineError` when the engine refuses."""
    try:
        return _engine.Engine(**asdict(settings))
    except (ValueError, RuntimeError, MemoryError) as error:
        raise EngineError(f"engine: {error}") from error


def submit_native(
    engine: _engine.Engine,
    engine_id: int,
    prompt_token_ids: Sequence[int],
    sampling: SamplingParams,
    seed: int,
) -> None:
    """Queue a completion; ``seed`` is drawn already. ValueError when it cannot run."""
    engine.submit(
        engine_id,
        list(prompt_token_ids),
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        seed=seed & (2**63 - 1),
        max_tokens=sampling.max_tokens,
        min_tokens=sampling.min_tokens,
        stop_token_ids=list(sampling.stop_token_ids),
        logit_bias=sampling.logit_bias,
        logprobs=sampling.logprobs,
    )


def stats_event(engine: _engine.Engine, *, busy_seconds: float, rss_bytes: int) -> Stats:
    """The engine's counters, with what it does not know itself."""
    counters = {**engine.stats(), "busy_seconds": busy_seconds, "rss_bytes": rss_bytes}
    return msgspec.convert(counters, Stats)


def scored_event(request_id: str, output: _engine.StepOutput) -> Scored:
    """The event of a score's last output."""
    if output.scores is None:
        return Scored(request_id=request_id, error=output.error or "aborted")
    ids, logprobs = output.score_top or ((), ())
    return Scored(
        request_id=request_id,
        logprobs=tuple(output.scores.tolist()),
        top_ids=tuple(tuple(row.tolist()) for row in ids),
        top_logprobs=tuple(tuple(row.tolist()) for row in logprobs),
    )


def tokens_event(request_id: str, output: _engine.StepOutput) -> Tokens:
    """The event of one step's output."""
    return Tokens(
        request_id=request_id,
        token_ids=tuple(output.token_ids),
        logprobs=tuple(output.logprobs),
        top_logprobs=tuple(dict(row) for row in output.top_logprobs),
        finish_reason=None if output.finish_reason is None else _FINISH[output.finish_reason],
        num_cached_tokens=output.num_cached_tokens,
        error=output.error,
    )
