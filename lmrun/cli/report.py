"""`lmrun report`: what a build did to the model, layer by layer, and what it cost."""

import sys

from lmrun import env
from lmrun.artifacts.manifest import check
from lmrun.artifacts.store import Store
from lmrun.cli import files, flags
from lmrun.cli.output import as_json
from lmrun.config import compose
from lmrun.config.located import located
from lmrun.errors import ExitStatus, UsageError
from lmrun.plan.planner import make_plan
from lmrun.reports.gather import gather
from lmrun.reports.html import html
from lmrun.reports.report import SCHEMA, to_document
from lmrun.reports.text import report_text

FLAGS = {"--json": False, "--html": True}


def run(argv: list[str]) -> ExitStatus:
    """Print what the store has on the deployment in ``argv``; nothing is built."""
    given, words = flags.split(argv, FLAGS)
    bare, overrides = flags.parted(words)
    if bare:
        raise UsageError(f"report: expected settings and flags alone, got {bare[0]!r}.")
    page = files.to_write("--html", given["--html"]) if "--html" in given else None
    composed = compose(overrides)
    store = Store(env.home())
    with located(composed):
        plan = make_plan(composed, store)
    report = gather(plan, composed.run.kv, store)
    if page is not None:
        page.write_text(html(report), encoding="utf-8")
    if "--json" in given:
        document = to_document(report)
        check(document, SCHEMA, "report")
        sys.stdout.write(as_json(document))
    else:
        sys.stdout.write(report_text(report) + "\n")
    return ExitStatus.OK
