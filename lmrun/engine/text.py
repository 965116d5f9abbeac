"""Completion text from completion tokens: stop strings matched on text, across tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

from lmrun.engine.messages import FinishReason, Tokens
from lmrun.models.tokenizer import Detokenizer


@dataclass(frozen=True)
class TextDelta:
    """What one event added to a completion.

    ``token_ids`` are those that count: tokens past a stop string's match are dropped.
    """

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...] = ()
    top_logprobs: tuple[dict[int, float], ...] = ()
    finish_reason: FinishReason | None = None


class CompletionText:
    """The text of one completion, event by event.

    The stop string that is complete first wins, of two that end together the longer; it is no
    part of the text. Text that could still become a stop string is held back. Text of the first
    ``min_tokens`` tokens is not searched. A stop token has no text.
    """

    def __init__(
        self,
        detokenizer: Detokenizer,
        stop: Sequence[str] = (),
        *,
        stop_token_ids: Sequence[int] = (),
        min_tokens: int = 0,
    ) -> None:
        self._detokenizer = detokenizer
        self._stop = tuple(stop)
        self._stop_token_ids = frozenset(stop_token_ids)
        self._min_tokens = min_tokens
        self._held = ""
        self.num_tokens = 0
        """Completion tokens so far."""
        self.finish_reason: FinishReason | None = None

    def push(self, event: Tokens) -> TextDelta:
        """Add an event's tokens. After a finish reason every further event adds nothing.

        When the returned reason is ``stop`` and the event's is None, the engine is still
        running: abort the request.
        """
        if self.finish_reason is not None:
            return TextDelta(text="", token_ids=(), finish_reason=self.finish_reason)
        text = ""
        num_kept = 0
        for index, token_id in enumerate(event.token_ids):
            self.num_tokens += 1
            num_kept += 1
            is_last = index == len(event.token_ids) - 1 and event.finish_reason == "stop"
            if is_last and token_id in self._stop_token_ids:
                break
            text += self._search(self._detokenizer.push((token_id,)))
            if self.finish_reason is not None:
                break
        if self.finish_reason is None and event.finish_reason is not None:
            text += self._search(self._detokenizer.finish())
            if self.finish_reason is None:
                text += self._held
                self._held = ""
                self.finish_reason = event.finish_reason
        return TextDelta(
            text=text,
            token_ids=event.token_ids[:num_kept],
            logprobs=event.logprobs[:num_kept],
            top_logprobs=event.top_logprobs[:num_kept],
            finish_reason=self.finish_reason,
        )

    def _search(self, text: str) -> str:
        """The part of the text that may be shown now."""
        if not self._stop:
            return text
        if self.num_tokens <= self._min_tokens:
            shown, self._held = self._held + text, ""
            return shown
        self._held += text
        if (start := self._match()) is not None:
            shown, self._held = self._held[:start], ""
            self.finish_reason = "stop"
            return shown
        keep = self._overlap()
        shown, self._held = self._held[: len(self._held) - keep], self._held[-keep:] if keep else ""
        return shown

    def _match(self) -> int | None:
        found = [
            (start + len(stop), start)
            for stop in self._stop
            if (start := self._held.find(stop)) >= 0
        ]
        return min(found)[1] if found else None

    def _overlap(self) -> int:
        """Length of the longest end of the held text that begins a stop string."""
        longest = min(len(self._held), max(map(len, self._stop)) - 1)
        for size in range(longest, 0, -1):
            tail = self._held[-size:]
            if any(stop.startswith(tail) for stop in self._stop):
                return size
        return 0
