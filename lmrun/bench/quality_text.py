"""The table of `lmrun bench quality`."""

from collections.abc import Iterator

from lmrun.bench.quality import Entry, Report
from lmrun.columns import columns
from lmrun.plan.sizes import show_bytes, things

HEAD = ("method", "perplexity", "KL", "top-1", "weights", "quantize", "best peer", "", "ours/peer")


def report_text(report: Report) -> str:
    """What was measured, for a person."""
    lines: list[str] = []
    for model in dict.fromkeys(one.row.model for one in report.entries):
        found = [one for one in report.entries if one.row.model == model]
        good = [one for one in found if one.row.problem is None]
        lines.append(model)
        if good:
            lines += [f"  {line}" for line in columns([HEAD, *(_row(one) for one in good)])]
        lines += [f"  {_title(one)}: {one.row.problem}" for one in found if one.row.problem]
        lines.append("")
    lines += _conclusion(report)
    return "\n".join(lines)


def _row(entry: Entry) -> tuple[str, ...]:
    row, peer = entry.row, entry.peer
    error = row.perplexity_standard_error
    shown = f"{row.perplexity:.4f}" + ("" if error is None else f" ± {error:.4f}")
    return (
        _title(entry),
        shown,
        "" if row.kl is None else f"{row.kl:.4f}",
        "" if row.top1 is None else f"{100 * row.top1:.1f}%",
        "" if row.weight_bytes is None else show_bytes(row.weight_bytes),
        "" if row.quantize_s is None else f"{row.quantize_s:.1f} s",
        "" if peer is None else f"{peer.perplexity:.4f}" + _kl(peer.kl),
        "" if peer is None else f"{peer.method}: {peer.tool}",
        "" if entry.ratio is None else f"{entry.ratio:.4f}",
    )


def _kl(kl: float | None) -> str:
    return "" if kl is None else f" / {kl:.4f}"


def _title(entry: Entry) -> str:
    row = entry.row
    return row.method if not row.group_size else f"{row.method} g{row.group_size}"


def _conclusion(report: Report) -> Iterator[str]:
    compared = [one for one in report.entries if one.ratio is not None]
    if not compared:
        yield "no row is of a model, text and length that figures of other tools are known for"
        return
    worse = report.worse
    yield f"{things(len(compared), 'row')} beside other tools; ours is worse in {len(worse)}" + (
        ": " + ", ".join(f"{_name(one)} by {_percent(one)}" for one in worse) if worse else ""
    )
    beaten = report.unbeaten
    if any(one.row.method == "best" for one in compared):
        yield (
            f"best is not better than every peer in: {', '.join(map(_name, beaten))}"
            if beaten
            else "best is better than every peer's best figure"
        )
    yield f"other tools: {report.source}"


def _name(entry: Entry) -> str:
    return f"{entry.row.model} {_title(entry)}"


def _percent(entry: Entry) -> str:
    return f"{100 * ((entry.ratio or 1) - 1):.2f}%"
