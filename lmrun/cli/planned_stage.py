"""A stage of a deployment, named on the command line beside its overrides."""

from lmrun.errors import ArtifactError, PlanError
from lmrun.plan.plan import ModelKind, Plan
from lmrun.plan.stage_specs import PRUNE


def check_has(plan: Plan, stage: str) -> None:
    """Refuse a stage that this deployment does not have."""
    if plan.stage(stage) is not None:
        return
    if plan.model_kind is ModelKind.workspace:
        raise PlanError(f"{stage}: {plan.model_path} is a workspace already; no stage runs for it.")
    if plan.model_kind is ModelKind.quantized:
        raise PlanError(
            f"{stage}: {plan.model_path} is quantized already; only convert runs for it."
        )
    if stage == PRUNE.name:
        raise PlanError(
            f"{stage}: this deployment prunes nothing (prune.method=none)."
            " Choose a method, such as prune=wanda."
        )
    raise PlanError(
        f"{stage}: this deployment quantizes nothing (quant.method=none)."
        " Choose a quantizer, such as quant=awq_w4_g128."
    )


def fingerprint_of(plan: Plan, stage: str) -> str:
    """The fingerprint of a stage of a plan; `ArtifactError` while inputs are not hashed."""
    planned = plan.stage(stage)
    assert planned is not None
    if planned.fingerprint is None:
        raise ArtifactError(
            f"{stage}: its fingerprint is not known before the model's files are hashed."
            " `lmrun build` with the same settings does it."
        )
    return planned.fingerprint
