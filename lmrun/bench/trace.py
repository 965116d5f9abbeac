"""Recorded arrivals: a CSV file of time, prompt tokens and generated tokens of each request."""

import csv
import hashlib
import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from lmrun.errors import ConfigError

ROW = "expected an arrival time, prompt tokens and generated tokens"


@dataclass(frozen=True)
class Arrival:
    """One request of a trace."""

    at: float
    """Seconds after the first."""
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True)
class Trace:
    """The first requests of a file, in the order they arrive."""

    file: str
    sha256: str
    arrivals: tuple[Arrival, ...]
    clipped: int = 0
    """Whose lengths were cut."""

    def within(self, context_length: int | None) -> "Trace":
        """With each request cut to what a context holds: first its prompt, to leave its completion
        room, though no more than half of it; then the completion."""
        if context_length is None:
            return self
        fitted = tuple(_fitted(arrival, context_length) for arrival in self.arrivals)
        changed = sum(a != b for a, b in zip(self.arrivals, fitted, strict=True))
        return replace(self, arrivals=fitted, clipped=changed)

    def faster(self, speedup: float) -> "Trace":
        """With the times between arrivals divided."""
        return replace(self, arrivals=tuple(replace(a, at=a.at / speedup) for a in self.arrivals))

    @property
    def offered_per_s(self) -> float:
        """Requests that arrive in a second, mean; 0 where all come at once."""
        last = self.arrivals[-1].at
        return (len(self.arrivals) - 1) / last if last > 0 else 0.0


def read_trace(path: str, requests: int) -> Trace:
    """The first requests of a file. Raises `ConfigError` naming the line that is wrong.

    Times are seconds, or ISO 8601 as Azure writes it (`2023-11-16 18:15:46.6805900`). A first line
    without numbers is a head.
    """
    try:
        content = Path(path).expanduser().read_bytes()
        lines = content.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise ConfigError(
            f"bench.trace={path}: expected a CSV file, got {error.strerror}."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"bench.trace={path}: expected text, got other bytes.") from error
    found: list[Arrival] = []
    for number, row in enumerate(csv.reader(lines), start=1):
        if len(found) == requests:
            break
        if not row or (number == 1 and not any(cell.strip().isdecimal() for cell in row)):
            continue
        arrival = _arrival(row, f"bench.trace={path}: line {number}")
        if found and arrival.at < found[-1].at:
            raise ConfigError(
                f"bench.trace={path}: line {number}: expected a time not before that of the line"
                " above. Sort the file."
            )
        found.append(arrival)
    if not found:
        raise ConfigError(f"bench.trace={path}: {ROW} in a line, got no line.")
    first = found[0].at
    return Trace(
        file=path,
        sha256=hashlib.sha256(content).hexdigest(),
        arrivals=tuple(replace(arrival, at=arrival.at - first) for arrival in found),
    )


def _arrival(row: list[str], where: str) -> Arrival:
    try:
        at, prompt, output = (cell.strip() for cell in row)
        arrival = Arrival(_seconds(at), int(prompt), int(output))
    except (ValueError, OverflowError):
        raise ConfigError(f"{where}: {ROW}, got {','.join(row)[:80]}.") from None
    if arrival.prompt_tokens < 0 or arrival.output_tokens < 0:
        raise ConfigError(f"{where}: {ROW}, got {','.join(row)[:80]}.")
    # a request of nothing is asked for one token, the least there is
    return Arrival(arrival.at, max(1, arrival.prompt_tokens), max(1, arrival.output_tokens))


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        whole, dot, fraction = text.partition(".")
        digits = fraction.rstrip("Z")
        if dot and not digits.isdecimal():
            raise
        moment = datetime.fromisoformat(whole)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = moment.timestamp() + (int(digits) / 10 ** len(digits) if dot else 0.0)
    if not math.isfinite(seconds):
        raise ValueError("no moment")
    return seconds


def _fitted(arrival: Arrival, context_length: int) -> Arrival:
    if arrival.prompt_tokens + arrival.output_tokens <= context_length:
        return arrival
    prompt = min(
        arrival.prompt_tokens, max(context_length // 2, context_length - arrival.output_tokens)
    )
    return replace(arrival, prompt_tokens=prompt, output_tokens=context_length - prompt)
