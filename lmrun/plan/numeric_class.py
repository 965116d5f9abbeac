"""What floating-point results depend on beside the inputs. No torch is imported."""

from importlib import metadata
from typing import Any

from lmrun.plan.machine import Machine


def numeric_class(machine: Machine) -> dict[str, Any]:
    """Device kind, CPU vendor, ISA level, math threads and torch build.

    Stages that compute run that many tasks at once, each with one math thread. Equal bytes are
    promised within a class, not across classes.
    """
    return {
        "device": machine.kind,
        "vendor": machine.vendor,
        "isa": machine.isa,
        "threads": machine.cores,
        "torch": _version("torch"),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"
