"""Quantized folders, made from tiny float checkpoints in any format."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from lmrun.models.checkpoint import Checkpoint
from lmrun.models.code_format import CodeFormat
from lmrun.quant import rtn
from lmrun.quant.formats import registry
from lmrun.quant.formats.codes import LinearCodes
from lmrun.quant.weight import Scheme

Tensors = dict[str, NDArray[Any]]


def write_quantized(
    folder: Path, form: CodeFormat, *, kept: tuple[str, ...] = (), seed: int = 9
) -> Tensors:
    """Quantize the float checkpoint in ``folder`` in place; its dequantized tensors in float32.

    ``kept`` names linears (`LinearSpec.name`) that stay floats. Where the format has an order, the
    groups of every linear are input features taken at random.
    """
    checkpoint = Checkpoint.open(folder)
    path = folder / "model.safetensors"
    tensors: Tensors = load_file(path)
    floats: Tensors = {name: array.astype(np.float32) for name, array in tensors.items()}
    rng = np.random.Generator(np.random.PCG64(seed))
    for linear in checkpoint.spec.linears:
        if linear.name in kept:
            continue
        weight = tensors.pop(f"{linear.prefix}.weight")
        index = _order(rng, linear.in_features, form)
        codes = _quantized(weight.astype(np.float32), form, index)
        tensors |= registry.write(linear.prefix, codes, form)
        floats[f"{linear.prefix}.weight"] = codes.dequantize()
    save_file(tensors, path, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    linears = checkpoint.spec.linears
    config["quantization_config"] = registry.quantization_config(form, linears, kept)
    (folder / "config.json").write_text(json.dumps(config))
    return floats


def _order(
    rng: np.random.Generator, num_features: int, form: CodeFormat
) -> NDArray[np.int32] | None:
    if not form.act_order:
        return None
    groups = np.arange(num_features, dtype=np.int32) // np.int32(form.group_size)
    return rng.permutation(groups)


def _quantized(
    weight: NDArray[np.float32], form: CodeFormat, index: NDArray[np.int32] | None
) -> LinearCodes:
    """Round to nearest of the columns group by group."""
    scheme = Scheme(form.bits, form.group_size, form.is_symmetric)
    if index is None:
        return LinearCodes.of(rtn.quantize(torch.from_numpy(weight), scheme))
    order = np.argsort(index, kind="stable")
    found = LinearCodes.of(rtn.quantize(torch.from_numpy(weight[:, order].copy()), scheme))
    codes = np.empty_like(found.codes)
    codes[:, order] = found.codes
    return LinearCodes(codes, found.scales, found.zeros, form.bits, index)
