"""What the offline stages need: an estimate of peak memory, and the disk their artifacts take."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lmrun.artifacts.files import free_bytes
from lmrun.config.schema import RunConfig
from lmrun.errors import PlanError
from lmrun.models.spec import ModelSpec
from lmrun.plan.costs import OfflineCost
from lmrun.plan.sizes import show_bytes
from lmrun.quant.layout import DTYPE_BYTES, WeightQuant, file_bytes, workspace_bytes

TORCH_PROCESS_BYTES = 512 << 20
ENGINE_PROCESS_BYTES = 256 << 20
"""Interpreter, NumPy, tokenizer and text of a stage that runs the engine."""
ROWS_IN_FLIGHT_BYTES = 256 << 20
"""Rows of log-probabilities that the engine holds at most, where that is more than one window's."""
REDUCED_COPIES = 4
"""Of one window's rows, while they are compared in double precision."""
ROW_BYTES = 2
"""Of a log-probability in the baseline's rows."""
REPORT_BYTES = 64 << 10
F32_BYTES = 4
STATISTICS = 3
"""Vectors that calibrate stores for a linear's input: mean, maximum, sum of squares."""


_LESS_CALIBRATION = "Lower calibration.samples or calibration.seq_len, or use quant.method=rtn."
_ADVICE = {
    "baseline": "Name a smaller model with the same tokenizer by evaluate.baseline.",
    "evaluate": "Lower evaluate.window.",
}


def stage_cost(
    name: str,
    run: RunConfig,
    spec: ModelSpec,
    weight_dtype: str,
    quant: WeightQuant,
    threads: int,
) -> OfflineCost:
    """Peak memory (estimated) and disk of one stage.

    Layers are streamed one at a time, in fp32; ``threads`` batches are in flight at once.
    """
    hidden, ffn = spec.hidden_size, spec.intermediate_size
    layer = sum(linear.in_features * linear.out_features for linear in spec.layer(0))
    embedding = spec.vocab_size * hidden
    tokens = run.calibration.samples * run.calibration.seq_len
    batch = min(run.calibration.batch_size, run.calibration.samples) * run.calibration.seq_len
    attention = spec.num_heads * batch * run.calibration.seq_len
    forward = 2 * tokens * hidden + threads * (batch * (4 * hidden + 3 * ffn) + attention)
    widths = (hidden, spec.num_heads * spec.head_dim, hidden, ffn)
    moments = (1 + threads) * sum(width * width for width in widths)
    float_disk = spec.num_parameters() * DTYPE_BYTES[weight_dtype]
    packed = workspace_bytes(spec, weight_dtype, quant)
    if name == "resolve":
        memory, disk = embedding * F32_BYTES * 2, float_disk
    elif name == "calibrate":
        memory = F32_BYTES * (layer + embedding + forward)
        inputs = sum(linear.in_features for linear in spec.layer(0)) * spec.num_layers
        disk = F32_BYTES * (tokens + STATISTICS * inputs)
    elif name == "quantize":
        looked_at = 0 if quant.method == "rtn" else embedding + forward + moments
        memory, disk = F32_BYTES * (3 * layer + looked_at), packed
    else:
        memory = F32_BYTES * 3 * max(layer, embedding)
        disk = file_bytes(spec, weight_dtype, quant)
    return OfflineCost(name, TORCH_PROCESS_BYTES + memory, disk)


@dataclass(frozen=True)
class Scored:
    """A workspace that the engine scores a text with."""

    spec: ModelSpec
    weight_dtype: str
    quant: WeightQuant
    has_workspace: bool
    """It is in the store, or another stage makes it."""


def baseline_cost(run: RunConfig, model: Scored) -> OfflineCost:
    """Of `baseline`: the unquantized workspace where it is not there yet, and the rows."""
    rows = run.evaluate.kl_tokens * model.spec.vocab_size * ROW_BYTES
    weights = file_bytes(model.spec, model.weight_dtype, model.quant)
    disk = rows + run.evaluate.max_tokens * F32_BYTES + (0 if model.has_workspace else weights)
    return OfflineCost("baseline", weights + _scoring_bytes(run, model.spec, 16), disk)


def evaluate_cost(run: RunConfig, model: Scored) -> OfflineCost:
    """Of `evaluate`, which maps the workspace that will serve and writes a report."""
    weights = file_bytes(model.spec, model.weight_dtype, model.quant)
    memory = weights + _scoring_bytes(run, model.spec, run.kv.bits)
    return OfflineCost("evaluate", memory, REPORT_BYTES)


def _scoring_bytes(run: RunConfig, spec: ModelSpec, kv_bits: int) -> int:
    """Memory beside the weights: the process, the KV of a batch of windows, and their rows."""
    window = run.evaluate.window
    one = window * spec.vocab_size * F32_BYTES if run.evaluate.kl_tokens else 0
    in_flight = max(one, min(ROWS_IN_FLIGHT_BYTES, run.backend.max_num_seqs * one))
    rows = in_flight + REDUCED_COPIES * one
    elements = 2 * spec.num_layers * spec.num_kv_heads * spec.head_dim
    kv = run.backend.max_num_seqs * window * elements * kv_bits // 8
    return ENGINE_PROCESS_BYTES + rows + kv


def check_fits(costs: Sequence[OfflineCost], memory_bytes: int, home: Path) -> None:
    """Refuse stages that the machine's memory or the store's disk cannot hold."""
    for cost in costs:
        if cost.memory_bytes > memory_bytes:
            raise PlanError(
                f"plan: {cost.stage} needs about {show_bytes(cost.memory_bytes)} of memory, device"
                f" has {show_bytes(memory_bytes)}. {_ADVICE.get(cost.stage, _LESS_CALIBRATION)}"
            )
    disk = sum(cost.disk_bytes for cost in costs)
    free = free_bytes(home)
    if disk > free:
        raise PlanError(
            f"plan: the stages write {show_bytes(disk)} below {home}, {show_bytes(free)} are free."
            " Free some, or name another folder by LMRUN_HOME."
        )


def check_download(num_bytes: int, folder: Path) -> None:
    """Refuse a download that the disk of the hub's cache, where ``folder`` is, cannot hold."""
    free = free_bytes(folder)
    if num_bytes > free:
        raise PlanError(
            f"plan: the model is {show_bytes(num_bytes)} to download into {folder},"
            f" {show_bytes(free)} are free. Free some, or name another cache by HF_HOME."
        )
