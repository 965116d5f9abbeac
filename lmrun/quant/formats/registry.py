"""The formats by name (`quant.format`) and by `quantization_config`; the one door to them."""

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from typing import Any

from lmrun.models.code_format import CodeFormat, Packing
from lmrun.models.spec import LinearSpec
from lmrun.quant.formats import auto_round, awq, compressed_tensors, gptq, smooth_quant
from lmrun.quant.formats.codes import HEAD, Array, LinearCodes, Load, Modules

WRITTEN = ("awq", "gptq", "gptq_v2", "compressed_tensors")
"""Names that `quant.format` takes beside `auto` (`lmrun/quant/combinations.py`: what that is)."""


@dataclass(frozen=True)
class _Functions:
    write: Callable[[str, LinearCodes, CodeFormat], dict[str, Array]]
    read: Callable[[Load, LinearSpec, CodeFormat], LinearCodes]
    config: Callable[[CodeFormat, Modules], dict[str, Any]]


_METHODS = {
    "awq": _Functions(awq.write, awq.read, awq.config),
    "gptq": _Functions(gptq.write, gptq.read, gptq.config),
    "compressed-tensors": _Functions(
        compressed_tensors.write, compressed_tensors.read, compressed_tensors.config
    ),
    "auto-round": _Functions(auto_round.write, auto_round.read, auto_round.config),
    "smooth_quant": _Functions(smooth_quant.write, smooth_quant.read, smooth_quant.config),
}


def choose(
    name: str, bits: int, group_size: int, *, symmetric: bool, activation_bits: int = 16
) -> CodeFormat:
    """The format that `quant.format` names (one of `WRITTEN`) for a scheme.

    Raises `ValueError` with a sentence where the format cannot hold the scheme.
    """
    if name not in WRITTEN:
        raise ValueError(f"expected one of {', '.join(WRITTEN)}, got {name}.")
    if activation_bits == 8:
        if name != "compressed_tensors":
            raise ValueError(f"{name} has no 8-bit activations. Use compressed_tensors.")
        return CodeFormat("compressed-tensors", Packing.int_quantized, 8, 0, True, 8)
    if name == "compressed_tensors":
        return CodeFormat("compressed-tensors", Packing.pack_quantized, bits, group_size, symmetric)
    if name == "awq":
        if bits != 4:
            raise ValueError(f"awq holds codes of 4 bits, got {bits}. Use gptq_v2.")
        return CodeFormat("awq", Packing.awq, bits, group_size, symmetric)
    return CodeFormat(
        "gptq", Packing.gptq, bits, group_size, symmetric, zeros_less_one=name == "gptq"
    )


def write(prefix: str, weight: LinearCodes, form: CodeFormat) -> dict[str, Array]:
    """Tensor name → array of a linear; ``prefix`` is `LinearSpec.prefix`. Its bias, if any, stands
    beside them as `PREFIX.bias`, in the type of the model. Raises `ValueError` where the shape or
    the zero points are not what the format holds."""
    _check(weight, form)
    return _METHODS[form.method].write(prefix, weight, form)


def read(load: Load, linear: LinearSpec, form: CodeFormat) -> LinearCodes:
    """The codes of a linear, from tensors that `Checkpoint.open` has checked."""
    return _METHODS[form.method].read(load, linear, form)


def quantization_config(
    form: CodeFormat, linears: Iterable[LinearSpec], kept: Container[str]
) -> dict[str, Any]:
    """The `quantization_config` of a folder; ``kept`` holds the names (`LinearSpec.name`) of the
    linears that stay floats. So do the embedding and the head."""
    stays: dict[bool, list[str]] = {True: [HEAD], False: []}
    for linear in linears:
        stays[linear.name in kept].append(linear.prefix)
    modules = Modules(tuple(stays[True]), tuple(stays[False]))
    return _METHODS[form.method].config(form, modules)


def _check(weight: LinearCodes, form: CodeFormat) -> None:
    n, k = weight.codes.shape
    if weight.bits != form.bits:
        raise ValueError(f"expected codes of {form.bits} bits, got {weight.bits}.")
    groups = form.groups(k)
    if k % groups or weight.scales.shape != (n, groups) or weight.zeros.shape != (n, groups):
        raise ValueError(f"expected {groups} groups a row, got scales {weight.scales.shape}.")
    if form.packing is Packing.awq and n % form.codes_per_word:
        raise ValueError(f"{form.codes_per_word} must divide {n} output features.")
    if form.packing is Packing.gptq and (n % form.codes_per_word or k % form.codes_per_word):
        raise ValueError(f"{form.codes_per_word} must divide {n} output and {k} input features.")
    if form.is_symmetric and (weight.zeros != 1 << (form.bits - 1)).any():
        raise ValueError("expected zero points of the middle code, as symmetric codes have.")
    if weight.group_index is not None and not form.act_order:
        raise ValueError("the format was chosen without act_order, and groups are not in order.")
