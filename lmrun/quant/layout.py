"""Sizes of what the engine maps and allocates: workspace tensors and KV blocks.

The twin of csrc/quant/layout.h; csrc/workspace/README.md and csrc/cache/README.md say the same in
words. Names and order of tensors are those of the workspace contract.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from lmrun.models.spec import LinearSpec, ModelSpec

TILE_FEATURES = 16
"""Output features of a tile."""
TILE_BYTES = 64
"""Bytes of one row of words of a tile."""
U4_TILE_INPUTS = 8
"""Input features of a row of a 4-bit tile."""
TENSOR_ALIGNMENT = 64
FILE_ALIGNMENT = 2 << 20
PARAM_BYTES = 4
"""f16 scale and f16 zero of a KV vector of 8 or 4 bits."""
GROUP_SIZES = (32, 64, 128)
"""Group sizes the 4-bit kernels take."""
DTYPE_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "U8": 1}


@dataclass(frozen=True)
class WeightQuant:
    """How the decoder's linears are stored: `none`, or 4-bit codes in groups."""

    method: str
    group_size: int = 0
    skip: frozenset[str] = frozenset()
    """Names of linears (`LinearSpec.name`) kept in the checkpoint's type."""

    def packs(self, linears: tuple[LinearSpec, ...]) -> bool:
        """Whether the linears that share a matrix become codes."""
        return self.method != "none" and not any(linear.name in self.skip for linear in linears)


@dataclass(frozen=True)
class TensorSize:
    """One tensor of a workspace."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Bytes of the data, without padding before it."""
        return math.prod(self.shape) * DTYPE_BYTES[self.dtype]


def num_tiles(n: int) -> int:
    """Tiles that hold n output features."""
    return -(-n // TILE_FEATURES)


def float_matrix(name: str, dtype: str, n: int, k: int) -> tuple[TensorSize, ...]:
    """A matrix [n, k] of floats; ``name`` ends before `.weight`."""
    tiles = num_tiles(n)
    if dtype == "F32":
        return (TensorSize(f"{name}.weight", dtype, (tiles, k, TILE_FEATURES)),)
    return (TensorSize(f"{name}.weight", dtype, (tiles, -(-k // 2), TILE_FEATURES, 2)),)


def u4_matrix(name: str, n: int, k: int, group_size: int) -> tuple[TensorSize, ...]:
    """A matrix [n, k] of 4-bit codes with scales and zero points; group_size divides k."""
    tiles, groups = num_tiles(n), k // group_size
    return (
        TensorSize(f"{name}.qweight", "U8", (tiles, k // U4_TILE_INPUTS, TILE_FEATURES, 4)),
        TensorSize(f"{name}.scales", "F16", (tiles, groups, TILE_FEATURES)),
        TensorSize(f"{name}.zeros", "U8", (tiles, groups, TILE_FEATURES)),
    )


MATRICES = (
    ("attention.w_qkv", ("q_proj", "k_proj", "v_proj")),
    ("attention.wo", ("o_proj",)),
    ("feed_forward.w13", ("gate_proj", "up_proj")),
    ("feed_forward.w2", ("down_proj",)),
)
"""Matrices of a layer and the linears whose rows they stack, in order."""


def workspace_tensors(
    spec: ModelSpec, weight_dtype: str, quant: WeightQuant, rank: int = 0
) -> Iterator[TensorSize]:
    """The tensors of a workspace (one rank of one), without the padding ones.

    ``weight_dtype`` is the type of every matrix that is not quantized. Linears that share a matrix
    are quantized together or not at all.
    """
    vocab, hidden = spec.vocab_size, spec.hidden_size
    yield from float_matrix("tok_embeddings", weight_dtype, vocab, hidden)
    for index in range(spec.num_layers):
        layer = f"layers.{index}"
        linears = {linear.role: linear for linear in spec.layer(index)}
        yield TensorSize(f"{layer}.attention_norm.weight", "F32", (hidden,))
        yield TensorSize(f"{layer}.ffn_norm.weight", "F32", (hidden,))
        if spec.qk_norm:
            yield TensorSize(f"{layer}.attention.q_norm.weight", "F32", (spec.head_dim,))
            yield TensorSize(f"{layer}.attention.k_norm.weight", "F32", (spec.head_dim,))
        for matrix, roles in MATRICES:
            parts = tuple(linears[role] for role in roles)
            name = f"{layer}.{matrix}.{rank}"
            n, k = sum(part.out_features for part in parts), parts[0].in_features
            if quant.packs(parts):
                yield from u4_matrix(name, n, k, quant.group_size)
            else:
                yield from float_matrix(name, weight_dtype, n, k)
            if parts[0].has_bias:
                yield TensorSize(f"{name}.bias", "F32", (n,))
    yield TensorSize("norm.weight", "F32", (hidden,))
    if not spec.tie_word_embeddings:
        yield from float_matrix("output", weight_dtype, vocab, hidden)
    yield TensorSize("rope.inv_freq", "F32", (spec.head_dim // 2,))


def workspace_bytes(spec: ModelSpec, weight_dtype: str, quant: WeightQuant) -> int:
    """Size of the data of a workspace file: tensors and alignment, before the rounding to 2 MiB."""
    total = 0
    for tensor in workspace_tensors(spec, weight_dtype, quant):
        total += -total % TENSOR_ALIGNMENT + tensor.num_bytes
    return total


def file_bytes(spec: ModelSpec, weight_dtype: str, quant: WeightQuant) -> int:
    """Size of a workspace file: data rounded up to 2 MiB. The header (about 100 bytes a tensor) may
    push it over by one more step."""
    return -(-workspace_bytes(spec, weight_dtype, quant) // FILE_ALIGNMENT) * FILE_ALIGNMENT


@dataclass(frozen=True)
class KvLayout:
    """Shape of the KV blocks of a rank."""

    num_layers: int
    num_kv_heads: int
    head_dim: int
    block_size: int
    """Tokens in a block."""
    bits: int
    """32, 16, 8 or 4."""

    @classmethod
    def of(cls, spec: ModelSpec, block_size: int, bits: int) -> "KvLayout":
        """The layout for a model."""
        return cls(spec.num_layers, spec.num_kv_heads, spec.head_dim, block_size, bits)

    @property
    def part_bytes(self) -> int:
        """K or V of one head and layer: codes, then scale and zero of each token."""
        params = PARAM_BYTES if self.bits < 16 else 0
        return self.block_size * (self.head_dim * self.bits // 8 + params)

    @property
    def block_bytes(self) -> int:
        """All layers and KV heads."""
        return self.num_layers * self.num_kv_heads * 2 * self.part_bytes

    @property
    def token_bytes(self) -> int:
        """Bytes of one token."""
        return self.block_bytes // self.block_size
