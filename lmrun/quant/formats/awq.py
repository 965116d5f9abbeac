"""AWQ "gemm" (AutoAWQ, GPTQModel, AutoRound, LMDeploy): 4-bit words along the output features."""

from typing import Any

import numpy as np

from lmrun.models.code_format import CodeFormat
from lmrun.models.spec import LinearSpec
from lmrun.quant import packing
from lmrun.quant.formats.codes import Array, LinearCodes, Load, Modules


def write(prefix: str, weight: LinearCodes, form: CodeFormat) -> dict[str, Array]:
    """The tensors of a linear; 8 divides N. Scales are stored in float16."""
    return {
        f"{prefix}.qweight": packing.pack_awq(weight.codes.T),
        f"{prefix}.qzeros": packing.pack_awq(weight.zeros.T),
        f"{prefix}.scales": np.ascontiguousarray(weight.scales.astype(np.float16).T),
    }


def read(load: Load, linear: LinearSpec, form: CodeFormat) -> LinearCodes:
    """Inverse of `write`; scales in the type they are stored in."""
    return LinearCodes(
        codes=packing.unpack_awq(load(f"{linear.prefix}.qweight")).T,
        scales=load(f"{linear.prefix}.scales").T,
        zeros=packing.unpack_awq(load(f"{linear.prefix}.qzeros")).T,
        bits=form.bits,
    )


def config(form: CodeFormat, modules: Modules) -> dict[str, Any]:
    """`quantization_config` of a folder."""
    return {
        "quant_method": "awq",
        "version": "gemm",
        "bits": form.bits,
        "group_size": form.group_size or -1,
        "zero_point": True,
        "modules_to_not_convert": list(modules.kept),
    }
