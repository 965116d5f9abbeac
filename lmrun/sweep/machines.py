"""The machine that a sweep's figures come from, in words."""

from collections.abc import Iterable

from lmrun.plan.sizes import show_bytes
from lmrun.sweep.rows import Row


def machine_text(rows: Iterable[Row]) -> str:
    """``AMD EPYC 9354 (avx512, 2 cores, 24 GiB)``; several are joined; "" where none is known."""
    found = [text for row in rows if row.bench and (text := _of(row.bench.get("machine")))]
    return "; ".join(dict.fromkeys(found))


def versions_text(rows: Iterable[Row]) -> str:
    """``lmrun 0.1.0``: versions that measured speed; "" where none is known."""
    found = [f"lmrun {row.bench['lmrun']}" for row in rows if row.bench and row.bench.get("lmrun")]
    return ", ".join(dict.fromkeys(found))


def _of(machine: object) -> str:
    if not isinstance(machine, dict):
        return ""
    parts = [str(machine[name]) for name in ("isa",) if machine.get(name)]
    if machine.get("cores"):
        parts.append(f"{machine['cores']} cores")
    if machine.get("memory_bytes"):
        parts.append(show_bytes(int(machine["memory_bytes"])))
    cpu = str(machine.get("cpu") or "unknown CPU")
    return f"{cpu} ({', '.join(parts)})" if parts else cpu
