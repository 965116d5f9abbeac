"""``lmrun list``: everything that can be named."""

import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from lmrun import deploy, env, json_schema
from lmrun.artifacts.store import Store
from lmrun.cli.flags import split
from lmrun.cli.output import as_json
from lmrun.config import paths, recipes
from lmrun.config.names import recipe_names
from lmrun.config.not_built import is_built
from lmrun.config.places import Places
from lmrun.config.schema import BackendConfig, BackendName, QuantConfig, QuantMethod, RunConfig
from lmrun.config.suggest import did_you_mean
from lmrun.errors import ExitStatus, UsageError
from lmrun.models import builtin
from lmrun.models.chat_template import NAMED_TEMPLATES
from lmrun.plan.stage_specs import STAGES
from lmrun.quant.combinations import METHODS

TEMPLATES = Path(deploy.__file__).parent / "templates"
SCHEMA_VERSION = 1
SCHEMA = {
    **json_schema.document("lmrun list", SCHEMA_VERSION),
    "description": "Kind of thing → what can be named.",
    "additionalProperties": json_schema.records(
        name={"type": "string", "description": "as on the command line"},
        description=json_schema.TEXT,
        path={"type": ["string", "null"], "description": "the file or folder"},
        is_built={"type": "boolean", "description": "this version can run it"},
    ),
}
_NAME_WIDTH = 34


@dataclass(frozen=True)
class Row:
    """One thing that can be named."""

    name: str
    """What is written on the command line."""
    description: str
    path: str | None = None
    is_built: bool = True


def run(argv: list[str]) -> ExitStatus:
    """Print the asked-for kinds as a table, or as JSON: kind → rows."""
    flags, kinds = split(argv, {"--json": False})
    for kind in kinds:
        if kind not in KINDS:
            raise UsageError(
                f"{kind}: no such kind.{did_you_mean(kind, KINDS)} Kinds: {', '.join(KINDS)}."
            )
    listed = {kind: list(KINDS[kind]()) for kind in kinds or KINDS}
    if "--json" in flags:
        rows = {kind: [asdict(row) for row in rows] for kind, rows in listed.items()}
        document = {"schema_version": SCHEMA_VERSION, **rows}
        sys.stdout.write(as_json(document))
    else:
        sys.stdout.write("\n".join(_table(kind, rows) for kind, rows in listed.items()))
    return ExitStatus.OK


def _table(kind: str, rows: list[Row]) -> str:
    lines = [kind]
    for row in rows:
        note = row.description if row.is_built or row.description else "not built yet"
        lines.append(f"  {row.name:<{_NAME_WIDTH}} {note}".rstrip())
        if row.path is not None:
            lines.append(f"  {'':<{_NAME_WIDTH}} {row.path}")
    return "\n".join(lines if rows else [*lines, "  none"]) + "\n"


def _recipes() -> Iterable[Row]:
    places = Places.at(Path.cwd())
    for name in recipe_names(places.recipe_folders):
        path = recipes.find(name, places.recipe_folders)
        assert path is not None
        hides = recipes.shadowed(path, places)
        note = f" (hides {hides})" if hides else ""
        yield Row(f"+recipe={name}", paths.headline(path) + note, str(path))


def _models() -> Iterable[Row]:
    yield from _options("model")
    yield Row(f"model.path={builtin.DEMO}", builtin.DEMO_DESCRIPTION)
    for name, model in builtin.MODELS.items():
        yield Row(f"model.path={builtin.PREFIX}{name}", model.description)
    for folder in env.model_folders():
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if (path / "config.json").is_file():
                yield Row(f"model.path={path.name}", "checkpoint", str(path))
            elif (path / "model.json").is_file():
                yield Row(f"model.path={path.name}", "workspace", str(path))


def _quantizers() -> Iterable[Row]:
    yield from _options("quant")
    for method, words in METHODS.items():
        built = is_built(RunConfig(quant=QuantConfig(method=method)))
        is_offered = method is not QuantMethod.llm_int8
        yield Row(f"quant.method={method}", words, is_built=built and is_offered)
    yield from _options("prune")


def _backends() -> Iterable[Row]:
    yield from _options("backend")
    for name in BackendName:
        built = is_built(RunConfig(backend=BackendConfig(name=name)))
        yield Row(f"backend.name={name}", "", is_built=built)


def _devices() -> Iterable[Row]:
    yield from _options("device")


def _chat_templates() -> Iterable[Row]:
    yield Row("model.chat_template=auto", "the tokenizer's own")
    for name in sorted(NAMED_TEMPLATES):
        yield Row(f"model.chat_template={name}", "")


def _artifacts() -> Iterable[Row]:
    store = Store(env.home())
    for stage in STAGES:
        for manifest in store.manifests(stage.name):
            note = f"{manifest.num_bytes / 1e6:.1f} MB"
            folder = store.folder(stage.name, manifest.fingerprint)
            yield Row(f"{stage.name} {manifest.fingerprint[:12]}", note, str(folder))


def _options(group: str) -> Iterable[Row]:
    places = Places.at(Path.cwd())
    for name, path in places.options(group).items():
        rival = places.rival(group, name)
        note = f" (refused: {rival} has the same name)" if rival else ""
        yield Row(f"{group}={name}", paths.headline(path) + note, str(path))


def _templates() -> Iterable[Row]:
    for path in sorted(TEMPLATES.glob("*.yaml")):
        yield Row(path.name, paths.headline(path), str(path))


KINDS: dict[str, Callable[[], Iterable[Row]]] = {
    "recipes": _recipes,
    "models": _models,
    "quantizers": _quantizers,
    "backends": _backends,
    "devices": _devices,
    "chat-templates": _chat_templates,
    "artifacts": _artifacts,
    "templates": _templates,
}
