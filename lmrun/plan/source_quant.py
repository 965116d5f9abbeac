"""How the weights of a model that is quantized already are stored."""

from lmrun.config.schema import QuantConfig
from lmrun.models.workspace import WorkspaceInfo
from lmrun.quant.layout import MATRICES, WeightQuant


def weight_dtype(stored: str, planned: WeightQuant) -> str:
    """Type of the matrices that are no codes: quantize writes float16, whatever it read."""
    return stored if planned.method == "none" else "F16"


def unused(quant: QuantConfig, stored: WeightQuant) -> tuple[str, ...]:
    """A remark where the recipe asks for a quantization that the folder has already settled."""
    method = quant.method.value
    is_same = method == stored.method and quant.group_size == stored.group_size
    if method == "none" or is_same:
        return ()
    what = "not quantized"
    if stored.method != "none":
        size = stored.group_size
        what = f"{stored.method}, " + (f"groups of {size}" if size else "whole rows")
    return (f"the weights stay as the folder has them ({what}); the quant group is not used",)


def workspace_quant(info: WorkspaceInfo) -> WeightQuant:
    """As a workspace has them."""
    if info.method == "none":
        return WeightQuant("none")
    kept = frozenset(
        linear.name
        for linear in info.spec.linears
        for matrix, roles in MATRICES
        if linear.role in roles
        and f"layers.{linear.layer}.{matrix}.0.qweight" not in info.tensor_names
    )
    return WeightQuant(
        info.method,
        info.group_size,
        kept,
        info.bits,
        is_symmetric=info.is_symmetric,
        activation_bits=info.activation_bits,
        scale_dtype=info.scale_dtype,
        has_order=any(name.endswith(".order") for name in info.tensor_names),
    )
