"""A comparison for people: text for a terminal, Markdown for a pull request."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lmrun.columns import columns
from lmrun.config.suggest import listed
from lmrun.plan.comparison import (
    NOT_NEEDED,
    Comparison,
    Downtime,
    Figure,
    Report,
    StageChange,
    Status,
)
from lmrun.plan.sizes import show_bytes, show_seconds, things

NOT_KNOWN = "not known"
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class _Section:
    """One heading with a table or sentences below it."""

    title: str
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    lines: tuple[str, ...] = ()


def report_text(report: Report) -> str:
    """The text form, without a newline at the end."""
    if report.since is None:
        return "\n\n".join(_text(comparison) for comparison in report.comparisons)
    if not report.comparisons:
        return f"no recipe is touched by what changed since {report.since}"
    summary = [f"since {report.since}"]
    summary += [f"  {line}" for line in columns([_summary(one) for one in report.comparisons])]
    details = [_text(one) for one in report.comparisons if one.is_different]
    return "\n\n".join(["\n".join(summary), *details])


def report_markdown(report: Report) -> str:
    """The Markdown form, without a newline at the end."""
    if report.since is None:
        return "\n\n".join(_markdown(comparison) for comparison in report.comparisons)
    if not report.comparisons:
        return f"No recipe is touched by what changed since `{report.since}`."
    rows = [_summary(one) for one in report.comparisons]
    table = _table(("recipe", "", "consequences"), rows)
    details = [_markdown(one) for one in report.comparisons if one.is_different]
    return "\n\n".join([f"## Recipes touched since `{report.since}`", table, *details])


def _summary(one: Comparison) -> tuple[str, ...]:
    return (one.recipe or "", one.status.value, "; ".join(_consequences(one)))


def _consequences(one: Comparison) -> Iterator[str]:
    if one.new_refusal is not None:
        yield f"refused: {one.new_refusal.splitlines()[0]}"
        return
    if one.status is Status.same:
        yield "touched, and nothing differs"
        return
    if one.changes:
        yield things(len(one.changes), "setting")
    if one.status is not Status.removed:
        running = [stage.stage for stage in one.stages if _runs(stage)]
        if running:
            yield f"{listed(running, 'and')} would run"
        else:
            is_built = not any(_is_missing(stage) for stage in one.stages)
            yield "no stage would run" if is_built else "the same stages would run"
    if one.downtime is not None:
        yield "restart" if one.downtime.needs_restart else "no restart"


def _text(one: Comparison) -> str:
    if one.status is Status.same:
        refused = [f"refused, both sides: {one.new_refusal}"] if one.new_refusal else []
        return "\n".join([*_head(one), "", "no difference", *refused])
    parts = ["\n".join(_head(one))]
    for section in _sections(one):
        lines = [section.title]
        lines += [f"  {line}" for line in columns(section.rows)]
        lines += [f"  {line}" for line in section.lines]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _head(one: Comparison) -> Iterator[str]:
    if one.recipe is not None:
        yield f"recipe  {one.recipe} ({one.status.value})"
    if one.old is not None:
        yield f"old     {one.old}"
    if one.new is not None:
        yield f"new     {one.new}"


def _markdown(one: Comparison) -> str:
    title = one.recipe or "lmrun diff"
    parts = [f"### {title}: {one.status.value}"]
    sides = [f"{word} `{side}`" for word, side in (("old", one.old), ("new", one.new)) if side]
    parts.append(", ".join(sides))
    if one.status is Status.same:
        refused = [f"Refused, both sides: {_escaped(one.new_refusal)}"] if one.new_refusal else []
        return "\n\n".join([*parts, "No difference.", *refused])
    for section in _sections(one):
        body = [_table(section.header, section.rows)] if section.rows else []
        if section.lines:
            body.append("\n".join(f"- {_escaped(line)}" for line in section.lines))
        parts += [f"**{section.title}**", *body]
    return "\n\n".join(parts)


def _sections(one: Comparison) -> Iterator[_Section]:
    refusals = [
        f"{word}: {line}"
        for word, refusal in (("old", one.old_refusal), ("new", one.new_refusal))
        for line in (refusal or "").splitlines()
    ]
    if refusals:
        yield _Section("refused", lines=tuple(refusals))
    if one.old is not None and one.new is not None:
        yield _settings(one)
    if one.stages:
        rows = tuple(_stage(stage) for stage in one.stages)
        yield _Section("stages", ("stage", "", "then", "time", "why"), rows)
    if one.memory:
        yield _memory(one)
    if one.downtime is not None:
        yield _Section("downtime", lines=tuple(_downtime(one.downtime)))
    if one.memory:
        speed = tuple(_rate(figure) for figure in one.speed)
        lines = () if speed else (f"{NOT_KNOWN} ({one.speed_source})",)
        yield _Section("speed, as estimated", ("", "old", "", "new", ""), speed, lines)
        quality = tuple(_plain(figure) for figure in one.quality)
        lines = () if quality else (NOT_KNOWN,)
        yield _Section("quality", ("", "old", "", "new"), quality, lines)


def _settings(one: Comparison) -> _Section:
    if not one.changes:
        return _Section("settings", lines=("none differs",))
    rows = tuple(
        (
            change.key,
            _value(change.old) if change.old_origin else "no such key",
            "→",
            _value(change.new) if change.new_origin else "no such key",
            f"{change.old_origin or '-'} → {change.new_origin or '-'}",
            change.changes,
        )
        for change in one.changes
    )
    return _Section("settings", ("key", "old", "", "new", "set by", "changes"), rows)


def _stage(stage: StageChange) -> tuple[str, ...]:
    seconds = "" if stage.seconds is None else f"about {show_seconds(stage.seconds)}"
    if stage.action == NOT_NEEDED:
        return (stage.stage, "gone", NOT_NEEDED, "", "")
    differs = "same" if stage.is_same else "differs"
    if stage.old_fingerprint is None and stage.new_fingerprint is not None:
        differs = "new"
    why = "" if stage.why == stage.action else stage.why
    return (stage.stage, differs, stage.action, seconds, why)


def _runs(stage: StageChange) -> bool:
    return _is_missing(stage) and not stage.is_same


def _is_missing(stage: StageChange) -> bool:
    return stage.action in ("run", "unknown")


def _memory(one: Comparison) -> _Section:
    rows = [_amount(figure) for figure in one.memory]
    lines = [
        f"artifacts to write: about {show_bytes(size)}" for size in [one.written_bytes] if size
    ]
    return _Section("memory", ("", "old", "", "new", ""), tuple(rows), tuple(lines))


def _amount(figure: Figure) -> tuple[str, ...]:
    show = show_bytes if figure.unit == "B" else "{:,}".format
    texts = [NOT_KNOWN if amount is None else show(int(amount)) for amount in _both(figure)]
    delta = ""
    if figure.old is not None and figure.new is not None and figure.old != figure.new:
        more = int(figure.new - figure.old)
        delta = f"{'+' if more > 0 else '-'}{show(abs(more))}"
    return (figure.what, texts[0], "→", texts[1], delta)


def _rate(figure: Figure) -> tuple[str, ...]:
    texts = [NOT_KNOWN if rate is None else _per_second(rate) for rate in _both(figure)]
    delta = ""
    if figure.old and figure.new is not None and texts[0] != texts[1]:
        delta = f" ({figure.new / figure.old - 1:+.0%})"
    return (figure.what, texts[0], "→", texts[1], f"{figure.unit}{delta}")


def _per_second(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def _plain(figure: Figure) -> tuple[str, ...]:
    texts = [NOT_KNOWN if value is None else f"{value:.4g}" for value in _both(figure)]
    return (figure.what, texts[0], "→", texts[1])


def _both(figure: Figure) -> tuple[float | None, float | None]:
    return figure.old, figure.new


def _downtime(downtime: Downtime) -> Iterator[str]:
    if not downtime.needs_restart:
        yield "restart needed: no"
        return
    yield f"restart needed: yes ({listed(downtime.because, 'and')})"
    if "engine" not in downtime.because:
        return
    ready = NOT_KNOWN if downtime.seconds is None else f"about {show_seconds(downtime.seconds)}"
    yield f"from start to ready: {ready}"
    if downtime.both_bytes is not None and downtime.device_bytes is not None:
        fits = "both engines fit" if downtime.fits_beside else "the engines do not fit"
        sizes = f"{show_bytes(downtime.both_bytes)} of {show_bytes(downtime.device_bytes)}"
        yield f"{fits} into memory at once ({sizes})"


def _value(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = text.replace("\n", " ") or "''"
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(f"| {' | '.join(_escaped(cell) for cell in line)} |" for line in lines)


def _escaped(text: str) -> str:
    for sign in ("\\", "|", "`", "*", "_", "<", "["):
        text = text.replace(sign, f"\\{sign}")
    return text
