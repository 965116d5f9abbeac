"""The figures that points are compared by: one table for conclusion, choice, CSV and report.

Each is read from what a row keeps: the plan's memory, the report of the evaluate stage
(`lmrun.evals.report`) and that of the bench (`lmrun.bench.report`). TTFT and inter-token latency
are those of the lowest concurrency, what one user waits; tokens and requests per second those of
the concurrency that yields most, what the machine gives.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import floor, isfinite, log10
from typing import Any

from lmrun.sweep.rows import Row

TASK = "task."
"""Before the name of a task file: its accuracy."""
_GIB = float(1 << 30)


class Better(StrEnum):
    """Which way a figure improves."""

    low = "lower"
    high = "higher"


@dataclass(frozen=True)
class Figure:
    """One figure of a point."""

    name: str
    """As `--choose` and JSON have it."""
    title: str
    """For people: axes, heads of columns."""
    unit: str
    """Empty for ratios and shares."""
    better: Better
    description: str
    read: Callable[[Row], float | None]
    """None where the row has it not."""
    significant: int = 3
    """Digits that its smallest value is shown with."""
    decimals: int | None = None
    """Shown of every value instead."""
    rank: int = 0
    """A narrow table leaves out the highest first."""

    @property
    def header(self) -> str:
        """Of a CSV column: the name, and the unit in brackets."""
        if not self.unit:
            return self.name
        bare = self.name.removesuffix("_gib").removesuffix("_ms").removesuffix("_per_s")
        return f"{bare} [{self.unit}]"

    def is_better(self, one: float, other: float) -> bool:
        """Whether one value is better than another; equal ones are not."""
        return one < other if self.better is Better.low else one > other

    def best(self, values: Iterable[float]) -> float:
        """Of at least one value."""
        return min(values) if self.better is Better.low else max(values)

    def places(self, values: Iterable[float]) -> int:
        """Decimals that a column of these values is shown with."""
        if self.decimals is not None:
            return self.decimals
        sizes = [abs(value) for value in values if value]
        least = floor(log10(min(sizes))) if sizes else 0
        return min(max(self.significant - 1 - least, 0), 6)


def _bytes_of(name: str) -> Callable[[Row], float | None]:
    def read(row: Row) -> float | None:
        return None if row.memory is None else getattr(row.memory, name) / _GIB

    return read


def _quality(*path: str) -> Callable[[Row], float | None]:
    return lambda row: _number(row.quality, path)


def _bench(name: str) -> Callable[[Row], float | None]:
    return lambda row: _number(row.bench, ("figures", name))


def _number(document: Mapping[str, Any] | None, path: Sequence[str]) -> float | None:
    """A finite number of a document; None where it, or a level above it, is missing or null."""
    found: Any = document
    for part in path:
        if not isinstance(found, Mapping):
            return None
        found = found.get(part)
    is_number = isinstance(found, int | float) and not isinstance(found, bool)
    return float(found) if is_number and isfinite(found) else None


_LOW, _HIGH = Better.low, Better.high
FIGURES: tuple[Figure, ...] = (
    Figure(
        *("memory_gib", "memory", "GiB", _LOW),
        "all that the engine takes at most: process, weights, activations, KV cache (plan)",
        _bytes_of("total_bytes"),
    ),
    Figure(
        *("weights_gib", "weights", "GiB", _LOW, "weights in memory (plan)"),
        _bytes_of("weights_bytes"),
        rank=8,
    ),
    Figure(*("kv_gib", "KV cache", "GiB", _LOW, "KV cache (plan)"), _bytes_of("kv_bytes"), rank=9),
    Figure(
        *("ppl", "perplexity", "", _LOW, "perplexity on evaluate.data"),
        _quality("perplexity"),
        decimals=3,
        rank=3,
    ),
    Figure(
        *("ppl_ratio", "perplexity ratio", "", _LOW),
        "perplexity over that of the unquantized model with a 16-bit KV cache",
        _quality("ppl_ratio"),
        decimals=4,
    ),
    Figure(
        *("kl", "KL", "nat", _LOW, "KL divergence from the unquantized model, mean of positions"),
        _quality("kl"),
        decimals=4,
        rank=2,
    ),
    Figure(
        *("top1", "top-1", "", _HIGH),
        "share of positions where it ranks the same token first as the unquantized model",
        _quality("top1"),
        decimals=4,
        rank=5,
    ),
    Figure(
        *("tool_accuracy", "tool calls", "", _HIGH, "share of tool tasks answered right"),
        _quality("tools", "accuracy"),
        decimals=3,
        rank=4,
    ),
    Figure(
        *("ttft_ms", "TTFT", "ms", _LOW, "time to first token, median at the lowest concurrency"),
        _bench("ttft_ms"),
        rank=1,
    ),
    Figure(
        *("itl_ms", "ITL", "ms", _LOW, "inter-token latency, mean at the lowest concurrency"),
        _bench("itl_ms"),
        rank=6,
    ),
    Figure(
        *("tokens_per_s", "tokens/s", "1/s", _HIGH),
        "completion tokens per second, at the concurrency that yields most",
        _bench("tokens_per_s"),
        significant=4,
    ),
    Figure(
        *("requests_per_s", "requests/s", "1/s", _HIGH),
        "requests per second, at the concurrency that yields most",
        _bench("requests_per_s"),
        rank=7,
    ),
)
"""All but those of tasks, in the order of columns."""

_AFTER = "tool_accuracy"
"""Figures of tasks stand behind it."""


def figures_of(rows: Iterable[Row]) -> tuple[Figure, ...]:
    """Every figure that can be asked for of these rows: the table, with their tasks in it."""
    tasks = {name for row in rows for name in _tasks(row)}
    found: list[Figure] = []
    for figure in FIGURES:
        found.append(figure)
        if figure.name == _AFTER:
            found += [_task(name) for name in sorted(tasks)]
    return tuple(found)


def _tasks(row: Row) -> Iterable[str]:
    tasks = (row.quality or {}).get("tasks")
    return tasks if isinstance(tasks, Mapping) else ()


def _task(name: str) -> Figure:
    return Figure(
        *(f"{TASK}{name}", name, "", _HIGH, f"share of the items of {name} answered right"),
        _quality("tasks", name, "accuracy"),
        decimals=3,
        rank=4,
    )
