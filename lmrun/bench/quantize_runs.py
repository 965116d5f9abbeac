"""One quantizer, once, in a process of its own: lmrun's stages, or another tool in its own venv."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lmrun.artifacts.store import Store
from lmrun.bench.peers import drive
from lmrun.bench.quantize_inputs import Inputs
from lmrun.config import compose
from lmrun.errors import StageError, UsageError
from lmrun.plan.planner import make_plan

LMRUN = "lmrun"
METHODS: Mapping[str, tuple[str, ...]] = {
    "rtn": (LMRUN,),
    "awq": (LMRUN, "llm-compressor", "gptqmodel"),
    "gptq": (LMRUN, "llm-compressor", "gptqmodel"),
    "awq_gptq": (LMRUN,),
    "autoround": (LMRUN, "auto-round"),
}
"""Method → the tools that have it."""
LIGHT_ITERATIONS = 50
"""Of AutoRound's `light` recipe."""
REUSED = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
    "MALLOC_TOP_PAD_": str(1 << 28),
    "GOMP_SPINCOUNT": "2000",
}
"""Environment of the peers: without it glibc maps and unmaps their large temporaries each time,
which costs them up to six times the work (and OpenMP's threads spin)."""
_DRIVE = Path(drive.__file__)
_SHOWN_LINES = 12


@dataclass(frozen=True)
class Peer:
    """Another tool."""

    tool: str
    python: Path
    """Of its virtual environment."""

    @classmethod
    def of(cls, text: str) -> "Peer":
        """`NAME=VENV`; `UsageError` for another name, or where no Python lies there."""
        tool, has_venv, venv = text.partition("=")
        if not has_venv or tool not in drive.TOOLS:
            raise UsageError(
                f"--peer={text}: expected NAME=VENV with one of {', '.join(drive.TOOLS)}."
            )
        python = Path(venv).expanduser().absolute() / "bin" / "python"
        if not python.is_file():
            raise UsageError(f"--peer={text}: no virtual environment there ({python}).")
        return cls(tool, python)


@dataclass(frozen=True)
class Task:
    """What a quantizer is asked to do."""

    method: str
    group_size: int
    samples: int
    seq_len: int
    layers: int
    threads: int
    batch_size: int


@dataclass(frozen=True)
class Run:
    """What one run took."""

    layers_s: float
    """Wall time from the first layer to the last."""
    layers_cpu_s: float
    total_s: float
    """Of the whole process: imports, reading, preparing, writing."""
    peak_rss_bytes: int
    """Of the process that quantized."""
    checkpoint: Path
    version: str
    notes: tuple[str, ...] = ()


def run_lmrun(task: Task, inputs: Inputs, folder: Path) -> Run:
    """Our stages, from a store of their own in ``folder``: calibrate, then quantize."""
    store = Store(folder / "home")
    overrides = [
        f"model.path={inputs.model}",
        f"quant.method={task.method}",
        f"quant.group_size={task.group_size}",
        "quant.device=cpu",
        f"backend.context_length={max(8, task.seq_len)}",
        "backend.max_num_seqs=1",
    ]
    if task.method != "rtn":
        overrides += [
            f"calibration.data={inputs.text}",
            f"calibration.samples={task.samples}",
            f"calibration.seq_len={task.seq_len}",
        ]
    composed = compose(overrides)
    start = time.monotonic()
    # with the same variables as the peers: whoever needs them is not to lack them
    environment = {"LMRUN_HOME": str(store.home), **REUSED}
    for goal in ("calibrate", "quantize"):
        plan = make_plan(composed, store)
        if plan.stage(goal) is None:
            continue
        command = [sys.executable, "-P", "-m", "lmrun.stages.runner", goal]
        words = json.dumps(plan.to_json())
        _child(command, environment, folder / f"{goal}.log", words)
    total = time.monotonic() - start
    planned = make_plan(composed, store).stage("quantize")
    assert planned is not None
    found = store.find("quantize", planned.fingerprint or "")
    if found is None:
        raise StageError(f"bench: lmrun {task.method} wrote nothing ({folder / 'quantize.log'}).")
    metrics = found.manifest.fields.metrics
    return Run(
        layers_s=metrics["layers_seconds"],
        layers_cpu_s=metrics["layers_cpu_seconds"],
        total_s=total,
        peak_rss_bytes=metrics["peak_rss_bytes"],
        checkpoint=found.path,
        version=found.manifest.fields.versions["lmrun"],
    )


def run_peer(peer: Peer, task: Task, inputs: Inputs, folder: Path) -> Run:
    """Another tool; `StageError` with the end of what it said where it fails."""
    folder.mkdir(parents=True)
    job = {
        "tool": peer.tool,
        "method": task.method,
        "model": str(inputs.model),
        "ids": str(inputs.ids),
        "bits": 4,
        "group_size": task.group_size,
        "symmetric": False,
        "threads": task.threads,
        "batch_size": task.batch_size,
        "iterations": LIGHT_ITERATIONS,
        "layers": task.layers,
        "out": str(folder / "checkpoint"),
        "result": str(folder / "result.json"),
    }
    path = folder / "job.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    environment = {**REUSED, "OMP_NUM_THREADS": str(task.threads), "HF_HUB_OFFLINE": "1"}
    command = [str(peer.python), str(_DRIVE), str(path)]
    _child(command, environment, folder / "log.txt")
    found = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return Run(
        layers_s=found["layers_s"],
        layers_cpu_s=found["layers_cpu_s"],
        total_s=found["total_s"],
        peak_rss_bytes=found["peak_rss_bytes"],
        checkpoint=folder / "checkpoint",
        version=f"{found['version']} (torch {found['torch']})",
        notes=tuple(found["notes"]),
    )


def _child(
    command: Sequence[str], environment: Mapping[str, str], log: Path, words: str = ""
) -> None:
    """Run a process to its end, with these words on its stdin; both kinds die with this one."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            cwd=log.parent,
        )
        try:
            process.communicate(words.encode())
        except BaseException:
            process.kill()
            process.wait()
            raise
    if process.returncode != 0:
        said = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_SHOWN_LINES:]
        raise StageError(
            f"bench: {Path(command[0]).name} {Path(command[1]).name} ended with status"
            f" {process.returncode}:\n" + "\n".join(f"    {line}" for line in said)
        )
