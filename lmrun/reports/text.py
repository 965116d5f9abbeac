"""A report as lines for the terminal."""

from collections.abc import Iterator, Sequence
from typing import Any

from lmrun.columns import columns
from lmrun.plan.sizes import show_bytes, things
from lmrun.reports.report import Layer, Quantization, Report

_SHORT = {"q_proj": "q", "k_proj": "k", "v_proj": "v", "o_proj": "o"}


def report_text(report: Report) -> str:
    """Everything of a report but the channel scales, which the page draws."""
    lines = [report.model if not report.recipe else f"{report.model}, as {report.recipe}"]
    lines += columns(list(facts(report)))
    if report.pruning is not None:
        lines += ["", *columns([_pruned_head(report), *_pruned_rows(report)])]
        lines += [f"pruned: relative squared error of the {report.pruning.error_of}"]
    if report.quantization is not None or report.has_kv():
        lines += ["", *columns([_head(report), *_rows(report)])]
        lines += _remarks(report)
    lines += [f"done otherwise: {one}" for one in report.fallbacks]
    lines += [f"missing: {one}" for one in report.missing]
    return "\n".join(lines)


def facts(report: Report) -> Iterator[tuple[str, str]]:
    """What a report says in words: a title and a text each."""
    pruning = report.pruning
    if pruning is not None:
        where = "anywhere" if pruning.pattern == "unstructured" else pruning.pattern
        yield (
            "pruned",
            f"{pruning.method}, {where}: {100 * pruning.sparsity:.1f}% of the linears' weights are"
            f" zero; {pruning.engine}",
        )
    if report.quantization is not None:
        yield "quantized", scheme_text(report.quantization)
        if report.quantization.skipped:
            yield "kept in 16 bits", ", ".join(report.quantization.skipped)
    if report.calibration is not None:
        yield "calibrated on", _calibration_text(report.calibration)
    sizes = report.sizes
    yield (
        "weights",
        f"{show_bytes(sizes.float_weights)} before, {show_bytes(sizes.weights)} after"
        f" ({_ratio_text(sizes.float_weights, sizes.weights)})",
    )
    if sizes.float_linears is not None and sizes.quantized_linears:
        yield (
            "of these linears",
            f"{show_bytes(sizes.float_linears)} before,"
            f" {show_bytes(sizes.quantized_linears)} after"
            f" ({_ratio_text(sizes.float_linears, sizes.quantized_linears)})",
        )
    yield "KV cache", f"{show_bytes(sizes.kv_bytes_per_token)} a token{_kept(report)}"
    yield from quality_facts(report)
    if report.seconds:
        yield "time", ", ".join(f"{name} {one:.1f} s" for name, one in report.seconds.items())
    peak = None if report.quantization is None else report.quantization.peak_rss_bytes
    if peak is not None:
        yield "memory", f"at most {show_bytes(peak)} in quantize"


def _ratio_text(before: int, after: int) -> str:
    """How many times smaller, or larger: of a small model the engine's tables outweigh the rest."""
    if after > before:
        return f"{after / before:.2f} times larger"
    return f"{before / after:.2f} times smaller"


def quality_facts(report: Report) -> Iterator[tuple[str, str]]:
    """Perplexity, KL and top-1, where they were measured."""
    found = report.quality
    if found is None:
        return
    before, after = report.before_after["perplexity"]
    if after is not None:
        ratio = "" if before is None else f" ({100 * (after / before - 1):+.2f}%)"
        start = "" if before is None else f"{before:.4f} before, "
        yield "perplexity", f"{start}{after:.4f} after{ratio}"
    if found.get("kl") is not None:
        yield "KL", f"{found['kl']:.5f} nats a token"
    if found.get("top1") is not None:
        yield "top-1", f"{100 * found['top1']:.2f}% of tokens as the float model ranks them"
    protocol = found.get("protocol")
    if protocol:
        yield (
            "measured on",
            f"{protocol['text']}, {protocol['tokens']} tokens in windows of"
            f" {protocol['window']}; KL over {protocol['kl_tokens']}",
        )


def scheme_text(found: Quantization) -> str:
    """Method and scheme, as `gptq, 4 bits, groups of 64, with zero points, in awq`."""
    groups = f"groups of {found.group_size}" if found.group_size else "a scale a row"
    zeros = "symmetric" if found.symmetric else "with zero points"
    inputs = ", 8-bit activations" if found.activation_bits == 8 else ""
    rotated = "rotated, " if found.settings.get("rotate") else ""
    return (
        f"{rotated}{found.method}, {found.bits} bits{inputs}, {groups}, {zeros}, in {found.format}"
    )


def _calibration_text(found: Any) -> str:  # noqa: ANN401 - metrics of a manifest
    text = f"{things(found.get('tokens') or 0, 'token')}"
    total = found.get("documents")
    if total and total > 1:
        kind = "chats" if found.get("kind") == "chat" else "documents"
        text += f" of {found['documents_read']} of {total} {kind}"
    if found.get("statistics_tokens"):
        text += f"; ranges and KV errors on {found['statistics_tokens']} of them"
    if found.get("token_ids_sha256"):
        text += f"; ids {found['token_ids_sha256'][:12]}"
    return text


def _kept(report: Report) -> str:
    if not report.kept_kv_layers:
        return ""
    return f"; layers {', '.join(map(str, report.kept_kv_layers))} at more bits"


def _names(roles: Sequence[str]) -> list[str]:
    return [_SHORT.get(role, role.removesuffix("_proj")) for role in roles]


def _pruned_head(report: Report) -> list[str]:
    return ["layer", *_names(report.pruned_roles()), "seconds"]


def _pruned_rows(report: Report) -> Iterator[list[str]]:
    assert report.pruning is not None
    roles = report.pruned_roles()
    for index, layer in enumerate(report.layers):
        errors = [_short(layer.pruned[role]["relative_error"]) for role in roles]
        yield [str(index), *errors, f"{report.pruning.seconds_by_layer[index]:.1f}"]


def _head(report: Report) -> list[str]:
    cells = ["layer", *_names(report.roles())]
    if any(layer.seconds for layer in report.layers):
        cells.append("seconds")
    return cells + (["KV 8 bits", "KV 4 bits"] if report.has_kv() else [])


def _rows(report: Report) -> Iterator[list[str]]:
    roles = report.roles()
    has_seconds = any(layer.seconds for layer in report.layers)
    for index, layer in enumerate(report.layers):
        cells = [str(index), *(_error(layer, role) for role in roles)]
        if has_seconds:
            cells.append(f"{sum((layer.seconds or {}).values()):.1f}")
        if report.has_kv():
            cells += ["" if layer.kv is None else _short(layer.kv[b]["output"]) for b in ("8", "4")]
        yield cells


def _error(layer: Layer, role: str) -> str:
    row = layer.linears.get(role)
    if row is None:
        return "-"
    error = row.get("relative_output_error")
    return _short(row["relative_weight_error"] if error is None else error)


def _short(value: float) -> str:
    return f"{value:.2e}"


def _remarks(report: Report) -> list[str]:
    found = []
    if report.quantization is not None:
        where = "on the calibration text" if report.quantization.tokens else "of the weights"
        found.append(f"linears: relative squared error {where}; -: kept in 16 bits")
    if report.has_kv():
        found.append(
            "KV: squared error that a rounded cache makes in what attention adds, over the energy"
            " of the layer's output"
        )
    return found


def spread(values: Sequence[float]) -> str:
    """From least to most, with the median between."""
    ordered = sorted(values)
    return f"{ordered[0]:.3g} … {ordered[len(ordered) // 2]:.3g} … {ordered[-1]:.3g}"
