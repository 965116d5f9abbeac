"""What `lmrun bench engine` measures: shapes, loads, and the figures of one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lmrun.bench.trace import Trace

Kind = Literal["decode", "prefill", "trace", "start"]
SHAPES: Mapping[str, str] = {
    "demo": "builtin:demo",
    "llama-1b": "builtin:random-llama-1b-8k",
    "internlm2_5-1.8b": "builtin:random-internlm2_5-1.8b",
    "random-llama": "builtin:random-llama",
}
"""Name → model. The last is tiny: it tries the bench out."""
STEP_TOKENS = 512
"""Token budget of a step, of each engine that has one."""
START_TOKENS = 16
"""Of the request that a start is followed by."""


@dataclass(frozen=True)
class Settings:
    """What is measured."""

    shape: str = "llama-1b"
    threads: int = 1
    batches: tuple[int, ...] = (1, 4, 8, 16)
    contexts: tuple[int, ...] = (0, 512, 2048, 4096)
    lengths: tuple[int, ...] = (128, 512, 2048)
    new_tokens: int = 32
    """Decoded in each case."""
    rounds: int = 3
    is_full: bool = False
    """Each batch at each context; else batches above 1 at the first context alone."""
    trace: Trace | None = None

    def within(self, context_length: int) -> "Settings":
        """Without what a context does not hold."""
        room = context_length - 3 * self.new_tokens
        return Settings(
            **{
                **vars(self),
                "contexts": tuple(c for c in self.contexts if c <= room),
                "lengths": tuple(n for n in self.lengths if n < context_length),
                "trace": None if self.trace is None else self.trace.within(context_length),
            }
        )


QUICK = Settings(batches=(1, 8), contexts=(0, 512), lengths=(128,), new_tokens=16, rounds=1)
"""Of --quick."""


@dataclass(frozen=True)
class Job:
    """A part of the load that one process does."""

    name: str
    kind: Kind
    batches: tuple[int, ...] = ()
    contexts: tuple[int, ...] = ()
    lengths: tuple[int, ...] = ()
    new_tokens: int = 0
    arrivals: tuple[tuple[float, int, int], ...] = ()

    @property
    def num_tokens(self) -> int:
        """What a KV cache holds at most."""
        if self.kind == "trace":
            return sum(prompt + new for _, prompt, new in self.arrivals)
        if self.kind == "prefill":
            return sum(self.lengths) + START_TOKENS
        each = max((*self.contexts, 0)) + 2 * self.new_tokens + START_TOKENS
        # and a step in which a prefill of the others goes on
        return max((*self.batches, 1)) * (each + max((*self.contexts, 0)) // STEP_TOKENS + 4)

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence, with room to spare."""
        if self.kind == "trace":
            return max(prompt + new for _, prompt, new in self.arrivals)
        if self.kind == "prefill":
            return max(self.lengths) + START_TOKENS
        batch, context = max((*self.batches, 1)), max((*self.contexts, 0))
        return context + self.new_tokens + START_TOKENS + batch * (context // STEP_TOKENS + 1)

    @property
    def max_seqs(self) -> int:
        """Sequences at the same time."""
        return 32 if self.kind == "trace" else max((*self.batches, 1))

    def to_json(self) -> dict[str, Any]:
        """As `stepping.run` takes it."""
        return {
            "do": self.kind,
            "batches": list(self.batches),
            "contexts": list(self.contexts),
            "lengths": list(self.lengths),
            "new_tokens": self.new_tokens,
            "arrivals": [list(arrival) for arrival in self.arrivals],
        }


def jobs(settings: Settings) -> list[Job]:
    """In the order of a round; one for each process."""
    new, contexts = settings.new_tokens, settings.contexts
    found = [Job("start", "start", new_tokens=START_TOKENS)]
    if 1 in settings.batches and contexts:
        found.append(Job("one", "decode", batches=(1,), contexts=contexts, new_tokens=new))
    many = tuple(batch for batch in settings.batches if batch > 1)
    if many and contexts:
        where = contexts if settings.is_full else contexts[:1]
        found.append(Job("many", "decode", batches=many, contexts=where, new_tokens=new))
    if settings.lengths:
        found.append(Job("prefill", "prefill", lengths=settings.lengths))
    if settings.trace is not None:
        arrivals = tuple((a.at, a.prompt_tokens, a.output_tokens) for a in settings.trace.arrivals)
        found.append(Job("trace", "trace", arrivals=arrivals))
    return found


@dataclass(frozen=True)
class Case:
    """One figure's place: `decode` of a batch after a context, `prefill` of a prompt (its length
    is ``context``), `trace`, `start`."""

    kind: Kind
    batch: int = 1
    context: int = 0


@dataclass(frozen=True)
class Measured:
    """One figure of one round."""

    case: Case
    tokens_per_s: float | None
    """None of a start."""
    detail: Mapping[str, float] = field(default_factory=dict)
    """Of a trace and of a start, with units in the names."""


@dataclass(frozen=True)
class Outcome:
    """What one job gave."""

    measured: tuple[Measured, ...]
    peak_rss_bytes: int
    others_busy: float
    """Cores that others used meanwhile, on average."""
    weight_bytes: int | None = None
    """Of the file that the engine read, where it says so."""


def stepped(found: Mapping[str, Any]) -> tuple[Measured, ...]:
    """From what `stepping.run` returns; a start is not in it."""
    measured = [
        Measured(Case("decode", one["batch"], one["context"]), one["tokens_per_s"])
        for one in found.get("decode", ())
    ]
    measured += [
        Measured(Case("prefill", 1, one["length"]), one["tokens_per_s"])
        for one in found.get("prefill", ())
    ]
    if (trace := found.get("trace")) is not None:
        waits = trace["ttft_s"]
        detail = {
            "requests": trace["requests"],
            "prompt_tokens": trace["prompt_tokens"],
            "output_tokens": trace["tokens"],
            "seconds": trace["seconds"],
            "ttft_p50_s": waits[len(waits) // 2],
            "ttft_max_s": waits[-1],
            "itl_mean_s": trace["itl_s"],
            "largest_step": trace["largest_step"],
        }
        measured.append(Measured(Case("trace"), trace["tokens_per_s"], detail))
    return tuple(measured)
