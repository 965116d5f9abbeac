"""The plan for people: every sum can be redone by the reader."""

from lmrun.plan.budget_text import budget_lines
from lmrun.plan.offline import disk_bytes
from lmrun.plan.plan import ModelKind, Plan, StagePlan
from lmrun.plan.quality_text import quality_lines
from lmrun.plan.sizes import show_bytes, show_seconds
from lmrun.plan.speed_text import observed_lines, speed_lines

_KINDS = {
    ModelKind.checkpoint: "checkpoint",
    ModelKind.quantized: "quantized checkpoint",
    ModelKind.config: "config.json of",
    ModelKind.workspace: "engine workspace",
    ModelKind.builtin: "built-in model",
}


def plan_text(plan: Plan) -> str:
    """The text form, lines joined by newlines, without one at the end."""
    parts = [
        _head(plan),
        _stages(plan),
        quality_lines(plan),
        budget_lines(plan),
        speed_lines(plan.speeds, plan.budget.tp),
        observed_lines(plan.observed) if plan.observed else [],
        _launch(plan),
        _refused(plan),
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def _head(plan: Plan) -> list[str]:
    spec = plan.spec
    head = [f"recipe    {plan.recipe}"] if plan.recipe else []
    head += [
        f"model     {plan.served_name}: {_KINDS[plan.model_kind]} {plan.model_path}",
        f"          {spec.architecture}, {spec.num_layers} layers, hidden {spec.hidden_size},"
        f" ffn {spec.intermediate_size}, heads {spec.num_heads}:{spec.num_kv_heads},"
        f" vocabulary {spec.vocab_size}, {plan.weight_dtype},"
        f" {spec.num_parameters():,} parameters",
    ]
    return head + [f"note      {note}" for note in plan.notes]


def _stages(plan: Plan) -> list[str]:
    if not plan.stages:
        return ["stages    none: the workspace is ready to map"]
    lines = ["stages"]
    lines += [_stage(stage) for stage in plan.stages]
    for cost in plan.budget.offline:
        scratch = f", {show_bytes(cost.scratch_bytes)} more while it runs"
        lines.append(
            f"  {cost.stage} needs about {show_bytes(cost.memory_bytes)} of memory"
            f" and {show_bytes(cost.disk_bytes)} of disk{scratch if cost.scratch_bytes else ''}"
        )
    if len(plan.budget.offline) > 1:
        most = max(plan.budget.offline, key=lambda cost: cost.memory_bytes)
        disk = disk_bytes(plan.budget.offline)
        lines.append(
            f"  one after the other: {show_bytes(most.memory_bytes)} of memory ({most.stage}),"
            f" {show_bytes(disk)} of disk together"
        )
    return lines


def _stage(stage: StagePlan) -> str:
    short = stage.fingerprint[:12] if stage.fingerprint else "-"
    why = stage.why
    if stage.seconds is not None:
        time = show_seconds(stage.seconds)
        why += f"; took {time}" if stage.action == "cached" else f"; about {time}"
    return f"  {stage.name:<10}{stage.action.value:<9}{short:<14}{why}"


def _launch(plan: Plan) -> list[str]:
    engine, frontend = plan.engine, plan.frontend
    backend, parallel = plan.config["backend"]["name"], plan.config["parallel"]
    ranks = f", {parallel['tp']} ranks" if parallel["tp"] > 1 else ""
    ranks += f", {parallel['replicas']} replicas" if parallel["replicas"] > 1 else ""
    how = f"isa {engine.isa}, {engine.threads} threads"
    if plan.device.kind != "cpu":
        how = plan.device.name
    lines = [
        "launch",
        f"  engine    {backend}, {how}{ranks}, context {engine.context_length} tokens",
        f"  api       http://{frontend.host}:{frontend.port}/v1",
    ]
    if frontend.ui != "none":
        lines.append(f"  ui        http://{frontend.host}:{frontend.ui_port} ({frontend.ui})")
    return lines


def _refused(plan: Plan) -> list[str]:
    if not plan.refusals:
        return []
    return ["refused to run", *(f"  {reason}" for reason in plan.refusals)]
