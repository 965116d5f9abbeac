"""Settings for a model on a machine: the best quality that fits, for `lmrun new`."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from lmrun.artifacts.store import Store
from lmrun.config.schema import (
    BackendConfig,
    KvConfig,
    ModelConfig,
    QuantConfig,
    QuantMethod,
    RunConfig,
)
from lmrun.errors import PlanError
from lmrun.plan.machine import Machine
from lmrun.plan.plan import Plan
from lmrun.plan.planned_quant import divides
from lmrun.plan.planner import plan_run
from lmrun.plan.source import Source, find_source
from lmrun.quant.layout import GROUP_SIZES

PREFERRED_GROUPS = (128, 64, 32)
"""128 is what most quantized models have; a smaller one is closer to 16 bits, and larger."""
LEAST_SEQUENCES, LEAST_TOKENS = 4, 4096
"""A deployment has room for so many sequences of so many tokens, or of the whole context where
that is shorter."""
LEAST_CONTEXT = 512


@dataclass(frozen=True)
class Chosen:
    """What `choose` found."""

    plan: Plan
    run: RunConfig
    group_size: int | None
    """What divides every linear, used or not; None where nothing does, or the weights are codes
    already."""
    in_4_bits: int | None
    """Bytes of the weights in 4 bits with those groups, where that was not chosen."""
    is_shortened: bool
    """The context is shorter than the model's own, so that it fits."""

    @property
    def can_quantize(self) -> bool:
        """Whether the weights are floats, which lmrun may quantize or leave."""
        return self.plan.model_kind.value in ("checkpoint", "builtin")


def choose(model: ModelConfig, store: Store, machine: Machine | None = None) -> Chosen:
    """The first of the candidates that fits, best quality first; the context is cut last.

    Raises `PlanError` for a model that cannot be served, or with the nearest changes where nothing
    fits. ``machine`` is this one unless given.
    """
    source = find_source(RunConfig(model=model), store.home)
    if source.refusals:
        raise PlanError("\n".join(source.refusals))
    if source.hub is not None:
        model = replace(model, revision=source.hub.commit)
    group_size = _group_size(source)
    own = source.spec.context_length
    refusal: PlanError | None = None
    for run in _candidates(model, source, group_size):
        try:
            plan = plan_run(run, store, machine=machine)
        except PlanError as error:
            refusal = error
            continue
        if _has_room(plan):
            return Chosen(
                plan=plan,
                run=run,
                group_size=group_size,
                in_4_bits=_in_4_bits(run, group_size, store, machine),
                is_shortened=plan.engine.context_length < own,
            )
    raise refusal or PlanError(
        f"{model.path or model.hub_id}: no candidate holds {LEAST_SEQUENCES} sequences of"
        f" {min(own, LEAST_TOKENS)} tokens. Take a smaller model or a larger machine."
    )


def _candidates(model: ModelConfig, source: Source, group_size: int | None) -> Iterator[RunConfig]:
    """Best quality first; all of them at the model's own context, then at half of it, …"""
    floats = QuantConfig()
    pairs = [(floats, bits) for bits in (16, 8)]
    if group_size is not None:
        codes = QuantConfig(method=QuantMethod.awq, group_size=group_size)
        pairs += [(codes, bits) for bits in (16, 8, 4)]
        plain = QuantConfig(method=QuantMethod.rtn, group_size=group_size)
        pairs += [(plain, bits) for bits in (16, 8, 4)]  # where awq's calibration does not fit
    else:
        pairs.append((floats, 4))
    context: int | None = None
    length = source.spec.context_length
    while True:
        for quant, bits in pairs:
            yield RunConfig(
                model=model,
                backend=BackendConfig(context_length=context),
                quant=quant,
                kv=KvConfig(bits=bits),
            )
        length //= 2
        if length < LEAST_CONTEXT:
            return
        context = length


def _group_size(source: Source) -> int | None:
    fitting = (size for size in PREFERRED_GROUPS if divides(source.spec, size))
    is_float = source.kind.value in ("checkpoint", "builtin")
    return next(fitting, None) if is_float else None


def _has_room(plan: Plan) -> bool:
    length = min(plan.engine.context_length, LEAST_TOKENS)
    return plan.budget.sequences_of(length).sequences >= LEAST_SEQUENCES


def _in_4_bits(
    run: RunConfig, group_size: int | None, store: Store, machine: Machine | None
) -> int | None:
    if group_size is None or run.quant.method is not QuantMethod.none:
        return None
    assert group_size in GROUP_SIZES
    quant = QuantConfig(method=QuantMethod.awq, group_size=group_size)
    try:
        return plan_run(replace(run, quant=quant), store, machine=machine).budget.weights_bytes
    except PlanError:
        return None  # what calibration needs does not fit here
