"""Log-probabilities as OpenAI writes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmrun.engine.text import TextDelta
from lmrun.models.tokenizer import Tokenizer


@dataclass(frozen=True)
class TokenLogprob:
    """A token of a prompt or a completion, in natural logarithms."""

    token_id: int
    offset: int
    """The character of the choice's text at which it begins."""
    logprob: float | None
    """None for the first token of a prompt: nothing stands before it."""
    top: Mapping[int, float] | None
    """The most probable tokens at its place; None with ``logprob``."""


def of_delta(delta: TextDelta, offsets: Sequence[int]) -> list[TokenLogprob]:
    """The tokens of a delta, for which log-probabilities were asked; an offset each."""
    rows = zip(delta.token_ids, offsets, delta.logprobs, delta.top_logprobs, strict=True)
    return [TokenLogprob(*row) for row in rows]


def completion_logprobs(
    tokenizer: Tokenizer, tokens: Sequence[TokenLogprob], has_top: bool
) -> dict[str, Any]:
    """``logprobs`` of a choice of /v1/completions.

    A token's place in ``top_logprobs`` holds itself too, as its last entry where it is not among
    the most probable. Two tokens that are spelled alike are told apart: the less probable one is
    called ``token_id:ID``.
    """
    return {
        "tokens": [spelled(tokenizer, token.token_id) for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [_top(tokenizer, token) for token in tokens] if has_top else None,
        "text_offset": [token.offset for token in tokens],
    }


def chat_logprobs(tokenizer: Tokenizer, tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    """``logprobs`` of a choice of /v1/chat/completions, or of a part of one in a stream."""
    content = [
        {
            **_entry(tokenizer, token.token_id, token.logprob),
            "top_logprobs": [
                _entry(tokenizer, *one)
                for one in sorted((token.top or {}).items(), key=lambda one: -one[1])
            ],
        }
        for token in tokens
    ]
    return {"content": content, "refusal": None}


def _entry(tokenizer: Tokenizer, token_id: int, logprob: float | None) -> dict[str, Any]:
    return {
        "token": spelled(tokenizer, token_id),
        "logprob": logprob,
        "bytes": list(tokenizer.token_bytes(token_id)) or None,
    }


def spelled(tokenizer: Tokenizer, token_id: int) -> str:
    """A token's text by itself, a leading space included; a special token's name.

    A part of a character reads ``bytes:\\xe2\\x80``, as OpenAI writes it.
    """
    data = tokenizer.token_bytes(token_id)
    try:
        return data.decode() or f"token_id:{token_id}"
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def _top(tokenizer: Tokenizer, token: TokenLogprob) -> dict[str, float] | None:
    if token.top is None:
        return None
    entries = dict(token.top)
    if token.logprob is not None:
        entries.setdefault(token.token_id, token.logprob)
    row: dict[str, float] = {}
    for token_id, logprob in sorted(entries.items(), key=lambda entry: -entry[1]):
        name = spelled(tokenizer, token_id)
        row[f"token_id:{token_id}" if name in row else name] = logprob
    return row
