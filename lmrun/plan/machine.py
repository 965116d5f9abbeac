"""The machine that is planned for: cores, memory and instruction set of this one.

`lmrun.plan.described` makes machines that one is not on.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lmrun.artifacts.measurements import MachineIdentity, cpu_name

UNLIMITED_BYTES = 1 << 60
"""Control groups of the first version write a huge number for "no limit"."""


HERE = "this machine"


@dataclass(frozen=True)
class Machine:
    """A device description. Nothing in it moves while the machine runs other things."""

    kind: Literal["cpu", "cuda"]
    """Of a described machine also `cuda`."""
    memory_bytes: int
    """Of one device."""
    memory_source: str
    """`installed memory`, `cgroup limit` where that is lower, or `described`."""
    cores: int
    """Cores this process may use: affinity and cgroup quota."""
    isa: str
    """Highest of `generic`, `avx2`, `avx512`, `amx` that the CPU has."""
    vendor: str
    """As /proc/cpuinfo spells it; math libraries choose their code by it."""
    cpu: str = "unknown"
    """Model name, as /proc/cpuinfo spells it."""
    name: str = HERE
    """`this machine`, or the name of a described one."""
    count: int = 1
    """Devices."""
    bandwidth: float | None = None
    """Bytes per second, read, of one device; described machines only, as are the next two."""
    peak_flops: float | None = None
    peak_int8_ops: float | None = None
    source: str | None = None
    """Where the numbers of a described machine come from."""

    @property
    def is_here(self) -> bool:
        """This machine, not a described one."""
        return self.name == HERE

    @property
    def identity(self) -> MachineIdentity:
        """What measurements of this machine are filed under."""
        return MachineIdentity(
            cpu=self.cpu,
            vendor=self.vendor,
            isa=self.isa,
            cores=self.cores,
            memory_bytes=self.memory_bytes,
        )


def this_machine(proc: Path = Path("/proc"), sys_cgroup: Path = Path("/sys/fs/cgroup")) -> Machine:
    """Look at this machine; works without /proc (then `generic`, no cgroup limit)."""
    groups = _groups(proc)
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = memory_limit(groups, sys_cgroup)
    isa, vendor = cpu(proc / "cpuinfo")
    return Machine(
        kind="cpu",
        memory_bytes=installed if limit is None else min(limit, installed),
        memory_source="installed memory" if limit is None or limit >= installed else "cgroup limit",
        cores=cores(groups, sys_cgroup),
        isa=isa,
        vendor=vendor,
        cpu=cpu_name(proc / "cpuinfo"),
    )


def cpu(cpuinfo: Path) -> tuple[str, str]:
    """Instruction-set level and vendor from a /proc/cpuinfo file."""
    fields: dict[str, str] = {}
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
    flags = set(fields.get("flags", "").split())
    isa = "generic"
    if {"avx2", "fma", "f16c"} <= flags:
        isa = "avx2"
        if {"avx512f", "avx512bw", "avx512vl", "avx512dq"} <= flags:
            isa = "amx" if {"amx_tile", "amx_bf16", "amx_int8"} <= flags else "avx512"
    return isa, fields.get("vendor_id", "unknown")


def memory_limit(groups: dict[str, str], root: Path) -> int | None:
    """Lowest memory limit of the process's control groups and their parents, in bytes."""
    found = [
        *_limits(root, groups.get(""), "memory.max"),
        *_limits(root / "unified", groups.get(""), "memory.max"),
        *_limits(root / "memory", groups.get("memory"), "memory.limit_in_bytes"),
    ]
    sizes = [int(text) for text in found if text.isdigit() and int(text) < UNLIMITED_BYTES]
    return min(sizes, default=None)


def cores(groups: dict[str, str], root: Path) -> int:
    """Cores of the affinity mask, or whole cores of the CPU quota where that is lower."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    quotas = [count]
    for text in [
        *_limits(root, groups.get(""), "cpu.max"),
        *_limits(root / "unified", groups.get(""), "cpu.max"),
    ]:
        quota, _, period = text.partition(" ")
        if quota.isdigit() and period.isdigit():
            quotas.append(int(quota) // int(period))
    old = groups.get("cpu")
    pairs = zip(
        _limits(root / "cpu", old, "cpu.cfs_quota_us"),
        _limits(root / "cpu", old, "cpu.cfs_period_us"),
        strict=False,
    )
    for quota, period in pairs:
        if quota.isdigit() and period.isdigit():
            quotas.append(int(quota) // int(period))
    return max(1, min(quotas))


def _groups(proc: Path) -> dict[str, str]:
    """Controller → the path of its group; "" for the unified hierarchy."""
    file = proc / "self" / "cgroup"
    groups: dict[str, str] = {}
    if file.is_file():
        for line in file.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            for controller in controllers.split(","):
                groups[controller] = path
    return groups


def _limits(mount: Path, group: str | None, name: str) -> list[str]:
    """What a limit file says in a group and each of its parents, the mount's root included."""
    if group is None:
        return []
    folder = mount / group.lstrip("/")
    found = []
    for place in (folder, *folder.parents):
        if not place.is_relative_to(mount):
            break
        file = place / name
        if file.is_file():
            found.append(file.read_text(encoding="utf-8").strip())
    return found
