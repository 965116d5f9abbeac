"""Choices that are legal and not built yet: one closed table.

A feature that lands takes its row out, and nothing else changes.
"""

from collections.abc import Callable
from dataclasses import dataclass

from lmrun.config.schema import (
    BackendName,
    PlacementName,
    RopeScalingName,
    RunConfig,
)


@dataclass(frozen=True)
class _Row:
    key: str
    """Dotted."""
    is_built: Callable[[RunConfig], bool]
    what_is: str
    """The legal values that are built, in words."""


_TABLE = (
    _Row("backend.name", lambda run: run.backend.name is BackendName.native, "native is"),
    _Row(
        "backend.rope_scaling",
        lambda run: run.backend.rope_scaling is RopeScalingName.checkpoint,
        "checkpoint is",
    ),
    _Row("parallel.tp", lambda run: run.parallel.tp == 1, "1 is"),
    _Row("parallel.replicas", lambda run: run.parallel.replicas == 1, "1 is"),
    _Row(
        "parallel.placement",
        lambda run: run.parallel.placement is PlacementName.local,
        "local is",
    ),
)


def not_built(run: RunConfig) -> tuple[str, ...]:
    """One message for each choice that is legal and not built yet: what may be priced, not run."""
    messages = []
    for row in _TABLE:
        if not row.is_built(run):
            group, _, leaf = row.key.partition(".")
            value = getattr(getattr(run, group), leaf)
            shown = str(value).lower() if isinstance(value, bool) else value
            messages.append(f"{row.key}={shown}: not built yet; {row.what_is}.")
    return tuple(messages)


def is_built(run: RunConfig) -> bool:
    """True when `not_built` has nothing to say."""
    return all(row.is_built(run) for row in _TABLE)
