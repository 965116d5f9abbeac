"""What `lmrun bench` found: the document that its `--json` prints, and that a sweep keeps."""

from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal

import msgspec

from lmrun.artifacts.measurements import MachineIdentity
from lmrun.json_schema import closed

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """Of one figure over all requests (or events) of all rounds. Percentiles interpolate."""

    count: int
    mean: float
    p50: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Of one figure over the rounds: how much the machine's noise moves it."""

    min: float
    median: float
    max: float


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A measured figure beside what this machine could do at most."""

    figure: Literal["itl_ms", "ttft_ms", "output_tokens_per_s"]
    value: float
    ceiling: float
    """In the figure's unit: of a latency the least, of a rate the most. Bytes and operations alone,
    at the rates that the engine's kernels reach on this machine."""
    share: float
    """Of the ceiling that was reached: 1 is all of it."""
    expected: float
    """The ceiling with what steps, layers and serving take beside, as `lmrun plan` predicts."""
    why: str
    """The ceiling as a sum."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """One level of concurrency, or one trace, over all its rounds.

    Errors are counted, and in no other figure. A figure is null where no request ended well.
    """

    concurrency: int | None
    """Requests that were open at the same time; null for a trace, which opens them when they
    arrive."""
    rounds: int
    requests: int
    """That ended well."""
    errors: int
    error: str | None
    """What the first of the errors said."""
    seconds: float
    """From the first request to the last answer, sum of the rounds."""
    prompt_tokens: float | None
    """Of a request, mean, as the server counted them."""
    output_tokens: float | None
    """The same of the completion."""
    ttft_ms: Distribution | None
    """From sending a request to the first text of its answer."""
    itl_ms: Distribution | None
    """Inter-token latency. The mean is a request's time after its first text over its tokens after
    the first; the percentiles are of the gaps between events, which hold `tokens_per_event`."""
    latency_ms: Distribution | None
    """From sending a request to the end of its answer."""
    ttft_p50_ms: Spread | None
    itl_mean_ms: Spread | None
    output_tokens_per_s: Spread | None
    total_tokens_per_s: Spread | None
    """Prompt and completion."""
    requests_per_s: Spread | None
    tokens_per_event: float | None
    """1: each token came on its own."""
    cached_tokens: int | None
    """Prompt tokens that the server found in its prefix cache; null where it does not say."""
    client_cpu_share: float
    """Of one core, what this measuring process took: near 1 it falsifies the rest."""
    bounds: list[Bound]
    """Empty where the ceilings of the serving machine are not known."""


@dataclass(frozen=True, kw_only=True)
class TraceReplay:
    """How a recorded series of arrivals was replayed."""

    file: str
    sha256: str
    requests: int
    """Replayed: the first ones of the file."""
    clipped: int
    """Whose lengths were cut to fit the context length."""
    speedup: float
    """By which the times between arrivals were divided."""
    offered_requests_per_s: float
    max_ttft_ms: float
    """A request is good when its first text came within this …"""
    max_itl_ms: float
    """… and its mean inter-token latency is within that."""
    good_requests: int
    goodput_requests_per_s: float
    load: Load


@dataclass(frozen=True, kw_only=True)
class Target:
    """What was measured."""

    kind: Literal["deployment", "url"]
    """`deployment`: engine and server that the bench started; `url`: one that ran already."""
    url: str | None
    model: str
    """Name in the API."""
    endpoint: str
    """Path that took the requests."""
    prompts: Literal["token ids", "text"]
    ignores_eos: bool
    """False: the server knows no way to, so completions may be shorter than asked for."""
    recipe: str | None
    engine: dict[str, str | int | bool | list[int]] | None
    """Effective settings; null behind a URL."""
    engine_build: str | None
    seconds_to_ready: float | None


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Of the engine process, at its end. Bytes."""

    peak_rss_bytes: int
    weights_bytes: int | None
    """Pages of the mapped workspace that are resident."""
    kv_bytes: int | None
    """Pages of KV blocks that are resident."""
    kv_blocks: int
    peak_kv_blocks: int
    """Blocks that requests held at one time."""
    preemptions: int


@dataclass(frozen=True, kw_only=True)
class Rates:
    """The machine's ceilings that the bounds were computed from."""

    source: Literal["lmrun doctor --measure", "measured in this run"]
    measured_at: str
    threads: int
    read_bytes_per_s: float
    flops_per_s: float


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The four figures of a run that a comparison shows."""

    ttft_ms: float
    """p50 at the lowest concurrency, median of the rounds."""
    itl_ms: float | None
    """Mean at the lowest concurrency, median of the rounds; null where completions are of one
    token."""
    tokens_per_s: float
    """Output tokens, median of the rounds, at the concurrency that yields most."""
    requests_per_s: float
    """The same of requests."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What was asked for: the keys `bench.*`."""

    prompt_tokens: int
    output_tokens: int
    concurrency: list[int]
    requests: int
    rounds: int
    seed: int
    trace: str | None


@dataclass(frozen=True, kw_only=True)
class BenchReport:
    """Speed of one deployment or server."""

    schema_version: int
    bench: Literal["serving"]
    complete: bool
    """False: it ended early, `problem` says why, and the loads are those that were measured."""
    problem: str | None
    started: str
    """ISO 8601, UTC."""
    seconds: float
    lmrun: str
    """Version."""
    machine: MachineIdentity | None
    """That serves; null behind a URL."""
    target: Target
    asked: Asked
    loads: list[Load]
    trace: TraceReplay | None
    memory: Memory | None
    """Null behind a URL, and where the engine ended before it could be asked."""
    rates: Rates | None
    """Null where no load has a bound: behind a URL, and of a trace."""
    figures: Figures | None
    """Null where nothing was measured."""

    def to_json(self) -> dict[str, Any]:
        """The document; `schema` describes it."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "BenchReport":
        """`to_json` read back. Raises `msgspec.ValidationError`, a `ValueError`."""
        return msgspec.convert(document, cls)


@cache
def schema() -> dict[str, Any]:
    """JSON Schema of the report, made from the types above."""
    document = closed(msgspec.json.schema(BenchReport))
    document["$defs"]["BenchReport"]["properties"]["schema_version"] = {"const": SCHEMA_VERSION}
    return document
