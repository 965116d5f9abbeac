"""`lmrun bench quantize` and `lmrun bench quality`: our quantizers beside those of others."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from lmrun.errors import ExitStatus, UsageError

QUANTIZE, QUALITY = "quantize", "quality"
TAKEN: Mapping[str, tuple[str, ...]] = {
    QUANTIZE: (
        *("--json", "--methods", "--peers", "--shape", "--layers", "--samples", "--seq-len"),
        *("--group-size", "--rounds", "--keep"),
    ),
    QUALITY: (
        *("--json", "--methods", "--models", "--group-sizes", "--text", "--calibration"),
        *("--samples", "--seq-len", "--preset", "--window", "--max-tokens", "--kl-tokens"),
    ),
}
"""Bench → the flags it takes."""
FLAGS: Mapping[str, bool] = {
    name: True for names in TAKEN.values() for name in names if name != "--json"
}
"""Those that no other bench takes; all have a value."""
_MOST = 1 << 20


def _quantize(given: Mapping[str, str], overrides: list[str]) -> ExitStatus:
    # what other benches do not need
    from lmrun.bench import quantize  # noqa: PLC0415
    from lmrun.bench.alone import timed  # noqa: PLC0415
    from lmrun.bench.quantize_runs import METHODS, Peer  # noqa: PLC0415
    from lmrun.bench.quantize_text import report_text  # noqa: PLC0415
    from lmrun.models import builtin  # noqa: PLC0415

    _refuse_overrides(QUANTIZE, overrides)
    plain = quantize.Settings()
    settings = quantize.Settings(
        methods=_words(given, "--methods", plain.methods, tuple(METHODS)),
        peers=tuple(Peer.of(one) for one in given.get("--peers", "").split(",") if one),
        model=_words(given, "--shape", (plain.model,), tuple(builtin.MODELS))[0],
        layers=_number(given, "--layers", plain.layers),
        samples=_number(given, "--samples", plain.samples),
        seq_len=_number(given, "--seq-len", plain.seq_len, least=8),
        group_size=_number(given, "--group-size", plain.group_size),
        rounds=_number(given, "--rounds", plain.rounds),
    )
    keep = given.get("--keep")
    folder = None if keep is None else Path(keep).expanduser().absolute()
    if folder is not None and folder.exists():
        raise UsageError(f"--keep={keep}: expected a folder that is not there yet.")
    with timed("lmrun bench quantize"):
        report = quantize.run(settings, folder)
    if "--json" not in given:
        sys.stdout.write(report_text(report) + "\n\n")
    sys.stdout.write(json.dumps(report.to_json()) + "\n")
    return ExitStatus.STAGE_FAILED if report.failed else ExitStatus.OK


def _quality(given: Mapping[str, str], overrides: list[str]) -> ExitStatus:
    from lmrun.bench import quality, quality_rows  # noqa: PLC0415
    from lmrun.bench.quality_text import report_text as quality_text  # noqa: PLC0415

    _refuse_overrides(QUALITY, overrides)
    plain = quality_rows.Settings()
    sizes = tuple(str(size) for size in plain.group_sizes)
    settings = quality_rows.Settings(
        models=tuple(one for one in given.get("--models", "").split(",") if one) or plain.models,
        methods=_words(given, "--methods", plain.methods, quality_rows.METHODS),
        group_sizes=tuple(int(one) for one in _words(given, "--group-sizes", sizes, sizes)),
        text=given.get("--text", plain.text),
        calibration=given.get("--calibration", plain.calibration),
        samples=_number(given, "--samples", plain.samples),
        seq_len=_number(given, "--seq-len", plain.seq_len, least=8),
        preset=_words(given, "--preset", (plain.preset,), ("light", "best"))[0],
        window=_number(given, "--window", plain.window, least=8),
        max_tokens=_number(given, "--max-tokens", plain.max_tokens),
        kl_tokens=_number(given, "--kl-tokens", plain.kl_tokens, least=0),
    )
    report = quality.run(settings)
    if "--json" not in given:
        sys.stdout.write(quality_text(report) + "\n\n")
    sys.stdout.write(json.dumps(report.to_json()) + "\n")
    return ExitStatus.STAGE_FAILED if report.has_failed else ExitStatus.OK


def _refuse_overrides(bench: str, overrides: list[str]) -> None:
    if overrides:
        raise UsageError(f"bench {bench}: takes no settings, got {overrides[0]}.")


def _words(
    given: Mapping[str, str], flag: str, plain: tuple[str, ...], legal: tuple[str, ...]
) -> tuple[str, ...]:
    """Words with commas between them, each one of ``legal``."""
    if flag not in given:
        return plain
    found = tuple(word for word in given[flag].split(",") if word)
    for word in found:
        if word not in legal:
            raise UsageError(f"{flag}: {word}: expected one of {', '.join(legal)}.")
    if not found:
        raise UsageError(f"{flag}: expected some of {', '.join(legal)}, got none.")
    return tuple(dict.fromkeys(found))


def _number(given: Mapping[str, str], flag: str, plain: int, least: int = 1) -> int:
    text = given.get(flag, str(plain))
    if not text.isdecimal() or not least <= int(text) <= _MOST:
        raise UsageError(f"{flag}: expected a number from {least} to {_MOST}, got {text!r}.")
    return int(text)


RUN: Mapping[str, Callable[[Mapping[str, str], list[str]], ExitStatus]] = {
    QUANTIZE: _quantize,
    QUALITY: _quality,
}
"""Bench → what runs it."""
