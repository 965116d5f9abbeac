"""The table of `lmrun bench quantize`."""

from collections.abc import Iterator
from statistics import median

from lmrun.artifacts.measurements import cpu_name
from lmrun.bench.quantize import Report, Result, layer_weights, speedups
from lmrun.bench.quantize_ceilings import least_seconds
from lmrun.columns import columns
from lmrun.plan.machine import this_machine
from lmrun.plan.sizes import show_bytes, things

HEAD = ("method", "tool", "s a layer", "CPU s", "peak RSS", "output error", "version")


def report_text(report: Report) -> str:
    """What was measured, for a person."""
    settings = report.settings
    lines = [
        f"{settings.model}, {things(settings.layers, 'layer')}, {settings.samples} x"
        f" {settings.seq_len} random token ids, 4 bits, groups of {settings.group_size}, with zero"
        f" points; {things(settings.rounds, 'round')} in turn",
        f"{cpu_name()}, {things(this_machine().cores, 'core')}",
        "",
        *columns([HEAD, *(_row(one) for one in report.results)]),
        "",
        *_ceilings(report),
    ]
    lines += [_speedup(one) for one in speedups(report.results)]
    notes = [f"{one.tool} {one.method}: {note}" for one in report.results for note in one.notes]
    lines += [f"note: {note}" for note in notes]
    lines += [f"failed: {words}" for words in report.failed]
    return "\n".join(lines)


def _row(result: Result) -> tuple[str, ...]:
    return (
        result.method,
        result.tool,
        _spread(result.seconds_a_layer),
        _spread(result.cpu_seconds_a_layer),
        show_bytes(result.peak_rss_bytes),
        f"{result.output_error:.3g}",
        result.version,
    )


def _spread(values: tuple[float, ...]) -> str:
    """The median, and from least to most where there were rounds."""
    text = f"{median(values):.1f}"
    return text if len(values) == 1 else f"{text} ({min(values):.1f}-{max(values):.1f})"


def _ceilings(report: Report) -> Iterator[str]:
    found = report.ceilings
    yield (
        f"matrix products here: {found.float32_per_s / 1e9:.0f} GFLOP/s in float32,"
        f" {found.bfloat16_per_s / 1e9:.0f} in bfloat16; at that rate the products of a layer take"
    )
    settings = report.settings
    tokens = settings.samples * settings.seq_len
    for method in settings.methods:
        least = least_seconds(method, layer_weights(settings.model), tokens, found)
        if least is not None:
            yield f"    {method}: {least:.1f} s"


def _speedup(found: dict[str, object]) -> str:
    return (
        f"{found['method']}: {found['speedup']:.1f} times as fast as {found['fastest_peer']}"
        f" ({found['cpu_speedup']:.1f} by CPU time), {found['error_ratio']:.2f} times the error of"
        f" {found['best_peer']}"
    )
