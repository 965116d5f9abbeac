"""What floating-point results depend on beside the inputs. No torch is imported."""

from importlib import metadata
from typing import Any

from lmrun.plan.machine import Machine


def numeric_class(machine: Machine) -> dict[str, Any]:
    """Device kind, CPU vendor, ISA level and torch build.

    Equal bytes are promised within a class, not across classes. Cores do not count: stages that
    compute give each task one math thread and add results in the order of the tasks, so the bytes
    are the same on one core or on many (`tests/unit/stages/test_reproducible.py`).
    """
    return {
        "device": machine.kind,
        "vendor": machine.vendor,
        "isa": machine.isa,
        "torch": _version("torch"),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"
