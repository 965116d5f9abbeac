"""A `Quality` as lines for a terminal: figures with their standard errors, and what they are of."""

from collections.abc import Iterator

from lmrun.columns import columns
from lmrun.evals.report import Quality


def table(quality: Quality) -> str:
    """Lines without a newline at the end; the same quality gives the same text."""
    rows = [*_text_rows(quality), *_task_rows(quality), *_tool_rows(quality)]
    if not rows:
        rows = [("nothing was evaluated", "", "")]
    lines = list(columns(rows))
    lines += [f"note: {note}" for note in quality.notes]
    return "\n".join(lines)


def _text_rows(quality: Quality) -> Iterator[tuple[str, str, str]]:
    protocol = quality.protocol
    if protocol is None or quality.perplexity is None:
        return
    start = "BOS first" if protocol.bos_token_id is not None else "no BOS"
    yield (
        "perplexity",
        _number(quality.perplexity, quality.perplexity_standard_error),
        f"{protocol.tokens:,} tokens of {protocol.text}, windows of {protocol.window}, {start}",
    )
    if quality.ppl_ratio is not None and quality.baseline is not None:
        yield (
            "ratio to the baseline",
            _number(quality.ppl_ratio, quality.ppl_ratio_standard_error),
            f"baseline {quality.baseline.perplexity:#.5g}",
        )
    if quality.kl is not None:
        yield (
            "KL divergence",
            _number(quality.kl, quality.kl_standard_error),
            f"nats, {protocol.kl_tokens:,} tokens; 99% below {quality.kl_p99:.3g}, largest"
            f" {quality.kl_max:.3g}",
        )
    if quality.top1 is not None:
        yield "top-1 agreement", _share(quality.top1, quality.top1_standard_error), ""


def _task_rows(quality: Quality) -> Iterator[tuple[str, str, str]]:
    for name, task in sorted(quality.tasks.items()):
        more = ""
        if task.accuracy_norm is not None:
            more = f", normalized {_share(task.accuracy_norm, task.accuracy_norm_standard_error)}"
        yield (
            f"task {name}",
            _share(task.accuracy, task.accuracy_standard_error),
            f"{_items(task.items)} ({task.format}){more}",
        )


def _tool_rows(quality: Quality) -> Iterator[tuple[str, str, str]]:
    tools = quality.tools
    if tools is None:
        return
    sorts = [("calls", tools.call_accuracy), ("words", tools.word_accuracy)]
    parts = [f"{sort} {share:.1%}" for sort, share in sorts if share is not None]
    yield (
        "tool calls",
        _share(tools.accuracy, tools.accuracy_standard_error),
        f"{_items(tools.items)} ({tools.format}): {', '.join(parts)}",
    )


def _items(count: int) -> str:
    return "1 item" if count == 1 else f"{count:,} items"


def _number(value: float, error: float | None) -> str:
    return f"{value:#.5g}" + ("" if error is None else f" ± {error:.2g}")


def _share(value: float, error: float | None) -> str:
    return f"{value:.1%}" + ("" if error is None else f" ± {error:.1%}")
