"""compressed-tensors (llm-compressor): pack-quantized words and int-quantized bytes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmrun.models.code_format import CodeFormat, Packing
from lmrun.models.spec import LinearSpec
from lmrun.quant import packing
from lmrun.quant.formats.codes import Array, LinearCodes, Load, Modules, consecutive_groups


def write(prefix: str, weight: LinearCodes, form: CodeFormat) -> dict[str, Array]:
    """The tensors of a linear. Scales keep their type."""
    found: dict[str, Array] = {f"{prefix}.weight_scale": np.ascontiguousarray(weight.scales)}
    zeros = f"{prefix}.weight_zero_point"
    if form.packing is Packing.int_quantized:
        found[f"{prefix}.weight"] = signed(weight.codes)
        if not form.is_symmetric:
            found[zeros] = signed(weight.zeros)
        return found
    found[f"{prefix}.weight_packed"] = packing.pack_words(weight.codes, form.bits)
    found[f"{prefix}.weight_shape"] = np.array(weight.codes.shape, np.int64)
    if not form.is_symmetric:
        words = packing.pack_words(weight.zeros.T, form.bits)
        found[zeros] = np.ascontiguousarray(words.T)
    if weight.group_index is not None:
        found[f"{prefix}.weight_g_idx"] = weight.group_index
    return found


def read(load: Load, linear: LinearSpec, form: CodeFormat) -> LinearCodes:
    """Inverse of `write`; a scale for the whole matrix becomes one a row."""
    n, k = linear.out_features, linear.in_features
    shape = (n, form.groups(k))
    scales = _spread(load(f"{linear.prefix}.weight_scale"), shape)
    if form.packing is Packing.int_quantized:
        codes = unsigned(load(f"{linear.prefix}.weight"), form.bits)
    else:
        codes = packing.unpack_words(load(f"{linear.prefix}.weight_packed"), form.bits, k)
    if form.is_symmetric:
        zeros = np.full(shape, 1 << (form.bits - 1), np.uint8)
    else:
        zeros = _zeros(load(f"{linear.prefix}.weight_zero_point"), shape, form.bits)
    index = load(f"{linear.prefix}.weight_g_idx") if form.act_order else None
    if index is not None and consecutive_groups(index, form.group_size):
        index = None
    return LinearCodes(codes, scales, zeros, form.bits, index)


def config(form: CodeFormat, modules: Modules) -> dict[str, Any]:
    """`quantization_config` of a folder."""
    weights: dict[str, Any] = {
        "num_bits": form.bits,
        "type": "int",
        "symmetric": form.is_symmetric,
        "strategy": "group" if form.group_size else "channel",
        "group_size": form.group_size or None,
        "dynamic": False,
        "actorder": "group" if form.act_order else None,
    }
    inputs = {
        "num_bits": 8,
        "type": "int",
        "symmetric": True,
        "strategy": "token",
        "group_size": None,
        "dynamic": True,
    }
    return {
        "quant_method": "compressed-tensors",
        "format": str(form.packing),
        "quantization_status": "compressed",
        "config_groups": {
            "group_0": {
                "format": str(form.packing),
                "targets": ["Linear"],
                "weights": weights,
                "input_activations": inputs if form.activation_bits == 8 else None,
                "output_activations": None,
            }
        },
        "ignore": list(modules.kept),
        "kv_cache_scheme": None,
    }


def signed(codes: NDArray[np.uint8]) -> NDArray[np.int8]:
    """8-bit codes less 128, as int8."""
    return np.ascontiguousarray(codes ^ np.uint8(0x80)).view(np.int8)


def unsigned(values: Array, bits: int) -> NDArray[np.uint8]:
    """Codes of int8 values: plus 2^(bits - 1)."""
    return values.view(np.uint8) + np.uint8(1 << (bits - 1))


def _spread(values: Array, shape: tuple[int, int]) -> Array:
    """[N, groups], [N] or one value for all, as [N, groups]."""
    if values.shape != shape:
        values = np.broadcast_to(values.reshape(-1, 1), shape)
    return values


def _zeros(stored: Array, shape: tuple[int, int], bits: int) -> NDArray[np.uint8]:
    if stored.dtype == np.int8:
        return unsigned(np.ascontiguousarray(_spread(stored, shape)), bits)
    return packing.unpack_words(np.ascontiguousarray(stored.T), bits, shape[0]).T
