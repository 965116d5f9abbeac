"""What floating-point results depend on beside the inputs. No torch is imported."""

import sys
from pathlib import Path
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
    """Of an installed package, from the name of its folder of metadata.

    `importlib.metadata` would do, at 30 ms of imports of each `lmrun plan`.
    """
    for place in sys.path:
        for folder in Path(place or ".").glob(f"{package}-*.dist-info"):
            return folder.name.removesuffix(".dist-info").partition("-")[2]
    return "none"
