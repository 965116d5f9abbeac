"""How far quantized layers are from the float ones: one routine for every tool's checkpoint.

Codes are read by lmrun's readers of the formats into float32 weights, and run in float32: no
tool's kernels take part.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lmrun.models.checkpoint import Checkpoint
from lmrun.models.registry import CONFIG_FILE
from lmrun.models.spec import LinearSpec
from lmrun.quant.formats import registry
from lmrun.stages import decoder, tensor_files
from lmrun.stages.decoder import LayerWeights, RotaryTables


def output_errors(model: Path, quantized: Path, held_out: NDArray[np.int32]) -> list[float]:
    """For each layer: Σ|float - quantized|² of its outputs over Σ of what the float layers added.

    Both models run on the held-out ids from the float embedding on, each on its own outputs.
    """
    exact = Checkpoint.open(model)
    other = Checkpoint.open(checkpoint_folder(quantized))
    ids = torch.from_numpy(held_out)
    rotary = RotaryTables.of(exact.spec, ids.shape[1])
    errors = []
    with torch.no_grad():
        start = decoder.embed(exact, ids)
        one, two = start, start
        for index in range(exact.spec.num_layers):
            weights = decoder.load_layer(exact, index)
            one = decoder.run_layer(exact.spec, weights, one, rotary)
            two = decoder.run_layer(exact.spec, dequantized(other, index), two, rotary)
            wrong = float((one - two).double().square().sum())
            errors.append(wrong / float((one - start).double().square().sum()))
    return errors


def dequantized(checkpoint: Checkpoint, index: int) -> LayerWeights:
    """The tensors of a layer in float32, codes as what they stand for."""
    form = checkpoint.code_format

    def values(name: str) -> NDArray[np.generic]:
        entry = checkpoint.tensors[name]
        array = tensor_files.read(entry)
        return tensor_files.to_float32(array, entry.dtype) if entry.dtype == "BF16" else array

    def weight(linear: LinearSpec) -> torch.Tensor:
        if form is None or not checkpoint.is_quantized(linear):
            return decoder.load_tensor(checkpoint, f"{linear.prefix}.weight")
        return torch.from_numpy(registry.read(values, linear, form).dequantize())

    spec = checkpoint.spec
    prefix = f"model.layers.{index}"
    norms = ["input_layernorm", "post_attention_layernorm"]
    names = {name: f"{prefix}.{name}.weight" for name in norms}
    if spec.qk_norm:
        names |= {name: f"{prefix}.self_attn.{name}.weight" for name in ("q_norm", "k_norm")}
    linears = spec.layer(index)
    return LayerWeights(
        index=index,
        linears={one.role: weight(one) for one in linears},
        biases={
            one.role: decoder.load_tensor(checkpoint, f"{one.prefix}.bias")
            for one in linears
            if one.has_bias
        },
        norms={name: decoder.load_tensor(checkpoint, full) for name, full in names.items()},
    )


def checkpoint_folder(folder: Path) -> Path:
    """The folder that holds config.json: some tools write one inside the one they were given."""
    if (folder / CONFIG_FILE).is_file():
        return folder
    return next((path.parent for path in sorted(folder.glob(f"*/{CONFIG_FILE}"))), folder)
