"""smooth_quant of LMDeploy: int8 weights, a float32 scale a row, activations per token."""

from typing import Any

import numpy as np

from lmrun.models.code_format import CodeFormat
from lmrun.models.spec import LinearSpec
from lmrun.quant.formats.codes import Array, LinearCodes, Load, Modules
from lmrun.quant.formats.compressed_tensors import signed, unsigned


def write(prefix: str, weight: LinearCodes, form: CodeFormat) -> dict[str, Array]:
    """The tensors of a linear, whose zero points are 128. Scales are stored in float32."""
    return {
        f"{prefix}.weight": signed(weight.codes),
        f"{prefix}.scale": np.ascontiguousarray(weight.scales.astype(np.float32)),
    }


def read(load: Load, linear: LinearSpec, form: CodeFormat) -> LinearCodes:
    """Inverse of `write`."""
    scales = load(f"{linear.prefix}.scale")
    zeros = np.full(scales.shape, 1 << (form.bits - 1), np.uint8)
    codes = unsigned(load(f"{linear.prefix}.weight"), form.bits)
    return LinearCodes(codes, scales, zeros, form.bits)


def config(form: CodeFormat, modules: Modules) -> dict[str, Any]:
    """`quantization_config` of a folder."""
    return {
        "quant_method": "smooth_quant",
        "quant_dtype": "int8",
        "modules_to_not_convert": list(modules.kept),
    }
