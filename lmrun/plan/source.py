"""What `model.path` turned out to be, and what of it counts for fingerprints."""

from dataclasses import dataclass
from pathlib import Path

from lmrun.config.schema import QuantConfig, RunConfig
from lmrun.errors import PlanError
from lmrun.models import builtin
from lmrun.models.checkpoint import Checkpoint, find_model, is_workspace
from lmrun.models.registry import builtin_spec
from lmrun.models.spec import LinearSpec, ModelSpec
from lmrun.models.workspace import read_workspace
from lmrun.plan.plan import ModelKind
from lmrun.quant.layout import GROUP_SIZES, MATRICES, WeightQuant, file_bytes

AWQ_COLUMNS = 8
"""Codes in a word of a quantized checkpoint: it divides the output features."""


@dataclass(frozen=True)
class Source:
    """The model behind `model.path`."""

    kind: ModelKind
    path: str
    """`builtin:NAME` or the absolute folder."""
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

    @property
    def workspace_file_bytes(self) -> int:
        """Size of the file that the engine maps (the header of a new one counted as none)."""
        if self.stored_bytes is not None:
            return self.stored_bytes
        return file_bytes(self.spec, self.weight_dtype, self.quant)

    @property
    def quantizes(self) -> bool:
        """Whether this deployment quantizes the weights itself."""
        has_floats = self.kind in (ModelKind.checkpoint, ModelKind.builtin)
        return has_floats and self.quant.method != "none"


def find_source(run: RunConfig) -> Source:
    """Look at the model; `PlanError` for one that cannot be served as the run config says."""
    name = run.model.path
    if not name:
        raise PlanError(
            "model.path: expected a folder or builtin:NAME, got nothing."
            " Use model.path=FOLDER or an option that `lmrun list models` shows."
        )
    if name.startswith(builtin.PREFIX):
        return _builtin_source(name, run.quant)
    folder = find_model(name)
    if is_workspace(folder):
        return _workspace_source(folder, run.quant)
    return _checkpoint_source(folder, run.quant)


def _builtin_source(name: str, quant: QuantConfig) -> Source:
    model = builtin.get(name)
    spec = builtin_spec(model)
    planned = _planned_quant(quant, spec)
    return Source(
        kind=ModelKind.builtin,
        path=name,
        served_name=model.name,
        spec=spec,
        weight_dtype=_weight_dtype(spec.dtype, planned),
        quant=planned,
        notes=(f"{name}: {model.description}. What it writes is nonsense.",),
    )


def _checkpoint_source(folder: Path, quant: QuantConfig) -> Source:
    checkpoint = Checkpoint.open(folder)
    is_quantized = checkpoint.awq is not None
    stored = _stored_quant(checkpoint) if is_quantized else _planned_quant(quant, checkpoint.spec)
    return Source(
        kind=ModelKind.quantized if is_quantized else ModelKind.checkpoint,
        path=str(folder),
        served_name=folder.name,
        spec=checkpoint.spec,
        weight_dtype=checkpoint.weight_dtype
        if is_quantized
        else _weight_dtype(checkpoint.weight_dtype, stored),
        quant=stored,
        files=checkpoint.files,
        notes=_unused(quant, stored) if is_quantized else (),
    )


def _workspace_source(folder: Path, quant: QuantConfig) -> Source:
    info = read_workspace(folder)
    stored = WeightQuant(info.method, info.group_size)
    return Source(
        kind=ModelKind.workspace,
        path=str(folder),
        served_name=folder.name,
        spec=info.spec,
        weight_dtype=info.weight_dtype,
        quant=stored,
        stored_bytes=info.num_bytes,
        notes=_unused(quant, stored),
    )


def _weight_dtype(stored: str, planned: WeightQuant) -> str:
    """Type of the matrices that are no codes: quantize writes float16, whatever it read."""
    return stored if planned.method == "none" else "F16"


def _unused(quant: QuantConfig, stored: WeightQuant) -> tuple[str, ...]:
    """A remark where the recipe asks for a quantization that the folder has already settled."""
    method = quant.method.value
    is_same = method == stored.method and quant.group_size == stored.group_size
    if method == "none" or is_same:
        return ()
    what = "not quantized"
    if stored.method != "none":
        what = f"{stored.method}, groups of {stored.group_size}"
    return (f"the weights stay as the folder has them ({what}); the quant group is not used",)


def _planned_quant(quant: QuantConfig, spec: ModelSpec) -> WeightQuant:
    if quant.method.value == "none":
        return WeightQuant("none")
    planned = WeightQuant(quant.method.value, quant.group_size, frozenset(quant.skip))
    _check_skip(planned, spec)
    _check_groups(planned, spec)
    return planned


def _stored_quant(checkpoint: Checkpoint) -> WeightQuant:
    assert checkpoint.awq is not None
    group_size = checkpoint.awq.group_size
    if group_size not in GROUP_SIZES:
        raise PlanError(
            f"{checkpoint.path}: groups of {group_size} are not built yet."
            f" Supported: {_listed(GROUP_SIZES, 'and')}."
        )
    kept = frozenset(
        linear.name for linear in checkpoint.spec.linears if not checkpoint.is_quantized(linear)
    )
    stored = WeightQuant("awq", group_size, kept)
    _check_skip(stored, checkpoint.spec, str(checkpoint.path))
    return stored


def _check_skip(quant: WeightQuant, spec: ModelSpec, where: str = "quant.skip") -> None:
    """Linears that share a matrix of the engine are kept together or not at all."""
    names = {linear.name for linear in spec.linears}
    unknown = sorted(quant.skip - names)
    if unknown:
        example = spec.layer(0)[-1].name
        raise PlanError(
            f"{where}: no linear {unknown[0]} in this model. Names look like {example},"
            f" with layers 0 to {spec.num_layers - 1}."
        )
    for index in range(spec.num_layers):
        linears = {linear.role: linear for linear in spec.layer(index)}
        for _, roles in MATRICES:
            parts = [linears[role].name for role in roles]
            kept = [name for name in parts if name in quant.skip]
            if kept and len(kept) < len(parts):
                missing = next(name for name in parts if name not in quant.skip)
                raise PlanError(
                    f"{where}: {kept[0]} is kept and {missing} is not; the engine holds both in one"
                    f" matrix. Keep all of {', '.join(parts)}, or none."
                )


def _check_groups(quant: WeightQuant, spec: ModelSpec) -> None:
    packed = [linear for linear in spec.linears if linear.name not in quant.skip]
    wrong = [linear for linear in packed if linear.in_features % quant.group_size]
    if wrong:
        fitting = [
            size for size in GROUP_SIZES if all(linear.in_features % size == 0 for linear in packed)
        ]
        named = max(wrong, key=_hardness)
        hint = (
            f"Use {_listed(fitting, 'or')}."
            if fitting
            else f"None of {_listed(GROUP_SIZES, 'and')} does. Use quant.method=none."
        )
        raise PlanError(
            f"quant.group_size={quant.group_size}: must divide {named.in_features}"
            f" (in_features of {named.name}). {hint}"
        )
    for linear in packed:
        if linear.out_features % AWQ_COLUMNS:
            raise PlanError(
                f"quant.method={quant.method}: {AWQ_COLUMNS} must divide {linear.out_features}"
                f" (out_features of {linear.name}). Use quant.method=none, or put it in quant.skip."
            )


def _hardness(linear: LinearSpec) -> int:
    """How many group sizes a linear rules out; `max` keeps the first of equals."""
    return sum(linear.in_features % size != 0 for size in GROUP_SIZES)


def _listed(sizes: tuple[int, ...] | list[int], word: str) -> str:
    texts = [str(size) for size in sizes]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} {word} {texts[-1]}"
