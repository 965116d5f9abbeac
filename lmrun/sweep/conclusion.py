"""What a sweep found: its points with their figures, repetitions together, and the Pareto front."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmrun.sweep.figures import TASK, Figure, figures_of
from lmrun.sweep.pareto import dominated_by
from lmrun.sweep.rows import SEEDS, Point, Row, Status, Sweep

_QUALITY = ("ppl_ratio", "ppl", "kl", "top1", "tool_accuracy")
"""The first one that a sweep has is its quality on the front; without any, its tasks are."""
_MEMORY, _SPEED = "memory_gib", ("tokens_per_s", "ttft_ms")
_MEASURED = (Status.ok, Status.gate_failed)


@dataclass(frozen=True)
class Value:
    """One figure of a point, over its repetitions."""

    mean: float
    deviation: float | None
    """Sample standard deviation over the repetitions; None where there is one value."""
    count: int
    """Repetitions that have the figure."""


@dataclass(frozen=True)
class Entry:
    """A line of the conclusion: a point, or points that differ in seeds alone."""

    number: int
    """Of its first point, from 1."""
    rows: tuple[Row, ...]
    """Those that were measured."""
    settings: Mapping[str, Any]
    """Swept key → value, without seeds."""
    values: Mapping[str, Value]
    """Name of a figure → its value; missing ones are not in it."""
    passed: bool
    """No repetition failed its gate."""
    off_front: str | None
    """Why it is not on the Pareto front; None: it is."""

    @property
    def is_pareto(self) -> bool:
        """On the front."""
        return self.off_front is None

    def mean(self, name: str) -> float | None:
        """Of a figure, or None."""
        value = self.values.get(name)
        return None if value is None else value.mean

    @property
    def name(self) -> str:
        """The settings as words of a command line."""
        return settings_text(self.settings) or f"point {self.number}"


@dataclass(frozen=True)
class Conclusion:
    """A sweep, compared."""

    sweep: Sweep
    figures: tuple[Figure, ...]
    """Those that at least one entry has, in the order of columns."""
    legal: tuple[Figure, ...]
    """Those that could be asked for."""
    front: tuple[Figure, ...]
    """Those that the Pareto front is over."""
    entries: tuple[Entry, ...]
    """In the order of expansion."""
    left_out: tuple[Row, ...]
    """Rows without figures: skipped, failed, not run yet."""
    notes: tuple[str, ...]
    """What a reader must know to compare: sentences."""

    @property
    def pareto(self) -> tuple[Entry, ...]:
        """The entries on the front."""
        return tuple(entry for entry in self.entries if entry.is_pareto)

    @property
    def keys(self) -> tuple[str, ...]:
        """Swept keys without seeds, in the order of the command line."""
        points = (row.point for row in self.sweep.rows)
        return tuple(dict.fromkeys(key for point in points for key in repeated(point)))

    @property
    def has_repetitions(self) -> bool:
        """Whether any entry stands for several points."""
        return any(len(entry.rows) > 1 for entry in self.entries)


def conclude(sweep: Sweep) -> Conclusion:
    """Compare what has been measured so far; a sweep that still runs can be concluded too."""
    legal = figures_of(sweep.rows)
    groups = [_group(rows, legal) for rows in _repetitions(sweep.rows)]
    measured = [group for group in groups if group is not None]
    present = {name for entry in measured for name in entry.values}
    figures = tuple(figure for figure in legal if figure.name in present)
    front = _front_figures(figures)
    return Conclusion(
        sweep=sweep,
        figures=figures,
        legal=legal,
        front=front,
        entries=_with_front(measured, front),
        left_out=tuple(row for row in sweep.rows if row.status not in _MEASURED),
        notes=tuple(_notes(measured)),
    )


def ordered(point: Point) -> dict[str, Any]:
    """The swept keys, as the command line orders them."""
    words = [word.partition("=")[0].lstrip("+") for word in point.overrides]
    places = {word: place for place, word in enumerate(words)}
    return {
        key: point.keys[key] for key in sorted(point.keys, key=lambda k: places.get(k, len(words)))
    }


def repeated(point: Point) -> dict[str, Any]:
    """The same without seeds: equal for points that repeat each other."""
    return {key: value for key, value in ordered(point).items() if not _is_seed(key)}


def _is_seed(key: str) -> bool:
    return key in SEEDS or key.endswith(".seed")


def settings_text(settings: Mapping[str, Any]) -> str:
    """``kv.bits=4 quant.method=rtn``."""
    return " ".join(f"{key}={value_text(value)}" for key, value in settings.items())


def value_text(value: Any) -> str:  # noqa: ANN401 - any value of a key
    """A value as a command line has it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(map(value_text, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{value_text(item)}' for key, item in value.items())}}}"
    return str(value)


def _repetitions(rows: Iterable[Row]) -> list[list[Row]]:
    """Rows of equal settings together, in the order of the first of each."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(repr(sorted(repeated(row.point).items())), []).append(row)
    return list(found.values())


def _group(rows: Sequence[Row], legal: Sequence[Figure]) -> Entry | None:
    measured = tuple(row for row in rows if row.status in _MEASURED)
    if not measured:
        return None
    values = {}
    for figure in legal:
        found = [value for row in measured if (value := figure.read(row)) is not None]
        if found:
            deviation = statistics.stdev(found) if len(found) > 1 else None
            values[figure.name] = Value(math.fsum(found) / len(found), deviation, len(found))
    return Entry(
        number=measured[0].point.index + 1,
        rows=measured,
        settings=repeated(measured[0].point),
        values=values,
        passed=all(row.status is Status.ok for row in measured),
        off_front="",
    )


def _front_figures(figures: Sequence[Figure]) -> tuple[Figure, ...]:
    names = {figure.name for figure in figures}
    quality = next(([name] for name in _QUALITY if name in names), None)
    if quality is None:
        quality = [name for name in names if name.startswith(TASK)]
    wanted = {_MEMORY, *quality, *_SPEED}
    return tuple(figure for figure in figures if figure.name in wanted)


def _with_front(entries: Sequence[Entry], front: Sequence[Figure]) -> tuple[Entry, ...]:
    """The entries again, each with the reason why it is not on the front, or None."""
    whole = [entry for entry in entries if entry.passed and not _missing(entry, front)]
    means = [{figure.name: entry.values[figure.name].mean for figure in front} for entry in whole]
    rivals = {
        entry.number: None if rank is None else whole[rank].number
        for entry, rank in zip(whole, dominated_by(means, front), strict=True)
    }
    return tuple(
        Entry(
            number=entry.number,
            rows=entry.rows,
            settings=entry.settings,
            values=entry.values,
            passed=entry.passed,
            off_front=_why(entry, front, rivals),
        )
        for entry in entries
    )


def _why(entry: Entry, front: Sequence[Figure], rivals: Mapping[int, int | None]) -> str | None:
    if not front:
        return "no figures"
    if not entry.passed:
        failed = next(row for row in entry.rows if row.status is Status.gate_failed)
        return f"gate failed: {failed.why}" if failed.why else "gate failed"
    missing = _missing(entry, front)
    if missing:
        return f"no {', '.join(missing)}"
    rival = rivals[entry.number]
    return None if rival is None else f"beaten by {rival}"


def _missing(entry: Entry, front: Sequence[Figure]) -> list[str]:
    return [figure.name for figure in front if figure.name not in entry.values]


def _notes(entries: Sequence[Entry]) -> Iterable[str]:
    documents = [row.quality for entry in entries for row in entry.rows if row.quality]
    protocols = {repr(_without(document.get("protocol"), "text")) for document in documents}
    if len(protocols) > 1:
        yield (
            "The points were not evaluated on the same tokens, so that their perplexities cannot be"
            " compared."
        )
    baselines = {(document.get("baseline") or {}).get("perplexity") for document in documents}
    if len(protocols) == 1 and len(baselines - {None}) > 1:
        yield (
            "The points have different baselines: ppl_ratio and kl compare each with its own model."
        )
    reports = [row.bench for entry in entries for row in entry.rows if row.bench]
    asked = {repr(_without(report.get("asked"), "seed")) for report in reports}
    if len(asked) > 1:
        yield "The points were not measured under the same load (bench.*)."
    machines = {repr(report.get("machine")) for report in reports}
    if len(machines) > 1:
        yield "The points were not measured on the same machine."
    if any(report.get("complete") is False for report in reports):
        yield "Some measurements of speed ended early; the points' logs say why."


def _without(document: object, key: str) -> object:
    if not isinstance(document, Mapping):
        return document
    return {name: value for name, value in document.items() if name != key}
