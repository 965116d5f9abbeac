"""prune: a float checkpoint in, the same with zeros among the weights of its linears out.

The folder keeps names, types, tokenizer and config of the checkpoint, so that whatever reads the
one reads the other. Wanda and SparseGPT see the text as the pruned layers before pass it on, as
their authors do. Layers pass through one at a time, like those of quantize.
"""

import json
import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lmrun import log
from lmrun.errors import StageError
from lmrun.models.checkpoint import SIDE_FILES, SINGLE_FILE, Checkpoint
from lmrun.models.registry import CONFIG_FILE
from lmrun.models.safetensors_header import TensorEntry
from lmrun.progress import progress_bar
from lmrun.quant import awq, gptq, prune
from lmrun.stages import calibrate, rehearsal, tensor_files
from lmrun.stages.collectors import Magnitudes, SecondMoments
from lmrun.stages.computing import peak_rss_bytes, stream_settings
from lmrun.stages.context import StageContext, StageResult
from lmrun.stages.decoder import INPUTS, READERS, LayerWeights
from lmrun.stages.layer_source import CheckpointSource, LayerSource
from lmrun.stages.layer_stream import (
    BATCH_TOKENS,
    LayerStream,
    Propagate,
    StreamLayer,
    StreamSettings,
)
from lmrun.stages.tensor_files import Array, LazyTensor

MAGNITUDE, WANDA, SPARSEGPT = "magnitude", "wanda", "sparsegpt"
FACTS = "__prune__"
"""Tensor of a layer's checkpoint that stays out of the folder: what happened, as JSON."""
ERROR_OF = {
    SPARSEGPT: "outputs on the calibration text",
    WANDA: "outputs on the calibration text, its inputs taken as independent",
    MAGNITUDE: "weights",
}
"""Method → what its `relative_error` is of."""
NO_GAIN = (
    "the engine computes with zeros as with other weights: a pruned model is neither faster nor"
    " smaller"
)

_log = log.get(__name__)


@dataclass(frozen=True)
class Job:
    """What a recipe asks of the stage, and how it is done."""

    checkpoint: Checkpoint
    source: LayerSource
    method: str
    sparsity: float
    pattern: str
    token_ids: Tensor | None
    """[sequences, tokens]; None where no text is needed."""
    stream: StreamSettings


@dataclass(frozen=True)
class _Facts:
    """What happened to one linear."""

    zeros: float
    """Share of its weights."""
    relative_error: float
    """A squared error over its energy: see `ERROR_OF`."""
    damping: float | None = None


def run(context: StageContext) -> StageResult:
    """Fill the partial folder with the pruned checkpoint."""
    checkpoint = Checkpoint.open(context.checkpoint)
    method = str(context.value("prune.method"))
    taken = None if method == MAGNITUDE else calibrate.sequences(context, checkpoint)
    pattern = str(context.value("prune.pattern"))
    job = Job(
        checkpoint,
        CheckpointSource(checkpoint),
        method,
        0.5 if pattern == prune.TWO_OF_FOUR else float(context.value("prune.sparsity")),
        pattern,
        torch.from_numpy(taken.token_ids) if taken else None,
        replace(stream_settings(context, checkpoint.spec), propagate=Propagate.QUANTIZED),
    )
    num_layers = checkpoint.spec.num_layers
    with torch.no_grad():
        stream = LayerStream(job.source, job.token_ids, job.stream, context.resume)
        if stream.num_done == 0:
            _rehearse(context.partial, job)
        with progress_bar("prune", num_layers, stream.num_done, unit="layers") as advance:
            for layer in stream.layers():
                prune_layer(job, layer)
                advance(1)
        _write_folder(context.partial, checkpoint, stream)
    metrics, raised = _metrics(job, stream)
    if taken:
        metrics |= {"tokens": int(taken.token_ids.size), "data": taken.record}
    _log.info("prune: %.1f %% of the weights are zero; %s", 100 * metrics["sparsity"], NO_GAIN)
    return StageResult(metrics, (*(taken.fallbacks if taken else ()), *raised))


def _rehearse(partial: Path, job: Job) -> None:
    """Every step once, on real weights and text (`rehearsal.py`)."""
    start = time.monotonic()
    rehearsal.scan(job.checkpoint)
    token_ids = job.token_ids
    if token_ids is not None:
        token_ids = token_ids[: job.stream.batch_size or max(1, BATCH_TOKENS // token_ids.shape[1])]
    settings = replace(job.stream, name="rehearsal")
    rehearsed = replace(
        job, source=rehearsal.FirstLayer(job.source), token_ids=token_ids, stream=settings
    )
    with rehearsal.folder(partial) as folder:
        stream = LayerStream(rehearsed.source, token_ids, settings, Path(folder) / "layers")
        prune_layer(rehearsed, next(stream.layers()))
    _log.info("rehearsal: every step works, in %.1f s", time.monotonic() - start)


def prune_layer(job: Job, layer: StreamLayer) -> None:
    """One layer of a stream: observe, choose what is lost, keep the rest."""
    start = time.monotonic()
    moments = SecondMoments(job.stream.workers) if job.method == SPARSEGPT else None
    magnitudes = Magnitudes() if job.method == WANDA else None
    if job.token_ids is not None:
        layer.observe(*(one for one in (moments, magnitudes) if one is not None))
    seen = moments.result() if moments else {}
    if magnitudes:
        seen = {name: one.square_sum for name, one in magnitudes.result().items()}
    weights = layer.take_weights()
    linears: dict[str, Tensor] = {}
    facts: dict[str, _Facts] = {}
    for name in INPUTS:
        try:
            found = _prune_readers(job, weights.linears, name, seen.pop(name, None))
        except ValueError as error:
            raise StageError(f"layers.{layer.index}: {name}: {error}") from error
        for role, (weight, fact) in found.items():
            linears[role], facts[role] = weight, fact
    tensors = _stored(job.checkpoint, layer.index, linears)
    row = {
        "linears": {
            one.role: asdict(facts[one.role]) for one in job.source.spec.layer(layer.index)
        },
        "seconds": round(time.monotonic() - start, 3),
    }
    tensors[FACTS] = np.frombuffer(json.dumps(row).encode(), np.uint8)
    layer.finish(tensors, LayerWeights(layer.index, linears, weights.biases, weights.norms))
    _log.info(
        "%s: layer %d of %d in %.1f s",
        job.stream.name,
        layer.index + 1,
        job.source.spec.num_layers,
        time.monotonic() - start,
    )


def _prune_readers(
    job: Job, linears: Mapping[str, Tensor], name: str, seen: Tensor | None
) -> dict[str, tuple[Tensor, _Facts]]:
    """Role → pruned weight and what happened, of the linears that read one input.

    ``seen`` is its second moment (SparseGPT) or the sum of x² (Wanda).
    """
    factor = None
    if job.method == SPARSEGPT:
        assert seen is not None
        factor = gptq.factor(seen, act_order=False)

    def pruned(role: str) -> tuple[Tensor, _Facts]:
        weight = linears[role]
        if factor is not None:
            assert seen is not None
            found = prune.sparsegpt(weight, factor, job.sparsity, job.pattern)
            energy = awq.output_error(weight, seen)
            error = awq.output_error(found - weight, seen)
            return found, _facts(found, error, energy, factor.damping)
        if job.method == WANDA:
            assert seen is not None
            found = prune.wanda(weight, seen, job.sparsity, job.pattern)
            error, energy = (float((one.square() @ seen).sum()) for one in (found - weight, weight))
        else:
            found = prune.magnitude(weight, job.sparsity, job.pattern)
            error, energy = (float(one.square().sum()) for one in (found - weight, weight))
        return found, _facts(found, error, energy)

    roles = READERS[name]
    return dict(zip(roles, job.stream.workers.map(pruned, roles), strict=True))


def _facts(weight: Tensor, error: float, energy: float, damping: float | None = None) -> _Facts:
    zeros = float((weight == 0).float().mean())
    return _Facts(zeros, error / energy if energy > 0 else 0.0, damping)


def _stored(checkpoint: Checkpoint, index: int, linears: Mapping[str, Tensor]) -> dict[str, Array]:
    """The weights in the checkpoint's own types; ``linears`` become what is stored."""
    tensors: dict[str, Array] = {}
    for one in checkpoint.spec.layer(index):
        name = f"{one.prefix}.weight"
        dtype = checkpoint.tensors[name].dtype
        with np.errstate(over="ignore"):
            array = tensor_files.from_float32(linears[one.role].cpu().numpy(), dtype)
        rounded = torch.from_numpy(tensor_files.to_float32(array, dtype))
        if not bool(torch.isfinite(rounded).all()):
            raise StageError(
                f"{name}: expected finite weights after pruning, got NaN or infinity in {dtype}."
                " Ask for a lower prune.sparsity, or prune=wanda."
            )
        linears[one.role].copy_(rounded)
        tensors[name] = array
    return tensors


def _write_folder(folder: Path, checkpoint: Checkpoint, stream: LayerStream) -> None:
    """Every tensor of the checkpoint under its name, in its type; the files beside it as they
    are."""
    entries: dict[str, TensorEntry] = dict(checkpoint.tensors)
    for index in range(checkpoint.spec.num_layers):
        entries |= {k: entry for k, entry in stream.entries(index).items() if k != FACTS}
    tensors = [_lazy(name, entry) for name, entry in entries.items()]
    tensor_files.write_safetensors(folder / SINGLE_FILE, tensors, {"format": "pt"})
    for name in (CONFIG_FILE, *SIDE_FILES):
        if (checkpoint.path / name).is_file():
            shutil.copyfile(checkpoint.path / name, folder / name)


def _lazy(name: str, entry: TensorEntry) -> LazyTensor:
    return LazyTensor(name, entry.dtype, entry.shape, lambda: tensor_files.read(entry))


def _metrics(job: Job, stream: LayerStream) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Metrics of the stage, and one sentence for each Hessian that took more damping."""
    spec = job.source.spec
    kept = [
        json.loads(bytes(tensor_files.read(stream.entries(index)[FACTS])))
        for index in range(spec.num_layers)
    ]
    rows: list[dict[str, Any]] = [one["linears"] for one in kept]
    sizes = {one.role: one.in_features * one.out_features for one in spec.layer(0)}
    zeros = sum(row[role]["zeros"] * size for row in rows for role, size in sizes.items())
    metrics: dict[str, Any] = {
        "method": job.method,
        "pattern": job.pattern,
        "sparsity": round(zeros / (len(rows) * sum(sizes.values())), 6),
        "engine": NO_GAIN,
        "error_of": ERROR_OF[job.method],
        "relative_error": {
            role: round(math.fsum(row[role]["relative_error"] for row in rows) / len(rows), 6)
            for role in sizes
        },
        "layers": rows,
        "seconds_by_layer": [one["seconds"] for one in kept],
        "peak_rss_bytes": peak_rss_bytes(),
    }
    raised = tuple(
        f"layers.{index}: {role}: damping {one['damping']:g} in place of {gptq.DAMPING:g}, with"
        " which the Hessian has no Cholesky factor"
        for index, row in enumerate(rows)
        for role, one in row.items()
        if one["damping"] is not None and one["damping"] > gptq.DAMPING
    )
    return metrics, raised
