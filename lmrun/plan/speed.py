"""What a plan says about speed: sums of bytes and operations over rates."""

from dataclasses import dataclass
from typing import Literal

Phase = Literal["decode", "prefill"]
Rule = Literal["sum", "max"]
TermUnit = Literal["B", "FLOP", "layers", "steps", "tokens"]


@dataclass(frozen=True)
class Term:
    """Seconds of one part of a step: an amount over a rate."""

    what: str
    """Such as `weights, 4 bits g128`."""
    amount: float
    unit: TermUnit
    """`steps` and `layers` are what those take beside bytes and operations, `tokens` what the
    server takes for each."""
    rate: float
    """Units per second."""

    @property
    def seconds(self) -> float:
        """Amount over rate."""
        return self.amount / self.rate


@dataclass(frozen=True)
class SpeedEstimate:
    """Predicted tokens per second of one kind of step."""

    phase: Phase
    num_seqs: int
    context_length: int
    """Decode: tokens that each sequence holds already. Prefill: tokens of the prompt."""
    terms: tuple[Term, ...]
    rule: Rule
    """`sum`: the terms follow one another. `max`: bytes and operations overlap, and the longer of
    the two sums counts."""
    tokens: int
    """Tokens that the step yields."""
    seconds: float
    tokens_per_s: float


@dataclass(frozen=True)
class Speeds:
    """The roofline of a deployment, all replicas apart."""

    source: str
    """Where the rates come from, or why there is no estimate."""
    estimates: tuple[SpeedEstimate, ...]


@dataclass(frozen=True)
class Compared:
    """One estimate beside what was observed."""

    what: str
    unit: Literal["B", "tokens/s"]
    estimated: float
    observed: float

    @property
    def error(self) -> float:
        """(Estimated − observed) / observed."""
        return (self.estimated - self.observed) / self.observed


@dataclass(frozen=True)
class Observed:
    """What an earlier run of the same engine settings on this machine showed."""

    when: str
    """UTC time, ISO 8601."""
    rows: tuple[Compared, ...]
