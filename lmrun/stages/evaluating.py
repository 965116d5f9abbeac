"""What `baseline` and `evaluate` share: what is asked of `lmrun.evals`, as a plan says it."""

from lmrun.evals.run import Evaluation
from lmrun.plan.plan import Plan


def asked(plan: Plan) -> Evaluation:
    """Everything that a plan evaluates."""
    assert plan.evaluated is not None  # one of the stages that evaluate is in the plan
    keys = plan.config["evaluate"]
    return Evaluation(
        data=plan.evaluated.data,
        window=keys["window"],
        max_tokens=keys["max_tokens"],
        kl_tokens=keys["kl_tokens"],
        tasks=plan.evaluated.tasks,
        task_limit=keys["task_limit"],
        tools=plan.evaluated.tools,
    )


def workspace_fingerprint(plan: Plan) -> str | None:
    """Of the workspace that a plan launches; None for one that is no artifact."""
    convert = plan.stage("convert")
    return convert.fingerprint if convert is not None else None
