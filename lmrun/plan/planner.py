"""Run config + model + machine + store → `Plan`. Reads, and writes nothing."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from lmrun.artifacts.digests import DigestCache
from lmrun.artifacts.files import stamp
from lmrun.artifacts.manifest import ManifestFields
from lmrun.artifacts.store import Store
from lmrun.config import Composed, RunConfig
from lmrun.config.located import located
from lmrun.errors import PlanError
from lmrun.models import builtin
from lmrun.plan.budget import demand, make_budget
from lmrun.plan.engine_settings import EngineSettings
from lmrun.plan.fingerprint import (
    builtin_digest,
    config_subset,
    fingerprint,
    sample_text_digest,
)
from lmrun.plan.machine import Machine, this_machine
from lmrun.plan.numeric_class import numeric_class
from lmrun.plan.offline import check_fits, stage_cost
from lmrun.plan.plan import Action, FrontendSettings, ModelKind, Plan, StagePlan
from lmrun.plan.sizes import show_bytes
from lmrun.plan.source import Source, find_source
from lmrun.plan.stage_specs import BY_NAME, CONVERT, STAGES, StageSpec
from lmrun.plan.unread import unread
from lmrun.plan.why import why_missing
from lmrun.quant.layout import WeightQuant, file_bytes

HASH_BYTES_PER_S = 1.2e9
"""SHA-256 with the CPU's SHA instructions, one core; for the estimate alone."""
SAMPLE_TEXT = "builtin:sample"
TEXT_SUFFIXES = (".txt", ".jsonl")
CACHED = "cached"


def make_plan(composed: Composed, store: Store, machine: Machine | None = None) -> Plan:
    """The plan of a composed run config; raises `PlanError` for what cannot work here.

    ``machine`` is this one unless given. The digest cache is read from the store's home.
    """
    recipe = composed.recipe.name if composed.recipe else None
    with located(composed):
        plan = plan_run(composed.run, store, recipe, machine)
    return dataclasses.replace(plan, notes=plan.notes + unread(composed, plan))


def plan_run(
    run: RunConfig, store: Store, recipe: str | None = None, machine: Machine | None = None
) -> Plan:
    """`make_plan` for a run config of any origin: `Plan.config` read back, for example."""
    machine = machine or this_machine()
    source = find_source(run)
    context_length = _context_length(run, source)
    stages = _Stages(run, source, machine, store)
    stage_plans = stages.plan()
    costs = tuple(
        stage_cost(stage.name, run, source.spec, source.weight_dtype, source.quant, machine.cores)
        for stage in stage_plans
        if stage.action is not Action.cached
        and not (stage.name == "resolve" and source.kind is not ModelKind.builtin)
    )
    budget = make_budget(
        demand(run, source.spec, context_length, source.workspace_file_bytes),
        machine,
        costs,
        _with_4_bits(source),
    )
    check_fits(costs, machine.memory_bytes, store.home)
    convert = next((stage for stage in stage_plans if stage.name == CONVERT.name), None)
    workspace = Path(source.path) if source.kind is ModelKind.workspace else None
    if convert is not None and convert.fingerprint is not None:
        workspace = store.folder(CONVERT.name, convert.fingerprint)
    backend, frontend = run.backend, run.frontend
    return Plan(
        model_kind=source.kind,
        model_path=source.path,
        checkpoint=stages.checkpoint(stage_plans),
        spec=source.spec,
        weight_dtype=source.weight_dtype,
        stages=stage_plans,
        unhashed=tuple(stages.unhashed),
        calibration_text=stages.text if any(s.name == "calibrate" for s in stage_plans) else None,
        workspace=workspace,
        budget=budget,
        engine=EngineSettings(
            workspace=str(workspace or ""),
            isa=backend.isa.value,
            threads=backend.threads or machine.cores,
            num_blocks=budget.num_blocks,
            block_size=run.kv.block_size,
            kv_bits=run.kv.bits,
            max_num_seqs=backend.max_num_seqs,
            max_batch_tokens=backend.max_batch_tokens,
            context_length=context_length,
            prefix_caching=run.kv.prefix_caching,
        ),
        served_name=run.model.served_name or source.served_name,
        chat_template=run.model.chat_template,
        frontend=FrontendSettings(
            host=frontend.host,
            port=frontend.port,
            ui=frontend.ui.value,
            ui_port=frontend.ui_port,
            drain_s=frontend.drain_s,
        ),
        recipe=recipe,
        notes=source.notes,
        config=_plain(dataclasses.asdict(run)),
    )


def _plain(value: Any) -> Any:  # noqa: ANN401 - a nested document
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.value if isinstance(value, Enum) else value


def _context_length(run: RunConfig, source: Source) -> int:
    longest = source.spec.context_length
    asked = run.backend.context_length
    if asked is not None and asked > longest:
        raise PlanError(
            f"backend.context_length={asked}: must be at most {longest}, the context of"
            f" {source.served_name}. Longer ones are not built yet."
        )
    return asked or longest


def _with_4_bits(source: Source) -> int | None:
    """Size of the weights with awq_w4_g128, where this model could be quantized so."""
    spec = source.spec
    if source.quant.method != "none" or source.kind is ModelKind.workspace:
        return None
    if any(item.in_features % 128 or item.out_features % 8 for item in spec.linears):
        return None
    return file_bytes(spec, "F16", WeightQuant("awq", 128))


@dataclass
class _Draft:
    """A stage before it is known whether anything needs it."""

    spec: StageSpec
    config: dict[str, Any]
    inputs: dict[str, str | None]
    numeric_class: dict[str, Any] | None
    fingerprint: str | None


class _Stages:
    """Plans the stages of one run, first to last, then decides backwards which must run."""

    def __init__(self, run: RunConfig, source: Source, machine: Machine, store: Store) -> None:
        self._run = run
        self._source = source
        self._class = numeric_class(machine)
        self._store = store
        self._digests = DigestCache(store.home)
        self.unhashed: list[Path] = []
        self.text = _calibration_text(run) if self._needs("calibrate") else None

    def plan(self) -> tuple[StagePlan, ...]:
        """The stages that this recipe needs, in order; none for a workspace."""
        if self._source.kind is ModelKind.workspace:
            return ()
        drafts: dict[str, _Draft] = {}
        for spec in STAGES:
            if self._needs(spec.name):
                drafts[spec.name] = self._draft(spec, drafts)
        plans: dict[str, StagePlan] = {}
        for name in reversed(drafts):
            plans[name] = self._decide(drafts[name], plans)
        return tuple(plans[name] for name in drafts)

    def checkpoint(self, stages: tuple[StagePlan, ...]) -> Path | None:
        """The folder that the stages read, as far as it exists."""
        if self._source.kind is ModelKind.workspace:
            return None
        if self._source.kind is not ModelKind.builtin:
            return Path(self._source.path)
        fingerprint = stages[0].fingerprint
        assert fingerprint is not None
        found = self._store.find("resolve", fingerprint)
        return found.path if found else None

    def _needs(self, name: str) -> bool:
        if name == "calibrate":
            return self._source.quantizes and self._source.quant.method == "awq"
        return self._source.quantizes if name == "quantize" else True

    def _draft(self, spec: StageSpec, earlier: Mapping[str, _Draft]) -> _Draft:
        inputs: dict[str, str | None] = {}
        for name in spec.inputs:
            if name == "checkpoint":
                inputs.update(self._checkpoint_inputs())
            elif name == "text":
                inputs[name] = self._text_digest()
            elif name in earlier:
                inputs[name] = earlier[name].fingerprint
        config = config_subset(spec, self._run)
        numbers = self._class if spec.computes else None
        known = {name: value for name, value in inputs.items() if value is not None}
        complete = len(known) == len(inputs)
        return _Draft(
            spec,
            config,
            inputs,
            numbers,
            fingerprint(spec, config, known, numbers) if complete else None,
        )

    def _checkpoint_inputs(self) -> dict[str, str | None]:
        if self._source.kind is ModelKind.builtin:
            return {"builtin": builtin_digest(builtin.get(self._source.path))}
        return {path.name: self._lookup(path) for path in self._source.files}

    def _text_digest(self) -> str | None:
        return sample_text_digest() if self.text is None else self._lookup(self.text)

    def _lookup(self, path: Path) -> str | None:
        found = self._digests.lookup(path)
        if found is None:
            self.unhashed.append(path)
        return found

    def _decide(self, draft: _Draft, later: Mapping[str, StagePlan]) -> StagePlan:
        action, why = self._action(draft, later)
        return StagePlan(
            name=draft.spec.name,
            code_version=draft.spec.code_version,
            fingerprint=draft.fingerprint,
            action=action,
            why=why,
            config=draft.config,
            inputs=draft.inputs,
            numeric_class=draft.numeric_class,
        )

    def _action(self, draft: _Draft, later: Mapping[str, StagePlan]) -> tuple[Action, str]:
        name = draft.spec.name
        is_external = name == "resolve" and self._source.kind is not ModelKind.builtin
        if is_external and self.unhashed:
            return Action.run, self._not_hashed()
        if is_external:
            return Action.cached, "digests known"
        if draft.fingerprint is None:
            return Action.unknown, self._not_hashed()
        look = self._store.look(name, draft.fingerprint)
        if look.artifact is not None:
            return Action.cached, CACHED
        if look.problem is not None:
            return Action.run, f"damaged: {look.problem}"
        readers = [stage for stage in later.values() if name in BY_NAME[stage.name].inputs]
        if readers and all(stage.action is Action.cached for stage in readers):
            names = " and ".join(stage.name for stage in reversed(readers))
            return (
                Action.cached,
                f"not needed: {names} {'is' if len(readers) == 1 else 'are'} cached",
            )
        wanted = ManifestFields(
            stage=name,
            code_version=draft.spec.code_version,
            fingerprint=draft.fingerprint,
            inputs={key: value for key, value in draft.inputs.items() if value is not None},
            config=draft.config,
            numeric_class=draft.numeric_class,
            seconds=0.0,
        )
        return Action.run, why_missing(wanted, [m.fields for m in self._store.manifests(name)])

    def _not_hashed(self) -> str:
        size = sum(stamp(path).size for path in self.unhashed)
        seconds = size / HASH_BYTES_PER_S
        time = f"about {seconds:.0f} s" if seconds >= 1 else "under 1 s"
        return f"not yet hashed, {show_bytes(size)}, {time}"


def _calibration_text(run: RunConfig) -> Path | None:
    """The text file, or None for the built-in sample."""
    if run.calibration.data == SAMPLE_TEXT:
        return None
    path = Path(run.calibration.data).expanduser().absolute()
    if path.suffix not in TEXT_SUFFIXES:
        raise PlanError(
            f"calibration.data={run.calibration.data}: expected a .txt or .jsonl file, or"
            f" {SAMPLE_TEXT}."
        )
    if not path.is_file():
        raise PlanError(
            f"calibration.data={run.calibration.data}: no such file ({path})."
            f" Name a .txt or .jsonl file, or use {SAMPLE_TEXT}."
        )
    return path
