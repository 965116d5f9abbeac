"""`lmrun schema`: JSON Schemas of recipes and of everything lmrun writes, and editor set-up."""

import json
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from lmrun.cli.flags import split
from lmrun.config import recipe_schema
from lmrun.config.suggest import did_you_mean
from lmrun.errors import ExitStatus, StageError, UsageError
from lmrun.json_schema import DRAFT

FLAGS = {"--output": True, "--editor": False}

SCHEMAS: Mapping[str, tuple[str, str]] = {
    "recipe": ("lmrun.config.recipe_schema:schema", "a recipe, for editors and checkers"),
    "events": ("lmrun.events:schema", "a line of the file of --events"),
    "manifest": ("lmrun.artifacts.manifest:SCHEMA", "manifest.json of an artifact"),
    "plan": ("lmrun.plan.plan:schema", "what `lmrun plan --json` prints"),
    "lock": ("lmrun.plan.lock:SCHEMA", "a lock file"),
    "explain": ("lmrun.config.explain:SCHEMA", "what `lmrun explain --json` prints"),
    "list": ("lmrun.cli.list:SCHEMA", "what `lmrun list --json` prints"),
    "diff": ("lmrun.plan.comparison:schema", "what `lmrun diff --json` prints"),
    "store-ls": ("lmrun.cli.report_schemas:STORE_LS", "what `lmrun store ls --json` prints"),
    "store-verify": ("lmrun.cli.report_schemas:STORE_VERIFY", "`lmrun store verify --json`"),
    "store-gc": ("lmrun.cli.report_schemas:STORE_GC", "`lmrun store gc --json`"),
    "store-key": ("lmrun.cli.report_schemas:STORE_KEY", "`lmrun store key --json`"),
    "quantize": ("lmrun.stages.quantize_report:SCHEMA", "report.json of the quantize stage"),
    "quality": ("lmrun.evals.report:SCHEMA", "report.json of the evaluate stage"),
    "baseline": ("lmrun.evals.baseline:SCHEMA", "scores.json of the baseline stage"),
    "eval": ("lmrun.cli.eval:SCHEMA", "what `lmrun eval --json` prints"),
    "sweep": ("lmrun.sweep.rows:SCHEMA", "sweep.json: what a sweep was asked for"),
    "sweep-row": ("lmrun.sweep.rows:ROW_SCHEMA", "what became of one point of a sweep"),
    "sweep-plan": ("lmrun.sweep.plan_table:SCHEMA", "what `lmrun plan -m --json` prints"),
    "sweep-ls": ("lmrun.sweep.listing:SCHEMA", "what `lmrun sweep ls --json` prints"),
    "sweep-show": ("lmrun.sweep.export:SCHEMA", "what `lmrun sweep show --json` prints"),
    "bench": ("lmrun.bench.report:schema", "the last line of `lmrun bench`"),
    "bench-startup": ("lmrun.cli.report_schemas:BENCH_STARTUP", "the last line of that bench"),
    "report": ("lmrun.reports.report:SCHEMA", "what `lmrun report --json` prints"),
    "bench-engine": ("lmrun.bench.engine_report:SCHEMA", "the last line of that bench"),
    "bench-quantize": ("lmrun.bench.quantize:SCHEMA", "the last line of that bench"),
    "bench-quality": ("lmrun.bench.quality:SCHEMA", "the last line of that bench"),
    "verify": ("lmrun.deploy.verifying:SCHEMA", "what `lmrun verify --json` prints"),
    "digests": ("lmrun.artifacts.digests:SCHEMA", "the digest cache of the store"),
    "hub-list": ("lmrun.artifacts.hub_lists:SCHEMA", "the files of a commit on the hub"),
    "doctor": ("lmrun.cli.doctor:schema", "what `lmrun doctor --json` prints"),
    "measurements": (
        "lmrun.artifacts.measurements:schema",
        "ceilings of machines and what runs showed, in the store",
    ),
    "deployment": ("lmrun.artifacts.uses:SCHEMA", "a running command and what it uses"),
}
"""Name → where it is (a document, or a function that makes it), what it describes."""


def run(argv: list[str]) -> ExitStatus:
    """Print a schema, write all or some to a folder, or set the editor up."""
    given, names = split(argv, FLAGS)
    for name in names:
        if name not in SCHEMAS:
            raise UsageError(
                f"{name}: no such schema.{did_you_mean(name, SCHEMAS)}"
                f" Schemas: {', '.join(SCHEMAS)}."
            )
    if "--editor" in given:
        return _set_up_editor(names, Path(given.get("--output", "recipes")))
    if "--output" in given:
        folder = Path(given["--output"])
        for name in names or SCHEMAS:
            sys.stdout.write(f"{_written(folder / f'{name}.schema.json', _text(name))}\n")
    elif not names:
        width = max(map(len, SCHEMAS))
        for name, (_, description) in SCHEMAS.items():
            sys.stdout.write(f"{name:<{width}}  {description}\n")
    elif len(names) > 1:
        raise UsageError("schema: expected one name, or --output DIR, got several names.")
    else:
        sys.stdout.write(_text(names[0]))
    return ExitStatus.OK


def document(name: str) -> dict[str, Any]:
    """A schema of the registry, as of the working directory."""
    module, _, attribute = SCHEMAS[name][0].partition(":")
    found = getattr(import_module(module), attribute)
    if callable(found):
        found = found(Path.cwd()) if name == "recipe" else found()
    return {"$schema": DRAFT, **found}


def _text(name: str) -> str:
    return json.dumps(document(name), indent=1, ensure_ascii=False) + "\n"


def _set_up_editor(names: list[str], folder: Path) -> ExitStatus:
    if names:
        raise UsageError("schema --editor: expected no name, got one. It writes that of recipes.")
    path = _written(folder / recipe_schema.FILE_NAME, recipe_schema.text(Path.cwd()))
    sys.stdout.write(
        f"{path}\n"
        "\n"
        "In an editor with the YAML language server (the YAML extension of VS Code has it), put\n"
        f"this line into each recipe of {folder}, below the line that says what it is:\n"
        "\n"
        f"{recipe_schema.MODELINE}\n"
    )
    return ExitStatus.OK


def _written(path: Path, text: str) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StageError(f"{path}: cannot be written: {error.strerror}.") from error
    return path
