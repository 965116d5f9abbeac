"""The pieces of a plain completion: the prompt where it is echoed, then what the model writes."""

import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from lmrun.engine.messages import SamplingParams, Tokens
from lmrun.engine.text import TextDelta
from lmrun.models.tokenizer import Tokenizer, TokenOffsets
from lmrun.server.logprobs import TokenLogprob, of_delta
from lmrun.server.service import Completion, Service, Usage


@dataclass(frozen=True)
class Prompt:
    """A prompt's tokens and the text that an echo of it is."""

    token_ids: tuple[int, ...]
    text: str
    offsets: tuple[int, ...]
    """Where each token begins in the text."""

    @classmethod
    def of_text(cls, tokenizer: Tokenizer, text: str) -> "Prompt":
        """A text is echoed as it was sent."""
        ids, offsets = tokenizer.encode_with_offsets(text)
        return cls(tuple(ids), text, tuple(offsets))

    @classmethod
    def of_ids(cls, tokenizer: Tokenizer, token_ids: Sequence[int]) -> "Prompt":
        """Token ids are echoed as a completion would read; special tokens have no text."""
        stream = TokenOffsets(tokenizer, tokenizer.detokenizer())
        offsets = tuple(stream.push(token_id) for token_id in token_ids)
        return cls(tuple(token_ids), stream.finish(), offsets)


@dataclass(frozen=True)
class Piece:
    """A part of a choice; the last one has the finish reason."""

    text: str
    tokens: Sequence[TokenLogprob] = ()
    """Empty unless log-probabilities were asked for."""
    finish_reason: str | None = None


async def pieces(
    service: Service, completion: Completion, echoed: Prompt | None, usage: Usage
) -> AsyncGenerator[Piece, None]:
    """Run a completion; with ``echoed``, the prompt is the first piece. Closing it aborts.

    Raises `ApiError` as `Service.counted` says.
    """
    sampling = completion.sampling
    offset = 0
    if echoed is not None:
        with service.counted() as outcome:
            scored = _Scored([], None)
            if sampling.logprobs is not None:
                scored = await _score(service, completion, echoed)
            ends = "length" if sampling.max_tokens == 0 else None
            outcome.name = ends if scored.completion is None else scored.completion.finish_reason
            if outcome.name is not None:
                service.prompt_done(completion, usage)
        offset = len(echoed.text)
        yield Piece(echoed.text, scored.prompt, ends)
        if scored.completion is not None:
            service.measure(completion, None, 1)
            usage.completion_tokens += 1
            yield _piece(completion, scored.completion, [offset])
        if outcome.name is not None:
            return
    stream = service.tokenizer.detokenizer(after=completion.prompt_token_ids)
    offsets = TokenOffsets(service.tokenizer, stream)
    async with contextlib.aclosing(service.deltas(completion, usage)) as deltas:
        async for delta in deltas:
            found: list[int] = []
            if sampling.logprobs is not None:
                found = [offset + offsets.push(token_id) for token_id in delta.token_ids]
            yield _piece(completion, delta, found)


def _piece(completion: Completion, delta: TextDelta, offsets: Sequence[int]) -> Piece:
    tokens = () if completion.sampling.logprobs is None else of_delta(delta, offsets)
    return Piece(delta.text, tokens, delta.finish_reason)


@dataclass(frozen=True)
class _Scored:
    prompt: Sequence[TokenLogprob]
    completion: TextDelta | None
    """Where the pass that scored the prompt computed all of it."""


async def _score(service: Service, completion: Completion, echoed: Prompt) -> _Scored:
    """The prompt's log-probabilities, and a greedy completion of one token in the same pass.

    Clients that want the prompt alone ask for such a completion. A token more is scored, no matter
    which: the most probable one at its place is the completion.
    """
    ids, sampling = echoed.token_ids, completion.sampling
    top = sampling.logprobs or 0
    is_whole = sampling.max_tokens == 1 and _is_plain_greedy(sampling)
    asked = (*ids, 0) if is_whole else ids
    tokens = [TokenLogprob(ids[0], echoed.offsets[0], None, None)]
    if len(asked) == 1:
        return _Scored(tokens, None)
    scored = await service.client.score(asked, max(top, int(is_whole)))
    rows = [
        dict(zip(top_ids[:top], logprobs, strict=False))
        for top_ids, logprobs in zip(scored.top_ids, scored.top_logprobs, strict=True)
    ] or [{}] * len(scored.logprobs)
    count = len(ids) - 1
    places = (ids[1:], echoed.offsets[1:], scored.logprobs[:count], rows[:count])
    tokens += [TokenLogprob(*place) for place in zip(*places, strict=True)]
    if not is_whole:
        return _Scored(tokens, None)
    token_id = scored.top_ids[-1][0]
    event = Tokens(
        request_id="",
        token_ids=(token_id,),
        logprobs=(scored.top_logprobs[-1][0],),
        top_logprobs=(rows[-1],),
        finish_reason="stop" if token_id in sampling.stop_token_ids else "length",
    )
    return _Scored(tokens, service.text_of(completion).push(event))


def _is_plain_greedy(sampling: SamplingParams) -> bool:
    return sampling.temperature == 0 and not sampling.logit_bias and not sampling.min_tokens
