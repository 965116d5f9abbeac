"""`lmrun verify`: is everything still as it was locked? Hashes all of it, builds nothing."""

import sys
from collections.abc import Mapping
from pathlib import Path

from lmrun import env
from lmrun.artifacts.manifest import check
from lmrun.artifacts.store import Store
from lmrun.cli import flags, summary
from lmrun.cli.output import as_json
from lmrun.config import compose
from lmrun.config.located import located
from lmrun.deploy.verifying import SCHEMA, Report, verify
from lmrun.errors import ExitStatus, UsageError
from lmrun.plan import lock as locks
from lmrun.plan.drift import counted, drift_text
from lmrun.plan.sizes import show_bytes, things


def run(argv: list[str]) -> ExitStatus:
    """Compare with the recipe's lock, or with the lock file among the words; 7 for drift.

    A lock file alone is compared with the overrides that it was made with.
    """
    given, words = flags.split(argv, {"--json": False})
    files = [word for word in words if locks.is_lock_file(word)]
    overrides = [word for word in words if not locks.is_lock_file(word)]
    if len(files) > 1:
        raise UsageError(f"verify: expected one lock file, got {len(files)}. Name one.")
    if files:
        path = Path(files[0])
        locked = locks.read(path)
        composed = compose(overrides or locked.overrides)
    else:
        composed = compose(overrides)
        recipe = composed.recipe.name if composed.recipe else None
        path = locks.default_path(recipe, "verify", f"Name it: lmrun verify FILE{locks.SUFFIX}")
        locked = locks.read(path)
    with located(composed):
        report = verify(composed, locked, Store(env.home()), path)
    if "--json" in given:
        document = report.to_json()
        check(document, SCHEMA, "verify")
        sys.stdout.write(as_json(document))
    else:
        sys.stdout.write(report_text(report) + "\n")
    summary.text("lmrun verify", report_text(report))
    return ExitStatus.DRIFT if report.drift else ExitStatus.OK


def report_text(report: Report) -> str:
    """The report for people."""
    checked = report.checked
    lines = []
    if report.drift:
        lines.append(f"{report.lock}: {counted(list(report.drift))}")
        lines.append(drift_text(list(report.drift)))
        if report.moved_stages:
            lines.append(f"  other artifacts would be built: {', '.join(report.moved_stages)}")
    else:
        lines.append(
            f"{report.lock}: holds ({things(checked['settings'], 'setting')},"
            f" {things(checked['model_files'], 'model file')},"
            f" {things(checked['artifacts'], 'artifact')},"
            f" {things(checked['packages'], 'package')}{_figures(checked)};"
            f" {show_bytes(checked['hashed_bytes'])} hashed)"
        )
    lines += [f"  note: {note}" for note in report.notes]
    return "\n".join(lines)


def _figures(checked: Mapping[str, int]) -> str:
    return f", {things(checked['figures'], 'figure')} of quality" if "figures" in checked else ""
