"""The plan for people: every sum can be redone by the reader."""

from lmrun.plan.plan import ModelKind, Plan, StagePlan
from lmrun.plan.sizes import show_bytes

_KINDS = {
    ModelKind.checkpoint: "checkpoint",
    ModelKind.quantized: "quantized checkpoint",
    ModelKind.workspace: "engine workspace",
    ModelKind.builtin: "built-in model",
}


def plan_text(plan: Plan) -> str:
    """The text form, lines joined by newlines, without one at the end."""
    spec = plan.spec
    head = [f"recipe    {plan.recipe}"] if plan.recipe else []
    head += [
        f"model     {plan.served_name}: {_KINDS[plan.model_kind]} {plan.model_path}",
        f"          {spec.architecture}, {spec.num_layers} layers, hidden {spec.hidden_size},"
        f" ffn {spec.intermediate_size}, heads {spec.num_heads}:{spec.num_kv_heads},"
        f" vocabulary {spec.vocab_size}, {plan.weight_dtype}",
    ]
    head += [f"note      {note}" for note in plan.notes]
    return "\n".join([*head, "", *_stages(plan), "", *_budget(plan), "", *_launch(plan)])


def _stages(plan: Plan) -> list[str]:
    if not plan.stages:
        return ["stages    none: the workspace is ready to map"]
    lines = ["stages"]
    lines += [_stage(stage) for stage in plan.stages]
    for cost in plan.budget.offline:
        lines.append(
            f"  {cost.stage} needs about {show_bytes(cost.memory_bytes)} of memory"
            f" and {show_bytes(cost.disk_bytes)} of disk"
        )
    return lines


def _stage(stage: StagePlan) -> str:
    short = stage.fingerprint[:12] if stage.fingerprint else "-"
    return f"  {stage.name:<10}{stage.action.value:<9}{short:<14}{stage.why}"


def _budget(plan: Plan) -> list[str]:
    budget, engine = plan.budget, plan.engine
    rows = [
        (budget.total_bytes, budget.device),
        (-budget.process_bytes, "engine process"),
        (-budget.weights_bytes, "weights"),
        (
            -budget.activation_bytes,
            f"activations: steps of {engine.max_batch_tokens} tokens,"
            f" logits of {engine.max_num_seqs} sequences",
        ),
        (budget.left_bytes, "left"),
    ]
    lines = ["memory"]
    lines += [f"  {_signed(size):>11}  {what}" for size, what in rows]
    lines += [
        f"  {show_bytes(budget.kv_bytes):>11}  KV cache: {budget.num_blocks} blocks of"
        f" {show_bytes(budget.block_bytes)} ({engine.block_size} tokens x"
        f" {budget.kv_bytes_per_token} B, {engine.kv_bits} bits)",
        f"  {'':>11}  {_limit(plan)}",
    ]
    return lines


def _limit(plan: Plan) -> str:
    budget, engine = plan.budget, plan.engine
    each = budget.needed_blocks // engine.max_num_seqs
    need = (
        f"{engine.max_num_seqs} sequences x {each} blocks ({engine.context_length} tokens)"
        f" = {budget.needed_blocks}"
    )
    ratio = plan.config["kv"]["memory_ratio"]
    if budget.limited_by == "memory":
        return f"kv.memory={plan.config['kv']['memory']}; full use would be {need}"
    share = f"{ratio:g} x {show_bytes(budget.left_bytes)}"
    if budget.limited_by == "need":
        return f"all that is needed: {need}; kv.memory_ratio allows {share}"
    return f"kv.memory_ratio: {share}; full use would be {need}"


def _signed(size: int) -> str:
    return f"-{show_bytes(-size)}" if size < 0 else show_bytes(size)


def _launch(plan: Plan) -> list[str]:
    engine, frontend = plan.engine, plan.frontend
    lines = [
        "launch",
        f"  engine    native, isa {engine.isa}, {engine.threads} threads, context"
        f" {engine.context_length} tokens",
        f"  api       http://{frontend.host}:{frontend.port}/v1",
    ]
    if frontend.ui != "none":
        lines.append(f"  ui        http://{frontend.host}:{frontend.ui_port} ({frontend.ui})")
    return lines
