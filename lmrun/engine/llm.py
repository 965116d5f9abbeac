"""The engine in process: `LLM(settings_for(workspace)).generate(...)`."""

from __future__ import annotations  # `_engine.EffectiveSettings` is known to type checkers alone

import secrets
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from lmrun import _engine
from lmrun.config.schema import BackendConfig, KvConfig
from lmrun.engine.messages import FinishReason, SamplingParams
from lmrun.engine.native import build_engine, submit_native, tokens_event
from lmrun.engine.scoring import (
    ScoreDetail,
    ScoreQueue,
    Scores,
    requests,
    scores_of,
    start_score,
)
from lmrun.engine.text import CompletionText
from lmrun.errors import ConfigError, EngineError, RequestError
from lmrun.models import chat_template
from lmrun.models.tokenizer import Tokenizer
from lmrun.models.tools import tools_for_template, turn_for_template
from lmrun.models.workspace import read_workspace
from lmrun.plan.engine_settings import EngineSettings


@dataclass(frozen=True)
class Output:
    """One completion. Tokens past a stop string are not in it."""

    prompt_token_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    text: str
    finish_reason: FinishReason
    logprobs: tuple[float, ...]
    """One per token; empty unless the sampling asked for them."""
    top_logprobs: tuple[dict[int, float], ...]
    num_cached_tokens: int


class _Running:
    """A request between its submission and its last event."""

    def __init__(self, prompt: tuple[int, ...], text: CompletionText) -> None:
        self.prompt = prompt
        self.text = text
        self.unread: deque[str] = deque()
        self.parts: list[str] = []
        self.token_ids: list[int] = []
        self.logprobs: list[float] = []
        self.top_logprobs: list[dict[int, float]] = []
        self.num_cached_tokens = 0
        self.error: str | None = None

    def output(self) -> Output:
        assert self.text.finish_reason is not None
        return Output(
            prompt_token_ids=self.prompt,
            token_ids=tuple(self.token_ids),
            text="".join(self.parts),
            finish_reason=self.text.finish_reason,
            logprobs=tuple(self.logprobs),
            top_logprobs=tuple(self.top_logprobs),
            num_cached_tokens=self.num_cached_tokens,
        )


def settings_for(
    workspace: Path, *, kv_bits: int | Sequence[int] = 16, threads: int | None = None
) -> EngineSettings:
    """Settings for a workspace without a plan: the schema's defaults, as many KV blocks as
    ``max_num_seqs`` sequences of full length need. Change others with `dataclasses.replace`.

    ``kv_bits``: 32, 16, 8 or 4, of all layers or of each.
    """
    backend, kv = BackendConfig(), KvConfig()
    context_length = read_workspace(workspace).spec.context_length
    return EngineSettings(
        workspace=str(workspace),
        isa=backend.isa.value,
        threads=threads or _engine.available_cpus(),
        num_blocks=backend.max_num_seqs * -(-context_length // kv.block_size),
        block_size=kv.block_size,
        kv_bits=kv_bits if isinstance(kv_bits, int) else tuple(kv_bits),
        activation_bits=backend.activation_bits,
        max_num_seqs=backend.max_num_seqs,
        max_batch_tokens=backend.max_batch_tokens,
        context_length=context_length,
        prefix_caching=kv.prefix_caching,
    )


class LLM:
    """One engine in this process. Not thread-safe: its methods step the engine.

    Completions of all open calls share the steps: a `stream` that is not read yet makes progress
    while `generate` runs.
    """

    def __init__(self, settings: EngineSettings, *, template: str = "auto") -> None:
        """``template`` is what ``model.chat_template`` may be."""
        folder = Path(settings.workspace)
        self.tokenizer = Tokenizer.from_folder(folder)
        self.template = chat_template.load(template, folder)
        self._settings = settings
        self._engine = build_engine(settings)
        self._next_id = 0
        self._running: dict[int, _Running] = {}
        self._scores: dict[int, Scores | EngineError | None] = {}

    def generate(
        self,
        prompts: Sequence[str | Sequence[int]],
        sampling: SamplingParams | None = None,
        *,
        stop: Sequence[str] = (),
        ignore_eos: bool = False,
    ) -> list[Output]:
        """Complete the prompts, batched; outputs in their order.

        The model's end-of-sequence ids stop a completion beside ``sampling.stop_token_ids``,
        unless ``ignore_eos``. Without ``sampling``: what generation_config.json says, else
        temperature 1. `RequestError` when one cannot run; then none does. `EngineError` when the
        model gives logits that are not finite.
        """
        if isinstance(prompts, str):
            raise RequestError(
                "prompts: expected a list of prompts, got one text. Write generate([TEXT])."
            )
        return self._complete(prompts, self._params(sampling, ignore_eos), stop)

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        sampling: SamplingParams | None = None,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        stop: Sequence[str] = (),
    ) -> Output:
        """Answer a conversation; `ConfigError` when the model has no chat template.

        ``tools`` are functions the model may call, as the chat completions of the server take them.
        What it calls stands in the text; `lmrun.models.tool_calls` reads it. `RequestError` when
        one cannot be offered.
        """
        return self.chats([messages], sampling, tools=[tools], stop=stop)[0]

    def chats(
        self,
        conversations: Sequence[Sequence[Mapping[str, Any]]],
        sampling: SamplingParams | None = None,
        *,
        tools: Sequence[Sequence[Mapping[str, Any]] | None] | None = None,
        stop: Sequence[str] = (),
    ) -> list[Output]:
        """Answer conversations, batched, each with tools of its own; outputs in their order."""
        offered = [None] * len(conversations) if tools is None else tools
        prompts = [
            self.chat_token_ids(messages, own)
            for messages, own in zip(conversations, offered, strict=True)
        ]
        return self._complete(prompts, self._params(sampling, False), stop, is_turn=True)

    def chat_token_ids(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[int]:
        """The prompt of a conversation, as `chat` sends it."""
        if self.template is None:
            raise ConfigError(
                "model.chat_template: this model has none. Name one, or a Jinja file."
            )
        text = self.template.render(
            [turn_for_template(message) for message in messages],
            tools=tools_for_template(tools or ()),
            special_tokens=self.tokenizer.special_tokens,
        )
        return self.tokenizer.encode(text, add_special_tokens=False)

    def stream(
        self,
        prompt: str | Sequence[int],
        sampling: SamplingParams | None = None,
        *,
        stop: Sequence[str] = (),
        ignore_eos: bool = False,
    ) -> Iterator[str]:
        """The text of one completion as it comes. Closing the iterator aborts it."""
        engine_id = self._submit(prompt, self._params(sampling, ignore_eos), stop)
        try:
            running = self._running[engine_id]
            while True:
                while running.unread:
                    yield running.unread.popleft()
                if running.text.finish_reason is not None:
                    self._check(running)
                    return
                self._step()
        finally:
            self._forget([engine_id])

    def score(self, sequences: Sequence[Sequence[int]]) -> list[npt.NDArray[np.float32]]:
        """For each sequence log p(token[i + 1] | token[0..i]), natural logarithm, [len − 1]."""
        return [scores.logprobs for scores in self.score_full(sequences)]

    def score_full(
        self,
        sequences: Iterable[Sequence[int]],
        *,
        top: int = 0,
        rows: tuple[int, int] | None = None,
        first: Iterable[int] | None = None,
    ) -> Iterator[Scores]:
        """The scores of sequences in their order, each as soon as it is there.

        ``top``: the most probable tokens at each place. ``rows``: predictions begin to end − 1
        whose rows of V log-probabilities are told. ``first``: for each sequence the first
        prediction that is told; what it reads then comes from the prefix cache where that has it,
        so choices after one context, one after another, compute the context once.

        Sequences are read, and run, a few steps ahead of what is taken, so that rows can be reduced
        and dropped; no number depends on what else runs. Closing the iterator aborts what is in
        flight. `RequestError` when a sequence cannot run, `EngineError` naming the model when its
        logits are not finite.
        """
        detail = ScoreDetail(top, rows)
        waiting = requests(sequences, first)
        queue = ScoreQueue(waiting, detail, self._settings, self._engine.vocab_size)
        try:
            while True:
                while (request := queue.next()) is not None:
                    engine_id = self._new_id()
                    start_score(self._engine, engine_id, request, detail)
                    self._scores[engine_id] = None
                    queue.started(engine_id, request)
                if not queue.in_flight:
                    return
                engine_id = next(iter(queue.in_flight))
                while (scores := self._scores[engine_id]) is None:
                    self._step()
                del queue.in_flight[engine_id], self._scores[engine_id]
                if isinstance(scores, EngineError):
                    raise scores
                yield scores
                del scores  # the caller alone holds the rows
        finally:
            for engine_id in queue.in_flight:
                if self._scores.pop(engine_id) is None:
                    self._engine.abort(engine_id)
            self._settle()

    def logits(self, token_ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """Logits [len, V] of a sequence on its own; `EngineError` while others run."""
        try:
            return self._engine.logits(list(token_ids))
        except ValueError as error:
            raise RequestError(f"logits: {error}") from error
        except RuntimeError as error:
            raise EngineError(f"engine: {error}") from error

    def stats(self) -> dict[str, int | float | list[int] | dict[str, int | float]]:
        """The fields of `Stats`, without ``rss_bytes`` and ``busy_seconds``."""
        return self._engine.stats()

    def effective_config(self) -> _engine.EffectiveSettings:
        """The settings in force."""
        return self._engine.effective_config()

    def _complete(
        self,
        prompts: Sequence[str | Sequence[int]],
        params: SamplingParams,
        stop: Sequence[str],
        is_turn: bool = False,
    ) -> list[Output]:
        ids: list[int] = []
        try:
            for prompt in prompts:
                ids.append(self._submit(prompt, params, stop, is_turn))
            while any(self._running[i].text.finish_reason is None for i in ids):
                self._step()
            for engine_id in ids:
                self._check(self._running[engine_id])
            return [self._running[i].output() for i in ids]
        finally:
            self._forget(ids)

    def _params(self, sampling: SamplingParams | None, ignore_eos: bool) -> SamplingParams:
        if sampling is None:
            defaults = self.tokenizer.defaults
            sampling = SamplingParams(
                temperature=1.0 if defaults.temperature is None else defaults.temperature,
                top_k=defaults.top_k,
                top_p=1.0 if defaults.top_p is None else defaults.top_p,
                max_tokens=defaults.max_new_tokens,
            )
        if sampling.mask_slot is not None:
            raise RequestError("sampling.mask_slot: not built yet.")
        if ignore_eos:
            return sampling
        ids = dict.fromkeys((*sampling.stop_token_ids, *self.tokenizer.stop_token_ids))
        return msgspec.structs.replace(sampling, stop_token_ids=tuple(ids))

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id

    def _submit(
        self,
        prompt: str | Sequence[int],
        params: SamplingParams,
        stop: Sequence[str],
        is_turn: bool = False,
    ) -> int:
        """``is_turn``: the completion is a text of its own, not the prompt's continuation."""
        if isinstance(stop, str):
            raise RequestError("stop: expected a list of texts, got one text. Write stop=[TEXT].")
        ids = self.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
        engine_id = self._new_id()
        seed = secrets.randbits(63) if params.seed is None else params.seed
        try:
            submit_native(self._engine, engine_id, ids, params, seed)
        except (ValueError, TypeError, OverflowError) as error:
            raise RequestError(f"prompt: {error}") from error
        text = CompletionText(
            self.tokenizer.detokenizer(after=() if is_turn else ids),
            stop,
            stop_token_ids=params.stop_token_ids,
            min_tokens=params.min_tokens,
        )
        self._running[engine_id] = _Running(tuple(ids), text)
        return engine_id

    def _forget(self, ids: Sequence[int]) -> None:
        for engine_id in ids:
            if self._running.pop(engine_id).text.finish_reason is None:
                self._engine.abort(engine_id)
        self._settle()

    def _check(self, running: _Running) -> None:
        if running.error is not None:
            raise EngineError(f"{self._settings.workspace}: {running.error}")

    def _settle(self) -> None:
        """With nobody waiting, let the engine take note of what was aborted."""
        while not self._running and self._engine.has_work():
            self._step()

    def _step(self) -> None:
        try:
            outputs = self._engine.step()
        except RuntimeError as error:
            raise EngineError(f"engine: {error}") from error
        for output in outputs:
            if output.id in self._scores and output.finish_reason is not None:
                self._scores[output.id] = scores_of(output, self._settings.workspace)
            running = self._running.get(output.id)
            if running is None:
                continue
            event = tokens_event("", output)
            if not running.token_ids:
                running.num_cached_tokens = event.num_cached_tokens
            delta = running.text.push(event)
            running.token_ids += delta.token_ids
            running.logprobs += delta.logprobs
            running.top_logprobs += delta.top_logprobs
            running.parts.append(delta.text)
            running.error = event.error
            if delta.text:
                running.unread.append(delta.text)
            if delta.finish_reason is not None and event.finish_reason is None:
                self._engine.abort(output.id)  # a stop string matched
