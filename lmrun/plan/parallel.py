"""Whether a model can be divided among ranks."""

from lmrun.errors import PlanError
from lmrun.models.spec import ModelSpec
from lmrun.quant.layout import WeightQuant

SPLIT_ALONG_INPUTS = ("o_proj", "down_proj")
"""Linears of which each rank holds a part of the input features."""


def check_ranks(spec: ModelSpec, quant: WeightQuant, tp: int) -> None:
    """Raise `PlanError` where the degree divides no heads, features or groups."""
    problem = indivisible(spec, quant, tp)
    if problem is not None:
        legal = [
            str(degree)
            for degree in range(1, spec.num_heads + 1)
            if indivisible(spec, quant, degree) is None
        ]
        raise PlanError(f"parallel.tp={tp}: {problem}. Use {', '.join(legal)}.")


def indivisible(spec: ModelSpec, quant: WeightQuant, tp: int) -> str | None:
    """What that many ranks cannot share evenly; None where they can share everything."""
    if tp == 1:
        return None
    kv, heads = spec.num_kv_heads, spec.num_heads
    if heads % tp:
        return f"must divide {heads} (query heads)"
    if kv % tp and tp % kv:
        return f"must divide {kv} (KV heads), or be a multiple of it"
    if spec.intermediate_size % tp:
        return f"must divide {spec.intermediate_size} (intermediate_size)"
    size = quant.group_size or 1
    for linear in spec.layer(0):
        features = linear.in_features // tp
        is_split = linear.role in SPLIT_ALONG_INPUTS
        if is_split and quant.packs((linear,)) and features % size:
            return f"groups of {size} must divide the {features} input features of a rank"
    return None
