"""What floating-point results depend on beside the inputs. No torch is imported."""

import sys
from pathlib import Path
from typing import Any

from lmrun.plan.compute_device import Gpu
from lmrun.plan.machine import Machine
from lmrun.quant.layout import CUDA


def numeric_class(machine: Machine, gpu: Gpu | None = None) -> dict[str, Any]:
    """Device kind, CPU vendor, ISA level and torch build; of a GPU that computes also which.

    Equal bytes are promised within a class, not across classes. Cores do not count: stages that
    compute give each task one math thread and add results in the order of the tasks, so the bytes
    are the same on one core or on many (`tests/unit/stages/test_reproducible.py`).
    """
    if gpu is not None:
        return {
            "device": CUDA,
            "gpu": gpu.name,
            "capability": gpu.capability,
            "vendor": machine.vendor,
            "isa": machine.isa,
            "torch": _version("torch"),
        }
    return {
        "device": machine.kind,
        "vendor": machine.vendor,
        "isa": machine.isa,
        "torch": _version("torch"),
    }


def engine_class(machine: Machine, isa: str) -> dict[str, Any]:
    """Of what the engine computes: its build and the level of its kernels, and the CPU's own level,
    by which NumPy chooses the code that adds up. ``isa`` is `backend.isa`.

    Loading the engine costs 10 ms, so that only a plan that evaluates asks for this.
    """
    from lmrun import _engine  # noqa: PLC0415 - see above

    return {
        "device": machine.kind,
        "cpu": machine.isa,
        "isa": _engine.supported_isas()[0] if isa == "auto" else isa,
        "engine": _engine.build_info()["build"],
    }


def _version(package: str) -> str:
    """Of an installed package, from the name of its folder of metadata.

    `importlib.metadata` would do, at 30 ms of imports of each `lmrun plan`.
    """
    for place in sys.path:
        for folder in Path(place or ".").glob(f"{package}-*.dist-info"):
            return folder.name.removesuffix(".dist-info").partition("-")[2]
    return "none"
