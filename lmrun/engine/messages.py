"""The engine's face: messages in, messages out; plain data, no tensors, no callbacks.

`LLM` speaks them in process, the server through a local socket: each message is one MessagePack
document behind its length, four bytes, little-endian.
"""

from typing import Literal

import msgspec

FinishReason = Literal["stop", "length", "abort", "error"]
Setting = str | int | bool | list[int]


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True):
    """How the next token is chosen. Stop strings are not here: they are matched on text.

    ``temperature`` 0 is greedy. ``top_k`` None and ``top_p`` 1 switch the filter off. ``seed``
    None draws one. ``max_tokens`` counts completion tokens; None runs to the context length.
    ``min_tokens``: no stop id is sampled before that many. ``stop_token_ids`` end the completion
    and are themselves reported in the last event. ``logprobs``: None, or how many alternatives
    are reported beside the chosen token. ``mask_slot`` names the row of the token mask
    (``uint32[ceil(V / 32)]``) that a grammar fills; a step leaves out a sequence whose mask is
    pending.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    seed: int | None = None
    max_tokens: int | None = None
    min_tokens: int = 0
    stop_token_ids: tuple[int, ...] = ()
    logit_bias: dict[int, float] = {}
    logprobs: int | None = None
    mask_slot: int | None = None


class Submit(msgspec.Struct, frozen=True, kw_only=True, tag="submit"):
    """Start a completion. ``request_id`` is the client's, unique on its connection."""

    request_id: str
    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParams


class Score(msgspec.Struct, frozen=True, kw_only=True, tag="score"):
    """Ask for log p(token[i + 1] | token[0..i]) for each i; answered by one `Scored`.

    ``top``: how many of the most probable next tokens are told beside it at each position.
    """

    request_id: str
    token_ids: tuple[int, ...]
    top: int = 0


class Abort(msgspec.Struct, frozen=True, kw_only=True, tag="abort"):
    """End a request at once; answered by a `Tokens` event with finish reason ``abort``.

    An unknown or finished id is ignored: the abort crossed the last event on the wire.
    """

    request_id: str


class Ask(msgspec.Struct, frozen=True, kw_only=True, tag="ask"):
    """Ask for `Stats`, `EffectiveConfig` or `Memory`."""

    what: Literal["stats", "effective_config", "memory"]


class Tokens(msgspec.Struct, frozen=True, kw_only=True, tag="tokens"):
    """New completion tokens of a request; the last event carries ``finish_reason``.

    ``logprobs[i]`` is that of ``token_ids[i]``; ``top_logprobs[i]`` maps alternatives. Both are
    empty unless asked for. ``error`` says why when ``finish_reason`` is ``error``.
    """

    request_id: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    top_logprobs: tuple[dict[int, float], ...] = ()
    finish_reason: FinishReason | None = None
    num_cached_tokens: int = 0
    error: str | None = None


class Scored(msgspec.Struct, frozen=True, kw_only=True, tag="scored"):
    """``logprobs``: one fewer than the tokens asked about, natural logarithm.

    ``top_ids[i]`` and ``top_logprobs[i]``: the most probable tokens at the place of token i + 1,
    as many as `Score.top` asked for, best first, ties by lowest id; empty where it asked for none.
    """

    request_id: str
    logprobs: tuple[float, ...] = ()
    top_ids: tuple[tuple[int, ...], ...] = ()
    top_logprobs: tuple[tuple[float, ...], ...] = ()
    error: str | None = None


class StepCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Steps of one kind, summed up."""

    steps: int = 0
    seqs: int = 0
    """Sequences in them."""
    tokens: int = 0
    """Computed."""
    context: int = 0
    """Tokens in the cache before the step, of each sequence."""
    seconds: float = 0.0
    """Inside the native step."""


class Stats(msgspec.Struct, frozen=True, kw_only=True, tag="stats"):
    """Counters and gauges of the engine; counters run from the start of the process."""

    num_blocks: int
    used_blocks: int
    """Blocks some running request refers to; blocks kept only for prefix reuse count as free."""
    running: int
    waiting: int
    num_steps: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    preemptions: int
    last_step_seqs: int
    seqs_per_step: tuple[int, ...]
    """Steps counted by their number of sequences: index 0 counts steps of one sequence."""
    touched_blocks: int
    """Blocks ever used; the others have no memory yet."""
    peak_used_blocks: int
    step_seconds: float
    """Inside the native engine."""
    decode_one: StepCounts
    """Steps of one sequence that decodes."""
    decode: StepCounts
    """Steps that only decode, those of one sequence too."""
    prefill: StepCounts
    """Steps of prompt tokens alone that fill at least half the token budget."""
    busy_seconds: float
    """Of the step loop, between and inside the steps, while there was work."""
    rss_bytes: int


class Memory(msgspec.Struct, frozen=True, kw_only=True, tag="memory"):
    """Resident memory of the engine process, in bytes; None where the system does not say."""

    rss_bytes: int
    peak_rss_bytes: int
    weights_bytes: int | None
    """Pages of the workspace."""
    weights_huge_bytes: int | None = None
    """Of these, what is in huge pages."""
    kv_bytes: int | None
    """Pages of the KV blocks."""
    seconds_to_ready: float
    """From the settings to the first token: the process may have waited for them."""


class EffectiveConfig(msgspec.Struct, frozen=True, kw_only=True, tag="effective_config"):
    """The fields of `EngineSettings` as they are in force, ``isa`` and ``weight_memory`` resolved,
    and the build.

    ``kv_bits`` is a list where layers differ.
    """

    settings: dict[str, Setting]
    engine_build: str


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag="ready"):
    """The first message on a connection: the workspace is mapped and a token was computed."""

    vocab_size: int
    context_length: int


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """A request that cannot run: prompt longer than the context, token id out of range."""

    request_id: str
    error: str


Request = Submit | Score | Abort | Ask
Event = Tokens | Scored | Stats | EffectiveConfig | Memory | Ready | Refused
