"""baseline: the scores that deployments of a model are compared with.

The unquantized model, or the one that `evaluate.baseline` names, scores the text with a 16-bit KV
cache, in the engine that serves. Its workspace is the artifact of `convert` that a deployment with
quant.method=none has: it is built here unless it is in the store.
"""

from dataclasses import replace

import msgspec

from lmrun.config import RunConfig
from lmrun.engine.llm import LLM
from lmrun.evals import run as evals
from lmrun.plan.evaluation import float_run
from lmrun.plan.plan import Plan
from lmrun.plan.planner import plan_run
from lmrun.stages import evaluating
from lmrun.stages.context import StageContext, StageResult

KV_BITS = 16
ACTIVATION_BITS = 32
"""The engine's most accurate, whatever the deployment has."""


def run(context: StageContext) -> StageResult:
    """Fill the partial folder with the scores."""
    plan = float_plan(context)
    workspace = context.build(plan)
    settings = replace(
        plan.engine,
        workspace=str(workspace),
        kv_bits=KV_BITS,
        activation_bits=ACTIVATION_BITS,
    )
    llm = LLM(settings)
    evals.baseline_scores(llm, evaluating.asked(context.plan), context.partial)
    return StageResult(metrics={"workspace": evaluating.workspace_fingerprint(plan)})


def float_plan(context: StageContext) -> Plan:
    """The plan of a deployment of the baseline's model as it is."""
    plan = context.plan
    run = float_run(msgspec.convert(plan.config, RunConfig))
    commit = (
        plan.hub.commit if plan.hub and plan.evaluated and not plan.evaluated.reference else None
    )
    return plan_run(run, context.store, plan.recipe, commit=commit)
