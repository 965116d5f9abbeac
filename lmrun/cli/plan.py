"""`lmrun plan`: what would run, what it costs, and whether it fits. Writes nothing."""

import sys
from pathlib import Path

from lmrun import env
from lmrun.artifacts.store import Store
from lmrun.cli import flags, summary
from lmrun.cli.output import as_json
from lmrun.config import Composed, compose
from lmrun.config.located import located
from lmrun.errors import ExitStatus
from lmrun.plan import planned
from lmrun.plan.planner import make_plan
from lmrun.plan.text import plan_text


def run(argv: list[str]) -> ExitStatus:
    """Print the plan of the overrides in ``argv``; `--json` prints it as one JSON document."""
    given, overrides = flags.split(argv, {"--json": False})
    composed = compose(overrides)
    store = Store(env.home())
    plan = make_plan(composed, store)
    _check_template(composed)
    planned.emit(plan)
    planned.emit_quality(plan, store)
    text = plan_text(plan)
    sys.stdout.write(as_json(plan.to_json()) if "--json" in given else f"{text}\n")
    summary.text("lmrun plan", text)
    return ExitStatus.OK


def _check_template(composed: Composed) -> None:
    """Raise `ConfigError` for a template that is neither a name nor a file that can be read."""
    choice = composed.run.model.chat_template
    if choice == "auto":
        return
    from lmrun.models import chat_template  # noqa: PLC0415 - jinja2 takes a tenth of a plan

    with located(composed):
        chat_template.load(choice, Path())
