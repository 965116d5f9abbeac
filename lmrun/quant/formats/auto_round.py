"""AutoRound's own folders: GPTQ or AWQ tensors under a `quantization_config` of their own."""

from typing import Any

from lmrun.models.code_format import CodeFormat, Packing
from lmrun.models.spec import LinearSpec
from lmrun.quant.formats import awq, gptq
from lmrun.quant.formats.codes import Array, LinearCodes, Load, Modules

KEPT_BITS = 16


def write(prefix: str, weight: LinearCodes, form: CodeFormat) -> dict[str, Array]:
    """The tensors of a linear: those of AWQ, or of GPTQ without the index of groups."""
    if form.packing is Packing.awq:
        return awq.write(prefix, weight, form)
    found = gptq.write(prefix, weight, form)
    del found[f"{prefix}.g_idx"]
    return found


def read(load: Load, linear: LinearSpec, form: CodeFormat) -> LinearCodes:
    """Inverse of `write`."""
    if form.packing is Packing.awq:
        return awq.read(load, linear, form)
    return gptq.read(load, linear, form)


def config(form: CodeFormat, modules: Modules) -> dict[str, Any]:
    """`quantization_config` of a folder."""
    if form.packing is Packing.awq:
        packing = "auto_round:auto_awq"
    else:
        packing = "auto_round:auto_gptq" if form.zeros_less_one else "auto_round:gptqmodel"
    return {
        "quant_method": "auto-round",
        "packing_format": packing,
        "bits": form.bits,
        "group_size": form.group_size or -1,
        "sym": form.is_symmetric,
        "data_type": "int",
        "extra_config": {name: {"bits": KEPT_BITS} for name in modules.kept},
    }
