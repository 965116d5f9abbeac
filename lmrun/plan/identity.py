"""The machine as the measurements name it."""

from lmrun.artifacts.measurements import MachineIdentity, cpu_name
from lmrun.plan.machine import Machine


def identity(machine: Machine) -> MachineIdentity:
    """Of this machine, as `this_machine` found it."""
    return MachineIdentity(
        cpu=cpu_name(),
        vendor=machine.vendor,
        isa=machine.isa,
        cores=machine.cores,
        memory_bytes=machine.memory_bytes,
    )
