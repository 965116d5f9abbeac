"""Whether a demand fits, and the nearest single changes that would make it fit."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from lmrun.errors import PlanError
from lmrun.plan.budget import Demand
from lmrun.plan.sizes import show_bytes

SHOWN_CHANGES = 2


@dataclass(frozen=True)
class Alternative:
    """A change of weights or ranks, and what a rank would ask for then."""

    change: str
    """As written on the command line."""
    wanted: Demand
    total_bytes: int
    """Memory of a rank after the change."""


def check_fits(wanted: Demand, total: int, alternatives: Sequence[Alternative] = ()) -> None:
    """Raise `PlanError` with the nearest changes where ``total`` bytes do not hold the demand."""
    if wanted.memory_bytes is not None:
        _check_absolute(wanted)
    if not wanted.fits(total):
        raise PlanError(_refusal(wanted, total, alternatives))


def _check_absolute(wanted: Demand) -> None:
    assert wanted.memory_bytes is not None
    layout = wanted.layout
    least = wanted.blocks_of_one * layout.block_bytes
    if wanted.memory_bytes < least:
        tokens = wanted.memory_bytes // layout.block_bytes * wanted.block_size
        fitting = f" or backend.context_length ≤ {tokens}" if tokens else ""
        raise PlanError(
            f"kv.memory={show_bytes(wanted.memory_bytes)}: one sequence of"
            f" {wanted.context_length} tokens needs {show_bytes(least)}."
            f" Fits with kv.memory={-(-least // 2**20)}MiB{fitting}."
        )


def _refusal(wanted: Demand, total: int, alternatives: Sequence[Alternative]) -> str:
    needs = wanted.fixed_bytes + wanted.least_kv_bytes
    if wanted.memory_bytes is None:
        cache = f"one sequence of {wanted.context_length} tokens"
        if wanted.memory_ratio < 1:
            cache += f" at kv.memory_ratio={wanted.memory_ratio:g}"
    else:
        cache = "as kv.memory says"
    changes = list(islice(_changes(wanted, total, alternatives), SHOWN_CHANGES))
    if not changes:
        changes = list(islice(_pairs(alternatives), SHOWN_CHANGES))
    hint = (
        f"Fits with {' or '.join(changes)}."
        if changes
        else "No one setting, and no two, make it fit: take a smaller model or a larger machine."
    )
    each = f"each of {wanted.tp} ranks " if wanted.tp > 1 else ""
    engine = wanted.reserved.num_bytes + wanted.activation_bytes
    return (
        f"plan: {each}needs {show_bytes(needs)}, device has {show_bytes(total)} (weights"
        f" {show_bytes(wanted.weights.total_bytes)}, engine {show_bytes(engine)}, KV cache"
        f" {show_bytes(wanted.least_kv_bytes)}: {cache}). {hint}"
    )


def _changes(wanted: Demand, total: int, alternatives: Sequence[Alternative]) -> Iterator[str]:
    """Single changes that make it fit, the nearest first."""
    if wanted.memory_bytes is not None:
        room = (total - wanted.fixed_bytes) // 2**20
        least = wanted.blocks_of_one * wanted.layout.block_bytes
        if room * 2**20 >= least:
            yield f"kv.memory={room}MiB"
        if replace(wanted, memory_bytes=None).fits(total):
            yield "kv.memory=auto"
    else:
        if wanted.kept_layers and replace(wanted, kept_layers=0).fits(total):
            yield wanted.kept_by
        for bits in (8, 4):
            is_less = bits < wanted.kv_bits and not (
                wanted.kept_layers and bits >= wanted.kept_bits
            )
            if is_less and replace(wanted, kv_bits=bits).fits(total):
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
    for other in alternatives:
        if other.wanted.fits(other.total_bytes):
            yield other.change


def _pairs(alternatives: Sequence[Alternative]) -> Iterator[str]:
    """An alternative and one change more."""
    for other in alternatives:
        for change in _changes(other.wanted, other.total_bytes, ()):
            yield f"{other.change} {change}"


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
