"""Speed in lines: each estimate as the sum that it is, and beside what was observed."""

from collections.abc import Iterator

from lmrun.plan.sizes import show_bytes, show_count, show_seconds, things
from lmrun.plan.speed import Compared, Observed, SpeedEstimate, Speeds, Term


def speed_lines(speeds: Speeds, tp: int) -> list[str]:
    """The block `speed`."""
    if not speeds.estimates:
        return [f"speed     {speeds.source}"]
    notes = "; communication between ranks is not counted" if tp > 1 else ""
    lines = [f"speed     at best ({speeds.source}{notes})"]
    for estimate in speeds.estimates:
        rate = (
            f"{_rate(estimate.tokens_per_s)} = {estimate.tokens} / {show_seconds(estimate.seconds)}"
        )
        longer = ", the longer of" if estimate.rule == "max" else ""
        lines += [f"  {_what(estimate)}: {rate}{longer}", *_parts(estimate)]
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


def _parts(estimate: SpeedEstimate) -> Iterator[str]:
    if estimate.rule == "sum":
        yield from (_row(term.seconds, _term(term)) for term in estimate.terms)
        return
    for what, unit in (("reading", "B"), ("computing", "FLOP")):
        terms = [term for term in estimate.terms if term.unit == unit]
        if len(terms) == 1:
            yield _row(terms[0].seconds, f"{what} {_term(terms[0])}")
            continue
        yield _row(sum(term.seconds for term in terms), what)
        yield from (f"{'':15}{show_seconds(term.seconds):>8} {_term(term)}" for term in terms)


def _row(seconds: float, what: str) -> str:
    return f"  {show_seconds(seconds):>11}  {what}"


def _term(term: Term) -> str:
    return f"{term.what}: {_quantity(term)}"


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
