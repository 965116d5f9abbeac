"""The table of offline stages: what each one's fingerprint covers. `lmrun/stages` implements it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class StageSpec:
    """A stage as the planner sees it."""

    name: str
    code_version: int
    """Raised by whoever changes the bytes the stage writes for equal inputs."""
    config_keys: tuple[str, ...]
    """Dotted keys of the run config that the stage reads; no other key may change its output."""
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

CALIBRATE = StageSpec(
    "calibrate",
    3,
    (
        *("calibration.samples", "calibration.seq_len", "calibration.seed"),
        "calibration.statistics_samples",
    ),
    ("resolve", "text"),
    computes=True,
)
QUANTIZE = StageSpec(
    "quantize",
    2,
    ("quant.method", "quant.bits", "quant.group_size", "quant.symmetric", "quant.skip"),
    ("resolve", "calibrate"),
    computes=True,
)
CONVERT = StageSpec(
    "convert",
    1,
    ("backend.rope_scaling", "parallel.tp"),
    ("resolve", "quantize"),
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
        *("kv.bits", "backend.activation_bits", "backend.context_length"),
    ),
    ("convert", "workspace", "baseline", "evaluation_text", "tasks", "tools", "template"),
    computes=True,
    is_by_engine=True,
)
"""The quality of the deployment's workspace. Bounds are not in it: the same figures are held
against any."""

STAGES: tuple[StageSpec, ...] = (RESOLVE, CALIBRATE, QUANTIZE, CONVERT, BASELINE, EVALUATE)
"""In the order they run."""
JUDGING: tuple[str, ...] = (BASELINE.name, EVALUATE.name)
"""Stages without which a workspace is complete."""
BY_NAME: dict[str, StageSpec] = {stage.name: stage for stage in STAGES}
