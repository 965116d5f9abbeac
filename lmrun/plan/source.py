"""What `model.path` or `model.hub_id` turned out to be, and what of it counts for fingerprints."""

from dataclasses import dataclass, replace
from pathlib import Path

from lmrun.artifacts.manifest import model_name
from lmrun.config.schema import PruneMethod, QuantMethod, RunConfig
from lmrun.errors import PlanError
from lmrun.models import builtin
from lmrun.models.checkpoint import Checkpoint, find_model, is_workspace
from lmrun.models.hub_files import HubModel
from lmrun.models.registry import builtin_spec
from lmrun.models.spec import ModelSpec
from lmrun.models.workspace import read_workspace
from lmrun.plan.config_source import ConfigOnly, config_only
from lmrun.plan.plan import ModelKind
from lmrun.plan.planned_quant import check_settled, divides, planned_quant, served_spec
from lmrun.plan.source_quant import unused, weight_dtype, workspace_quant
from lmrun.quant.layout import WeightQuant
from lmrun.quant.stored import stored_quant

MOVES_ZEROS = (QuantMethod.gptq, QuantMethod.awq_gptq, QuantMethod.best)
"""Methods whose codes of a weight that is zero need not be zero."""
HALF_BYTES = 2
"""Of a float16 number, the type that quantize writes."""
HAVE_FLOATS = (ModelKind.checkpoint, ModelKind.builtin, ModelKind.config)
"""Kinds whose weights are not settled yet."""


@dataclass(frozen=True)
class Source:
    """The model behind `model.path` or `model.hub_id`."""

    kind: ModelKind
    path: str
    """`builtin:NAME` or the absolute folder; for the hub, that of the commit in its cache."""
    served_name: str
    spec: ModelSpec
    weight_dtype: str
    quant: WeightQuant
    """How the weights of the workspace will be (or are) stored."""
    files: tuple[Path, ...] = ()
    """Files whose digests make up the checkpoint's; empty for a built-in model or a workspace."""
    stored_bytes: int | None = None
    """Size of a workspace that is already there."""
    notes: tuple[str, ...] = ()
    hub: HubModel | None = None
    """Where the files come from; those that it calls missing are not there yet."""
    refusals: tuple[str, ...] = ()
    """Why the model is priced and cannot be run."""

    @property
    def quantizes(self) -> bool:
        """Whether this deployment quantizes the weights itself."""
        return self.kind in HAVE_FLOATS and self.quant.method != "none"

    @property
    def can_be_quantized(self) -> bool:
        """Whether `quant=awq_w4_g128` would make this model smaller."""
        is_float = self.quant.method == "none" and self.kind in HAVE_FLOATS
        return is_float and divides(self.spec, 128)


def find_source(run: RunConfig, home: Path, commit: str | None = None) -> Source:
    """Look at the model; `PlanError` for one that cannot be served as the run config says.

    ``home`` is the store's folder. ``commit`` is what `model.revision` stood for in an earlier
    plan of the same run; of no meaning for a local model. For a model of the hub `StageError` where
    the hub cannot be reached.
    """
    if run.model.hub_id is not None:
        return _hub_source(run, home, commit)
    name = run.model.path
    if not name:
        raise PlanError(
            "model.path: expected a folder or builtin:NAME, got nothing."
            " Use model.path=FOLDER, model.hub_id=ORG/NAME or an option that `lmrun list models`"
            " shows."
        )
    if name == builtin.DEMO:
        return _checkpoint_source(Checkpoint.open(builtin.demo_folder()), run)
    if name.startswith(builtin.PREFIX):
        return _builtin_source(name, run)
    folder = find_model(name)
    if is_workspace(folder):
        return _workspace_source(folder, run)
    priced = config_only(folder)
    if priced is not None:
        return _config_source(folder, priced, run)
    return _checkpoint_source(Checkpoint.open(folder), run)


def _hub_source(run: RunConfig, home: Path, commit: str | None) -> Source:
    # huggingface_hub is imported where a model comes from the hub alone
    from lmrun.plan.hub_source import find_on_hub  # noqa: PLC0415

    on_hub = find_on_hub(run.model, home, commit)
    model = on_hub.model
    if isinstance(on_hub.found, ConfigOnly):
        source = _config_source(on_hub.folder, on_hub.found, run)
    else:
        source = _checkpoint_source(on_hub.found, run)
    stands_for = "" if not model.is_floating else f", {model.revision} is commit"
    note = f"from the hub: {model.hub_id}{stands_for} {model.commit[:12]}"
    return replace(
        source,
        served_name=model.hub_id.rpartition("/")[2],
        files=tuple(on_hub.folder / file.name for file in model.files),
        notes=(note, *on_hub.notes, *source.notes),
        hub=model,
    )


def _builtin_source(name: str, run: RunConfig) -> Source:
    model = builtin.get(name)
    spec = builtin_spec(model)
    planned = planned_quant(run, spec)
    return Source(
        kind=ModelKind.builtin,
        path=name,
        served_name=model.name,
        spec=served_spec(run, spec),
        weight_dtype=weight_dtype(spec.dtype, planned),
        quant=planned,
        notes=(
            f"{name}: {model.description}. What it writes is nonsense.",
            *_of_changes(run, spec),
        ),
    )


def _checkpoint_source(checkpoint: Checkpoint, run: RunConfig) -> Source:
    name = model_name(checkpoint.path) or checkpoint.path.name
    if checkpoint.code_format is not None:
        check_settled(run, checkpoint.spec, "quantized")
        stored = stored_quant(checkpoint)
        return Source(
            kind=ModelKind.quantized,
            path=str(checkpoint.path),
            served_name=name,
            spec=checkpoint.spec,
            weight_dtype=checkpoint.weight_dtype,
            quant=stored,
            files=checkpoint.files,
            notes=unused(run.quant, stored),
        )
    planned = planned_quant(run, checkpoint.spec)
    return Source(
        kind=ModelKind.checkpoint,
        path=str(checkpoint.path),
        served_name=name,
        spec=served_spec(run, checkpoint.spec),
        weight_dtype=weight_dtype(checkpoint.weight_dtype, planned),
        quant=planned,
        files=checkpoint.files,
        notes=_of_changes(run, checkpoint.spec),
    )


def _of_changes(run: RunConfig, spec: ModelSpec) -> tuple[str, ...]:
    """What a person should know before weights are pruned or rotated."""
    return (*_of_rotation(run, spec), *_of_pruning(run))


def _of_pruning(run: RunConfig) -> tuple[str, ...]:
    if run.prune.method is PruneMethod.none:
        return ()
    found: tuple[str, ...] = (
        f"prune.method={run.prune.method}: the engine computes with zeros as with other weights: a"
        " pruned model is neither faster nor smaller",
    )
    if run.quant.method in MOVES_ZEROS:
        found += (
            f"prune.method={run.prune.method}: quant.method={run.quant.method} moves weights to"
            " make up for rounding, so that many of the zeros are gone",
        )
    return found


def _of_rotation(run: RunConfig, spec: ModelSpec) -> tuple[str, ...]:
    """What a rotation adds to a model whose head was its embedding."""
    if served_spec(run, spec) == spec:
        return ()
    size = spec.vocab_size * spec.hidden_size * HALF_BYTES
    return (
        f"quant.rotate: the head was the embedding and becomes a matrix of its own: {size:,} bytes"
        f" more ({spec.vocab_size:,} x {spec.hidden_size:,} in 16 bits)",
    )


def _config_source(folder: Path, priced: ConfigOnly, run: RunConfig) -> Source:
    spec = priced.spec
    if priced.stored:
        check_settled(run, spec, "quantized")
    stored = priced.stored or planned_quant(run, spec)
    return Source(
        kind=ModelKind.quantized if priced.stored else ModelKind.config,
        path=str(folder),
        served_name=folder.name,
        spec=spec if priced.stored else served_spec(run, spec),
        weight_dtype=weight_dtype(spec.dtype, stored),
        quant=stored,
        notes=unused(run.quant, stored) if priced.stored else _of_changes(run, spec),
        refusals=priced.refusals,
    )


def _workspace_source(folder: Path, run: RunConfig) -> Source:
    info = read_workspace(folder)
    check_settled(run, info.spec, "a workspace")
    stored = workspace_quant(info)
    return Source(
        kind=ModelKind.workspace,
        path=str(folder),
        served_name=model_name(folder) or folder.name,
        spec=info.spec,
        weight_dtype=info.weight_dtype,
        quant=stored,
        stored_bytes=info.num_bytes,
        notes=unused(run.quant, stored),
    )
