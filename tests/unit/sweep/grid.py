"""A sweep like the worked example, in the documents that the evaluate stage and the bench write.

kv.bits × quant.method × quant.group_size, with figures that follow from the settings.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from lmrun.artifacts.measurements import MachineIdentity
from lmrun.bench.report import Asked, BenchReport, Figures, Target
from lmrun.evals.report import Baseline, Protocol, Quality, TaskScore, ToolScore, to_document
from lmrun.sweep.rows import Memory, Point, Row, Status, Sweep

BASE = ("model=demo", "backend.threads=1")
MIB = 1 << 20
MACHINE = MachineIdentity(
    cpu="Example CPU", vendor="Example", isa="avx512", cores=2, memory_bytes=24 << 30
)
_BITS_COST = {16: 0.0, 8: 0.0004, 4: 0.01}
_GROUP_COST = {32: 0.8, 64: 1.0, 128: 1.3}
_METHOD_COST = {"none": 0.0, "rtn": 0.03, "awq": 0.02}


def quality(ratio: float, *, tasks: dict[str, float] | None = None, tools: float = 0.9) -> Any:
    """The report of an evaluate stage."""
    digest = "ab" * 32
    report = Quality(
        perplexity=6.4 * ratio,
        perplexity_standard_error=0.05,
        ppl_ratio=ratio,
        ppl_ratio_standard_error=0.001,
        kl=(ratio - 1) * 0.9,
        top1=1 - (ratio - 1) * 2,
        tasks={
            name: TaskScore("choices", "arc", "…", digest, 50, share, 0.02, share, 0.02)
            for name, share in (tasks or {}).items()
        },
        tools=ToolScore("lmrun", digest, 100, tools, 0.03, 80, tools, tools),
        protocol=Protocol("builtin:stories", digest, 256, 8192, 1, 4096),
        baseline=Baseline(6.4, {"isa": "avx512", "kv_bits": 16}),
        engine={"isa": "avx512", "kv_bits": 16},
    )
    return to_document(report)


def bench(ttft_ms: float, itl_ms: float, tokens_per_s: float) -> dict[str, Any]:
    """The report of a bench."""
    return BenchReport(
        schema_version=1,
        bench="serving",
        complete=True,
        problem=None,
        started="2026-11-21T17:00:00Z",
        seconds=12.0,
        lmrun="0.1.0",
        machine=MACHINE,
        target=Target(
            kind="deployment",
            url=None,
            model="demo",
            endpoint="/v1/completions",
            prompts="token ids",
            ignores_eos=True,
            recipe=None,
            engine=None,
            engine_build=f"version 0.1.0; build {'7e' * 32}; compiler gcc 12.2.0",
            seconds_to_ready=0.4,
        ),
        asked=Asked(
            prompt_tokens=64,
            output_tokens=32,
            concurrency=[1, 4],
            requests=8,
            rounds=2,
            seed=0,
            trace=None,
        ),
        loads=[],
        trace=None,
        memory=None,
        rates=None,
        figures=Figures(
            ttft_ms=ttft_ms,
            itl_ms=itl_ms,
            tokens_per_s=tokens_per_s,
            requests_per_s=tokens_per_s / 32,
        ),
    ).to_json()


def grid(folder: Path, methods: tuple[str, ...] = ("none", "rtn", "awq")) -> Sweep:
    """27 points, all measured, in the order of a command line."""
    rows = [
        row(index, {"kv.bits": bits, "quant.method": method, "quant.group_size": group})
        for index, (bits, method, group) in enumerate(
            (bits, method, group)
            for bits in (16, 8, 4)
            for method in methods
            for group in (32, 64, 128)
        )
    ]
    return sweep(folder, rows)


def sweep(folder: Path, rows: list[Row]) -> Sweep:
    """These rows as a sweep."""
    words = ("kv.bits=16,8,4", "quant.method=none,rtn,awq", "quant.group_size=32,64,128")
    return Sweep(
        id=folder.name,
        folder=folder,
        command=("-m", *BASE, *words),
        created="2026-11-21T17:00:00Z",
        rows=tuple(rows),
    )


def row(index: int, keys: dict[str, Any]) -> Row:
    """A measured point, whose figures follow from its keys."""
    bits, method, group = keys["kv.bits"], keys["quant.method"], keys["quant.group_size"]
    cost = _BITS_COST[bits] + _METHOD_COST[method] * _GROUP_COST[group]
    weights = 64 if method == "none" else 20 + 128 // group
    memory = Memory(weights * MIB, bits * MIB, (weights + bits + 40) * MIB)
    itl = weights / 16 + bits / 8
    return measured(
        index,
        keys,
        quality(1 + cost),
        bench(10 + weights / 8 + index / 100, itl, 1500 / itl),
        memory,
    )


def measured(
    index: int,
    keys: dict[str, Any],
    quality: dict[str, Any] | None = None,
    bench: dict[str, Any] | None = None,
    memory: Memory | None = None,
) -> Row:
    """A point that ended well."""
    overrides = (*BASE, *(f"{key}={value}" for key, value in keys.items()))
    point = Point(index, overrides, keys, f"{index:012x}")
    return Row(point, Status.ok, memory=memory, quality=quality, bench=bench, seconds=31.5)


def with_status(row: Row, status: Status, why: str) -> Row:
    """The same point, ended another way."""
    is_measured = status is Status.gate_failed
    if is_measured:
        return replace(row, status=status, why=why)
    return Row(row.point, status, why)
