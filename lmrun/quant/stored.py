"""How the engine holds the weights of a checkpoint that is quantized already. No tensor is read."""

from lmrun.errors import PlanError
from lmrun.models.checkpoint import Checkpoint
from lmrun.quant.combinations import torn_matrix
from lmrun.quant.layout import GROUP_MULTIPLE, MOST_I8_INPUTS, WeightQuant

SCALES = ("scales", "weight_scale", "scale")
"""Suffixes of the tensors that hold scales, in one format or another."""


def stored_quant(checkpoint: Checkpoint) -> WeightQuant:
    """What becomes of the codes of a checkpoint; `none` for one of floats.

    Raises `PlanError` for groups or sizes that the engine does not take, and for a matrix of the
    engine of which a part is quantized.
    """
    form = checkpoint.code_format
    if form is None:
        return WeightQuant("none")
    spec = checkpoint.spec
    packed = [linear for linear in spec.linears if checkpoint.is_quantized(linear)]
    for linear in packed:
        k = linear.in_features
        if form.activation_bits == 8:
            if k > MOST_I8_INPUTS:
                raise PlanError(
                    f"{checkpoint.path}: {linear.name} has {k} input features; with 8-bit"
                    f" activations at most {MOST_I8_INPUTS} are built."
                )
        elif (form.group_size or k) % GROUP_MULTIPLE:
            raise PlanError(
                f"{checkpoint.path}: groups of {form.group_size or k} ({linear.name}) are not built"
                f" yet. Supported: multiples of {GROUP_MULTIPLE}."
            )
    kept = frozenset(one.name for one in spec.linears if not checkpoint.is_quantized(one))
    torn = torn_matrix(str(checkpoint.path), kept, spec)
    if torn is not None:
        raise PlanError(torn)
    names = (f"{linear.prefix}.{suffix}" for linear in packed for suffix in SCALES)
    dtypes = {checkpoint.tensors[name].dtype for name in names if name in checkpoint.tensors}
    return WeightQuant(
        form.method,
        group_size=form.group_size,
        skip=kept,
        bits=form.bits,
        is_symmetric=form.is_symmetric,
        activation_bits=form.activation_bits,
        scale_dtype="F16" if dtypes <= {"F16"} else "F32",
        has_order=form.act_order and form.group_size > 0,
    )
