"""The machine that a sweep's figures come from, in words."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from lmrun.plan.sizes import show_bytes
from lmrun.sweep.rows import Row


def machine_text(rows: Iterable[Row]) -> str:
    """``AMD EPYC 9354 (avx512, 2 cores, 24 GiB)``; several are joined; "" where none is known."""
    found = [text for row in rows if row.bench and (text := _of(row.bench.get("machine")))]
    return "; ".join(dict.fromkeys(found))


def versions_text(rows: Iterable[Row]) -> str:
    """``lmrun 0.1.0, engine build 7e1ea18be23b``: what measured speed; "" where none is known."""
    found = [text for row in rows if row.bench and (text := _version(row.bench))]
    return "; ".join(dict.fromkeys(found))


def measured_on(row: Row) -> str | None:
    """The day when speed was measured, UTC; None where that is not known."""
    started = (row.bench or {}).get("started")
    return str(started)[:10] if started else None


def _version(report: Mapping[str, Any]) -> str:
    build = re.search(
        r"\bbuild ([0-9a-f]{12})", str((report.get("target") or {}).get("engine_build"))
    )
    parts = [f"lmrun {report['lmrun']}"] if report.get("lmrun") else []
    return ", ".join([*parts, f"engine build {build[1]}"] if build else parts)


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
