"""The machine that is planned for: cores, memory and instruction set of this one."""

import os
from dataclasses import dataclass
from pathlib import Path

UNLIMITED_BYTES = 1 << 60
"""Control groups of the first version write a huge number for "no limit"."""


@dataclass(frozen=True)
class Machine:
    """A device description. Nothing in it moves while the machine runs other things."""

    kind: str
    """`cpu`."""
    memory_bytes: int
    memory_source: str
    """`installed memory`, or `cgroup limit` where that is lower."""
    cores: int
    """Cores this process may use: affinity and cgroup quota."""
    isa: str
    """Highest of `generic`, `avx2`, `avx512`, `amx` that the CPU has."""
    vendor: str
    """As /proc/cpuinfo spells it; math libraries choose their code by it."""


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
