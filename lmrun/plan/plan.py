"""The plan: frozen data with a JSON form; `lmrun.plan.text` prints it for people."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from lmrun.artifacts.manifest import check
from lmrun.errors import ArtifactError, PlanError
from lmrun.json_schema import TEXT, closed
from lmrun.models.hub_files import DatasetFile, HubModel
from lmrun.models.spec import ModelSpec
from lmrun.plan.costs import Budget, Device
from lmrun.plan.engine_settings import EngineSettings
from lmrun.plan.gate import Gate
from lmrun.plan.speed import Observed, Speeds
from lmrun.plan.stage_specs import JUDGING

SCHEMA_VERSION = 4


class Action(StrEnum):
    """What happens to a stage."""

    run = "run"
    cached = "cached"
    unknown = "unknown"
    """Not decidable before the inputs are hashed."""


class ModelKind(StrEnum):
    """What `model.path` turned out to be."""

    checkpoint = "checkpoint"
    quantized = "quantized"
    """A checkpoint whose linears are already AWQ codes."""
    config = "config"
    """A folder that can be priced from its config.json and not run: it has no weights, or its
    architecture is known and not served."""
    workspace = "workspace"
    builtin = "builtin"


@dataclass(frozen=True)
class StagePlan:
    """One offline stage of this deployment; stages the recipe does not need are left out."""

    name: str
    code_version: int
    fingerprint: str | None
    """None while an input is not hashed, or on a described device."""
    action: Action
    why: str
    seconds: float | None
    """Wall time: as the manifest says where it is cached, else an estimate from the nearest entry;
    None where there is none."""
    config: dict[str, Any]
    """The declared subset of the run config, dotted key to value."""
    inputs: dict[str, str | None]
    """External inputs by content digest, stages by fingerprint; None while not hashed."""
    numeric_class: dict[str, Any] | None
    """device, isa, and vendor and torch or the engine's build; None for stages that compute
    nothing."""


@dataclass(frozen=True)
class Evaluated:
    """The files that an evaluation reads; absolute paths."""

    data: Path | None
    tasks: dict[str, Path]
    tools: Path | None
    reference: Path | None
    """Folder of the checkpoint that `evaluate.baseline` names."""


@dataclass(frozen=True)
class FrontendSettings:
    """What is exposed after launch. API keys are secrets and never part of a plan."""

    host: str
    port: int
    ui: str
    """`none` or `gradio`."""
    ui_port: int
    drain_s: float


@dataclass(frozen=True)
class Plan:
    """What will run, what it costs and what is launched. Made by `lmrun.plan.planner.make_plan`."""

    model_kind: ModelKind
    model_path: str
    """`builtin:NAME`, or the absolute folder that `model.path` was found to be."""
    checkpoint: Path | None
    """Folder of the checkpoint the stages read; None for a workspace, and for a built-in model
    until `resolve` made it."""
    spec: ModelSpec
    weight_dtype: str
    """`F32`, `F16` or `BF16`: type of the matrices that are not quantized."""
    stages: tuple[StagePlan, ...]
    """In the order they run; empty for a workspace."""
    unhashed: tuple[Path, ...]
    """Files that `resolve` must put into the digest cache before a fingerprint is known."""
    calibration_text: Path | None
    """The text file that calibrate reads; None where it does not run or the text is built in."""
    workspace: Path | None
    """Folder of the engine workspace; None while the convert fingerprint is unknown."""
    device: Device
    budget: Budget
    speeds: Speeds
    observed: Observed | None
    """Estimate beside what an earlier run showed; None where none was recorded."""
    engine: EngineSettings
    """``workspace`` is empty while it is not known."""
    served_name: str
    chat_template: str
    """As configured: `auto`, a name or a file."""
    frontend: FrontendSettings
    recipe: str | None
    notes: tuple[str, ...]
    """Remarks a person should see, such as random weights or a shortened context."""
    config: dict[str, Any]
    """The whole run config, nested, without secrets."""
    refusals: tuple[str, ...]
    """Why this plan is priced and will not be run; empty where nothing stands against it."""
    evaluated: Evaluated | None = None
    """None where nothing is evaluated."""
    quality: dict[str, Any] | None = None
    """The quality report (`lmrun.evals.report`) where the evaluation is cached."""
    gates: tuple[Gate, ...] = ()
    """The bounds of the recipe, and how the cached report keeps them."""
    calibration_dataset: DatasetFile | None = None
    """Where the calibration text comes from the hub: ``calibration_text`` is then that file in the
    hub's cache, there or not yet."""
    hub: HubModel | None = None
    """The model's repository, commit and files where it comes from the hub; `model_path` is then
    the folder of that commit in the hub's cache, there or not yet."""

    def stage(self, name: str) -> StagePlan | None:
        """The stage of this name, or None where the recipe does not need it."""
        return next((stage for stage in self.stages if stage.name == name), None)

    @property
    def missing(self) -> tuple[StagePlan, ...]:
        """Stages that are not cached."""
        return tuple(stage for stage in self.stages if stage.action is not Action.cached)

    @property
    def text_folder(self) -> Path | None:
        """Where the model's tokenizer and chat template lie; None while they are not here."""
        is_later = self.model_kind is ModelKind.builtin or (
            self.hub is not None and self.hub.missing
        )
        return None if is_later else Path(self.model_path)

    @property
    def missing_to_launch(self) -> tuple[StagePlan, ...]:
        """`missing` without the stages that judge a workspace and make nothing of it."""
        return tuple(stage for stage in self.missing if stage.name not in JUDGING)

    def to_json(self) -> dict[str, Any]:
        """The document; `from_json` reads it back in another process."""
        document = {"schema_version": SCHEMA_VERSION, **_encode(self)}
        check(document, schema(), "plan")
        return document

    @classmethod
    def from_json(cls, document: Any) -> "Plan":  # noqa: ANN401 - not yet checked
        """Check a document and read it; `ArtifactError` names the place that is wrong."""
        check(document, schema(), "plan")
        try:
            plan: Plan = msgspec.convert(document, cls, strict=True, dec_hook=_decode_path)
        except msgspec.ValidationError as error:
            raise ArtifactError(f"plan: {error}") from error
        return plan


def check_runnable(plan: Plan) -> None:
    """Raise `PlanError`, with every reason, for a plan that was only priced."""
    if plan.refusals:
        raise PlanError("\n".join(plan.refusals))


@cache
def schema() -> dict[str, Any]:
    """JSON Schema of a plan document, made from the types above."""
    document = closed(msgspec.json.schema(Plan, schema_hook=lambda _: TEXT))
    plan = document["$defs"]["Plan"]
    plan["properties"]["schema_version"] = {"const": SCHEMA_VERSION}
    plan["properties"]["gates"]["default"] = []  # in JSON a tuple is a list
    plan["required"].append("schema_version")
    return document


def _encode(plan: Plan) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(plan, enc_hook=str))
    return document


def _decode_path(kind: type, value: Any) -> Any:  # noqa: ANN401 - the protocol of msgspec
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError(f"{kind} in a plan")
