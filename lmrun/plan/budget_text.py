"""The memory budget in lines: what each figure is the product or the sum of."""

from lmrun.plan.costs import ActivationRow, Budget, KvRow, WeightRow
from lmrun.plan.plan import Plan
from lmrun.plan.sizes import show_bytes, things


def budget_lines(plan: Plan) -> list[str]:
    """The block `memory`."""
    budget = plan.budget
    ranks = f", each of {budget.tp} ranks" if budget.tp > 1 else ""
    rows = [
        (budget.total_bytes, budget.device + _count(plan)),
        (-budget.process_bytes, _process(budget)),
        (-budget.weights_bytes, "weights"),
    ]
    lines = [f"memory{ranks}", *(_row(size, what) for size, what in rows)]
    lines += [_weights(row) for row in budget.weights]
    lines.append(
        f"{'':15}{show_bytes(budget.other_weights_bytes)}"
        " rope table, padding, rounding to whole pages"
        if budget.other_weights_bytes
        else f"{'':15}and nothing else"
    )
    lines += [
        _row(-budget.activation_bytes, _activations(budget)),
        *(_buffer(row) for row in budget.activations),
        _row(budget.left_bytes, "left"),
        _row(budget.kv_bytes, f"KV cache: {_blocks(budget)}"),
        f"{'':15}{_token(budget)}",
        f"{'':15}{_limit(plan)}",
        f"{'':15}holds {_sequences(budget)}",
    ]
    return lines


def _row(size: int, what: str) -> str:
    shown = f"-{show_bytes(-size)}" if size < 0 else show_bytes(size)
    return f"  {shown:>11}  {what}"


def _count(plan: Plan) -> str:
    device, parallel = plan.device, plan.config["parallel"]
    ranks = parallel["tp"] * parallel["replicas"]
    if device.kind != "cpu":
        return f", one of {device.count}" if device.count > 1 else ""
    if ranks == device.count == 1:
        return ""
    sockets = f" x {device.count}" if device.count > 1 else ""
    return f": {show_bytes(device.memory_bytes)}{sockets} shared by {ranks} ranks"


def _process(budget: Budget) -> str:
    if budget.process_source == "device.workspace":
        return "engine process and activations: device.workspace"
    return f"engine process ({budget.process_source})"


def _weights(row: WeightRow) -> str:
    bits = f"{row.bits_per_weight:.6g}"
    return (
        f"{'':15}{show_bytes(row.num_bytes):>8} {row.kind}, {row.scheme}:"
        f" {row.parameters:,} x {bits} bits"
    )


def _activations(budget: Budget) -> str:
    in_workspace = budget.process_source == "device.workspace"
    return f"activations{': in device.workspace' if in_workspace else ''}"


def _buffer(row: ActivationRow) -> str:
    return (
        f"{'':15}{show_bytes(row.num_bytes):>8} {row.what}:"
        f" {row.count:,} {row.of} x {row.width:,} x {row.element_bytes} B"
    )


def _blocks(budget: Budget) -> str:
    return (
        f"{budget.num_blocks} blocks of {show_bytes(budget.block_bytes)}"
        f" ({budget.block_size} tokens x {budget.kv_bytes_per_token} B, {_bits(budget)}),"
        f" {budget.num_tokens:,} tokens"
    )


def _bits(budget: Budget) -> str:
    return " and ".join(str(row.bits) for row in budget.kv) + " bits"


def _token(budget: Budget) -> str:
    terms = " + ".join(_layers(row) for row in budget.kv)
    return f"a token: {terms} = {budget.kv_bytes_per_token} B"


def _layers(row: KvRow) -> str:
    vector = f"{row.code_bytes} B"
    if row.param_bytes:
        vector = f"({row.code_bytes} B + {row.param_bytes} B of scale and zero)"
    return f"{things(row.num_layers, 'layer')} x {row.num_kv_heads} KV heads x 2 x {vector}"


def _limit(plan: Plan) -> str:
    budget, engine = plan.budget, plan.engine
    each = budget.needed_blocks // engine.max_num_seqs
    need = (
        f"{things(engine.max_num_seqs, 'sequence')} x {things(each, 'block')}"
        f" ({engine.context_length} tokens) = {budget.needed_blocks}"
    )
    ratio = plan.config["kv"]["memory_ratio"]
    if budget.limited_by == "memory":
        return f"kv.memory={plan.config['kv']['memory']}; full use would be {need}"
    share = f"{ratio:g} x {show_bytes(budget.left_bytes)}"
    if budget.limited_by == "need":
        return f"all that is needed: {need}; kv.memory_ratio allows {share}"
    return f"kv.memory_ratio: {share}; full use would be {need}"


def _sequences(budget: Budget) -> str:
    return ", ".join(
        f"{row.sequences} x {row.length} tokens ({things(row.blocks_each, 'block')})"
        for row in budget.sequences
    )
