"""The report of `lmrun bench` for people."""

from collections.abc import Iterator, Sequence

from lmrun.bench.report import BenchReport, Load, Spread, Target, TraceReplay
from lmrun.plan.sizes import show_bytes, show_count, things

BUSY_CLIENT = 0.5
"""Share of a core from which on the measuring process itself is in the figures."""
SEVERAL_TOKENS = 1.05
BEYOND = 1.005
"""Share of a ceiling that cannot be."""
_NAMES = {"ttft_ms": "TTFT", "itl_ms": "ITL", "output_tokens_per_s": "output tokens/s"}
AT_BEST = "at best"
_LATENCY_HEAD = (
    ("", "", "TTFT", "", "", "", "ITL", "", "", "", "request", ""),
    ("open", "requests", "p50", "p90", "p99", AT_BEST, "mean", "p50", "p99", AT_BEST, "p50", "p99"),
)
_ROUNDS_HEAD = (
    ("", "output tokens/s", "", "", "", "total", "", "TTFT p50", "", "ITL mean", "", "client", ""),
    (
        *("open", "median", "min", "max", AT_BEST, "tokens/s", "requests/s"),
        *("min", "max", "min", "max", "CPU", "errors"),
    ),
)


def report_text(report: BenchReport) -> str:
    """Tables and what must be known to read them."""
    loads = report.loads if report.trace is None else [report.trace.load]
    lines = [*_head(report), ""]
    lines += ["latency, ms", *_table(_LATENCY_HEAD, [_latencies(load) for load in loads]), ""]
    lines += ["over the rounds", *_table(_ROUNDS_HEAD, [_rates(load) for load in loads])]
    if report.trace is not None:
        lines += ["", *_trace(report.trace)]
    tail = [*_memory(report), *_ceilings(report), *_notes(report, loads)]
    return "\n".join([*lines, *([""] if tail else []), *tail])


def _head(report: BenchReport) -> Iterator[str]:
    asked = report.asked
    if report.trace is None:
        yield (
            f"bench     {report.target.model}: prompts of {asked.prompt_tokens} tokens,"
            f" completions of {asked.output_tokens}, {things(asked.rounds, 'round')}"
        )
    else:
        yield f"bench     {report.target.model}: {things(asked.rounds, 'round')} of a trace"
    yield f"target    {_target(report.target)}"
    if report.machine is not None:
        yield f"machine   {report.machine.cpu}, {things(report.machine.cores, 'core')}"


def _target(target: Target) -> str:
    if target.engine is None:
        return f"{target.url}{target.endpoint}, prompts of {target.prompts}"
    engine = target.engine
    recipe = f"recipe {target.recipe}, " if target.recipe else ""
    return (
        f"{recipe}{things(int(str(engine['threads'])), 'thread')}, isa {engine['isa']},"
        f" KV {engine['kv_bits']} bits, at most {engine['max_num_seqs']} sequences a step"
    )


def _latencies(load: Load) -> tuple[str, ...]:
    ttft, itl, whole = load.ttft_ms, load.itl_ms, load.latency_ms
    return (
        _open(load),
        str(load.requests),
        *((_number(ttft.p50), _number(ttft.p90), _number(ttft.p99)) if ttft else ("-",) * 3),
        _ceiling(load, "ttft_ms"),
        *((_number(itl.mean), _number(itl.p50), _number(itl.p99)) if itl else ("-",) * 3),
        _ceiling(load, "itl_ms"),
        *((_number(whole.p50), _number(whole.p99)) if whole else ("-",) * 2),
    )


def _rates(load: Load) -> tuple[str, ...]:
    output, total, requests = (
        load.output_tokens_per_s,
        load.total_tokens_per_s,
        load.requests_per_s,
    )
    return (
        _open(load),
        _number(output.median) if output else "-",
        *_ends(output),
        _ceiling(load, "output_tokens_per_s"),
        _number(total.median) if total else "-",
        _number(requests.median) if requests else "-",
        *_ends(load.ttft_p50_ms),
        *_ends(load.itl_mean_ms),
        f"{load.client_cpu_share:.0%}",
        str(load.errors),
    )


def _ends(found: Spread | None) -> tuple[str, str]:
    return (_number(found.min), _number(found.max)) if found else ("-", "-")


def _trace(trace: TraceReplay) -> Iterator[str]:
    speed = f", {trace.speedup:g} times as fast" if trace.speedup != 1 else ""
    yield (
        f"trace     {trace.file}: the first {things(trace.requests, 'request')},"
        f" {_number(trace.offered_requests_per_s)} a second{speed}; {trace.clipped} cut to the"
        " context"
    )
    yield (
        f"goodput   {_number(trace.goodput_requests_per_s)} requests/s: {trace.good_requests} with"
        f" TTFT within {trace.max_ttft_ms:g} ms and mean ITL within {trace.max_itl_ms:g} ms"
    )


def _memory(report: BenchReport) -> Iterator[str]:
    memory = report.memory
    if memory is None:
        return
    weights = f", {show_bytes(memory.weights_bytes)} of weights" if memory.weights_bytes else ""
    kv = f", {show_bytes(memory.kv_bytes)} touched" if memory.kv_bytes else ""
    yield f"memory    engine process {show_bytes(memory.peak_rss_bytes)} at its peak{weights}"
    yield f"          {memory.peak_kv_blocks} of {memory.kv_blocks} KV blocks held at once{kv}"


def _ceilings(report: BenchReport) -> Iterator[str]:
    rates = report.rates
    if rates is None:
        return
    yield (
        f"ceilings  {rates.source}, {rates.measured_at}:"
        f" {show_count(rates.read_bytes_per_s, 'B/s')}, {show_count(rates.flops_per_s, 'FLOP/s')}"
    )
    for load in report.loads:
        for bound in load.bounds:
            what = f"{_open(load)} open, {_NAMES[bound.figure]}"
            yield f"  {what:<25} {_number(bound.ceiling):>6} = {bound.why}"
    if any(bound.share > BEYOND for load in report.loads for bound in load.bounds):
        yield (
            "note      more than 100% of a ceiling: it was measured in a slower moment than the"
            " load. lmrun doctor --measure on a quiet machine keeps better ones"
        )


def _notes(report: BenchReport, loads: Sequence[Load]) -> Iterator[str]:
    for load in loads:
        where = "" if load.concurrency is None else f"{load.concurrency} open: "
        if load.error is not None:
            failed = things(load.errors, "request")
            yield f"note      {where}{failed} failed and count in nothing else: {load.error}"
        if load.client_cpu_share > BUSY_CLIENT:
            yield (
                f"note      {where}measuring took {load.client_cpu_share:.0%} of a core: the"
                " figures are of both together"
            )
        if (load.tokens_per_event or 0) > SEVERAL_TOKENS:
            yield (
                f"note      {where}{load.tokens_per_event:.2f} tokens came in an event: the"
                " percentiles of ITL are of events, its mean of tokens"
            )
        if load.cached_tokens:
            yield (
                f"note      {where}{things(load.cached_tokens, 'prompt token')} came from a prefix"
                " cache"
            )
    if not report.target.ignores_eos:
        yield "note      some completions had another length than was asked for"
    if report.problem is not None:
        yield f"note      it ended early: {report.problem}"


def _table(head: Sequence[Sequence[str]], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Numbers to the right; a title stands over the first of its columns and what follows."""
    widths = [max(len(row[i]) for row in (head[1], *rows)) for i in range(len(head[1]))]
    starts = [sum(widths[:i]) + 2 * i for i in range(len(widths))]
    titles = ""
    for index, title in enumerate(head[0]):
        if title:
            titles = titles.ljust(starts[index]) + title + "  "
    yield "  " + titles.rstrip()
    for row in (head[1], *rows):
        yield "  " + "  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)).rstrip()


def _ceiling(load: Load, figure: str) -> str:
    """The bound and the share of it that was reached; a dash where none is known."""
    found = next((bound for bound in load.bounds if bound.figure == figure), None)
    return "-" if found is None else f"{_number(found.ceiling)} ({found.share:.0%})"


def _open(load: Load) -> str:
    return "trace" if load.concurrency is None else str(load.concurrency)


def _number(value: float) -> str:
    """Three significant digits, and all of those before the point."""
    if round(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".") if value else "0"
