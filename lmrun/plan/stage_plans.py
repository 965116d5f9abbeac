"""Which stages a run needs, what names their outputs, and which of them must run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lmrun.artifacts import canonical
from lmrun.artifacts.digests import DigestCache
from lmrun.artifacts.files import stamp
from lmrun.artifacts.manifest import ManifestFields
from lmrun.artifacts.store import Store
from lmrun.config import RunConfig
from lmrun.config.schema import PruneMethod
from lmrun.models import builtin
from lmrun.models.hub_files import HubModel
from lmrun.plan import compute_device, told_digests
from lmrun.plan.calibration_data import calibration_dataset, calibration_text, holds_chats
from lmrun.plan.compute_device import Gpu
from lmrun.plan.evaluation import Evaluation, template_input, workspace_files
from lmrun.plan.fingerprint import (
    builtin_digest,
    config_subset,
    fingerprint,
    sample_text_digest,
)
from lmrun.plan.machine import Machine
from lmrun.plan.numeric_class import engine_class, numeric_class
from lmrun.plan.plan import Action, ModelKind, StagePlan
from lmrun.plan.sizes import show_bytes, things
from lmrun.plan.source import HAVE_FLOATS, Source
from lmrun.plan.stage_seconds import estimated_seconds
from lmrun.plan.stage_specs import (
    BASELINE,
    CALIBRATE,
    CONVERT,
    EVALUATE,
    JUDGING,
    PRUNE,
    QUANTIZE,
    RESOLVE,
    STAGES,
    StageSpec,
    reads_input,
)
from lmrun.plan.why import CHECKPOINT, TEXT, why_missing
from lmrun.quant import combinations
from lmrun.quant.layout import CPU

COMPUTED = (PRUNE, CALIBRATE, QUANTIZE)
"""Stages that torch computes, on `quant.device`."""
HASH_BYTES_PER_S = 1.2e9
"""SHA-256 with the CPU's SHA instructions, one core; for the estimate alone."""
CACHED = "cached"
SHOWN_FILES = 3
NOT_KNOWN_BEFORE = "an input is not known"


@dataclass
class _Draft:
    """A stage before it is known whether anything needs it."""

    spec: StageSpec
    config: dict[str, Any]
    inputs: dict[str, str | None]
    numeric_class: dict[str, Any] | None
    fingerprint: str | None


class Stages:
    """The stages of one run: planned first to last, then decided backwards which must run."""

    def __init__(
        self,
        run: RunConfig,
        source: Source,
        machine: Machine,
        store: Store,
        evaluation: Evaluation | None = None,
    ) -> None:
        self.evaluation = evaluation
        self._run = run
        self._source = source
        self._machine = machine
        self._gpu: Gpu | None = None
        self._store = store
        self._digests = DigestCache(store.home)
        self._unhashed: list[Path] = []
        self.dataset = calibration_dataset(run) if self._reads_text else None
        self.text = calibration_text(run) if self._reads_text and not self.dataset else None
        if self.dataset is not None:
            self.text = self.dataset.path
        if machine.is_here and any(self._needs(stage.name) for stage in COMPUTED):
            self._gpu = compute_device.chosen(run.quant.device)
        self._class = numeric_class(machine, self._gpu)
        self.plans = self._plan()

    @property
    def gpu(self) -> Gpu | None:
        """What calibrate, prune and quantize compute on; None for the CPU."""
        return self._gpu

    @property
    def unhashed(self) -> tuple[Path, ...]:
        """Files whose digests the cache does not hold."""
        return tuple(self._unhashed)

    @property
    def checkpoint(self) -> Path | None:
        """The folder that the stages read, as far as it exists."""
        if self._source.kind is ModelKind.workspace:
            return None
        if self._source.kind is not ModelKind.builtin:
            return Path(self._source.path)
        fingerprint = self.plans[0].fingerprint
        assert fingerprint is not None
        found = self._store.find("resolve", fingerprint)
        return found.path if found else None

    @property
    def has_baseline_workspace(self) -> bool:
        """Whether the baseline's workspace is in the store, or is that of this deployment."""
        resolve = next((stage for stage in self.plans if stage.name == RESOLVE.name), None)
        if not self._evaluates_itself or resolve is None or resolve.fingerprint is None:
            return False
        if not self._source.quantizes and not self._needs(PRUNE.name):
            return True
        config = config_subset(CONVERT, self._run)
        name = fingerprint(CONVERT, config, {RESOLVE.name: resolve.fingerprint}, None)
        return self._store.find(CONVERT.name, name) is not None

    def with_seconds(self, disk_bytes: Mapping[str, int]) -> tuple[StagePlan, ...]:
        """The stages with the time they took, or will take by the nearest entry of the store.

        ``disk_bytes`` is what each stage that will run writes.
        """
        return tuple(
            replace(stage, seconds=self._seconds(stage, disk_bytes.get(stage.name)))
            for stage in self.plans
        )

    def _seconds(self, stage: StagePlan, disk_bytes: int | None) -> float | None:
        if stage.action is Action.cached:
            if stage.fingerprint is None:
                return None
            found = self._store.find(stage.name, stage.fingerprint)
            return found.manifest.fields.seconds if found else None
        return estimated_seconds(stage, disk_bytes, self._store.manifests(stage.name))

    def _plan(self) -> tuple[StagePlan, ...]:
        """The stages that this recipe needs, in order."""
        drafts: dict[str, _Draft] = {}
        for spec in STAGES:
            if self._needs(spec.name):
                drafts[spec.name] = self._draft(spec, drafts)
        plans: dict[str, StagePlan] = {}
        for name in reversed(drafts):
            plans[name] = self._decide(drafts[name], plans)
        return tuple(plans[name] for name in drafts)

    def _needs(self, name: str) -> bool:
        if name == EVALUATE.name:
            return self.evaluation is not None
        if name == BASELINE.name:
            return self.evaluation is not None and self.evaluation.has_baseline
        if self._source.kind is ModelKind.workspace:
            return False
        if name == PRUNE.name:
            return self._is_float and self._run.prune.method is not PruneMethod.none
        if name == CALIBRATE.name:
            return self._is_float and combinations.needs_calibration(self._run)
        return self._source.quantizes if name == QUANTIZE.name else True

    @property
    def _is_float(self) -> bool:
        """The weights are not settled yet: they may be pruned and quantized."""
        return self._source.kind in HAVE_FLOATS

    @property
    def _reads_text(self) -> bool:
        if not self._needs(CALIBRATE.name):
            return self._needs(PRUNE.name) and combinations.prunes_by_text(self._run)
        return True

    def _draft(self, spec: StageSpec, earlier: Mapping[str, _Draft]) -> _Draft:
        inputs: dict[str, str | None] = {}
        for name in spec.inputs:
            if name in earlier and reads_input(spec, name, self._run):
                if spec is not BASELINE or self._evaluates_itself:
                    inputs[name] = earlier[name].fingerprint
            elif reads_input(spec, name, self._run):
                inputs.update(self._external(name))
        config = config_subset(spec, self._run)
        numbers = self._numbers(spec)
        if self._unknowable(spec) is not None:
            return _Draft(spec, config, inputs, None, None)
        known = {name: value for name, value in inputs.items() if value is not None}
        complete = len(known) == len(inputs)
        return _Draft(
            spec,
            config,
            inputs,
            numbers,
            fingerprint(spec, config, known, numbers) if complete else None,
        )

    def _external(self, name: str) -> Mapping[str, str | None]:
        """Digests of an input from outside; empty for a stage that this run does not have."""
        if name == "checkpoint":
            return self._checkpoint_inputs()
        if name == "text":
            return {name: self._text_digest()}
        if name == "calibration_template":
            return self._calibration_template()
        if name == "workspace":
            is_given = self._source.kind is ModelKind.workspace
            return self._digests_of(workspace_files(self._source)) if is_given else {}
        if name == "template":
            return self._template_input()
        if self.evaluation is None:
            return {}
        return {one: self._lookup(path) for one, path in self.evaluation.inputs(name)}

    @property
    def _evaluates_itself(self) -> bool:
        """The baseline is the model of the run, not one that `evaluate.baseline` names."""
        return self.evaluation is not None and self.evaluation.reference is None

    def _numbers(self, spec: StageSpec) -> dict[str, Any] | None:
        if not spec.computes or self._unknowable(spec) is not None:
            return None
        if spec.is_by_engine:
            return engine_class(self._machine, self._run.backend.isa.value)
        return self._class

    def _template_input(self) -> dict[str, str | None]:
        """Where the model is asked anything: the template, which a chat prompt is made with."""
        assert self.evaluation is not None  # the one stage that reads it evaluates
        if self.evaluation.reads.tools is None and not self.evaluation.reads.tasks:
            return {}
        return {"template": template_input(self._run, self._lookup)}

    def _digests_of(self, files: Sequence[Path]) -> dict[str, str | None]:
        return {path.name: self._lookup(path) for path in files}

    def _checkpoint_inputs(self) -> dict[str, str | None]:
        if self._source.kind is ModelKind.builtin:
            return {"builtin": builtin_digest(builtin.get(self._source.path))}
        hub = self._source.hub
        told: Mapping[str, str | None] = told_digests.of_folder(Path(self._source.path))
        if hub is not None:
            told = {file.name: file.sha256 for file in hub.files}
        missing = hub.missing if hub else ()
        return {
            path.name: told[path.name]
            if path.name in missing
            else self._lookup(path) or told.get(path.name)
            for path in self._source.files
        }

    def _calibration_template(self) -> dict[str, str | None]:
        """Where the text is chats: the template, which makes text of them."""
        if self.text is None or (self.dataset is not None and self.dataset.is_missing):
            return {}
        if not holds_chats(self.text, self.dataset.field if self.dataset else None):
            return {}
        return {"calibration_template": template_input(self._run, self._lookup)}

    def _text_digest(self) -> str | None:
        if self.text is None:
            return sample_text_digest()
        if self.dataset is None:
            return self._lookup(self.text)
        found = None if self.dataset.is_missing else self._lookup(self.text)
        if found is None or self.dataset.field is None:
            return found
        return canonical.digest({"text": found, "field": self.dataset.field})

    def _lookup(self, path: Path) -> str | None:
        found = self._digests.lookup(path)
        if found is None and path not in self._unhashed:
            self._unhashed.append(path)
        return found

    def _decide(self, draft: _Draft, later: Mapping[str, StagePlan]) -> StagePlan:
        action, why = self._action(draft, later)
        return StagePlan(
            name=draft.spec.name,
            code_version=draft.spec.code_version,
            fingerprint=draft.fingerprint,
            action=action,
            why=why,
            seconds=None,
            config=draft.config,
            inputs=draft.inputs,
            numeric_class=draft.numeric_class,
        )

    def _action(self, draft: _Draft, later: Mapping[str, StagePlan]) -> tuple[Action, str]:
        name = draft.spec.name
        reason = self._unknowable(draft.spec)
        if reason is not None:
            return Action.unknown, reason
        is_external = name == "resolve" and self._source.kind is not ModelKind.builtin
        if is_external and self._source.hub is not None and self._source.hub.missing:
            return Action.run, _download(self._source.hub)
        if is_external and self._unhashed:
            return Action.run, self._not_hashed()
        if is_external:
            return Action.cached, "digests known"
        if draft.fingerprint is None and self.dataset is not None and self.dataset.is_missing:
            return Action.unknown, f"download {show_bytes(self.dataset.file.size)} of text first"
        if draft.fingerprint is None:
            return Action.unknown, self._not_hashed() if self._unhashed else NOT_KNOWN_BEFORE
        look = self._store.look(name, draft.fingerprint)
        if look.artifact is not None:
            return Action.cached, CACHED
        if look.problem is not None:
            return Action.run, f"damaged: {look.problem}"
        readers = [stage for stage in later.values() if name in stage.inputs]
        is_for_launch = name == CONVERT.name or (name == CALIBRATE.name and self._run.kv.keep > 0)
        if (
            not is_for_launch
            and readers
            and all(stage.action is Action.cached for stage in readers)
        ):
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
            metrics={CHECKPOINT: self._checkpoint_inputs(), TEXT: self._text_name(name)},
        )
        return Action.run, why_missing(wanted, [m.fields for m in self._store.manifests(name)])

    def _text_name(self, stage: str) -> str | None:
        run = self._run
        return run.evaluate.data if stage in JUDGING else run.calibration.data

    def _unknowable(self, spec: StageSpec) -> str | None:
        """Why a stage's output cannot be named here at all."""
        if self._source.kind is ModelKind.config or self._source.refusals:
            return "cannot run: see what is refused"
        if self._machine.is_here:
            return None
        if self._machine.kind != CPU and spec.name == CONVERT.name:
            return f"the workspace of {self._machine.name} is not built yet"
        if spec.computes:
            return f"the numeric class of {self._machine.name} is not known here"
        return None

    def _not_hashed(self) -> str:
        size = sum(stamp(path).size for path in self._unhashed)
        seconds = size / HASH_BYTES_PER_S
        time = f"about {seconds:.0f} s" if seconds >= 1 else "under 1 s"
        names = [path.name for path in self._unhashed[:SHOWN_FILES]]
        if len(self._unhashed) > SHOWN_FILES:
            names.append(f"{len(self._unhashed) - SHOWN_FILES} more")
        return f"not yet hashed, {show_bytes(size)}, {time}: {', '.join(names)}"


def _download(hub: HubModel) -> str:
    return f"download {things(len(hub.missing), 'file')}, {show_bytes(hub.download_bytes)}"
