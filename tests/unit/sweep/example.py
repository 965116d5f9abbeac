"""An example sweep, of real field shapes: kv.bits × quant.method × seeds, with every status."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lmrun.bench.report import Figures
from lmrun.evals.report import Quality, to_document
from lmrun.sweep.rows import Memory, Point, Row, Status, Sweep, log_file

RECIPE = ("+recipe=w4a16_kv4_server", "model=demo")
MIB = 1 << 20


def quality(ratio: float, kl: float, top1: float) -> dict[str, Any]:
    """The report of an evaluate stage."""
    found = Quality(perplexity=6.5 * ratio, ppl_ratio=ratio, kl=kl, kl_p99=kl * 12, top1=top1)
    document: dict[str, Any] = json.loads(json.dumps(to_document(found)))
    return document


def bench(ttft_ms: float, itl_ms: float) -> dict[str, Any]:
    """The figures of a report of a bench."""
    rate = 1000 / itl_ms
    figures = Figures(
        ttft_ms=ttft_ms, itl_ms=itl_ms, tokens_per_s=2 * rate, requests_per_s=rate / 50
    )
    return {"schema_version": 1, "bench": "serving", "figures": asdict(figures)}


def example_sweep(folder: Path) -> Sweep:
    """Nine points: six measured (two of them repetitions by seed), and one of each other end."""
    rows = [
        _row(folder, 0, {"kv.bits": 16, "quant": "none"}, (1.0, 0.0, 1.0), (20.0, 5.0)),
        _row(folder, 1, {"kv.bits": 8, "quant": "none"}, (1.001, 0.0004, 0.992), (19.0, 4.8)),
        _row(folder, 2, {"kv.bits": 4, "quant": "none"}, (1.012, 0.006, 0.965), (18.5, 4.9)),
    ]
    for seed in (0, 1, 2):
        keys = {"kv.bits": 8, "quant": "awq_w4_g128", "calibration.seed": seed}
        figures = (1.02 + seed * 0.002, 0.02 + seed * 0.001, 0.94 - seed * 0.003)
        rows.append(_row(folder, 3 + seed, keys, figures, (12.0 + seed * 0.3, 2.9)))
    ends = (
        (Status.skipped, "quant.group_size=96: must be a multiple of 32."),
        (Status.failed, "build: the stages ended with status 5."),
        (Status.waiting, ""),
    )
    for index, (status, why) in enumerate(ends, 6):
        point = _point(index, {"kv.bits": 4, "quant": "rtn", "quant.group_size": 32 * index})
        log = log_file(folder, point) if status is Status.failed else None
        rows.append(Row(point, status, why, recipe="w4a16_kv4_server", log=log))
    rows[2] = Row(
        **{
            **vars(rows[2]),
            "status": Status.gate_failed,
            "why": "evaluate.max_ppl_ratio=1.01: got 1.012",
        }
    )
    return Sweep(
        id="0123456789ab",
        folder=folder,
        command=("-m", *RECIPE, "kv.bits=16,8,4", "quant=none,awq_w4_g128,rtn"),
        created="2026-11-21T17:00:00Z",
        rows=tuple(rows),
        merged=2,
    )


def _row(
    folder: Path,
    index: int,
    keys: dict[str, Any],
    figures: tuple[float, float, float],
    times: tuple[float, float],
) -> Row:
    point = _point(index, keys)
    weights = (14 if keys["quant"] == "none" else 5) * MIB
    kv = keys["kv.bits"] * MIB
    return Row(
        point,
        Status.ok,
        recipe="w4a16_kv4_server",
        memory=Memory(weights, kv, weights + kv + 220 * MIB),
        quality=quality(*figures),
        bench=bench(*times),
        seconds=31.5 + index,
        log=log_file(folder, point),
    )


def _point(index: int, keys: dict[str, Any]) -> Point:
    overrides = (*RECIPE, *(f"{key}={value}" for key, value in keys.items()))
    return Point(index, overrides, keys, f"{index:012x}")
