"""Machines that are planned for without being on them: the numbers of a `device` option."""

from lmrun.config.schema import DeviceConfig
from lmrun.errors import PlanError
from lmrun.plan.machine import Machine, this_machine

GIB = 2**30
GIGA = 1e9
DESCRIBED = "described"
_NUMBERS = (
    "memory_gib",
    "cores",
    "bandwidth_gb_s",
    "peak_gflop_s",
    "peak_int8_gop_s",
)


def planned_machine(device: DeviceConfig, here: Machine | None = None) -> Machine:
    """The machine that the `device` group means: this one (``here``, where it is known already), or
    the described one. Raises `PlanError` for a description without its numbers."""
    if not is_described(device):
        return here or this_machine()
    here = here or this_machine()
    if device.memory_gib is None:
        known = device.name if device.name != "auto" else "NAME"
        raise PlanError(
            f"device.memory_gib: expected the memory of {_name(device)}, got null."
            f" Use device={known}, an option with its numbers, or give them."
        )
    return Machine(
        kind="cuda" if device.kind == "cuda" else "cpu",
        memory_bytes=int(device.memory_gib * GIB),
        memory_source=DESCRIBED,
        cores=device.cores or here.cores,
        isa="unknown",
        vendor="unknown",
        name=_name(device),
        count=device.count,
        bandwidth=_scaled(device.bandwidth_gb_s),
        peak_flops=_scaled(device.peak_gflop_s),
        peak_int8_ops=_scaled(device.peak_int8_gop_s),
        source=device.source,
    )


def is_described(device: DeviceConfig) -> bool:
    """Whether the group describes a machine; `workspace` alone leaves it this one."""
    given = any(getattr(device, key) is not None for key in _NUMBERS)
    return given or device.name != "auto" or device.kind != "cpu" or device.count != 1


def _name(device: DeviceConfig) -> str:
    return device.name if device.name != "auto" else f"a described {device.kind} device"


def _scaled(value: float | None) -> float | None:
    return None if value is None else value * GIGA
