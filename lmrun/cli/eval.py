"""`lmrun eval`: build what is missing, evaluate, and hold the figures against the bounds."""

import sys
from typing import Any

from lmrun import env, json_schema, log
from lmrun.artifacts.manifest import check
from lmrun.artifacts.store import Store
from lmrun.cli import files, flags, summary
from lmrun.cli.output import as_json
from lmrun.config import Composed, compose
from lmrun.config.composed import COMMAND_LINE
from lmrun.config.located import located
from lmrun.deploy.building import ALL, build, check_gate
from lmrun.errors import ConfigError, ExitStatus
from lmrun.json_schema import BOOLEAN, TEXT, TEXT_OR_NULL, mapping, records
from lmrun.plan import gate, quality
from lmrun.plan.plan import Plan
from lmrun.plan.quality_text import figure_lines

logger = log.get(__name__)

FLAGS = {"--json": False, "--junit": True}
QUICK = "evaluate=quick"
SCHEMA_VERSION = 1
SCHEMA = json_schema.document(
    "lmrun eval",
    SCHEMA_VERSION,
    model=TEXT,
    recipe=TEXT_OR_NULL,
    report={**TEXT, "description": "path of the quality report"},
    figures=mapping({"type": "number"}),
    gates=records(
        name=TEXT,
        key=TEXT,
        bound={"type": "number"},
        is_upper=BOOLEAN,
        value={"type": ["number", "null"]},
        passed=BOOLEAN,
    ),
    passed=BOOLEAN,
    quality={"type": "object", "description": "the quality report"},
)
"""JSON Schema of `lmrun eval --json`."""


def run(argv: list[str]) -> ExitStatus:
    """Evaluate the overrides in ``argv``; 6 where a bound of the recipe is not kept.

    A recipe that asks for no evaluation gets `evaluate=quick`.
    """
    given, overrides = flags.split(argv, FLAGS)
    composed = _asking(compose(overrides), overrides)
    results = files.of_results(given.get("--junit"), composed)
    store = Store(env.home())
    with located(composed):
        plan = build(composed, store, goal=ALL)
    assert plan.quality is not None  # it was built
    if "--json" in given:
        document = _document(plan, store)
        check(document, SCHEMA, "eval")
        sys.stdout.write(as_json(document))
    else:
        sys.stdout.write(_text(plan) + "\n")
    summary.text("lmrun eval", _text(plan))
    check_gate(composed, plan, store, results)
    return ExitStatus.OK


def _asking(composed: Composed, overrides: list[str]) -> Composed:
    """The composition, with `evaluate=quick` where nothing else is asked for."""
    if gate.is_asked(composed.run.evaluate):
        return composed
    if composed.choices["evaluate"][-1].origin.source == COMMAND_LINE:
        raise ConfigError(
            "evaluate: nothing is asked for. Choose evaluate=quick or evaluate=full, or set"
            " evaluate.data, evaluate.tasks.NAME or evaluate.tools."
        )
    logger.info("the recipe asks for no evaluation: taking %s", QUICK)
    return compose([*overrides, QUICK])


def _text(plan: Plan) -> str:
    assert plan.quality is not None
    head = f"{plan.served_name}, as {plan.recipe}" if plan.recipe else plan.served_name
    return "\n".join([head, *figure_lines(plan.quality, plan.gates)])


def _document(plan: Plan, store: Store) -> dict[str, Any]:
    assert plan.quality is not None
    return {
        "schema_version": SCHEMA_VERSION,
        "model": plan.served_name,
        "recipe": plan.recipe,
        "report": str(quality.path(plan, store)),
        "figures": gate.figures(plan.quality),
        "gates": [
            {
                "name": one.name,
                "key": one.key,
                "bound": one.bound,
                "is_upper": one.is_upper,
                "value": one.value,
                "passed": bool(one.passed),
            }
            for one in plan.gates
        ],
        "passed": not gate.failed(plan.gates),
        "quality": plan.quality,
    }
