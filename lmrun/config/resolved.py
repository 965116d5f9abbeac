"""The one canonical form of a run config: what a lock stores and a diff compares."""

import dataclasses
from enum import Enum
from typing import Any

from lmrun.config.schema import RunConfig


def resolved(run: RunConfig) -> dict[str, dict[str, Any]]:
    """Group → key → plain JSON value, both sorted by name.

    Equal meanings have equal forms: enums are texts, a float is rounded to 12 significant digits
    and is an integer where it is whole, as in `lmrun.artifacts.canonical`. `quant.skip` means a
    set and is sorted. API keys are the references that were written, never the keys.
    """
    document = {
        group: {key: _plain(value) for key, value in sorted(leaves.items())}
        for group, leaves in sorted(dataclasses.asdict(run).items())
    }
    document["quant"]["skip"].sort()
    return document


def flat(run: RunConfig) -> dict[str, Any]:
    """`resolved` with dotted keys, in the order of the schema."""
    document = resolved(run)
    return {
        f"{group}.{key}": document[group][key]
        for group, leaves in dataclasses.asdict(run).items()
        for key in leaves
    }


def _plain(value: object) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float):
        rounded = float(f"{value:.12g}")
        return int(rounded) if rounded.is_integer() else rounded
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in sorted(value.items())}
    return value
