"""What a plan says about memory: plain data, sizes in bytes, each sum open to the reader."""

from dataclasses import dataclass
from typing import Literal

WeightKind = Literal["embedding", "attention", "mlp", "biases", "norms", "head"]
ProcessSource = Literal["measured", "estimate", "device.workspace"]
Limit = Literal["need", "memory_ratio", "memory"]
PAGE_BYTES = 2 << 20
"""KV memory is asked for in huge pages."""


@dataclass(frozen=True)
class Device:
    """The device that is planned for: one of ``count`` equal ones."""

    name: str
    """`this machine`, or the name of a described one."""
    kind: Literal["cpu", "cuda"]
    count: int
    memory_bytes: int
    """Of one device."""
    memory_source: str
    """`installed memory`, `cgroup limit`, or `described`."""
    cores: int
    isa: str
    """Highest level of the CPU; `unknown` of a described machine."""
    bandwidth: float | None
    """Bytes per second that one device reads at most; None where nobody measured it."""
    peak_flops: float | None
    """FLOP per second of one device, dense, with 16-bit inputs."""
    peak_int8_ops: float | None
    """Operations per second of one device, dense, with 8-bit inputs."""
    source: str | None
    """Where the numbers come from; None for this machine."""
    is_this_machine: bool


@dataclass(frozen=True)
class WeightRow:
    """Weights of one layer kind in one scheme, of one rank."""

    kind: WeightKind
    scheme: str
    """`F32`, `F16`, `BF16`, or codes such as `u4 g128`."""
    parameters: int
    bits_per_weight: float
    """Scales and zero points included."""
    num_bytes: int
    """Parameters × bits per weight / 8."""


@dataclass(frozen=True)
class KvRow:
    """KV bytes of one token in layers of equal bits, of one rank: layers × heads × 2 × (codes +
    scale and zero)."""

    num_layers: int
    num_kv_heads: int
    head_dim: int
    bits: int
    code_bytes: int
    """Of one key or value vector."""
    param_bytes: int
    """Its scale and zero point; 0 from 16 bits on."""

    @property
    def token_bytes(self) -> int:
        """Bytes of one token."""
        return self.num_layers * self.num_kv_heads * 2 * (self.code_bytes + self.param_bytes)


@dataclass(frozen=True)
class SequencesAt:
    """How many sequences of a length the KV blocks hold at the same time."""

    length: int
    """Tokens, prompt and completion."""
    blocks_each: int
    sequences: int


@dataclass(frozen=True)
class OfflineCost:
    """Estimate of what the stages that will run need at their peak, on the host."""

    stage: str
    memory_bytes: int
    disk_bytes: int
    """Of the artifact."""
    scratch_bytes: int = 0
    """Of the disk, while the stage runs: hidden states of the calibration text."""


@dataclass(frozen=True)
class ActivationRow:
    """One buffer of a step: ``count`` x ``width`` elements of ``element_bytes``."""

    what: str
    count: int
    of: str
    """What is counted."""
    width: int
    element_bytes: int

    @property
    def num_bytes(self) -> int:
        """The product."""
        return self.count * self.width * self.element_bytes


@dataclass(frozen=True)
class Budget:
    """Memory of the device of one rank: total = process + weights + activations + left."""

    device: str
    """Name of the device and where its total comes from."""
    tp: int
    """Ranks that share the weights and the KV heads; all figures are those of one."""
    total_bytes: int
    process_bytes: int
    """Interpreter, libraries, tokenizer; on CUDA the context."""
    process_source: ProcessSource
    """`device.workspace` stands for the activations too."""
    weights_bytes: int
    """All of ``weights``, and ``other_weights_bytes``."""
    weights: tuple[WeightRow, ...]
    other_weights_bytes: int
    """Rope table, tile padding, alignment, and the rounding of the file to 2 MiB."""
    activation_bytes: int
    """All of ``activations``."""
    activations: tuple[ActivationRow, ...]
    left_bytes: int
    kv: tuple[KvRow, ...]
    """Layers by their bits: one row, or two where some are kept at more."""
    kv_bytes_per_token: int
    """Codes plus scale and zero, all layers."""
    block_size: int
    block_bytes: int
    num_blocks: int
    needed_blocks: int
    """What max_num_seqs × context_length would use, at most."""
    limited_by: Limit
    """`memory` is the size that `kv.memory` gives."""
    sequences: tuple[SequencesAt, ...]
    offline: tuple[OfflineCost, ...]

    @property
    def kv_bytes(self) -> int:
        """Bytes of all KV blocks."""
        return self.num_blocks * self.block_bytes

    @property
    def num_tokens(self) -> int:
        """Tokens that all KV blocks hold."""
        return self.num_blocks * self.block_size

    @property
    def fixed_bytes(self) -> int:
        """All but the KV cache."""
        return self.process_bytes + self.weights_bytes + self.activation_bytes

    def resident_kv_bytes(self, used_blocks: int) -> int:
        """Memory of the blocks that were ever used, in whole pages: the rest is reserved and never
        touched."""
        used = -(-used_blocks * self.block_bytes // PAGE_BYTES) * PAGE_BYTES
        return min(used, max(self.kv_bytes, PAGE_BYTES)) if used else 0

    def peak_bytes(self, used_blocks: int) -> int:
        """Resident memory of an engine that has used that many blocks."""
        return self.fixed_bytes + self.resident_kv_bytes(used_blocks)

    def sequences_of(self, length: int) -> SequencesAt:
        """How many sequences of a length the blocks hold."""
        each = -(-length // self.block_size)
        return SequencesAt(length, each, self.num_blocks // each)
