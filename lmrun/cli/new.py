"""`lmrun new`: a recipe for a model, after a look at its checkpoint and at this machine."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from lmrun import env, log
from lmrun.artifacts.store import Store
from lmrun.cli.flags import split
from lmrun.cli.new_recipe import recipe_text
from lmrun.config import paths, recipe_schema
from lmrun.config.schema import ModelConfig
from lmrun.errors import ExitStatus, StageError, UsageError
from lmrun.models import builtin
from lmrun.plan.choosing import choose

_log = log.get(__name__)

FLAGS = {"--model": True, "--revision": True, "--output": True, "--force": False}
FOLDER = "recipes"


def run(argv: list[str]) -> ExitStatus:
    """Write the recipe; stdout gets its path and what to do next."""
    given, names = split(argv, FLAGS)
    settings = [name for name in names if "=" in name]
    if settings:
        raise UsageError(
            f"new: expected a name and a model, got {settings[0]}. The recipe is there to be"
            " edited: write settings into it."
        )
    if len(names) != 1 or "--model" not in given:
        raise UsageError("new: expected a name and a model. Write lmrun new NAME --model PATH.")
    target = _Target(names[0], Path(given.get("--output", FOLDER)), "--force" in given)
    target.check()
    model = _model(given["--model"], given.get("--revision"))
    store = Store(env.home())
    chosen = choose(model, store)
    folder = target.file.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        schema = folder / recipe_schema.FILE_NAME
        if not schema.exists():
            schema.write_text(recipe_schema.text(Path.cwd()), encoding="utf-8")
        target.file.write_text(recipe_text(chosen), encoding="utf-8")
    except OSError as error:
        raise StageError(f"{target.file}: cannot be written: {error.strerror}.") from error
    sys.stdout.write(f"{target.file}\n\n    lmrun plan +recipe={target.name}\n")
    if target.is_elsewhere:
        sys.stdout.write(f"    (with LMRUN_RECIPE_PATH={folder.resolve()})\n")
    return ExitStatus.OK


@dataclass(frozen=True)
class _Target:
    """Where the recipe goes."""

    name: str
    folder: Path
    force: bool

    @property
    def file(self) -> Path:
        return self.folder / f"{self.name}.yaml"

    @property
    def is_elsewhere(self) -> bool:
        """Whether the folder is none of those that recipes are looked for in."""
        known = (Path.cwd() / FOLDER, *env.recipe_folders())
        return self.folder.resolve() not in {path.resolve() for path in known}

    def check(self) -> None:
        """Raise `UsageError` for a name that is none, is taken, or hides a shipped recipe."""
        if not _is_new_name(self.name):
            raise UsageError(
                f"{self.name or '(nothing)'}: expected the name of a recipe: letters from a to z,"
                " digits, - and _, not a number alone. Choose another name."
            )
        if self.file.exists() and not self.force:
            raise UsageError(f"{self.file}: is there already. Write --force to replace it.")
        shipped = paths.shipped(FOLDER) / self.file.name
        if shipped.is_file() and not self.force:
            raise UsageError(
                f"{self.name}: is a recipe that comes with lmrun, which yours would hide."
                " Choose another name, or write --force."
            )


def _is_new_name(name: str) -> bool:
    """Whether `+recipe=NAME` can be written without quotes, and names a file anywhere."""
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}", name) is None:
        return False
    try:
        float(name.replace("_", ""))
    except ValueError:
        return name.lower() not in ("null", "true", "false")
    return False


def _model(text: str, revision: str | None) -> ModelConfig:
    """A folder, a built-in model, or, where no such folder is, `ORG/NAME` of the hub."""
    is_local = Path(text).expanduser().is_dir() or text.startswith((builtin.PREFIX, ".", "/", "~"))
    if is_local or text.count("/") != 1:
        if revision is not None:
            raise UsageError(f"--revision: belongs to a model of the hub, and {text} is none.")
        is_folder = Path(text).expanduser().is_dir()
        return ModelConfig(path=str(Path(text).expanduser().resolve()) if is_folder else text)
    _log.info("%s: no such folder here; asking the Hugging Face hub", text)
    return ModelConfig(hub_id=text, revision=revision)
