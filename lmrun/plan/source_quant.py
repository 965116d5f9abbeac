"""How the weights will be stored: what the quant group asks for, checked against the model."""

from lmrun.config.schema import QuantConfig
from lmrun.config.suggest import listed
from lmrun.errors import PlanError
from lmrun.models.checkpoint import Checkpoint
from lmrun.models.spec import LinearSpec, ModelSpec
from lmrun.models.workspace import WorkspaceInfo
from lmrun.quant.layout import GROUP_SIZES, MATRICES, WeightQuant

SMOOTHQUANT = "smoothquant"
AWQ_COLUMNS = 8
"""Codes in a word of a quantized checkpoint: it divides the output features."""


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
        what = f"{stored.method}, groups of {stored.group_size}"
    return (f"the weights stay as the folder has them ({what}); the quant group is not used",)


def planned_quant(quant: QuantConfig, spec: ModelSpec) -> WeightQuant:
    """As the recipe asks; `PlanError` where that cannot be done to this model."""
    method = quant.method.value
    if method == "none":
        return WeightQuant("none")
    planned = WeightQuant(
        method,
        group_size=0 if method == SMOOTHQUANT else quant.group_size,
        skip=frozenset(quant.skip),
        bits=quant.bits,
        is_symmetric=quant.symmetric or method == SMOOTHQUANT,
    )
    if method == SMOOTHQUANT and quant.bits != 8:
        raise PlanError(
            f"quant.bits={quant.bits}: smoothquant has weights and activations of 8 bits."
            " Use quant.bits=8."
        )
    _check_skip(planned, spec)
    _check_groups(planned, spec)
    return planned


def stored_quant(checkpoint: Checkpoint) -> WeightQuant:
    """As an AWQ folder has them."""
    assert checkpoint.awq is not None
    group_size = checkpoint.awq.group_size
    if group_size not in GROUP_SIZES:
        raise PlanError(
            f"{checkpoint.path}: groups of {group_size} are not built yet."
            f" Supported: {listed(GROUP_SIZES, 'and')}."
        )
    kept = frozenset(
        linear.name for linear in checkpoint.spec.linears if not checkpoint.is_quantized(linear)
    )
    stored = WeightQuant("awq", group_size, kept)
    _check_skip(stored, checkpoint.spec, str(checkpoint.path))
    return stored


def divides(spec: ModelSpec, group_size: int) -> bool:
    """Whether every linear can become AWQ codes with this group size."""
    return not any(
        item.in_features % group_size or item.out_features % AWQ_COLUMNS for item in spec.layer(0)
    )


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
    return WeightQuant(info.method, info.group_size, kept, info.bits)


def _check_skip(quant: WeightQuant, spec: ModelSpec, where: str = "quant.skip") -> None:
    """Linears that share a matrix of the engine are kept together or not at all."""
    names = {linear.name for linear in spec.linears}
    unknown = sorted(quant.skip - names)
    if unknown:
        example = spec.layer(0)[-1].name
        raise PlanError(
            f"{where}: no linear {unknown[0]} in this model. Names look like {example},"
            f" with layers 0 to {spec.num_layers - 1}."
        )
    for index in range(spec.num_layers):
        linears = {linear.role: linear for linear in spec.layer(index)}
        for _, roles in MATRICES:
            parts = [linears[role].name for role in roles]
            kept = [name for name in parts if name in quant.skip]
            if kept and len(kept) < len(parts):
                missing = next(name for name in parts if name not in quant.skip)
                raise PlanError(
                    f"{where}: {kept[0]} is kept and {missing} is not; the engine holds both in one"
                    f" matrix. Keep all of {', '.join(parts)}, or none."
                )


def _check_groups(quant: WeightQuant, spec: ModelSpec) -> None:
    packed = [linear for linear in spec.linears if linear.name not in quant.skip]
    size = quant.group_size or 1  # 0: a whole row shares a scale
    wrong = [linear for linear in packed if linear.in_features % size]
    if wrong:
        fitting = [
            size for size in GROUP_SIZES if all(linear.in_features % size == 0 for linear in packed)
        ]
        named = max(wrong, key=_hardness)
        hint = (
            f"Use {listed(fitting)}."
            if fitting
            else f"None of {listed(GROUP_SIZES, 'and')} does. Use quant.method=none."
        )
        raise PlanError(
            f"quant.group_size={quant.group_size}: must divide {named.in_features}"
            f" (in_features of {named.name}). {hint}"
        )
    for linear in packed:
        if linear.out_features % AWQ_COLUMNS:
            raise PlanError(
                f"quant.method={quant.method}: {AWQ_COLUMNS} must divide {linear.out_features}"
                f" (out_features of {linear.name}). Use quant.method=none, or put it in quant.skip."
            )


def _hardness(linear: LinearSpec) -> int:
    """How many group sizes a linear rules out; `max` keeps the first of equals."""
    return sum(linear.in_features % size != 0 for size in GROUP_SIZES)
