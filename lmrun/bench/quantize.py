"""`lmrun bench quantize`: seconds a layer and held-out error of our quantizers and of others.

Every tool reads the same model and the same token ids, each in a process of its own, one after
another, in turn over the rounds.
"""

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from lmrun import log
from lmrun.artifacts.measurements import cpu_name
from lmrun.bench import quantize_inputs
from lmrun.bench.quantize_ceilings import Ceilings, least_seconds, measure
from lmrun.bench.quantize_runs import LMRUN, METHODS, Peer, Run, Task, run_lmrun, run_peer
from lmrun.errors import LmrunError
from lmrun.json_schema import COUNT, DIGEST, TEXT, TEXTS, Schema, document, or_null, record, records
from lmrun.models import builtin
from lmrun.models.registry import builtin_spec
from lmrun.plan.machine import this_machine

SCHEMA_VERSION = 1
MODEL = "random-llama-1b"
SMALL_MODEL = "random-llama"
"""Of the rounds that are not counted: some tools compile kernels when they first run."""

_log = log.get(__name__)


@dataclass(frozen=True)
class Settings:
    """What is measured."""

    methods: tuple[str, ...] = ("awq", "gptq", "autoround")
    peers: tuple[Peer, ...] = ()
    model: str = MODEL
    layers: int = 1
    samples: int = 128
    seq_len: int = 512
    group_size: int = 128
    batch_size: int = 8
    """Of the peers; ours chooses its own."""
    rounds: int = 1
    seed: int = 0


@dataclass(frozen=True)
class Result:
    """One tool with one method, over the rounds."""

    method: str
    tool: str
    version: str
    seconds_a_layer: tuple[float, ...]
    """Wall time of each round."""
    cpu_seconds_a_layer: tuple[float, ...]
    total_s: tuple[float, ...]
    """Of the whole process, in each round: imports, reading, preparing, writing."""
    peak_rss_bytes: int
    output_error: float
    """Relative, after the last layer, on held-out ids (`quantize_error.output_errors`)."""
    layer_errors: tuple[float, ...]
    notes: tuple[str, ...]


@dataclass
class Report:
    """All results of one bench."""

    settings: Settings
    ceilings: Ceilings
    results: list[Result] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    """What could not be measured, a sentence each."""
    ids_sha256: str = ""

    def to_json(self) -> dict[str, Any]:
        """The document, which fits `SCHEMA`."""
        settings = asdict(self.settings)
        del settings["peers"]
        weights = layer_weights(self.settings.model)
        tokens = self.settings.samples * self.settings.seq_len
        return {
            "schema_version": SCHEMA_VERSION,
            "bench": "quantize",
            **settings,
            "methods": list(self.settings.methods),
            "cpu": cpu_name(),
            "threads": this_machine().cores,
            "ids_sha256": self.ids_sha256,
            "ceilings": asdict(self.ceilings),
            "least_seconds_a_layer": {
                method: least_seconds(method, weights, tokens, self.ceilings)
                for method in self.settings.methods
            },
            "results": [_plain(one) for one in self.results],
            "speedups": list(speedups(self.results)),
            "failed": self.failed,
        }


def run(settings: Settings, folder: Path | None = None) -> Report:
    """Measure everything; a tool that fails is reported, and the others go on.

    ``folder`` keeps what is written (checkpoints, logs); by default it is removed.
    """
    place = Path(tempfile.mkdtemp(prefix="lmrun-bench-")) if folder is None else folder
    place.mkdir(parents=True, exist_ok=True)
    try:
        return _run(settings, place)
    finally:
        if folder is None:
            shutil.rmtree(place, ignore_errors=True)


def _run(settings: Settings, place: Path) -> Report:
    inputs = quantize_inputs.write(
        place / "inputs",
        settings.model,
        settings.layers,
        settings.samples,
        settings.seq_len,
        settings.seed,
    )
    report = Report(settings, measure(), ids_sha256=quantize_inputs.ids_digest(inputs))
    pairs = list(_pairs(settings))
    _warm_up(settings, place / "warm-up", pairs, report)
    runs: dict[tuple[str, str], list[Run]] = {}
    for number in range(settings.rounds):
        for method, tool in pairs:
            if any(words.startswith(f"{tool} {method}:") for words in report.failed):
                continue
            folder = place / f"round-{number}" / f"{tool}-{method}"
            done = _attempt(settings, _task(settings, method), inputs, tool, folder, report)
            if done is not None:
                runs.setdefault((method, tool), []).append(done)
    for (method, tool), found in runs.items():
        report.results.append(_result(settings, inputs, method, tool, found))
    return report


def _pairs(settings: Settings) -> Iterator[tuple[str, str]]:
    """Methods and tools, in the order of a round."""
    given = {LMRUN, *(peer.tool for peer in settings.peers)}
    for method in settings.methods:
        yield from ((method, tool) for tool in METHODS[method] if tool in given)


def _task(settings: Settings, method: str) -> Task:
    return Task(
        method,
        settings.group_size,
        settings.samples,
        settings.seq_len,
        settings.layers,
        this_machine().cores,
        settings.batch_size,
    )


def _warm_up(
    settings: Settings, place: Path, pairs: Iterable[tuple[str, str]], report: Report
) -> None:
    """Each peer once on a small model."""
    pairs = [pair for pair in pairs if pair[1] != LMRUN]
    if not pairs:
        return
    inputs = quantize_inputs.write(place / "inputs", SMALL_MODEL, 1, 4, 64, settings.seed)
    for method, tool in pairs:
        task = Task(method, settings.group_size, 4, 64, 1, this_machine().cores, 4)
        _attempt(settings, task, inputs, tool, place / f"{tool}-{method}", report)


def _attempt(
    settings: Settings,
    task: Task,
    inputs: quantize_inputs.Inputs,
    tool: str,
    folder: Path,
    report: Report,
) -> Run | None:
    try:
        if tool == LMRUN:
            done = run_lmrun(task, inputs, folder)
        else:
            peer = next(one for one in settings.peers if one.tool == tool)
            done = run_peer(peer, task, inputs, folder)
    except LmrunError as error:
        report.failed.append(f"{tool} {task.method}: {error}")
        _log.warning("bench: %s %s failed: %s", tool, task.method, error)
        return None
    _log.info("bench: %s %s: %.1f s a layer", tool, task.method, done.layers_s / task.layers)
    return done


def _result(
    settings: Settings,
    inputs: quantize_inputs.Inputs,
    method: str,
    tool: str,
    runs: Sequence[Run],
) -> Result:
    # brings torch
    from lmrun.bench.quantize_error import output_errors  # noqa: PLC0415

    errors = output_errors(inputs.model, runs[-1].checkpoint, inputs.held_out)
    return Result(
        method=method,
        tool=tool,
        version=runs[-1].version,
        seconds_a_layer=tuple(one.layers_s / settings.layers for one in runs),
        cpu_seconds_a_layer=tuple(one.layers_cpu_s / settings.layers for one in runs),
        total_s=tuple(one.total_s for one in runs),
        peak_rss_bytes=max(one.peak_rss_bytes for one in runs),
        output_error=errors[-1],
        layer_errors=tuple(errors),
        notes=runs[-1].notes,
    )


def speedups(results: Sequence[Result]) -> Iterator[dict[str, Any]]:
    """For each method: ours against the fastest peer, and whether our error is no larger."""
    for method in dict.fromkeys(one.method for one in results):
        ours = next((o for o in results if o.method == method and o.tool == LMRUN), None)
        peers = [one for one in results if one.method == method and one.tool != LMRUN]
        if ours is None or not peers:
            continue
        fastest = min(peers, key=lambda one: median(one.seconds_a_layer))
        best = min(peers, key=lambda one: one.output_error)
        yield {
            "method": method,
            "fastest_peer": fastest.tool,
            "speedup": median(fastest.seconds_a_layer) / median(ours.seconds_a_layer),
            "cpu_speedup": median(fastest.cpu_seconds_a_layer) / median(ours.cpu_seconds_a_layer),
            "best_peer": best.tool,
            "error_ratio": ours.output_error / best.output_error,
        }


def layer_weights(model: str) -> list[tuple[int, int]]:
    """[out, in] of a layer's linears."""
    spec = builtin_spec(builtin.get(builtin.PREFIX + model))
    return [(linear.out_features, linear.in_features) for linear in spec.layer(0)]


def _plain(result: Result) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(result).items()
    }


_NUMBER: Schema = {"type": "number"}
_NUMBERS: Schema = {"type": "array", "items": _NUMBER}
SCHEMA: Schema = document(
    "lmrun bench quantize",
    SCHEMA_VERSION,
    bench={"const": "quantize"},
    methods=TEXTS,
    model=TEXT,
    layers=COUNT,
    samples=COUNT,
    seq_len=COUNT,
    group_size=COUNT,
    batch_size=COUNT,
    rounds=COUNT,
    seed=COUNT,
    cpu=TEXT,
    threads=COUNT,
    ids_sha256=DIGEST,
    ceilings=record(float32_per_s=_NUMBER, bfloat16_per_s=_NUMBER),
    least_seconds_a_layer={"type": "object", "additionalProperties": or_null(_NUMBER)},
    results=records(
        method=TEXT,
        tool=TEXT,
        version=TEXT,
        seconds_a_layer=_NUMBERS,
        cpu_seconds_a_layer=_NUMBERS,
        total_s=_NUMBERS,
        peak_rss_bytes=COUNT,
        output_error=_NUMBER,
        layer_errors=_NUMBERS,
        notes=TEXTS,
    ),
    speedups=records(
        method=TEXT,
        fastest_peer=TEXT,
        speedup=_NUMBER,
        cpu_speedup=_NUMBER,
        best_peer=TEXT,
        error_ratio=_NUMBER,
    ),
    failed=TEXTS,
)
