"""The table of offline stages: what each one's fingerprint covers. `lmrun/stages` implements it."""

from dataclasses import dataclass

from lmrun.config.schema import RunConfig
from lmrun.quant import combinations


@dataclass(frozen=True)
class StageSpec:
    """A stage as the planner sees it."""

    name: str
    code_version: int
    """Raised by whoever changes the bytes the stage writes for equal inputs."""
    config_keys: tuple[str, ...]
    """Dotted keys of the run config that the stage reads; no other key may change its output. Of
    these, `keys_read` are those that the settings of a run use."""
    inputs: tuple[str, ...]
    """Stages, or external inputs (`checkpoint`, `text`, …), it reads where the recipe needs
    them."""
    computes: bool
    """Does floating-point arithmetic: the numeric class is part of the fingerprint."""
    is_by_engine: bool = False
    """The arithmetic is the engine's: its build stands in the numeric class in place of torch's."""


RESOLVE = StageSpec("resolve", 1, (), ("checkpoint",), computes=False)
"""Digests of an external checkpoint into the digest cache (no artifact), or the files of a
built-in model into an artifact."""

_BATCH = "calibration.batch_size"
_SEQUENCES = ("calibration.samples", "calibration.seq_len", "calibration.seed")

PRUNE = StageSpec(
    "prune",
    2,
    ("prune.method", "prune.sparsity", "prune.pattern", *_SEQUENCES, _BATCH),
    ("resolve", "text", "calibration_template"),
    computes=True,
)
"""A float folder in which weights are zero. Magnitude pruning reads no text."""
CALIBRATE = StageSpec(
    "calibrate",
    3,
    (*_SEQUENCES, _BATCH, "calibration.statistics_samples"),
    ("resolve", "prune", "text", "calibration_template"),
    computes=True,
)
QUANTIZE = StageSpec(
    "quantize",
    5,
    (
        *("quant.method", "quant.bits", "quant.group_size", "quant.symmetric"),
        *("quant.activation_bits", "quant.range", "quant.act_order", "quant.damping"),
        *("quant.alpha", "quant.rotate", "quant.preset", "quant.skip", "quant.format"),
        _BATCH,
    ),
    ("resolve", "prune", "calibrate"),
    computes=True,
)
CONVERT = StageSpec(
    "convert",
    2,
    ("backend.rope_scaling", "parallel.tp"),
    ("resolve", "prune", "quantize"),
    computes=False,
)

BASELINE = StageSpec(
    "baseline",
    0 + CONVERT.code_version,
    ("evaluate.window", "evaluate.max_tokens", "evaluate.kl_tokens", "backend.rope_scaling"),
    ("resolve", "reference", "evaluation_text"),
    computes=True,
    is_by_engine=True,
)
"""The scores of the unquantized model, or of `evaluate.baseline`, with a 16-bit KV cache. Its
workspace is that of a deployment with quant.method=none, so the version of its code is the sum of
its own, which begins at 0, and that of convert."""
EVALUATE = StageSpec(
    "evaluate",
    1,
    (
        *("evaluate.window", "evaluate.max_tokens", "evaluate.kl_tokens", "evaluate.task_limit"),
        *("kv.bits", "kv.keep", "kv.keep_bits", "kv.keep_layers"),
        *("backend.activation_bits", "backend.context_length"),
    ),
    (
        *("calibrate", "convert", "workspace", "baseline"),
        *("evaluation_text", "tasks", "tools", "template"),
    ),
    computes=True,
    is_by_engine=True,
)
"""The quality of the deployment's workspace. Bounds are not in it: the same figures are held
against any. `calibrate` is read where `kv.keep` chooses layers by it."""

STAGES: tuple[StageSpec, ...] = (
    *(RESOLVE, PRUNE, CALIBRATE, QUANTIZE, CONVERT),
    *(BASELINE, EVALUATE),
)
"""In the order they run."""
JUDGING: tuple[str, ...] = (BASELINE.name, EVALUATE.name)
"""Stages without which a workspace is complete."""
BY_NAME: dict[str, StageSpec] = {stage.name: stage for stage in STAGES}
_CONDITIONAL = ("quant", "prune", "kv")
"""Groups of which a method reads some keys."""
TEXT_INPUTS = ("text", "calibration_template")


def keys_read(stage: StageSpec, run: RunConfig) -> tuple[str, ...]:
    """The declared keys that these settings use: `quant.damping` for gptq alone, for example."""
    used = combinations.reads(run)
    return tuple(
        key
        for key in stage.config_keys
        if not (key.partition(".")[0] in _CONDITIONAL and key not in used)
        and (not key.startswith("calibration.") or looks_at_text(stage, run))
    )


def looks_at_text(stage: StageSpec, run: RunConfig) -> bool:
    """Whether a stage that may run the model over the calibration text does so."""
    if stage is PRUNE:
        return combinations.prunes_by_text(run)
    return stage is not QUANTIZE or run.quant.method not in combinations.WITHOUT_TEXT


def reads_input(stage: StageSpec, name: str, run: RunConfig) -> bool:
    """Whether these settings use a declared input."""
    if (stage is PRUNE and name in TEXT_INPUTS) or (stage is QUANTIZE and name == CALIBRATE.name):
        return looks_at_text(stage, run)
    return not (stage is EVALUATE and name == CALIBRATE.name) or run.kv.keep > 0
