"""The memory budget of the device, from which the number of KV blocks follows.

    left   = total − process − weights − activations
    blocks = min(memory_ratio × left, what max_num_seqs × context_length needs) / block bytes

or `kv.memory` where that is a size. "Total" is the machine's, so the result does not move between
plan and launch.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from lmrun.config.schema import RunConfig
from lmrun.errors import PlanError
from lmrun.models.spec import ModelSpec
from lmrun.plan.machine import Machine
from lmrun.plan.plan import Budget, OfflineCost
from lmrun.plan.sizes import parse_bytes, show_bytes
from lmrun.quant.layout import KvLayout

PROCESS_BYTES = 128 << 20
"""The engine process itself: interpreter, libraries, tokenizer."""
F32_BYTES = 4


@dataclass(frozen=True)
class Demand:
    """What a deployment asks of the device."""

    spec: ModelSpec
    weights_bytes: int
    kv_bits: int
    block_size: int
    context_length: int
    max_num_seqs: int
    max_batch_tokens: int
    memory_ratio: float
    memory_bytes: int | None
    """Absolute size of the KV cache; None for `auto`."""

    @property
    def layout(self) -> KvLayout:
        """Of the KV blocks."""
        return KvLayout.of(self.spec, self.block_size, self.kv_bits)

    @property
    def blocks_of_one(self) -> int:
        """Blocks of one sequence of full length."""
        return -(-self.context_length // self.block_size)

    @property
    def activation_bytes(self) -> int:
        """Buffers of a step in fp32: for each token of its budget hidden states, q k v, attention,
        gate and up; logits for each sequence; rotary tables for each position."""
        spec = self.spec
        qkv = (spec.num_heads + 2 * spec.num_kv_heads) * spec.head_dim
        token = 2 * spec.hidden_size + qkv + spec.num_heads * spec.head_dim
        token += 3 * spec.intermediate_size
        rotary = self.context_length * spec.head_dim
        logits = self.max_num_seqs * spec.vocab_size
        return F32_BYTES * (self.max_batch_tokens * token + logits + rotary)

    @property
    def fixed_bytes(self) -> int:
        """All but the KV cache."""
        return PROCESS_BYTES + self.weights_bytes + self.activation_bytes

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


def demand(run: RunConfig, spec: ModelSpec, context_length: int, weights_bytes: int) -> Demand:
    """The demand of a run config."""
    kv = run.kv
    return Demand(
        spec=spec,
        weights_bytes=weights_bytes,
        kv_bits=kv.bits,
        block_size=kv.block_size,
        context_length=context_length,
        max_num_seqs=run.backend.max_num_seqs,
        max_batch_tokens=run.backend.max_batch_tokens,
        memory_ratio=kv.memory_ratio,
        memory_bytes=None if kv.memory == "auto" else parse_bytes(kv.memory, "kv.memory"),
    )


def make_budget(
    wanted: Demand,
    machine: Machine,
    offline: tuple[OfflineCost, ...],
    quantized_weights_bytes: int | None = None,
) -> Budget:
    """Divide the device's memory; `PlanError` with the nearest change where it does not fit.

    ``quantized_weights_bytes`` is the size with 4-bit weights, where that could be proposed.
    """
    total = machine.memory_bytes
    layout = wanted.layout
    if wanted.memory_bytes is not None:
        _check_absolute(wanted, layout)
    if not wanted.fits(total):
        raise PlanError(_refusal(wanted, total, quantized_weights_bytes))
    left = total - wanted.fixed_bytes
    needed = wanted.max_num_seqs * wanted.blocks_of_one
    if wanted.memory_bytes is not None:
        num_blocks, limited_by = wanted.memory_bytes // layout.block_bytes, "memory"
    else:
        affordable = int(wanted.memory_ratio * left) // layout.block_bytes
        num_blocks = min(needed, affordable)
        limited_by = "need" if needed <= affordable else "memory_ratio"
    return Budget(
        device=f"{machine.kind}, {machine.memory_source}",
        total_bytes=total,
        process_bytes=PROCESS_BYTES,
        weights_bytes=wanted.weights_bytes,
        activation_bytes=wanted.activation_bytes,
        left_bytes=left,
        kv_bytes_per_token=layout.token_bytes,
        block_bytes=layout.block_bytes,
        num_blocks=num_blocks,
        needed_blocks=needed,
        limited_by=limited_by,
        offline=offline,
    )


def _check_absolute(wanted: Demand, layout: KvLayout) -> None:
    assert wanted.memory_bytes is not None
    least = wanted.blocks_of_one * layout.block_bytes
    if wanted.memory_bytes < least:
        tokens = wanted.memory_bytes // layout.block_bytes * wanted.block_size
        fitting = f" or backend.context_length ≤ {tokens}" if tokens else ""
        raise PlanError(
            f"kv.memory={show_bytes(wanted.memory_bytes)}: one sequence of"
            f" {wanted.context_length} tokens needs {show_bytes(least)}."
            f" Fits with kv.memory={-(-least // 2**20)}MiB{fitting}."
        )


def _refusal(wanted: Demand, total: int, quantized_weights_bytes: int | None) -> str:
    needs = wanted.fixed_bytes + wanted.least_kv_bytes
    if wanted.memory_bytes is None:
        cache = f"one sequence of {wanted.context_length} tokens"
        if wanted.memory_ratio < 1:
            cache += f" at kv.memory_ratio={wanted.memory_ratio:g}"
    else:
        cache = "as kv.memory says"
    changes = list(_changes(wanted, total, quantized_weights_bytes))[:2]
    hint = (
        f"Fits with {' or '.join(changes)}."
        if changes
        else "No one setting makes it fit: take a smaller model or a larger machine."
    )
    return (
        f"plan: needs {show_bytes(needs)}, device has {show_bytes(total)} (weights"
        f" {show_bytes(wanted.weights_bytes)}, engine"
        f" {show_bytes(PROCESS_BYTES + wanted.activation_bytes)}, KV cache"
        f" {show_bytes(wanted.least_kv_bytes)}: {cache}). {hint}"
    )


def _changes(wanted: Demand, total: int, quantized_weights_bytes: int | None) -> Iterator[str]:
    """Single changes that make it fit, the nearest first."""
    if wanted.memory_bytes is not None:
        room = (total - wanted.fixed_bytes) // 2**20
        least = wanted.blocks_of_one * wanted.layout.block_bytes
        if room * 2**20 >= least:
            yield f"kv.memory={room}MiB"
        if replace(wanted, memory_bytes=None).fits(total):
            yield "kv.memory=auto"
    else:
        for bits in (8, 4):
            if bits < wanted.kv_bits and replace(wanted, kv_bits=bits).fits(total):
                yield f"kv.bits={bits}"
                break
        yield from _shorter(wanted, total)
    seqs = _largest(
        wanted.max_num_seqs, lambda value: replace(wanted, max_num_seqs=value).fits(total)
    )
    if seqs:
        yield f"backend.max_num_seqs ≤ {seqs}"
    tokens = _largest(
        wanted.max_batch_tokens, lambda value: replace(wanted, max_batch_tokens=value).fits(total)
    )
    if tokens:
        yield f"backend.max_batch_tokens ≤ {tokens}"
    if quantized_weights_bytes is not None:
        smaller = replace(wanted, weights_bytes=quantized_weights_bytes)
        if smaller.fits(total):
            yield "quant=awq_w4_g128"


def _shorter(wanted: Demand, total: int) -> Iterator[str]:
    blocks = _largest(
        wanted.blocks_of_one,
        lambda value: replace(wanted, context_length=value * wanted.block_size).fits(total),
    )
    if blocks:
        yield f"backend.context_length ≤ {blocks * wanted.block_size}"


def _largest(current: int, fits: Callable[[int], bool]) -> int:
    """The largest value below the current one that fits, 0 where none does."""
    low, high = 0, current - 1
    while low < high:  # demand grows with every setting that is searched
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low
