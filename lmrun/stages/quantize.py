"""quantize: a float checkpoint in, a Hugging Face AWQ folder (gemm packing) out.

Layers pass through one at a time; each finished one is kept in the partial folder, so that a killed
run goes on where it was and ends with the same bytes.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmrun import log
from lmrun.errors import StageError
from lmrun.models.checkpoint import SIDE_FILES, SINGLE_FILE, Checkpoint
from lmrun.models.registry import CONFIG_FILE, read_json
from lmrun.models.safetensors_header import TensorEntry, read_header
from lmrun.models.spec import LinearSpec
from lmrun.progress import progress_bar
from lmrun.quant import packing
from lmrun.quant.awq import InputStatistics
from lmrun.stages import calibrate, decoder, tensor_files
from lmrun.stages.context import StageContext, StageResult
from lmrun.stages.decoder import INPUTS, LayerWeights, RotaryTables
from lmrun.stages.layer_checkpoints import LayerCheckpoints
from lmrun.stages.layer_quantizer import QuantizedLayer, QuantSettings, quantize_layer
from lmrun.stages.tensor_files import LazyTensor
from lmrun.stages.workers import Workers

BATCH_TOKENS = 2048
"""Tokens in one forward pass."""
MOMENT_TOKENS = 65536
"""Calibration tokens that enter the second moments: whole sequences, evenly spread."""
ERRORS = "relative_errors"
"""Tensor of a layer's checkpoint that stays out of the artifact: errors by role, in order."""

_log = log.get(__name__)


def run(context: StageContext) -> StageResult:
    """Fill the partial folder with the quantized checkpoint."""
    checkpoint = Checkpoint.open(context.checkpoint)
    settings = QuantSettings(
        method=str(context.value("quant.method")),
        bits=int(context.value("quant.bits")),
        group_size=int(context.value("quant.group_size")),
        skip=frozenset(context.value("quant.skip")),
    )
    finished = LayerCheckpoints(context.resume)
    calibration = context.inputs.get("calibrate")
    if settings.method == "awq" and calibration is None:
        raise StageError("quantize: awq needs the artifact of calibrate, got none.")
    needs_hidden_below = checkpoint.spec.num_layers if settings.method == "awq" else 0
    done = finished.num_done(needs_hidden_below)
    if done:
        _log.info("quantize: %d of %d layers are finished", done, checkpoint.spec.num_layers)
    with (
        torch.inference_mode(),
        progress_bar("quantize", checkpoint.spec.num_layers, done, unit="layers") as advance,
    ):
        workers = Workers(context.threads)
        for _ in _layers(checkpoint, settings, calibration, finished, done, workers):
            advance(1)
    _write_folder(context.partial, checkpoint, settings, finished)
    return StageResult(metrics=_metrics(checkpoint, finished))


def _layers(
    checkpoint: Checkpoint,
    settings: QuantSettings,
    calibration: Path | None,
    finished: LayerCheckpoints,
    done: int,
    workers: Workers,
) -> Iterator[None]:
    """Quantize the layers that are not finished, in order."""
    spec = checkpoint.spec
    entries = read_header(calibration / calibrate.FILE_NAME) if calibration else {}
    ids = _observed_sequences(entries) if entries else None
    hidden: Tensor | None = None
    for index in range(done, spec.num_layers):
        weights = decoder.load_layer(checkpoint, index)
        statistics = None
        if ids is not None and settings.method == "awq":
            if hidden is None:
                hidden = finished.hidden(index) if index else decoder.embed(checkpoint, ids)
                if hidden is None:
                    raise StageError(f"quantize: expected the input of layer {index} in the store.")
            means = {
                name: tensor_files.read(entries[f"layers.{index}.{name}.abs_mean"])
                for name in INPUTS
            }
            hidden, statistics = _observe(checkpoint, weights, hidden, means, workers)
        layer = quantize_layer(spec, weights, statistics, settings, workers)
        last = index == spec.num_layers - 1
        finished.save(index, _packed(layer, spec.layer(index)), None if last else hidden)
        yield


def _observed_sequences(entries: Mapping[str, TensorEntry]) -> Tensor:
    """Token ids of every n-th calibration sequence, `MOMENT_TOKENS` tokens or one sequence."""
    ids = torch.from_numpy(tensor_files.read(entries[calibrate.TOKEN_IDS]))
    return ids[:: min(len(ids), -(-ids.numel() // MOMENT_TOKENS))]


def _observe(
    checkpoint: Checkpoint,
    weights: LayerWeights,
    hidden: Tensor,
    abs_means: Mapping[str, NDArray[np.float32]],
    workers: Workers,
) -> tuple[Tensor, dict[str, InputStatistics]]:
    """The layer's output, and what its linears see.

    The hidden states are those of the float model: those of the quantized layers before cost a
    second pass and gave no lower perplexity over the models tried (`lmrun/quant/README.md`).
    """
    spec = checkpoint.spec
    samples, num_tokens = hidden.shape[0], hidden.shape[1]
    rotary = RotaryTables.of(spec, num_tokens)
    output = torch.empty_like(hidden)
    batch = max(1, BATCH_TOKENS // num_tokens)

    def products(start: int) -> dict[str, Tensor]:
        trace = decoder.run_layer(spec, weights, hidden[start : start + batch], rotary)
        output[start : start + batch] = trace.hidden
        rows = {name: x.flatten(0, 1) for name, x in trace.inputs.items()}
        return {name: x.T @ x for name, x in rows.items()}

    sums: dict[str, Tensor] = {}
    for found in workers.map(products, range(0, samples, batch)):
        for name, product in found.items():
            sums[name] = sums[name].add_(product) if name in sums else product
    statistics = {
        name: InputStatistics(total / (samples * num_tokens), torch.from_numpy(abs_means[name]))
        for name, total in sums.items()
    }
    return output, statistics


def _packed(layer: QuantizedLayer, linears: tuple[LinearSpec, ...]) -> dict[str, NDArray[Any]]:
    """Tensors of a layer as the AWQ folder names and stores them."""
    index = layer.weights.index
    tensors: dict[str, NDArray[Any]] = {}
    for linear in linears:
        if linear.role in layer.codes:
            codes = layer.codes[linear.role]
            if not bool(torch.isfinite(codes.scales).all()):
                raise StageError(f"{linear.name}: expected finite scales, got NaN or infinity.")
            tensors[f"{linear.prefix}.qweight"] = packing.pack_awq(codes.codes.numpy().T)
            tensors[f"{linear.prefix}.qzeros"] = packing.pack_awq(codes.zeros.numpy().T)
            tensors[f"{linear.prefix}.scales"] = np.ascontiguousarray(codes.scales.numpy().T)
        else:
            name = f"{linear.prefix}.weight"
            tensors[name] = _half(name, layer.weights.linears[linear.role].numpy())
        if linear.role in layer.weights.biases:
            name = f"{linear.prefix}.bias"
            tensors[name] = _half(name, layer.weights.biases[linear.role].numpy())
    for norm, weight in layer.weights.norms.items():
        block = "self_attn." if norm in ("q_norm", "k_norm") else ""
        name = f"model.layers.{index}.{block}{norm}.weight"
        tensors[name] = _half(name, weight.numpy())
    errors = [layer.relative_errors.get(linear.role, 0.0) for linear in linears]
    tensors[ERRORS] = np.array(errors, np.float32)
    return tensors


def _half(name: str, array: NDArray[np.float32]) -> NDArray[np.float16]:
    """float16; `StageError` with the tensor's name where a number does not fit."""
    if not np.isfinite(array).all() or np.abs(array).max(initial=0) > np.finfo(np.float16).max:
        raise StageError(
            f"{name}: expected numbers that float16 holds (up to 65504), got larger ones or NaN."
            " An AWQ folder stores float16; use quant=none for this model."
        )
    return array.astype(np.float16)


def _write_folder(
    folder: Path, checkpoint: Checkpoint, settings: QuantSettings, finished: LayerCheckpoints
) -> None:
    """The Hugging Face folder: weights, config.json and the files beside them."""

    def half(source: str, name: str) -> LazyTensor:
        entry = checkpoint.tensors[source]

        def load() -> NDArray[np.float16]:
            return _half(name, tensor_files.to_float32(tensor_files.read(entry), entry.dtype))

        return LazyTensor(name, "F16", entry.shape, load)

    spec = checkpoint.spec
    tensors = [half(checkpoint.embedding_name, "model.embed_tokens.weight")]
    for index in range(spec.num_layers):
        for entry in finished.entries(index).values():
            if entry.name != ERRORS:
                tensors.append(_stored(entry))
    tensors.append(half("model.norm.weight", "model.norm.weight"))
    if not spec.tie_word_embeddings:
        tensors.append(half("lm_head.weight", "lm_head.weight"))
    tensor_files.write_safetensors(folder / SINGLE_FILE, tensors, {"format": "pt"})
    config = read_json(checkpoint.path / CONFIG_FILE)
    config.pop("dtype", None)
    config["torch_dtype"] = "float16"
    config["quantization_config"] = {
        "quant_method": "awq",
        "version": "gemm",
        "bits": settings.bits,
        "group_size": settings.group_size,
        "zero_point": True,
        "modules_to_not_convert": ["lm_head", *_kept_names(checkpoint, settings)],
    }
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (folder / CONFIG_FILE).write_text(text, encoding="utf-8")
    for name in SIDE_FILES:
        if (checkpoint.path / name).is_file():
            shutil.copyfile(checkpoint.path / name, folder / name)


def _stored(entry: TensorEntry) -> LazyTensor:
    return LazyTensor(entry.name, entry.dtype, entry.shape, lambda: tensor_files.read(entry))


def _kept_names(checkpoint: Checkpoint, settings: QuantSettings) -> list[str]:
    spec = checkpoint.spec
    return [
        linear.prefix for linear in spec.linears if linear.role in settings.kept(spec, linear.layer)
    ]


def _metrics(checkpoint: Checkpoint, finished: LayerCheckpoints) -> dict[str, Any]:
    """Mean over the layers of each linear's relative output error."""
    rows = [
        tensor_files.read(finished.entries(index)[ERRORS])
        for index in range(checkpoint.spec.num_layers)
    ]
    roles = [linear.role for linear in checkpoint.spec.layer(0)]
    means = np.mean(rows, axis=0)
    if not means.any():
        return {}
    return {
        "relative_output_error": {
            role: round(float(value), 6) for role, value in zip(roles, means, strict=True)
        }
    }
