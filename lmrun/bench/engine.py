"""`lmrun bench engine`: the engine alone, beside what the machine can do and beside its peers.

Every job is done by a process of its own; within a round each job goes to all engines in turn,
before the next job, so that a slow minute of the machine hits all.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Protocol

from lmrun import _engine, log
from lmrun.bench.engine_cases import Case, Job, Measured, Outcome, Settings, jobs
from lmrun.errors import LmrunError

BANDWIDTH_BYTES = 1 << 29

_log = log.get(__name__)


class Engine(Protocol):
    """One engine in one setting."""

    @property
    def name(self) -> str:
        """As the table heads its column."""

    def lacks(self, job: Job) -> str | None:
        """Why it has no such figures; None where it has."""

    def run(self, job: Job) -> Outcome:
        """Do a job; raises `LmrunError`."""

    def about(self) -> Mapping[str, str]:
        """`version` and `isa`; raises `LmrunError`."""


@dataclass(frozen=True)
class Entry:
    """An engine and what its figures stand for."""

    engine: Engine
    is_ours: bool
    weights: str
    kv_bits: int
    activations: str
    only: frozenset[str] | None = None
    """Names of the jobs it does; None: of all."""


@dataclass(frozen=True)
class Peaks:
    """Ceilings, measured before each round; the best counts."""

    read_bytes_per_s: float = 0.0
    fp32_flops_per_s: float = 0.0
    bf16_flops_per_s: float = 0.0
    """0 where the CPU has no products of bfloat16."""
    int8_ops_per_s: float = 0.0
    """Likewise of bytes."""

    def better(self, other: "Peaks") -> "Peaks":
        """The best of each."""
        found = {name: max(value, vars(other)[name]) for name, value in vars(self).items()}
        return Peaks(**found)


@dataclass(frozen=True)
class Figure:
    """One engine in one case, over the rounds."""

    case: Case
    measured: tuple[Measured, ...]
    others_busy: tuple[float, ...]
    peak_rss_bytes: int

    @property
    def rates(self) -> tuple[float, ...]:
        """Tokens/s of each round; none of a start."""
        return tuple(one.tokens_per_s for one in self.measured if one.tokens_per_s is not None)

    @property
    def best(self) -> float | None:
        """Tokens/s of the best round."""
        return max(self.rates, default=None)

    @property
    def middle(self) -> float | None:
        """Tokens/s, median of the rounds."""
        return median(self.rates) if self.rates else None

    @property
    def detail(self) -> dict[str, float]:
        """Of the best round; of a start, the least of each over the rounds."""
        if not self.rates:
            names = self.measured[0].detail
            return {name: min(one.detail[name] for one in self.measured) for name in names}
        return dict(max(self.measured, key=lambda one: one.tokens_per_s or 0).detail)


@dataclass
class Results:
    """What was measured."""

    settings: Settings
    entries: Sequence[Entry]
    peaks: Peaks = field(default_factory=Peaks)
    about: dict[str, dict[str, str]] = field(default_factory=dict)
    """Engine → `version`, `isa`."""
    weight_bytes: dict[str, int] = field(default_factory=dict)
    """Engine → size of what it reads, where it says so."""
    outcomes: dict[tuple[str, str], list[Outcome]] = field(default_factory=dict)
    """(engine, job) → one a round."""
    failed: list[str] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)
    """What a peer has no figures of, and why."""

    def figures(self, name: str) -> list[Figure]:
        """Of one engine, in the order of the jobs."""
        found: list[Figure] = []
        for job in jobs(self.settings):
            rounds = self.outcomes.get((name, job.name), [])
            for case in dict.fromkeys(one.case for got in rounds for one in got.measured):
                pairs = [(one, got) for got in rounds for one in got.measured if one.case == case]
                found.append(
                    Figure(
                        case,
                        tuple(one for one, _ in pairs),
                        tuple(got.others_busy for _, got in pairs),
                        max(got.peak_rss_bytes for _, got in pairs),
                    )
                )
        return found


def run(
    settings: Settings, entries: Sequence[Entry], measure: Callable[[int], Peaks] | None = None
) -> Results:
    """Measure everything; an engine that fails a job is reported and asked for it no more."""
    measure = measure or peaks
    results = Results(settings, entries)
    for entry in entries:
        try:
            results.about[entry.engine.name] = dict(entry.engine.about())
        except LmrunError as error:
            _failed(results, entry, "start", error)
    alive = [entry for entry in entries if entry.engine.name in results.about]
    for number in range(settings.rounds):
        _log.info("bench: round %d of %d", number + 1, settings.rounds)
        results.peaks = results.peaks.better(measure(settings.threads))
        for job in jobs(settings):
            for entry in _doing(results, alive, job, is_first=number == 0):
                try:
                    outcome = entry.engine.run(job)
                except LmrunError as error:
                    _failed(results, entry, job.name, error)
                    continue
                name = entry.engine.name
                results.outcomes.setdefault((name, job.name), []).append(outcome)
                if outcome.weight_bytes is not None:
                    results.weight_bytes[name] = outcome.weight_bytes
                _tell(name, outcome.measured)
    return results


def peaks(threads: int) -> Peaks:
    """Of this machine, now."""
    return Peaks(
        _engine.measure_read_bandwidth(threads, BANDWIDTH_BYTES),
        _engine.measure_flops(threads),
        _engine.measure_products("bf16", threads),
        _engine.measure_products("int8", threads),
    )


def _doing(
    results: Results, entries: Iterable[Entry], job: Job, *, is_first: bool
) -> Iterable[Entry]:
    for entry in entries:
        name = entry.engine.name
        if entry.only is not None and job.name not in entry.only:
            continue
        if any(words.startswith(f"{name}, {job.name}:") for words in results.failed):
            continue
        why = entry.engine.lacks(job)
        if why is None:
            yield entry
        elif is_first:
            results.lacking.append(f"{name}, {job.name}: {why}")


def _failed(results: Results, entry: Entry, job: str, error: LmrunError) -> None:
    words = f"{entry.engine.name}, {job}: {error}"
    results.failed.append(words)
    _log.warning("bench: %s", words)


def _tell(name: str, measured: Iterable[Measured]) -> None:
    for one in measured:
        case = one.case
        if one.tokens_per_s is not None:
            words = (case.kind, case.batch, case.context, one.tokens_per_s)
            _log.info("bench: %s: %s %d at %d: %.1f tokens/s", name, *words)
