"""Choices that are legal and not built yet: one closed table.

A feature that lands takes its row out, and nothing else changes.
"""

from collections.abc import Callable
from dataclasses import dataclass

from lmrun.config.schema import (
    BackendName,
    IsaName,
    PlacementName,
    QuantMethod,
    RopeScalingName,
    RunConfig,
)
from lmrun.errors import PlanError


@dataclass(frozen=True)
class _Row:
    key: str
    """Dotted."""
    is_built: Callable[[RunConfig], bool]
    what_is: str
    """The legal values that are built, in words."""


_TABLE = (
    _Row("model.hub_id", lambda run: run.model.hub_id is None, "model.path with a local folder is"),
    _Row("model.revision", lambda run: run.model.revision is None, "a local folder is"),
    _Row("backend.name", lambda run: run.backend.name is BackendName.native, "native is"),
    _Row(
        "backend.isa",
        lambda run: run.backend.isa in (IsaName.auto, IsaName.generic, IsaName.avx512),
        "auto, generic and avx512 are",
    ),
    _Row("backend.activation_bits", lambda run: run.backend.activation_bits == 32, "32 is"),
    _Row(
        "backend.rope_scaling",
        lambda run: run.backend.rope_scaling is RopeScalingName.checkpoint,
        "checkpoint is",
    ),
    _Row(
        "quant.method",
        lambda run: run.quant.method in (QuantMethod.none, QuantMethod.rtn, QuantMethod.awq),
        "none, rtn and awq are",
    ),
    _Row("quant.bits", lambda run: not _quantizes(run) or run.quant.bits == 4, "4 is"),
    _Row(
        "quant.group_size",
        lambda run: not _quantizes(run) or run.quant.group_size in (32, 64, 128),
        "32, 64 and 128 are",
    ),
    _Row("quant.symmetric", lambda run: not run.quant.symmetric, "false is"),
    _Row("parallel.tp", lambda run: run.parallel.tp == 1, "1 is"),
    _Row("parallel.replicas", lambda run: run.parallel.replicas == 1, "1 is"),
    _Row(
        "parallel.placement",
        lambda run: run.parallel.placement is PlacementName.local,
        "local is",
    ),
    _Row("device.name", lambda run: run.device.name == "auto", "auto is"),
    _Row("device.kind", lambda run: run.device.kind == "cpu", "cpu is"),
    _Row("device.count", lambda run: run.device.count == 1, "1 is"),
    _Row("device.memory_gib", lambda run: run.device.memory_gib is None, "null is"),
    _Row("device.bandwidth_gb_s", lambda run: run.device.bandwidth_gb_s is None, "null is"),
    _Row("device.source", lambda run: run.device.source is None, "null is"),
    _Row("device.peak_gflop_s", lambda run: run.device.peak_gflop_s is None, "null is"),
)


def check_built(run: RunConfig) -> None:
    """Raise `PlanError` on the first choice that is legal and not built yet."""
    for row in _TABLE:
        if not row.is_built(run):
            group, _, leaf = row.key.partition(".")
            value = getattr(getattr(run, group), leaf)
            shown = str(value).lower() if isinstance(value, bool) else value
            raise PlanError(f"{row.key}={shown}: not built yet; {row.what_is}.")


def is_built(run: RunConfig) -> bool:
    """True when `check_built` has nothing to refuse."""
    return all(row.is_built(run) for row in _TABLE)


def _quantizes(run: RunConfig) -> bool:
    return run.quant.method is not QuantMethod.none
