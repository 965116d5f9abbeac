"""Run config + model + machine + store → `Plan`. Reads, and writes nothing."""

import dataclasses
from pathlib import Path

import msgspec

from lmrun.artifacts.measurements import Ceilings, find_observation, load_ceilings, observation_key
from lmrun.artifacts.store import Store
from lmrun.config import Composed, RunConfig
from lmrun.config.located import located, with_origin
from lmrun.config.not_built import not_built
from lmrun.config.schema import FrontendConfig, IsaName
from lmrun.errors import PlanError
from lmrun.plan import calibration_data, fitting, gate, kv_layers, offline, quality
from lmrun.plan.alternatives import alternatives
from lmrun.plan.budget import demand, make_budget, rank_memory, reserve
from lmrun.plan.costs import Budget, Device, OfflineCost
from lmrun.plan.described import planned_machine
from lmrun.plan.engine_settings import EngineSettings
from lmrun.plan.evaluation import baseline_quant, find_evaluation
from lmrun.plan.evaluation import notes as evaluation_notes
from lmrun.plan.machine import Machine
from lmrun.plan.observing import beside
from lmrun.plan.parallel import check_ranks
from lmrun.plan.plan import Action, FrontendSettings, ModelKind, Plan, StagePlan
from lmrun.plan.planned_quant import check_settings
from lmrun.plan.roofline import Workload, speeds
from lmrun.plan.source import Source, find_source
from lmrun.plan.speed import Observed, Speeds
from lmrun.plan.stage_plans import Stages
from lmrun.plan.stage_specs import BASELINE, CONVERT, EVALUATE
from lmrun.plan.unread import unread
from lmrun.plan.weights import Storage, weigh

NOT_ESTIMATED = "not estimated: this machine runs nothing like it yet"


def make_plan(
    composed: Composed,
    store: Store,
    machine: Machine | None = None,
    commit: str | None = None,
) -> Plan:
    """The plan of a composed run config; raises `PlanError` for what cannot work here.

    ``machine`` is this one unless given; ``commit`` holds a model of the hub to that of an earlier
    plan (`find_source`). The digest cache is read from the store's home.
    """
    recipe = composed.recipe.name if composed.recipe else None
    with located(composed):
        plan = plan_run(composed.run, store, recipe, machine, commit)
    return dataclasses.replace(
        plan,
        notes=plan.notes + unread(composed, plan),
        refusals=tuple(with_origin(text, composed) for text in plan.refusals),
    )


def plan_run(
    run: RunConfig,
    store: Store,
    recipe: str | None = None,
    machine: Machine | None = None,
    commit: str | None = None,
) -> Plan:
    """`make_plan` for a run config of any origin: `Plan.config` read back, for example."""
    check_settings(run)
    machine = planned_machine(run.device, machine)
    source = find_source(run, store.home, commit)
    check_ranks(source.spec, source.quant, run.parallel.tp)
    context_length = _context_length(run, source)
    unbuilt = not_built(run)
    refusals = (*unbuilt, *source.refusals, *_not_here(machine), *_missing_isa(run, machine))
    ceilings = load_ceilings(store.home, machine.identity) if machine.is_here else None
    evaluation = find_evaluation(run, source)
    stages = Stages(run, source, machine, store, evaluation)
    costs = _offline_costs(run, source, stages, machine)
    stage_plans = stages.with_seconds({cost.stage: cost.disk_bytes for cost in costs})
    budget = _budget(run, source, machine, context_length, ceilings, costs)
    if machine.is_here:
        offline.check_fits(costs, machine.memory_bytes, store.home)
        if source.hub is not None:
            offline.check_download(source.hub.download_bytes, Path(source.path))
    workspace = _workspace(source, stage_plans, store)
    kept = kv_layers.kept_layers(run.kv, kv_layers.calibration_folder(stage_plans, store))
    kv_bits = kv_layers.layer_bits(run.kv, kept or (), source.spec.num_layers)
    engine = _engine_settings(run, machine, budget, context_length, workspace, kv_bits)
    device = _device(machine)
    work = Workload(source.spec, budget, engine)
    is_seen = machine.is_here and workspace is not None
    judged = next((stage for stage in stage_plans if stage.name == EVALUATE.name), None)
    reads_text = any("text" in stage.inputs for stage in stage_plans)
    report = None if judged is None else quality.of_stage(judged, store)
    return Plan(
        model_kind=source.kind,
        model_path=source.path,
        checkpoint=stages.checkpoint,
        spec=source.spec,
        weight_dtype=source.weight_dtype,
        stages=stage_plans,
        unhashed=stages.unhashed,
        calibration_text=stages.text,
        calibration_dataset=stages.dataset,
        workspace=workspace,
        device=device,
        budget=budget,
        speeds=Speeds(NOT_ESTIMATED, ())
        if unbuilt and machine.is_here
        else speeds(work, device, ceilings),
        observed=_observed(work, machine, ceilings, store.home) if is_seen else None,
        engine=engine,
        served_name=run.model.served_name or source.served_name,
        chat_template=run.model.chat_template,
        frontend=_frontend(run.frontend),
        recipe=recipe,
        notes=(
            *source.notes,
            *(calibration_data.note(run, source.spec.context_length) if reads_text else ()),
            *kv_layers.note(run.kv, kept),
            *evaluation_notes(evaluation, source),
        ),
        config=msgspec.to_builtins(run),
        refusals=refusals,
        evaluated=None if evaluation is None else evaluation.reads,
        quality=report,
        gates=gate.check(report, run.evaluate),
        hub=source.hub,
    )


def _engine_settings(
    run: RunConfig,
    machine: Machine,
    budget: Budget,
    context_length: int,
    workspace: Path | None,
    kv_bits: int | tuple[int, ...],
) -> EngineSettings:
    backend = run.backend
    return EngineSettings(
        workspace=str(workspace or ""),
        isa=backend.isa.value,
        threads=backend.threads or machine.cores,
        num_blocks=budget.num_blocks,
        block_size=run.kv.block_size,
        kv_bits=kv_bits,
        activation_bits=backend.activation_bits,
        max_num_seqs=backend.max_num_seqs,
        max_batch_tokens=backend.max_batch_tokens,
        context_length=context_length,
        prefix_caching=run.kv.prefix_caching,
        weight_memory=run.backend.weight_memory.value,
    )


def _frontend(frontend: FrontendConfig) -> FrontendSettings:
    return FrontendSettings(
        host=frontend.host,
        port=frontend.port,
        ui=frontend.ui.value,
        ui_port=frontend.ui_port,
        drain_s=frontend.drain_s,
    )


def _observed(
    work: Workload, machine: Machine, ceilings: Ceilings | None, home: Path
) -> Observed | None:
    """What runs with the same engine settings showed, beside today's estimates."""
    key = observation_key(home, dataclasses.asdict(work.engine), machine.identity)
    seen = find_observation(home, key)
    return beside(work, ceilings, seen) if seen else None


def _offline_costs(
    run: RunConfig, source: Source, stages: Stages, machine: Machine
) -> tuple[OfflineCost, ...]:
    """Of the stages that may run and write an artifact."""
    return tuple(
        _offline_cost(stage.name, run, source, stages, machine)
        for stage in stages.plans
        if stage.action is not Action.cached
        and not (stage.name == "resolve" and source.kind is not ModelKind.builtin)
    )


def _offline_cost(
    name: str, run: RunConfig, source: Source, stages: Stages, machine: Machine
) -> OfflineCost:
    evaluation = stages.evaluation
    if name == BASELINE.name and evaluation is not None:
        reference = evaluation.reference
        model = offline.Scored(
            spec=reference.spec if reference else source.spec,
            weight_dtype=reference.weight_dtype if reference else source.spec.dtype,
            quant=baseline_quant(evaluation),
            has_workspace=stages.has_baseline_workspace,
        )
        return offline.baseline_cost(run, model)
    if name == EVALUATE.name:
        model = offline.Scored(source.spec, source.weight_dtype, source.quant, has_workspace=True)
        return offline.evaluate_cost(run, model)
    host = offline.Host(machine.cores, machine.memory_bytes, stages.gpu)
    return offline.stage_cost(name, run, source.spec, source.weight_dtype, source.quant, host)


def _budget(
    run: RunConfig,
    source: Source,
    machine: Machine,
    context_length: int,
    ceilings: Ceilings | None,
    costs: tuple[OfflineCost, ...],
) -> Budget:
    """The division of a rank's memory; `PlanError` with what would fit where it does not."""
    storage = Storage(source.weight_dtype, source.quant, run.parallel.tp, machine.kind)
    weights = weigh(source.spec, storage, source.stored_bytes)
    reserved = reserve(run, ceilings.process_bytes if ceilings else None)
    wanted = demand(run, source.spec, context_length, weights, reserved)
    total = rank_memory(run, machine)
    if not wanted.fits(total):
        others = alternatives(wanted, storage, machine, run, can_quantize=source.can_be_quantized)
        fitting.check_fits(wanted, total, others)
    fitting.check_fits(wanted, total)
    where = f"{machine.kind}, {machine.memory_source}"
    if not machine.is_here:
        where = f"{machine.name}: {machine.kind}, as described"
    return make_budget(wanted, total, where, costs)


def _workspace(source: Source, stages: tuple[StagePlan, ...], store: Store) -> Path | None:
    if source.kind is ModelKind.workspace:
        return Path(source.path)
    convert = next((stage for stage in stages if stage.name == CONVERT.name), None)
    if convert is None or convert.fingerprint is None:
        return None
    return store.folder(CONVERT.name, convert.fingerprint)


def _not_here(machine: Machine) -> tuple[str, ...]:
    if machine.is_here:
        return ()
    return (
        f"device={machine.name}: is described, not this machine: plans can be made for it here,"
        " and nothing is run. Use device=auto, or run lmrun there.",
    )


def _missing_isa(run: RunConfig, machine: Machine) -> tuple[str, ...]:
    """Loading the engine costs 10 ms, so that only a plan that forces an ISA asks it."""
    if not machine.is_here or run.backend.isa in (IsaName.auto, IsaName.generic):
        return ()
    from lmrun import _engine  # noqa: PLC0415 - see above

    try:
        _engine.check_isa(run.backend.isa.value)
    except RuntimeError as error:
        return (str(error),)
    return ()


def _device(machine: Machine) -> Device:
    return Device(
        name=machine.name,
        kind=machine.kind,
        count=machine.count,
        memory_bytes=machine.memory_bytes,
        memory_source=machine.memory_source,
        cores=machine.cores,
        isa=machine.isa,
        bandwidth=machine.bandwidth,
        peak_flops=machine.peak_flops,
        peak_int8_ops=machine.peak_int8_ops,
        source=machine.source,
        is_this_machine=machine.is_here,
    )


def _context_length(run: RunConfig, source: Source) -> int:
    longest = source.spec.context_length
    asked = run.backend.context_length
    if asked is not None and asked > longest:
        raise PlanError(
            f"backend.context_length={asked}: must be at most {longest}, the context of"
            f" {source.served_name}. Longer ones are not built yet."
        )
    return asked or longest
