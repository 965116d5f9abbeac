"""The tables of `lmrun bench engine`, from its document."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MIB = 1 << 20
_GIGA = 1e9
_BUSY = 0.1
"""Cores that others may use before a note says so."""

_Document = Mapping[str, Any]


def report_text(found: _Document) -> str:
    """Without a newline at its end."""
    parts = ["\n".join(_head(found)), _table(_rates(found)), _table(_starts(found))]
    parts += [_table(_ours(found)), _table(_traces(found)), "\n".join(_notes(found))]
    return "\n\n".join(part for part in parts if part)


def _head(found: _Document) -> Iterator[str]:
    rounds = f"{found['rounds']} round{'s' * (found['rounds'] != 1)}"
    yield (
        f"engine    {found['shape']}: {found['threads']} threads of {found['cpu']}, {rounds},"
        f" {found['new_tokens']} tokens decoded each; best round, in brackets the median"
    )
    peaks = found["ceilings"]
    rates = [f"read {peaks['read_bytes_per_s'] / _GIGA:.1f} GB/s in 2 MiB pages"]
    names = {"fp32_flops_per_s": "fp32", "bf16_flops_per_s": "bf16", "int8_ops_per_s": "int8"}
    for key, name in names.items():
        if peaks[key]:
            rates.append(f"{name} {peaks[key] / _GIGA:.0f} GFLOP/s")
    yield f"ceilings  {', '.join(rates)}"
    width = max(len(engine["name"]) for engine in found["engines"])
    for engine in found["engines"]:
        size = engine["weight_bytes"]
        read = "" if size is None else f", {size / MIB:.0f} MiB of weights"
        yield (
            f"  {engine['name']:<{width}}  {engine['version']}; {engine['weights']}{read};"
            f" activations {engine['activations']}; KV {engine['kv_bits']} bits;"
            f" ISA {engine['isa'] or 'not told'}"
        )


def _cases(found: _Document, kinds: Sequence[str]) -> list[tuple[str, int, int]]:
    cases = [
        (figure["kind"], figure["batch"], figure["context"])
        for engine in found["engines"]
        for figure in engine["figures"]
        if figure["kind"] in kinds
    ]
    return list(dict.fromkeys(cases))


def _figure(engine: _Document, case: tuple[str, int, int]) -> Mapping[str, Any] | None:
    for figure in engine["figures"]:
        if (figure["kind"], figure["batch"], figure["context"]) == case:
            chosen: Mapping[str, Any] = figure
            return chosen
    return None


def _words(case: tuple[str, int, int]) -> str:
    kind, batch, context = case
    if kind == "decode":
        return f"decode, batch {batch}, context {context}"
    return f"prefill {context}" if kind == "prefill" else "requests of the trace"


def _rates(found: _Document) -> list[list[str]]:
    """Tokens/s of all engines, and ours over the best peer."""
    cases = _cases(found, ("decode", "prefill", "trace"))
    if not cases:
        return []
    engines = found["engines"]
    rows = [["tokens/s", *(engine["name"] for engine in engines)]]
    compared = bool(found["ratios"])
    if compared:
        rows[0].append("ours / best peer")
    for case in cases:
        row = [_words(case)]
        for engine in engines:
            figure = _figure(engine, case)
            row.append("–" if figure is None else f"{figure['best']:.1f} ({figure['median']:.1f})")
        if compared:
            of_case = [
                ratio
                for ratio in found["ratios"]
                if (ratio["kind"], ratio["batch"], ratio["context"]) == case
            ]
            best = max(of_case, key=lambda ratio: float(ratio["ratio"]), default=None)
            row.append("–" if best is None else f"{best['ratio']:.2f} × {best['best_peer']}")
        rows.append(row)
    return rows


def _starts(found: _Document) -> list[list[str]]:
    rows = [["start", "ready, s", "peak RSS, MiB", "above weights and KV"]]
    for engine in found["engines"]:
        figure = _figure(engine, ("start", 1, 0))
        if figure is None:
            continue
        detail = figure["detail"]
        above = "–"
        if "weights_and_kv_bytes" in detail:
            more = detail["peak_rss_bytes"] - detail["weights_and_kv_bytes"]
            above = f"{more / MIB:.0f}"
        peak = f"{detail['peak_rss_bytes'] / MIB:.0f}"
        rows.append([engine["name"], f"{detail['ready_s']:.2f}", peak, above])
    return rows if len(rows) > 1 else []


def _ours(found: _Document) -> list[list[str]]:
    """What our figures are of the ceilings."""
    peaks = found["ceilings"]
    rows = [["ours beside the ceilings", "GB/s", "of read", "GFLOP/s", "of bf16", "of int8"]]
    for engine in found["engines"]:
        if not engine["is_ours"]:
            continue
        for figure in engine["figures"]:
            if figure["bytes_per_s"] is None:
                continue
            operations = figure["operations_per_s"]
            shares = [
                f"{operations / peaks[key]:.0%}" if peaks[key] else "–"
                for key in ("bf16_flops_per_s", "int8_ops_per_s")
            ]
            case = (figure["kind"], figure["batch"], figure["context"])
            share = figure["share_of_read"]
            rows.append(
                [
                    f"{engine['name']}: {_words(case)}",
                    f"{figure['bytes_per_s'] / _GIGA:.1f}",
                    "–" if share is None else f"{share:.0%}",
                    f"{operations / _GIGA:.0f}",
                    *shares,
                ]
            )
    return rows if len(rows) > 1 else []


def _traces(found: _Document) -> list[list[str]]:
    head = ["trace", "TTFT p50, ms", "TTFT max, ms", "mean ITL, ms", "largest step", "seconds"]
    rows = [head]
    for engine in found["engines"]:
        figure = _figure(engine, ("trace", 1, 0))
        if figure is None:
            continue
        detail = figure["detail"]
        times = [f"{1000 * detail[key]:.0f}" for key in ("ttft_p50_s", "ttft_max_s")]
        times.append(f"{1000 * detail['itl_mean_s']:.1f}")
        rest = [f"{detail['largest_step']:.0f}", f"{detail['seconds']:.1f}"]
        rows.append([engine["name"], *times, *rest])
    return rows if len(rows) > 1 else []


def _notes(found: _Document) -> Iterator[str]:
    busy = [
        cores
        for engine in found["engines"]
        for figure in engine["figures"]
        for cores in figure["others_busy"]
    ]
    if busy and max(busy) > _BUSY:
        yield (
            f"note: other processes used {sum(busy) / len(busy):.1f} cores on average while this"
            f" ran, at most {max(busy):.1f}: figures are too low, ratios less so."
        )
    for words in found["lacking"]:
        yield f"note: {words}"
    for words in found["failed"]:
        yield f"failed: {words}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [f"{row[0]:<{widths[0]}}"]
        cells += [f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
