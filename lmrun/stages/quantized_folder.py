"""The Hugging Face folder that quantize writes: tensors of layers, and what stands beside them."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmrun.errors import StageError
from lmrun.models.checkpoint import SIDE_FILES, SINGLE_FILE
from lmrun.models.code_format import CodeFormat
from lmrun.models.registry import CONFIG_FILE
from lmrun.models.safetensors_header import TensorEntry
from lmrun.models.spec import LinearSpec, ModelSpec
from lmrun.quant.formats import registry
from lmrun.quant.formats.codes import LinearCodes
from lmrun.stages import tensor_files
from lmrun.stages.layer_source import LayerSource
from lmrun.stages.layer_stream import LayerStream
from lmrun.stages.quantizing import QuantizedLayer, QuantSettings
from lmrun.stages.tensor_files import Array, LazyTensor

PRIVATE = "__report__"
"""Tensor of a layer's checkpoint that stays out of the folder."""
CHUNK_ROWS = 4096
"""Rows of the embedding or the head in float32 at a time."""
_EMBEDDING, _NORM, _HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"


def layer_tensors(
    layer: QuantizedLayer, linears: tuple[LinearSpec, ...], form: CodeFormat
) -> dict[str, Array]:
    """Tensors of a layer as the folder names and stores them."""
    weights = layer.weights
    tensors: dict[str, Array] = {}
    for linear in linears:
        if linear.role in layer.codes:
            codes = LinearCodes.of(layer.codes[linear.role])
            try:
                tensors |= registry.write(linear.prefix, codes, form)
            except ValueError as error:
                raise StageError(f"{linear.name}: {error}") from error
        else:
            name = f"{linear.prefix}.weight"
            tensors[name] = half(name, weights.linears[linear.role].cpu().numpy())
        if linear.role in weights.biases:
            name = f"{linear.prefix}.bias"
            tensors[name] = half(name, weights.biases[linear.role].cpu().numpy())
    for norm, weight in weights.norms.items():
        block = "self_attn." if norm in ("q_norm", "k_norm") else ""
        name = f"model.layers.{weights.index}.{block}{norm}.weight"
        tensors[name] = half(name, weight.cpu().numpy())
    return tensors


def half(name: str, array: NDArray[np.float32]) -> NDArray[np.float16]:
    """float16; `StageError` with the tensor's name where a number does not fit."""
    if not np.isfinite(array).all() or np.abs(array).max(initial=0) > np.finfo(np.float16).max:
        raise StageError(
            f"{name}: expected numbers that float16 holds (up to 65504), got larger ones or NaN."
            " A quantized folder stores float16; use quant=none for this model."
        )
    return array.astype(np.float16)


def write_folder(
    folder: Path,
    source: LayerSource,
    stream: LayerStream,
    config: Mapping[str, Any],
    beside: Path,
) -> None:
    """Weights, ``config`` as config.json, and the files that stand ``beside`` the checkpoint's."""
    spec = source.spec
    tensors = [_outer(source, _EMBEDDING, (spec.vocab_size, spec.hidden_size))]
    for index in range(spec.num_layers):
        entries = stream.entries(index).values()
        tensors += [_stored(entry) for entry in entries if entry.name != PRIVATE]
    tensors.append(_outer(source, _NORM, (spec.hidden_size,)))
    if not spec.tie_word_embeddings:
        tensors.append(_outer(source, _HEAD, (spec.vocab_size, spec.hidden_size)))
    tensor_files.write_safetensors(folder / SINGLE_FILE, tensors, {"format": "pt"})
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (folder / CONFIG_FILE).write_text(text, encoding="utf-8")
    for name in SIDE_FILES:
        if (beside / name).is_file():
            shutil.copyfile(beside / name, folder / name)


def folder_config(
    config: Mapping[str, Any], spec: ModelSpec, settings: QuantSettings, form: CodeFormat
) -> dict[str, Any]:
    """config.json of the folder, from that of the float model."""
    found = {key: value for key, value in config.items() if key != "dtype"}
    found["torch_dtype"] = "float16"
    found["quantization_config"] = registry.quantization_config(form, spec.linears, settings.skip)
    return found


def _outer(source: LayerSource, name: str, shape: tuple[int, ...]) -> LazyTensor:
    def load() -> NDArray[np.float16]:
        if len(shape) == 1:
            return half(name, source.outer(name).numpy())
        whole = np.empty(shape, np.float16)
        for start in range(0, shape[0], CHUNK_ROWS):
            rows = source.outer_rows(name, start, start + CHUNK_ROWS)
            whole[start : start + CHUNK_ROWS] = half(name, rows.numpy())
        return whole

    return LazyTensor(name, "F16", shape, load)


def _stored(entry: TensorEntry) -> LazyTensor:
    return LazyTensor(entry.name, entry.dtype, entry.shape, lambda: tensor_files.read(entry))
