"""The memory budget of the device, from which the number of KV blocks follows.

    left   = total − process − weights − activations
    blocks = memory_ratio × left / block bytes; on a CPU at most what max_num_seqs × context_length
             needs

or `kv.memory` where that is a size. "Total" is the machine's, so the result does not move between
plan and launch. With several ranks all figures are those of one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lmrun.config.schema import RunConfig
from lmrun.errors import PlanError
from lmrun.models.spec import ModelSpec
from lmrun.plan.costs import (
    ActivationRow,
    Budget,
    KvRow,
    Limit,
    OfflineCost,
    ProcessSource,
    SequencesAt,
)
from lmrun.plan.kv_layers import num_kept
from lmrun.plan.machine import Machine
from lmrun.plan.sizes import parse_bytes
from lmrun.plan.weights import Weights
from lmrun.quant.layout import CPU, KvLayout, rank_kv_heads

PROCESS_BYTES = {"cpu": 32 << 20, "cuda": 512 << 20}
"""The engine process itself where nobody measured it: interpreter, libraries, tokenizer; on CUDA
the context and the code of kernels."""
F32_BYTES, F16_BYTES = 4, 2
FEW_LOGIT_ROWS, MOST_LOGIT_ROWS = 32, 128
"""Rows of logits that the engine holds: max_num_seqs between these two, within the step."""
SHOWN_LENGTHS = (512, 2048, 8192, 32768, 131072)


@dataclass(frozen=True)
class Reserved:
    """Memory of the engine process beside weights, activations and KV."""

    num_bytes: int
    source: ProcessSource

    @property
    def holds_activations(self) -> bool:
        """Whether the activations are part of it."""
        return self.source == "device.workspace"


@dataclass(frozen=True)
class Demand:
    """What one rank of a deployment asks of its device."""

    spec: ModelSpec
    weights: Weights
    reserved: Reserved
    kv_bits: int
    block_size: int
    context_length: int
    max_num_seqs: int
    max_batch_tokens: int
    memory_ratio: float
    memory_bytes: int | None
    """Absolute size of the KV cache; None for `auto`."""
    kind: str = CPU
    """Of the device."""
    tp: int = 1
    kept_layers: int = 0
    """Layers whose KV cache has ``kept_bits``; which ones does not change the sizes."""
    kept_bits: int = 16
    kept_by: str = "kv.keep=0"
    """The change by which no layer is kept, as written on the command line."""

    @property
    def layout(self) -> KvLayout:
        """Of the KV blocks."""
        bits: int | tuple[int, ...] = self.kv_bits
        if self.kept_layers:
            others = self.spec.num_layers - self.kept_layers
            bits = (self.kept_bits,) * self.kept_layers + (self.kv_bits,) * others
        return KvLayout.of(self.spec, self.block_size, bits, self.tp)

    @property
    def blocks_of_one(self) -> int:
        """Blocks of one sequence of full length."""
        return -(-self.context_length // self.block_size)

    @property
    def logit_rows(self) -> int:
        """Rows of logits that are held at once."""
        wanted = min(max(self.max_num_seqs, FEW_LOGIT_ROWS), MOST_LOGIT_ROWS)
        return min(wanted, self.max_batch_tokens)

    @property
    def activations(self) -> tuple[ActivationRow, ...]:
        """Buffers of a step. fp32 on a CPU; elsewhere 16 bits, logits and tables in fp32."""
        if self.reserved.holds_activations:
            return ()
        spec = self.spec
        heads, ffn = spec.num_heads // self.tp, spec.intermediate_size // self.tp
        width = 2 * spec.hidden_size + 3 * ffn
        width += (2 * heads + 2 * rank_kv_heads(spec, self.tp)) * spec.head_dim
        element = F32_BYTES if self.kind == CPU else F16_BYTES
        steps = "hidden states, q k v, attention, gate and up"
        inputs = ActivationRow(
            "inputs of linears", self.max_batch_tokens, "tokens", self.weights.input_bytes, 1
        )
        return (
            ActivationRow(steps, self.max_batch_tokens, "tokens", width, element),
            *((inputs,) if inputs.num_bytes else ()),
            ActivationRow("logits", self.logit_rows, "rows", spec.vocab_size, F32_BYTES),
            ActivationRow("rotary", self.context_length, "positions", spec.head_dim, F32_BYTES),
        )

    @property
    def activation_bytes(self) -> int:
        """All of ``activations``."""
        return sum(row.num_bytes for row in self.activations)

    @property
    def fixed_bytes(self) -> int:
        """All but the KV cache."""
        return self.reserved.num_bytes + self.weights.total_bytes + self.activation_bytes

    @property
    def least_kv_bytes(self) -> int:
        """KV memory for one sequence of full length, grown by what memory_ratio leaves unused."""
        one = self.blocks_of_one * self.layout.block_bytes
        if self.memory_bytes is not None:
            return max(one, self.memory_bytes)
        return int(one / self.memory_ratio) + 1

    def fits(self, total: int) -> bool:
        """Whether a device of this many bytes holds it."""
        return self.fixed_bytes + self.least_kv_bytes <= total


def demand(
    run: RunConfig, spec: ModelSpec, context_length: int, weights: Weights, reserved: Reserved
) -> Demand:
    """The demand of a run config."""
    kv = run.kv
    return Demand(
        spec=spec,
        weights=weights,
        reserved=reserved,
        kv_bits=kv.bits,
        block_size=kv.block_size,
        context_length=context_length,
        max_num_seqs=run.backend.max_num_seqs,
        max_batch_tokens=run.backend.max_batch_tokens,
        memory_ratio=kv.memory_ratio,
        memory_bytes=None if kv.memory == "auto" else parse_bytes(kv.memory, "kv.memory"),
        kind=run.device.kind,
        tp=run.parallel.tp,
        kept_layers=num_kept(kv),
        kept_bits=kv.keep_bits,
        kept_by="kv.keep=0" if kv.keep else "kv.keep_layers=[]",
    )


def reserve(run: RunConfig, measured_bytes: int | None) -> Reserved:
    """What the engine process takes: as the user says, as measured here, or an estimate."""
    if run.device.workspace != "auto":
        size = parse_bytes(run.device.workspace, "device.workspace")
        return Reserved(size, "device.workspace")
    if measured_bytes is not None:
        return Reserved(measured_bytes, "measured")
    return Reserved(PROCESS_BYTES[run.device.kind], "estimate")


def rank_memory(run: RunConfig, machine: Machine) -> int:
    """Memory of one rank: a device, or on CPUs the machine's divided by all ranks."""
    parallel = run.parallel
    ranks = parallel.tp * parallel.replicas
    if machine.kind == CPU:
        return machine.memory_bytes * machine.count // ranks
    if ranks > machine.count:
        key, other = f"parallel.tp={parallel.tp}", f"parallel.replicas={parallel.replicas}"
        if parallel.tp == 1:
            key, other = other, key
        raise PlanError(
            f"{key}: needs {ranks} devices with {other}, {machine.name} has {machine.count}. Use"
            f" device.count={ranks}, an option with as many devices, or fewer ranks."
        )
    return machine.memory_bytes


def make_budget(
    wanted: Demand, total: int, device: str, offline: Sequence[OfflineCost] = ()
) -> Budget:
    """Divide ``total`` bytes of ``device`` for a demand that fits
    (`lmrun.plan.fitting.check_fits`)."""
    layout = wanted.layout
    left = total - wanted.fixed_bytes
    needed = wanted.max_num_seqs * wanted.blocks_of_one
    if wanted.memory_bytes is not None:
        num_blocks = wanted.memory_bytes // layout.block_bytes
        limited_by: Limit = "memory"
    else:
        affordable = int(wanted.memory_ratio * left) // layout.block_bytes
        takes_need = wanted.kind == CPU and needed <= affordable
        num_blocks = needed if takes_need else affordable
        limited_by = "need" if takes_need else "memory_ratio"
    lengths = [size for size in SHOWN_LENGTHS if size < wanted.context_length]
    return Budget(
        device=device,
        tp=wanted.tp,
        total_bytes=total,
        process_bytes=wanted.reserved.num_bytes,
        process_source=wanted.reserved.source,
        weights_bytes=wanted.weights.total_bytes,
        weights=wanted.weights.rows,
        other_weights_bytes=wanted.weights.other_bytes,
        activation_bytes=wanted.activation_bytes,
        activations=wanted.activations,
        left_bytes=left,
        kv=_kv_rows(wanted),
        kv_bytes_per_token=layout.token_bytes,
        block_size=layout.block_size,
        block_bytes=layout.block_bytes,
        num_blocks=num_blocks,
        needed_blocks=needed,
        limited_by=limited_by,
        sequences=tuple(
            SequencesAt(size, each := -(-size // layout.block_size), num_blocks // each)
            for size in (*lengths, wanted.context_length)
        ),
        offline=tuple(offline),
    )


def _kv_rows(wanted: Demand) -> tuple[KvRow, ...]:
    """The layers at `kv.bits`, then those that are kept at more."""
    layout = wanted.layout
    others = wanted.spec.num_layers - wanted.kept_layers
    counts = ((others, wanted.kv_bits), (wanted.kept_layers, wanted.kept_bits))
    return tuple(
        KvRow(
            num_layers=count,
            num_kv_heads=layout.num_kv_heads,
            head_dim=layout.head_dim,
            bits=bits,
            code_bytes=layout.code_bytes(bits),
            param_bytes=layout.param_bytes(bits),
        )
        for count, bits in counts
        if count
    )
