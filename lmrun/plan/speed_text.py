"""Speed in lines: each estimate as the sum that it is, and beside what was observed."""

from lmrun.plan.sizes import show_bytes, show_count, show_seconds, things
from lmrun.plan.speed import Compared, Observed, SpeedEstimate, Speeds, Term


def speed_lines(speeds: Speeds, tp: int) -> list[str]:
    """The block `speed`."""
    if not speeds.estimates:
        return [f"speed     {speeds.source}"]
    notes = "; communication between ranks is not counted" if tp > 1 else ""
    lines = [f"speed     at best ({speeds.source}{notes})"]
    for estimate in speeds.estimates:
        time = show_seconds(estimate.seconds)
        rate = f"{_rate(estimate.tokens_per_s)} = {estimate.tokens} / {time}"
        lines += [f"  {_what(estimate)}: {rate}", f"      {time} = {_sum(estimate)}"]
    return lines


def observed_lines(observed: Observed) -> list[str]:
    """The block `observed`: what a plan of this said, and what was."""
    width = max(len(row.what) for row in observed.rows)
    lines = [f"{'observed':<10}{observed.when:<{width - 8}}  {'observed':>14}  {'estimated':>14}"]
    for row in observed.rows:
        estimated, seen = (_amount(row, value) for value in (row.estimated, row.observed))
        lines.append(f"  {row.what:<{width}}  {seen:>14}  {estimated:>14}  {row.error:+.1%}")
    return lines


def _what(estimate: SpeedEstimate) -> str:
    if estimate.phase == "prefill":
        return f"prefill of {estimate.tokens} tokens"
    sequences = things(estimate.num_seqs, "sequence")
    return f"decode, {sequences} at context {estimate.context_length}"


def _sum(estimate: SpeedEstimate) -> str:
    if estimate.rule == "sum":
        return _added(list(estimate.terms))
    reads = [term for term in estimate.terms if term.unit == "B"]
    flops = [term for term in estimate.terms if term.unit == "FLOP"]
    return f"the longer of reading {_total(reads)} and computing {_total(flops)}"


def _total(terms: list[Term]) -> str:
    total = show_seconds(sum(term.seconds for term in terms))
    return f"{total} ({_added(terms)})" if len(terms) > 1 else _added(terms)


def _added(terms: list[Term]) -> str:
    return " + ".join(
        f"{show_seconds(term.seconds)} {term.what}: {_quantity(term)}" for term in terms
    )


def _quantity(term: Term) -> str:
    if term.unit not in ("B", "FLOP"):
        return f"{term.amount:.0f} x {show_seconds(1 / term.rate)}"
    amount = show_count(term.amount, term.unit)
    return f"{amount} / {show_count(term.rate, f'{term.unit}/s')}"


def _rate(tokens_per_s: float) -> str:
    return (
        f"{tokens_per_s:.3g} tokens/s" if tokens_per_s < 1000 else f"{tokens_per_s:,.0f} tokens/s"
    )


def _amount(row: Compared, value: float) -> str:
    return show_bytes(round(value)) if row.unit == "B" else _rate(value)
