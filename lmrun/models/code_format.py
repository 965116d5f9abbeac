"""How the linears of a quantized checkpoint are stored: the tensors that stand for one."""

from dataclasses import dataclass
from enum import StrEnum

from lmrun.models.spec import LinearSpec

FLOATS = ("F32", "F16", "BF16")
WORD_BITS = 32


class Packing(StrEnum):
    """Layouts of codes in files, by the name that their makers use."""

    awq = "awq"
    """AWQ "gemm" words: eight 4-bit codes along the output features, interleaved."""
    gptq = "gptq"
    """Words along the input features, zero points along the output features."""
    pack_quantized = "pack-quantized"
    """compressed-tensors: words along the input features, rows of output features."""
    int_quantized = "int-quantized"
    """compressed-tensors: one int8 a weight."""
    smooth_quant = "smooth_quant"
    """LMDeploy: one int8 a weight, a scale a row."""

    @property
    def marker(self) -> str:
        """The tensor that holds the codes: where a linear has it, the linear is quantized."""
        return _MARKERS[self]


_MARKERS = {
    Packing.awq: "qweight",
    Packing.gptq: "qweight",
    Packing.pack_quantized: "weight_packed",
    Packing.int_quantized: "weight",
    Packing.smooth_quant: "weight",
}


@dataclass(frozen=True)
class StoredTensor:
    """One tensor that belongs to a quantized linear."""

    shapes: tuple[tuple[int, ...], ...]
    """Legal ones; the first is what lmrun writes."""
    dtypes: tuple[str, ...]
    is_optional: bool = False


@dataclass(frozen=True)
class CodeFormat:
    """Packing and scheme of the quantized linears of a checkpoint: the same for all of them.

    weight = (code - zero) * scale, codes unsigned; symmetric means zero = 2^(bits - 1) throughout.
    """

    method: str
    """`awq`, `gptq`, `compressed-tensors`, `auto-round` or `smooth_quant`: whose file it is."""
    packing: Packing
    bits: int
    """4 or 8, of a code."""
    group_size: int
    """Input features that share a scale; 0 where a whole row does."""
    is_symmetric: bool
    activation_bits: int = 16
    """8: inputs are rounded to int8, token by token, when the model runs."""
    zeros_less_one: bool = False
    """GPTQ v1: words of zero points hold them minus one, as one 32-bit subtraction."""
    act_order: bool = False
    """Groups are named by an index of input features, which need not rise."""

    def groups(self, in_features: int) -> int:
        """Scales of an output feature."""
        return in_features // self.group_size if self.group_size else 1

    @property
    def codes_per_word(self) -> int:
        """Codes in a 32-bit word."""
        return WORD_BITS // self.bits

    def tensors(self, linear: LinearSpec) -> dict[str, StoredTensor]:
        """Suffix → tensor, of what stands in a file in place of the linear's float `weight`."""
        n, k, groups = linear.out_features, linear.in_features, self.groups(linear.in_features)
        words = -(-n // self.codes_per_word)
        if self.packing is Packing.awq:
            return {
                "qweight": _one((k, words), "I32"),
                "qzeros": _one((groups, words), "I32"),
                "scales": _one((groups, n), *FLOATS),
            }
        if self.packing is Packing.gptq:
            return {
                "qweight": _one((-(-k // self.codes_per_word), n), "I32"),
                "qzeros": _one((groups, words), "I32"),
                "scales": _one((groups, n), *FLOATS),
                "g_idx": StoredTensor(((k,),), ("I32",), is_optional=not self.act_order),
            }
        if self.packing is Packing.smooth_quant:
            return {"weight": _one((n, k), "I8"), "scale": _one((n, 1), *FLOATS)}
        per_row = ((n, groups), (n,), (1,), ()) if groups == 1 else ((n, groups),)
        found = {"weight_scale": StoredTensor(per_row, FLOATS)}
        if self.packing is Packing.int_quantized:
            found["weight"] = _one((n, k), "I8")
            if not self.is_symmetric:
                found["weight_zero_point"] = StoredTensor(per_row, ("I8",))
            return found
        found["weight_packed"] = _one((n, -(-k // self.codes_per_word)), "I32")
        found["weight_shape"] = _one((2,), "I64", "I32")
        if not self.is_symmetric:
            shapes = ((words, groups), (n, groups))
            found["weight_zero_point"] = StoredTensor(shapes, ("I32", "I8"))
        if self.act_order:
            found["weight_g_idx"] = _one((k,), "I32")
        return found


def _one(shape: tuple[int, ...], *dtypes: str) -> StoredTensor:
    return StoredTensor((shape,), dtypes)
