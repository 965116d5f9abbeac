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
U8_TILE_INPUTS = 4
"""Input features of a row of an 8-bit tile."""
GROUP_MULTIPLE = 8
"""Of input features in a group, and of input features where there are groups."""
MOST_I8_INPUTS = 1 << 17
"""Input features whose products of two int8 surely sum up in int32."""
GROUP_SIZES = (32, 64, 128)
"""Group sizes that the stages make; the kernels take any multiple of 8 that divides K."""
DTYPE_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "U8": 1, "I32": 4}
SCALE_BITS = 16
CPU, CUDA = "cpu", "cuda"
"""Layouts: tiles of 16 features with zero points in bytes, and rows with packed zero points."""


@dataclass(frozen=True)
class WeightQuant:
    """How the decoder's linears are stored: `none`, or codes in groups."""

    method: str
    group_size: int = 0
    """0 where a whole row shares a scale."""
    skip: frozenset[str] = frozenset()
    """Names of linears (`LinearSpec.name`) kept in the checkpoint's type."""
    bits: int = 4
    """Of a code: 4 or 8."""
    is_symmetric: bool = False
    """Zero points are all 2^(bits - 1). The CPU's layout stores them all the same."""
    activation_bits: int = 16
    """8: W8A8, int8 dot products; then bits are 8, group_size 0, and the weights symmetric."""
    scale_dtype: str = "F16"
    """Of group scales: `F16`, or `F32` where the source's do not fit that."""
    has_order: bool = False
    """Columns are permuted so that groups are contiguous (act-order of a source)."""

    def packs(self, linears: tuple[LinearSpec, ...]) -> bool:
        """Whether the linears that share a matrix become codes."""
        return self.method != "none" and not any(linear.name in self.skip for linear in linears)


def zero_bits(quant: WeightQuant, layout: str) -> int:
    """Bits of a zero point: a byte beside the CPU's tiles, packed like the codes on CUDA."""
    if layout == CPU:
        return 0 if quant.activation_bits == 8 else 8
    return 0 if quant.is_symmetric else quant.bits


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


def code_matrix(
    name: str, n: int, k: int, quant: WeightQuant, layout: str, orders: int = 1
) -> list[TensorSize]:
    """A matrix [n, k] of codes and what stands beside it in one of the layouts.

    ``orders``: rows of `.order`, where the matrix has one (`order_rows`).
    """
    if layout == CPU:
        sizes = cpu_code_matrix(name, n, k, quant)
    else:
        groups = k // quant.group_size if quant.group_size else 1
        sizes = [
            TensorSize(f"{name}.qweight", "U8", (n, k * quant.bits // 8)),
            TensorSize(f"{name}.scales", "F16", (n, groups)),
        ]
        if not quant.is_symmetric:
            zeros = n * groups * zero_bits(quant, layout) // 8
            sizes.append(TensorSize(f"{name}.zeros", "U8", (zeros,)))
    if quant.has_order:
        sizes.append(TensorSize(f"{name}.order", "I32", (orders, k)))
    return sizes


def cpu_code_matrix(name: str, n: int, k: int, quant: WeightQuant) -> list[TensorSize]:
    """The CPU's tiles of codes: U4 and U8 with groups, or I8 with a scale a row.

    With groups, k is a multiple of 8 and the group size one that divides it.
    """
    tiles = num_tiles(n)
    words = -(-k // U8_TILE_INPUTS) if quant.bits == 8 else k // U4_TILE_INPUTS
    codes = TensorSize(f"{name}.qweight", "U8", (tiles, words, TILE_FEATURES, 4))
    if quant.activation_bits == 8:
        return [codes, TensorSize(f"{name}.row_scales", "F32", (tiles, TILE_FEATURES))]
    shape = (tiles, k // (quant.group_size or k), TILE_FEATURES)
    return [
        codes,
        TensorSize(f"{name}.scales", quant.scale_dtype, shape),
        TensorSize(f"{name}.zeros", "U8", shape),
    ]


MATRICES = (
    ("attention.w_qkv", ("q_proj", "k_proj", "v_proj")),
    ("attention.wo", ("o_proj",)),
    ("feed_forward.w13", ("gate_proj", "up_proj")),
    ("feed_forward.w2", ("down_proj",)),
)
"""Matrices of a layer and the linears whose rows they stack, in order."""


def workspace_tensors(
    spec: ModelSpec,
    weight_dtype: str,
    quant: WeightQuant,
    rank: int = 0,
    *,
    tp: int = 1,
    layout: str = CPU,
) -> Iterator[TensorSize]:
    """The tensors of one rank of a workspace, without the padding ones.

    ``weight_dtype`` is the type of every matrix that is not quantized. Linears that share a matrix
    are quantized together or not at all. A rank of several holds its share of the heads, of the
    intermediate features and of the vocabulary, and all norms. On CUDA vectors have the type of
    the matrices, and the rope table is no tensor.
    """
    vocab, hidden = -(-spec.vocab_size // tp), spec.hidden_size
    vector = "F32" if layout == CPU else weight_dtype

    def floats(name: str, n: int, k: int) -> tuple[TensorSize, ...]:
        if layout == CPU:
            return float_matrix(name, weight_dtype, n, k)
        return (TensorSize(f"{name}.weight", weight_dtype, (n, k)),)

    yield from floats("tok_embeddings", vocab, hidden)
    for index in range(spec.num_layers):
        layer = f"layers.{index}"
        linears = {linear.role: linear for linear in spec.layer(index)}
        yield TensorSize(f"{layer}.attention_norm.weight", vector, (hidden,))
        yield TensorSize(f"{layer}.ffn_norm.weight", vector, (hidden,))
        if spec.qk_norm:
            yield TensorSize(f"{layer}.attention.q_norm.weight", vector, (spec.head_dim,))
            yield TensorSize(f"{layer}.attention.k_norm.weight", vector, (spec.head_dim,))
        for matrix, roles in MATRICES:
            parts = tuple(linears[role] for role in roles)
            name = f"{layer}.{matrix}.{rank}"
            n, k = rank_shape(spec, matrix, tp)
            if quant.packs(parts):
                yield from code_matrix(name, n, k, quant, layout, order_rows(spec, parts, tp))
            else:
                yield from floats(name, n, k)
            if parts[0].has_bias:
                yield TensorSize(f"{name}.bias", vector, (n,))
    yield TensorSize("norm.weight", vector, (hidden,))
    if not spec.tie_word_embeddings:
        yield from floats("output", vocab, hidden)
    if layout == CPU:
        yield TensorSize("rope.inv_freq", "F32", (spec.head_dim // 2,))


def order_rows(spec: ModelSpec, linears: tuple[LinearSpec, ...], tp: int = 1) -> int:
    """Rows of `.order` of the matrix that stacks these linears: one each where every linear's
    output features are a multiple of 16, else one, which all of them must share."""
    rows = {
        "q_proj": spec.num_heads // tp * spec.head_dim,
        "k_proj": rank_kv_heads(spec, tp) * spec.head_dim,
        "v_proj": rank_kv_heads(spec, tp) * spec.head_dim,
        "gate_proj": spec.intermediate_size // tp,
        "up_proj": spec.intermediate_size // tp,
    }
    aligned = all(rows.get(linear.role, 0) % TILE_FEATURES == 0 for linear in linears)
    return len(linears) if aligned else 1


def rank_kv_heads(spec: ModelSpec, tp: int) -> int:
    """KV heads of a rank; ranks beyond their number share them."""
    return max(1, spec.num_kv_heads // tp)


def rank_shape(spec: ModelSpec, matrix: str, tp: int) -> tuple[int, int]:
    """Output and input features of a rank's part of a matrix."""
    heads, ffn = spec.num_heads // tp * spec.head_dim, spec.intermediate_size // tp
    if matrix == "attention.w_qkv":
        return heads + 2 * rank_kv_heads(spec, tp) * spec.head_dim, spec.hidden_size
    if matrix == "attention.wo":
        return spec.hidden_size, heads
    if matrix == "feed_forward.w13":
        return 2 * ffn, spec.hidden_size
    return spec.hidden_size, ffn


def workspace_bytes(
    spec: ModelSpec, weight_dtype: str, quant: WeightQuant, *, tp: int = 1, layout: str = CPU
) -> int:
    """Size of the data of a rank's file: tensors and alignment, before the rounding to 2 MiB."""
    total = 0
    for tensor in workspace_tensors(spec, weight_dtype, quant, tp=tp, layout=layout):
        if layout == CPU:
            total += -total % TENSOR_ALIGNMENT
        total += tensor.num_bytes
    return total


def file_bytes(
    spec: ModelSpec, weight_dtype: str, quant: WeightQuant, *, tp: int = 1, layout: str = CPU
) -> int:
    """What a rank's weights take. On a CPU that is the file as it is mapped: data rounded up to
    2 MiB. The header (about 100 bytes a tensor) may push it over by one more step."""
    size = workspace_bytes(spec, weight_dtype, quant, tp=tp, layout=layout)
    return -(-size // FILE_ALIGNMENT) * FILE_ALIGNMENT if layout == CPU else size


@dataclass(frozen=True)
class KvLayout:
    """Shape of the KV blocks of a rank."""

    num_layers: int
    num_kv_heads: int
    head_dim: int
    block_size: int
    """Tokens in a block."""
    bits: int | tuple[int, ...]
    """32, 16, 8 or 4: of all layers, or of each."""

    @classmethod
    def of(
        cls, spec: ModelSpec, block_size: int, bits: int | tuple[int, ...], tp: int = 1
    ) -> "KvLayout":
        """The layout for a rank of a model."""
        heads = rank_kv_heads(spec, tp)
        return cls(spec.num_layers, heads, spec.head_dim, block_size, bits)

    @property
    def layer_bits(self) -> tuple[int, ...]:
        """Bits of each layer."""
        return (self.bits,) * self.num_layers if isinstance(self.bits, int) else self.bits

    def code_bytes(self, bits: int) -> int:
        """Codes of one key or value vector of a layer of so many bits."""
        return self.head_dim * bits // 8

    def param_bytes(self, bits: int) -> int:
        """Scale and zero of one key or value vector."""
        return PARAM_BYTES if bits < 16 else 0

    def part_bytes(self, bits: int) -> int:
        """K or V of one head and layer: codes, then scale and zero of each token."""
        return self.block_size * (self.code_bytes(bits) + self.param_bytes(bits))

    @property
    def block_bytes(self) -> int:
        """All layers and KV heads."""
        return sum(self.num_kv_heads * 2 * self.part_bytes(bits) for bits in self.layer_bits)

    @property
    def token_bytes(self) -> int:
        """Bytes of one token."""
        return self.block_bytes // self.block_size
