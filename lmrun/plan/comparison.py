"""What `lmrun diff` finds: data with a JSON form."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import Any

import msgspec

from lmrun.json_schema import closed
from lmrun.plan.plan import Plan

SCHEMA_VERSION = 1
NOT_NEEDED = "not needed"


@dataclass(frozen=True)
class Side:
    """One side of a comparison: a run config, and its plan where there is one."""

    name: str
    """As people read it: the overrides, a lock file, `git:REV` with overrides."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Dotted key → resolved value, in the order of the schema."""
    origins: Mapping[str, str] = field(default_factory=dict)
    """Dotted key → where it was set."""
    plan: Plan | None = None
    refusal: str | None = None
    """Why there is no plan, or why it would not be run."""
    ready_s: float | None = None
    """Observed seconds from the start of the engine to its first token."""
    quality: Mapping[str, float] = field(default_factory=dict)
    """Figure → value, of what was built or locked."""
    label: str = ""
    """What stands before paths of this side alone: `main:` for those of a revision."""


@dataclass(frozen=True)
class Change:
    """A setting that differs."""

    key: str
    old: Any
    new: Any
    old_origin: str | None
    """None where the side has no such key."""
    new_origin: str | None
    changes: str
    """What the key changes: stages, the launch, the plan."""


@dataclass(frozen=True)
class StageChange:
    """A stage that at least one side needs."""

    stage: str
    old_fingerprint: str | None
    """None while it is not known, or where that side does not need the stage."""
    new_fingerprint: str | None
    is_same: bool
    """Both fingerprints are known and equal."""
    action: str
    """What the new side does: `run`, `cached`, `unknown`, or `not needed`."""
    why: str
    seconds: float | None
    """Of the new side's run, where earlier ones tell; None where it does not run."""


@dataclass(frozen=True)
class Figure:
    """A number on each side."""

    what: str
    unit: str
    """`B`, `tokens`, `tokens/s`, or "" for a plain number."""
    old: float | None
    """None where it is not known."""
    new: float | None


@dataclass(frozen=True)
class Downtime:
    """What it takes to go from the old side, running, to the new one."""

    needs_restart: bool
    because: tuple[str, ...]
    """Parts of the deployment that differ: `engine`, `server`, `web page`."""
    fits_beside: bool | None
    """Whether the memory holds both engines at once; None where that is not known."""
    both_bytes: int | None
    device_bytes: int | None
    seconds: float | None
    """Observed seconds that an engine of the new side (of the old one, where the new one never
    ran) took to become ready; None while nothing was observed."""


class Status(StrEnum):
    """How the sides stand to each other."""

    same = "same"
    changed = "changed"
    added = "added"
    removed = "removed"


@dataclass(frozen=True)
class Comparison:
    """What differs between two sides, and what follows from it."""

    recipe: str | None
    """Set where several recipes are compared."""
    status: Status
    old: str | None
    """Name of the side; None where there is none."""
    new: str | None
    old_refusal: str | None
    new_refusal: str | None
    changes: tuple[Change, ...]
    stages: tuple[StageChange, ...]
    memory: tuple[Figure, ...]
    """Bytes of the device: weights, KV cache, all."""
    written_bytes: int | None
    """Artifacts that the new side's stages would write, as estimated."""
    downtime: Downtime | None
    """None where a side has no plan."""
    speed: tuple[Figure, ...]
    speed_source: str
    """Where the figures come from, or why there are none."""
    quality: tuple[Figure, ...]
    """Empty where neither side knows any."""

    @property
    def is_different(self) -> bool:
        """Whether anything but the way the sides were written differs."""
        return self.status is not Status.same


@dataclass(frozen=True)
class Report:
    """What `lmrun diff` prints."""

    comparisons: tuple[Comparison, ...]
    since: str | None = None
    """The revision, where every recipe was looked at."""

    @property
    def is_different(self) -> bool:
        """Whether any comparison found a difference."""
        return any(comparison.is_different for comparison in self.comparisons)

    def to_json(self) -> dict[str, Any]:
        """The document."""
        document: dict[str, Any] = msgspec.to_builtins(self)
        return {"schema_version": SCHEMA_VERSION, "differs": self.is_different, **document}


@cache
def schema() -> dict[str, Any]:
    """JSON Schema of `Report.to_json`, made from the types above."""
    document = closed(msgspec.json.schema(Report))
    report = document["$defs"]["Report"]
    report["properties"] |= {
        "schema_version": {"const": SCHEMA_VERSION},
        "differs": {"type": "boolean"},
    }
    report["required"] += ["schema_version", "differs"]
    return document
