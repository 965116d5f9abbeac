"""What the offline stages need: an estimate of peak memory, and the disk their artifacts take."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lmrun.artifacts.files import free_bytes
from lmrun.config.schema import QuantMethod, RunConfig
from lmrun.errors import PlanError
from lmrun.models.spec import ModelSpec
from lmrun.plan.compute_device import Gpu
from lmrun.plan.costs import OfflineCost
from lmrun.plan.sizes import parse_bytes, show_bytes
from lmrun.plan.stage_specs import BY_NAME, CALIBRATE, PRUNE, QUANTIZE, looks_at_text
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
LAYERS = 3
"""Of float32 weights that a stage holds at most, second moments included."""
LEARNED_BYTES = {4: 13, 8: 15}
"""Of one weight while rounding is learned, by bits: its place (2 or 4), the means of its gradient
and of the square (4), its rounded value (4; 2 where that is bfloat16), its code, and the share of
second moments (2)."""
BATCH_TOKENS = 2048
"""Of a forward pass, where `calibration.batch_size` does not say."""
AUTO_SHARE = 4
"""`quant.activation_memory=auto` is the memory of what computes over this."""
GPU_PROCESS_BYTES = 2 << 30
"""Host memory of torch with a CUDA context."""
TWO_PATHS = (QuantMethod.autoround, QuantMethod.best)
"""Methods that keep the hidden states of the float model beside those of the quantized one."""
STATISTICS = 3
"""Vectors that calibrate stores for a linear's input: mean, maximum, sum of squares."""


_LESS_CALIBRATION = "Lower quant.activation_memory, or use quant.method=rtn."
_ADVICE = {
    "baseline": "Name a smaller model with the same tokenizer by evaluate.baseline.",
    "evaluate": "Lower evaluate.window.",
}


@dataclass(frozen=True)
class Host:
    """What the offline stages run on."""

    threads: int
    """Batches that may be in work at once."""
    memory_bytes: int
    gpu: Gpu | None = None
    """Where calibrate, prune and quantize compute, if not on the CPU."""


def stage_cost(
    name: str,
    run: RunConfig,
    spec: ModelSpec,
    weight_dtype: str,
    quant: WeightQuant,
    host: Host,
) -> OfflineCost:
    """Peak memory (estimated) and disk of one stage.

    calibrate, prune and quantize hold `LAYERS` layers in fp32 at most (`LEARNED_BYTES` a weight
    where rounding is learned), and hidden states and batches up to `quant.activation_memory`; on a
    GPU that is memory of the GPU.
    """
    layer = sum(linear.in_features * linear.out_features for linear in spec.layer(0))
    embedding = spec.vocab_size * spec.hidden_size
    float_disk = spec.num_parameters() * DTYPE_BYTES[weight_dtype]
    if name == "resolve":
        memory, disk, scratch = F32_BYTES * embedding * 2, float_disk, 0
    elif name == "convert":
        memory, scratch = F32_BYTES * 3 * max(layer, embedding), 0
        disk = file_bytes(spec, weight_dtype, quant)
    else:
        text = _text_cost(name, run, spec, host)
        is_learned = name == QUANTIZE.name and run.quant.method in TWO_PATHS
        of_weight = LEARNED_BYTES[run.quant.bits] if is_learned else LAYERS * F32_BYTES
        computing = of_weight * layer + text.in_memory
        if host.gpu is not None:
            _check_gpu(name, computing, host.gpu)
            computing = GPU_PROCESS_BYTES + F32_BYTES * layer
        memory = max(computing, 2 * F32_BYTES * embedding)
        disk = _artifact_bytes(name, run, spec, float_disk, quant, weight_dtype)
        scratch = text.on_disk
    return OfflineCost(name, TORCH_PROCESS_BYTES + memory, disk, scratch)


@dataclass(frozen=True)
class _TextCost:
    """Hidden states of the calibration text, and the batches in work."""

    in_memory: int
    on_disk: int
    """While the stage runs: a layer's inputs, and those of the next."""


def _text_cost(name: str, run: RunConfig, spec: ModelSpec, host: Host) -> _TextCost:
    calibration = run.calibration
    samples = calibration.samples
    if name == CALIBRATE.name:
        samples = min(samples, calibration.statistics_samples)
    elif not looks_at_text(BY_NAME[name], run):
        samples = 0
    copies = 2 if name == QUANTIZE.name and run.quant.method in TWO_PATHS else 1
    hidden = F32_BYTES * samples * calibration.seq_len * spec.hidden_size * copies
    batch = min(samples, calibration.batch_size or max(1, BATCH_TOKENS // calibration.seq_len))
    features = 9 * spec.hidden_size + 7 * spec.num_heads * spec.head_dim
    features += 3 * spec.intermediate_size
    work = F32_BYTES * features * calibration.seq_len * batch * host.threads
    return _TextCost(min(hidden + work, activation_memory(run, host)), 2 * hidden)


def activation_memory(run: RunConfig, host: Host) -> int:
    """`quant.activation_memory` in bytes; `auto` is a quarter of what computes has."""
    if run.quant.activation_memory != "auto":
        return parse_bytes(run.quant.activation_memory, "quant.activation_memory")
    return (host.gpu.memory_bytes if host.gpu else host.memory_bytes) // AUTO_SHARE


def _artifact_bytes(
    name: str,
    run: RunConfig,
    spec: ModelSpec,
    float_disk: int,
    quant: WeightQuant,
    weight_dtype: str,
) -> int:
    if name == PRUNE.name:
        return float_disk
    if name == QUANTIZE.name:
        return workspace_bytes(spec, weight_dtype, quant)
    inputs = sum(linear.in_features for linear in spec.layer(0)) * spec.num_layers
    tokens = run.calibration.samples * run.calibration.seq_len
    return F32_BYTES * (tokens + STATISTICS * inputs)


def _check_gpu(name: str, num_bytes: int, gpu: Gpu) -> None:
    if num_bytes > gpu.memory_bytes:
        raise PlanError(
            f"plan: {name} needs about {show_bytes(num_bytes)} of GPU memory, {gpu.name} has"
            f" {show_bytes(gpu.memory_bytes)}. Lower quant.activation_memory, or use"
            " quant.device=cpu."
        )


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
    disk = disk_bytes(costs)
    free = free_bytes(home)
    if disk > free:
        raise PlanError(
            f"plan: the stages write {show_bytes(disk)} below {home}, {show_bytes(free)} are free."
            " Free some, or name another folder by LMRUN_HOME."
        )


def disk_bytes(costs: Sequence[OfflineCost]) -> int:
    """Of stages that run one after the other: every artifact, and the scratch of the largest."""
    return sum(cost.disk_bytes for cost in costs) + max(
        (cost.scratch_bytes for cost in costs), default=0
    )


def check_download(num_bytes: int, folder: Path) -> None:
    """Refuse a download that the disk of the hub's cache, where ``folder`` is, cannot hold."""
    free = free_bytes(folder)
    if num_bytes > free:
        raise PlanError(
            f"plan: the model is {show_bytes(num_bytes)} to download into {folder},"
            f" {show_bytes(free)} are free. Free some, or name another cache by HF_HOME."
        )
