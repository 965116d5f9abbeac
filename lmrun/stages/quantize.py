"""quantize: a float checkpoint in, a quantized Hugging Face folder and `report.json` out.

Layers pass through one at a time (`layer_stream.py`); each finished one is kept in the partial
folder, so that a killed run goes on where it was and ends with the same bytes.
"""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lmrun import log
from lmrun.errors import StageError
from lmrun.models.checkpoint import Checkpoint
from lmrun.models.safetensors_header import TensorEntry
from lmrun.models.spec import ModelSpec
from lmrun.plan.sizes import show_bytes
from lmrun.progress import progress_bar
from lmrun.stages import quantize_job, quantize_report, rehearsal, tensor_files
from lmrun.stages.collectors import Magnitudes, SecondMoments, TokenSample
from lmrun.stages.computing import peak_rss_bytes, release_memory
from lmrun.stages.context import StageContext, StageResult
from lmrun.stages.layer_stream import (
    BATCH_TOKENS,
    Collector,
    LayerStream,
    Propagate,
    StreamLayer,
)
from lmrun.stages.quantize_job import Job
from lmrun.stages.quantized_folder import PRIVATE, folder_config, layer_tensors, write_folder
from lmrun.stages.quantizing import (
    LayerTask,
    Observed,
    QuantizedLayer,
    QuantSettings,
)

_log = log.get(__name__)


def run(context: StageContext) -> StageResult:
    """Fill the partial folder with the quantized checkpoint and its report."""
    job = quantize_job.of(context)
    with torch.no_grad():
        stream = LayerStream(job.source, job.token_ids, job.stream, context.resume)
        num_layers = job.spec.num_layers
        if stream.num_done == 0:
            _rehearse(context, job)
        wall, cpu = time.monotonic(), time.process_time()
        with progress_bar("quantize", num_layers, stream.num_done, unit="layers") as advance:
            for layer in stream.layers():
                quantize_layer(job, layer)
                advance(1)
        spent = {
            "layers_seconds": round(time.monotonic() - wall, 3),
            "layers_cpu_seconds": round(time.process_time() - cpu, 3),
        }
        config = folder_config(job.config, job.spec, job.settings, job.form)
        write_folder(context.partial, job.source, stream, config, job.checkpoint.path)
    result = _report(context, job, stream)
    return replace(result, metrics={**result.metrics, **spent})


def _rehearse(context: StageContext, job: Job) -> None:
    """Every step once, on real weights and text (`rehearsal.py`)."""
    start = time.monotonic()
    rehearsal.scan(job.checkpoint)
    spec = job.spec
    in_all = [frozenset(spec_roles) - frozenset(roles) for spec_roles, roles in _roles(job)]
    kept = frozenset.intersection(*in_all)
    settings = replace(
        job.settings,
        skip=frozenset(one.name for one in spec.layer(0) if one.role in kept),
        is_rehearsal=True,
    )
    token_ids = job.token_ids
    if token_ids is not None:
        batch = job.stream.batch_size or max(1, BATCH_TOKENS // token_ids.shape[1])
        token_ids = token_ids[:batch]
    rehearsed = replace(
        job,
        source=rehearsal.FirstLayer(job.source),
        settings=settings,
        token_ids=token_ids,
        stream=replace(job.stream, name="rehearsal"),
    )
    with rehearsal.folder(context.partial) as folder:
        stream = LayerStream(rehearsed.source, token_ids, rehearsed.stream, Path(folder) / "layers")
        quantize_layer(rehearsed, next(stream.layers()))
    _log.info("rehearsal: every step works, in %.1f s", time.monotonic() - start)


def _roles(job: Job) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Roles of each layer, and those that become codes."""
    for index in range(job.spec.num_layers):
        every = tuple(one.role for one in job.spec.layer(index))
        yield every, job.settings.roles(job.spec, index)


def quantize_layer(job: Job, layer: StreamLayer) -> None:
    """One layer of a stream: observe, choose codes, keep them."""
    start = time.monotonic()
    observed = observe(job, layer)
    release_memory()
    seen = time.monotonic()
    task = LayerTask(job.spec, layer, observed, job.settings, job.stream.workers)
    quantized = job.method.quantize(task)
    del observed, task
    release_memory()
    chosen = time.monotonic()
    _finish(job, layer, quantized, {"observe": seen - start, "quantize": chosen - seen})
    errors = [row["relative_output_error"] for row in quantized.report.values()]
    known = [float(str(error)) for error in errors if error is not None]
    _log.info(
        "%s: layer %d of %d in %.1f s%s",
        job.stream.name,
        layer.index + 1,
        job.spec.num_layers,
        time.monotonic() - start,
        f", relative output error {sum(known) / len(known):.2g}" if known else "",
    )


def observe(job: Job, layer: StreamLayer) -> Observed:
    """What the method needs of the text, in one pass of the layer over it."""
    needs = job.needs
    if needs.is_blind:
        return Observed()
    assert job.token_ids is not None
    moments = None
    if needs.moments:
        moments = SecondMoments(job.stream.workers)
    magnitudes = Magnitudes() if needs.magnitudes else None
    sample = None
    if needs.sample_tokens:
        sample = TokenSample(needs.sample_tokens, job.token_ids.numel())
    collectors: list[Collector] = [one for one in (moments, magnitudes, sample) if one is not None]
    layer.observe(*collectors)
    found = Observed(
        moments.result() if moments else {},
        magnitudes.result() if magnitudes else {},
        sample.result() if sample else {},
    )
    for name, moment in found.moments.items():
        if not bool(torch.isfinite(moment.sum())):
            raise StageError(
                f"layers.{layer.index}: {name}: expected finite second moments, got NaN or"
                " infinity. The checkpoint overflows on the calibration text; check its weights."
            )
    return found


def _finish(
    job: Job, layer: StreamLayer, quantized: QuantizedLayer, seconds: Mapping[str, float]
) -> None:
    start = time.monotonic()
    tensors = layer_tensors(quantized, job.spec.layer(layer.index), job.form)
    is_read = job.needs.propagate is not Propagate.FLOAT and not layer.is_last
    row = {
        "linears": quantized.report,
        "seconds": {
            **{name: round(one, 3) for name, one in seconds.items()},
            "pack": round(time.monotonic() - start, 3),
        },
    }
    tensors[PRIVATE] = np.frombuffer(json.dumps(row).encode(), np.uint8)
    layer.finish(tensors, quantized.replaced() if is_read else None)


def _report(context: StageContext, job: Job, stream: LayerStream) -> StageResult:
    kept = [_row(stream.entries(index)[PRIVATE]) for index in range(job.spec.num_layers)]
    rows = [one["linears"] for one in kept]
    settings = job.settings
    document = quantize_report.report_document(
        settings.scheme,
        rows,
        {
            "method": settings.method,
            "activation_bits": settings.activation_bits,
            "format": job.form.method,
            "settings": {
                key.partition(".")[2]: value
                for key, value in context.stage.config.items()
                if key.startswith("quant.")
            },
            "tokens": 0 if job.token_ids is None else job.token_ids.numel(),
            "skipped": sorted(settings.skip),
            "float_bytes": _float_bytes(job.checkpoint),
            "quantized_bytes": _quantized_bytes(job.spec, stream),
        },
    )
    text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    (context.partial / quantize_report.FILE_NAME).write_text(text, encoding="utf-8")
    peak = peak_rss_bytes()
    _log.info("quantize: at most %s of memory", show_bytes(peak))
    metrics: dict[str, Any] = {
        "seconds_by_layer": [one["seconds"] for one in kept],
        "peak_rss_bytes": peak,
    }
    errors = document["mean_relative_output_error"]
    if errors is not None:
        metrics["relative_output_error"] = errors
    return StageResult(metrics=metrics, fallbacks=_raised_damping(settings, rows))


def _row(entry: TensorEntry) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bytes(tensor_files.read(entry)))
    return found


def _raised_damping(settings: QuantSettings, rows: list[dict[str, Any]]) -> tuple[str, ...]:
    """One sentence each for Hessians that had no Cholesky factor with the damping asked for."""
    return tuple(
        f"layers.{index}: {role}: damping {row['damping']:g} in place of {settings.damping:g}, with"
        " which the Hessian has no Cholesky factor"
        for index, layer in enumerate(rows)
        for role, row in layer.items()
        if row["damping"] is not None and row["damping"] > settings.damping
    )


def _float_bytes(checkpoint: Checkpoint) -> int:
    names = [f"{linear.prefix}.weight" for linear in checkpoint.spec.linears]
    return sum(checkpoint.tensors[name].num_bytes for name in names)


def _quantized_bytes(spec: ModelSpec, stream: LayerStream) -> int:
    total = 0
    for index in range(spec.num_layers):
        prefixes = tuple(f"{linear.prefix}." for linear in spec.layer(index))
        total += sum(
            entry.num_bytes
            for name, entry in stream.entries(index).items()
            if name.startswith(prefixes) and not name.endswith(".bias")
        )
    return total
