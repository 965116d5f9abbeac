"""quantize: a float checkpoint in, a Hugging Face AWQ folder (gemm packing) out.

Layers pass through one at a time; each finished one is kept in the partial folder, so that a killed
run goes on where it was and ends with the same bytes.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmrun.errors import StageError
from lmrun.models.checkpoint import SIDE_FILES, SINGLE_FILE, Checkpoint
from lmrun.models.registry import CONFIG_FILE, read_json
from lmrun.models.safetensors_header import TensorEntry, read_header
from lmrun.models.spec import LinearSpec
from lmrun.progress import progress_bar
from lmrun.quant import packing
from lmrun.quant.awq import InputStatistics
from lmrun.stages import calibrate, tensor_files
from lmrun.stages.collectors import SecondMoments
from lmrun.stages.context import StageContext, StageResult
from lmrun.stages.layer_quantizer import QuantizedLayer, QuantSettings, quantize_layer
from lmrun.stages.layer_source import CheckpointSource
from lmrun.stages.layer_stream import LayerStream, StreamLayer, StreamSettings
from lmrun.stages.tensor_files import LazyTensor
from lmrun.stages.workers import Workers

ACTIVATION_MEMORY = 1 << 30
"""Bytes for the hidden states; what is more goes to the disk."""
MOMENT_TOKENS = 65536
"""Calibration tokens that enter the second moments: whole sequences, evenly spread."""
ERRORS = "relative_errors"
"""Tensor of a layer's checkpoint that stays out of the artifact: errors by role, in order."""


def run(context: StageContext) -> StageResult:
    """Fill the partial folder with the quantized checkpoint."""
    checkpoint = Checkpoint.open(context.checkpoint)
    settings = QuantSettings(
        method=str(context.value("quant.method")),
        bits=int(context.value("quant.bits")),
        group_size=int(context.value("quant.group_size")),
        skip=frozenset(context.value("quant.skip")),
    )
    calibration = context.inputs.get("calibrate")
    if settings.method == "awq" and calibration is None:
        raise StageError("quantize: awq needs the artifact of calibrate, got none.")
    entries = read_header(calibration / calibrate.FILE_NAME) if calibration else {}
    ids = _observed_sequences(entries) if entries and settings.method == "awq" else None
    workers = Workers(context.threads)
    stream = LayerStream(
        CheckpointSource(checkpoint),
        ids,
        StreamSettings(activation_memory=ACTIVATION_MEMORY, workers=workers),
        context.resume,
    )
    with (
        torch.no_grad(),
        progress_bar(
            "quantize", checkpoint.spec.num_layers, stream.num_done, unit="layers"
        ) as advance,
    ):
        for layer in stream.layers():
            statistics = _observe(layer, entries, workers) if ids is not None else None
            found = quantize_layer(checkpoint.spec, layer.weights, statistics, settings, workers)
            layer.finish(_packed(found, checkpoint.spec.layer(layer.index)))
            advance(1)
    _write_folder(context.partial, checkpoint, settings, stream)
    return StageResult(metrics=_metrics(checkpoint, stream))


def _observed_sequences(entries: Mapping[str, TensorEntry]) -> Tensor:
    """Token ids of every n-th calibration sequence, `MOMENT_TOKENS` tokens or one sequence."""
    ids = torch.from_numpy(tensor_files.read(entries[calibrate.TOKEN_IDS]))
    return ids[:: min(len(ids), -(-ids.numel() // MOMENT_TOKENS))]


def _observe(
    layer: StreamLayer, entries: Mapping[str, TensorEntry], workers: Workers
) -> dict[str, InputStatistics]:
    """What the layer's linears see, in the float model.

    The hidden states of the quantized layers before cost a second pass and gave no lower
    perplexity over the models tried (`lmrun/quant/README.md`).
    """
    moments = SecondMoments(workers)
    layer.observe(moments)
    return {
        name: InputStatistics(
            moment,
            torch.from_numpy(tensor_files.read(entries[f"layers.{layer.index}.{name}.abs_mean"])),
        )
        for name, moment in moments.result().items()
    }


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
    folder: Path, checkpoint: Checkpoint, settings: QuantSettings, stream: LayerStream
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
        for entry in stream.entries(index).values():
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


def _metrics(checkpoint: Checkpoint, stream: LayerStream) -> dict[str, Any]:
    """Mean over the layers of each linear's relative output error."""
    rows = [
        tensor_files.read(stream.entries(index)[ERRORS])
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
