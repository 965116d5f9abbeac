"""Settings of the command line that this deployment has no use for: said, not ignored."""

from collections.abc import Iterator
from dataclasses import fields

from lmrun.config import Composed
from lmrun.config.composed import COMMAND_LINE
from lmrun.config.schema import (
    BenchConfig,
    EvaluateConfig,
    QuantConfig,
    QuantMethod,
    RunConfig,
)
from lmrun.plan import gate
from lmrun.plan.plan import ModelKind, Plan
from lmrun.plan.stage_specs import CALIBRATE, PRUNE, QUANTIZE
from lmrun.quant.combinations import EVERYWHERE, READ, SCHEME

_NOTHING = "nothing is evaluated"
_OF_TEXT = ("window", "max_tokens", "kl_tokens", "baseline")


def unread(composed: Composed, plan: Plan) -> tuple[str, ...]:
    """A remark for each key of the command line that nothing reads, in the order of the schema.

    Recipes and options are left out: they serve several models, and overrides change what is used.
    """
    given = {key for key, origin in composed.origins.items() if origin.source == COMMAND_LINE}
    return tuple(
        f"{key}: not used, {reason}"
        for prefix, reason in _idle(composed, plan)
        for key in composed.origins
        if key in given and key.startswith(prefix)
    )


def _idle(composed: Composed, plan: Plan) -> Iterator[tuple[str, str]]:
    """Key, or group with its dot, that nothing reads, and why."""
    run = composed.run
    if plan.model_kind in (ModelKind.checkpoint, ModelKind.builtin, ModelKind.config):
        yield from _of_stages(run, plan)
    if run.model.hub_id is None:
        yield "model.hub_offline", "the model is a folder here"
    coded = any(row.scheme.startswith("u") for row in plan.budget.weights)
    if not coded and run.kv.bits >= 16:
        reason = "neither weights nor K and V are codes, whose inputs it rounds"
        yield "backend.activation_bits", reason
    if run.kv.memory != "auto":
        yield "kv.memory_ratio", f"kv.memory={run.kv.memory} is the size"
    if plan.device.is_this_machine:
        yield "device.source", "this machine is looked at, not described"
    if plan.device.kind != "cpu":
        reason = f"{plan.device.name} is no CPU"
        yield from ((key, reason) for key in ("device.cores", "backend.isa", "backend.threads"))
    if run.frontend.ui == "none":
        yield "frontend.ui_port", "there is no page (frontend.ui=none)"
    yield from ((f"evaluate.{leaf}", reason) for leaf, reason in _of_evaluation(run.evaluate))
    yield from ((f"bench.{leaf}", reason) for leaf, reason in _of_bench(run.bench))


def _of_stages(run: RunConfig, plan: Plan) -> Iterator[tuple[str, str]]:
    if run.quant.method is QuantMethod.none:
        for leaf in SCHEME:
            yield f"quant.{leaf}", "the weights are not quantized (quant.method=none)"
    else:
        for leaf in (field.name for field in fields(QuantConfig)):
            if leaf not in (*EVERYWHERE, *READ[run.quant.method]):
                yield f"quant.{leaf}", f"quant.method={run.quant.method.value} does not read it"
    names = [stage.name for stage in plan.stages]
    if not {PRUNE.name, CALIBRATE.name, QUANTIZE.name} & set(names):
        for leaf in ("device", "activation_memory"):
            yield f"quant.{leaf}", "nothing is pruned, calibrated or quantized"
    if not any("text" in stage.inputs for stage in plan.stages):
        yield "calibration.", f"quant.method={run.quant.method.value} needs no calibration"
    elif CALIBRATE.name not in names:
        yield "calibration.statistics_samples", "pruning alone looks at the text"
    elif run.calibration.statistics_samples > run.calibration.samples:
        reason = f"calibration.samples={run.calibration.samples} is fewer"
        yield "calibration.statistics_samples", reason


def _of_evaluation(evaluate: EvaluateConfig) -> Iterator[tuple[str, str]]:
    if not gate.is_asked(evaluate):
        for leaf in _OF_TEXT[:-1]:
            yield leaf, _NOTHING
        yield "task_limit", _NOTHING
        yield "baseline", _NOTHING
        yield "tolerance", _NOTHING
        return
    if evaluate.data is None:
        yield from ((leaf, "no text is evaluated (evaluate.data=null)") for leaf in _OF_TEXT)
    if evaluate.tools is None and not evaluate.tasks:
        yield "task_limit", "no items are evaluated (evaluate.tasks, evaluate.tools)"


def _of_bench(bench: BenchConfig) -> Iterator[tuple[str, str]]:
    if bench.trace is None:
        reason = "no arrivals are replayed (bench.trace=null)"
        yield from ((leaf, reason) for leaf in ("trace_speedup", "max_ttft_ms", "max_itl_ms"))
    else:
        reason = "bench.trace has the load"
        yield from ((leaf, reason) for leaf in ("prompt_tokens", "output_tokens", "concurrency"))
