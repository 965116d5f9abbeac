"""GPTQ, v1 and v2 (AutoGPTQ, GPTQModel, AutoRound): words along the input features."""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmrun.models.code_format import CodeFormat
from lmrun.models.spec import LinearSpec
from lmrun.quant import packing
from lmrun.quant.formats.codes import HEAD, Array, LinearCodes, Load, Modules, consecutive_groups

ONES = {4: 0x11111111, 8: 0x01010101}
"""A word of zero points that are all one."""


def write(prefix: str, weight: LinearCodes, form: CodeFormat) -> dict[str, Array]:
    """The tensors of a linear; a word's codes divide K and N. Scales are stored in float16."""
    k, groups = weight.codes.shape[1], weight.scales.shape[1]
    index = weight.group_index
    if index is None:
        index = np.arange(k, dtype=np.int32) // np.int32(k // groups)
    zeros = packing.pack_words(weight.zeros.T, form.bits)
    if form.zeros_less_one:
        zeros = _plus(zeros, -ONES[form.bits])
    words = packing.pack_words(weight.codes, form.bits)
    return {
        f"{prefix}.qweight": np.ascontiguousarray(words.T),
        f"{prefix}.qzeros": zeros,
        f"{prefix}.scales": np.ascontiguousarray(weight.scales.astype(np.float16).T),
        f"{prefix}.g_idx": index.astype(np.int32),
    }


def read(load: Load, linear: LinearSpec, form: CodeFormat) -> LinearCodes:
    """Inverse of `write`. v1 subtracts one from the whole word of zero points, borrows included, so
    one is added to the whole word before it is taken apart."""
    zeros = load(f"{linear.prefix}.qzeros")
    if form.zeros_less_one:
        zeros = _plus(zeros, ONES[form.bits])
    words = np.ascontiguousarray(load(f"{linear.prefix}.qweight").T)
    return LinearCodes(
        codes=packing.unpack_words(words, form.bits, linear.in_features),
        scales=load(f"{linear.prefix}.scales").T,
        zeros=packing.unpack_words(zeros, form.bits, linear.out_features).T,
        bits=form.bits,
        group_index=_group_index(load, linear, form),
    )


def config(form: CodeFormat, modules: Modules) -> dict[str, Any]:
    """`quantization_config` of a folder."""
    name = "gptq" if form.zeros_less_one else "gptq_v2"
    kept = [one for one in modules.kept if one != HEAD]
    found = {
        "quant_method": "gptq",
        "bits": form.bits,
        "group_size": form.group_size or -1,
        "desc_act": form.act_order,
        "sym": form.is_symmetric,
        "checkpoint_format": name,
        "format": name,
        "pack_dtype": "int32",
        "lm_head": False,
        "modules_to_not_convert": list(modules.kept),
        "dynamic": {f"-:^{re.escape(one)}$": {} for one in kept},
    }
    if kept:  # transformers knows no list of what is left out
        found["modules_in_block_to_quantize"] = [list(modules.packed)]
    return found


def _plus(words: Array, number: int) -> NDArray[np.int32]:
    """Sums modulo 2^32."""
    sums: NDArray[np.int32] = (words.view(np.uint32) + np.uint32(number % 2**32)).view(np.int32)
    return sums


def _group_index(load: Load, linear: LinearSpec, form: CodeFormat) -> NDArray[np.int32] | None:
    try:
        index = load(f"{linear.prefix}.g_idx")
    except KeyError:
        return None
    return None if consecutive_groups(index, form.group_size) else index
