"""Estimates beside what runs of the same engine settings on this machine showed."""

from collections.abc import Iterator

from lmrun.artifacts.measurements import Ceilings, Observation
from lmrun.plan.roofline import Measured, Workload, unusable
from lmrun.plan.speed import Compared, Observed


def beside(work: Workload, ceilings: Ceilings | None, seen: Observation) -> Observed:
    """Each estimate for the conditions under which the figure was observed."""
    rows = tuple(row for row in _rows(work, ceilings, seen) if row.observed > 0)
    return Observed(seen.recorded_at, rows)


def _rows(work: Workload, ceilings: Ceilings | None, seen: Observation) -> Iterator[Compared]:
    budget = work.budget
    yield Compared("weights", "B", budget.weights_bytes, seen.weights_resident_bytes)
    blocks = seen.touched_blocks
    what = f"KV cache, {blocks} blocks used"
    yield Compared(what, "B", budget.resident_kv_bytes(blocks), seen.kv_resident_bytes)
    yield Compared(
        f"peak RSS, {blocks} blocks used", "B", budget.peak_bytes(blocks), seen.peak_rss_bytes
    )
    if ceilings is None or unusable(work, ceilings) is not None:
        return
    measured = Measured(work, ceilings)
    if (rate := seen.decode) is not None:
        guess = measured.decode(1, rate.mean_context).tokens_per_s
        what = f"decode, 1 sequence at context {rate.mean_context:.0f}"
        yield Compared(what, "tokens/s", guess, rate.tokens_per_s)
    if (rate := seen.decode_all) is not None and round(rate.mean_seqs, 1) != 1:
        guess = measured.decode(rate.mean_seqs, rate.mean_context).tokens_per_s
        what = f"decode, {rate.mean_seqs:.1f} sequences at context {rate.mean_context:.0f}"
        yield Compared(what, "tokens/s", guess, rate.tokens_per_s)
    if (rate := seen.prefill) is not None:
        prompt = min(work.engine.max_batch_tokens, work.engine.context_length)
        guess = measured.prefill_from(rate.mean_context, prompt).tokens_per_s
        what = f"prefill behind {rate.mean_context:.0f} tokens"
        yield Compared(what, "tokens/s", guess, rate.tokens_per_s)
