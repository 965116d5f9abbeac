"""Bytes of the weights of a rank, by layer kind and scheme. No tensor is read."""

import math
from dataclasses import dataclass

from lmrun.models.spec import ModelSpec
from lmrun.plan.costs import WeightKind, WeightRow
from lmrun.quant.layout import (
    CPU,
    DTYPE_BYTES,
    MATRICES,
    SCALE_BITS,
    WeightQuant,
    file_bytes,
    rank_shape,
    zero_bits,
)

INT8_BITS = 8
"""Of activations whose products with int8 weights have a float scale a row."""
INT8_INPUTS = "a8"
"""Word of a scheme whose inputs are rounded to int8."""
KINDS: tuple[WeightKind, ...] = ("embedding", "attention", "mlp", "biases", "norms", "head")
"""In the order they are shown."""


@dataclass(frozen=True)
class Storage:
    """How and where weights are stored."""

    weight_dtype: str
    """Of the matrices that are no codes."""
    quant: WeightQuant
    tp: int = 1
    layout: str = CPU
    """`cpu` or `cuda`: the kind of the device."""


@dataclass(frozen=True)
class Weights:
    """Weights of one rank: total = the rows' bytes + other."""

    rows: tuple[WeightRow, ...]
    other_bytes: int
    """Rope table, tile padding, alignment, rounding of the file; header of one that is there."""
    total_bytes: int
    input_bytes: int = 0
    """Of a token: the widest input of a linear again, as int8 codes or in the order of groups."""


def weigh(spec: ModelSpec, storage: Storage, stored_bytes: int | None = None) -> Weights:
    """The weights of a rank; ``stored_bytes`` is the size of a file that is there already."""
    found: dict[tuple[WeightKind, str], tuple[int, int]] = {}

    def add(kind: WeightKind, scheme: str, parameters: int, size: int) -> None:
        old = found.get((kind, scheme), (0, 0))
        found[kind, scheme] = (old[0] + parameters, old[1] + size)

    def floats(kind: WeightKind, parameters: int, dtype: str) -> None:
        add(kind, dtype, parameters, parameters * DTYPE_BYTES[dtype])

    dtype, quant, tp = storage.weight_dtype, storage.quant, storage.tp
    vector = "F32" if storage.layout == CPU else dtype
    vocab, hidden = -(-spec.vocab_size // tp), spec.hidden_size
    floats("embedding", vocab * hidden, dtype)
    for index in range(spec.num_layers):
        linears = {linear.role: linear for linear in spec.layer(index)}
        for matrix, roles in MATRICES:
            parts = tuple(linears[role] for role in roles)
            n, k = rank_shape(spec, matrix, tp)
            kind: WeightKind = "attention" if matrix.startswith("attention") else "mlp"
            if quant.packs(parts):
                add(kind, scheme_name(quant, storage.layout), n * k, _code_bytes(n, k, storage))
            else:
                floats(kind, n * k, dtype)
            if parts[0].has_bias:
                floats("biases", n, vector)
        floats("norms", 2 * hidden + (2 * spec.head_dim if spec.qk_norm else 0), vector)
    floats("norms", hidden, vector)
    if not spec.tie_word_embeddings:
        floats("head", vocab * hidden, dtype)
    rows = tuple(
        WeightRow(kind, scheme, parameters, size * 8 / parameters, size)
        for (kind, scheme), (parameters, size) in sorted(
            found.items(), key=lambda item: KINDS.index(item[0][0])
        )
    )
    total = stored_bytes
    if total is None:
        total = file_bytes(spec, dtype, quant, tp=tp, layout=storage.layout)
    other = total - sum(row.num_bytes for row in rows)
    return Weights(rows, other, total, _input_bytes(spec, storage))


def _input_bytes(spec: ModelSpec, storage: Storage) -> int:
    quant, tp = storage.quant, storage.tp
    widest = max(rank_shape(spec, matrix, tp)[1] for matrix, _ in MATRICES)
    size = widest * DTYPE_BYTES["F32"] if quant.has_order else 0
    if quant.activation_bits == INT8_BITS:
        size += widest + 2 * DTYPE_BYTES["F32"]  # its scale and the sum of its codes
    return size


def scheme_name(quant: WeightQuant, layout: str) -> str:
    """`u4 g128`: codes as they are stored, their bits, the group or `rows`.

    `u` has zero points, `i` has none: int8 for products with int8 activations (`a8`), and symmetric
    codes on CUDA. The first word is what the ceilings of this machine are measured by.
    """
    has_zeros = zero_bits(quant, layout) > 0
    groups = f"g{quant.group_size}" if quant.group_size else "rows"
    inputs = f" {INT8_INPUTS}" if quant.activation_bits == INT8_BITS else ""
    return f"{'u' if has_zeros else 'i'}{quant.bits} {groups}{inputs}"


def _code_bytes(n: int, k: int, storage: Storage) -> int:
    """Codes, scales and zero points of a matrix, without padding."""
    quant = storage.quant
    groups = k // quant.group_size if quant.group_size else 1
    scale = DTYPE_BYTES["F32"] * 8
    if quant.activation_bits != INT8_BITS and quant.scale_dtype == "F16":
        scale = SCALE_BITS
    bits = k * quant.bits + groups * (scale + zero_bits(quant, storage.layout))
    return math.ceil(n * bits / 8)
