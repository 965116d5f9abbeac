"""`lmrun new`: a recipe for a model, after a look at its checkpoint and at this machine."""

import sys
from pathlib import Path

from lmrun import env, log
from lmrun.artifacts.store import Store
from lmrun.cli.flags import split
from lmrun.cli.new_recipe import recipe_text
from lmrun.config.recipe_file import FOLDER, RecipeFile
from lmrun.config.schema import ModelConfig
from lmrun.errors import ExitStatus, UsageError
from lmrun.models import builtin
from lmrun.plan.choosing import choose

_log = log.get(__name__)

FLAGS = {"--model": True, "--revision": True, "--output": True, "--force": False}


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
    target = RecipeFile(names[0], Path(given.get("--output", FOLDER)), "--force" in given)
    target.check()
    model = _model(given["--model"], given.get("--revision"))
    store = Store(env.home())
    chosen = choose(model, store)
    target.write(recipe_text(chosen))
    sys.stdout.write(f"{target.path}\n\n    lmrun plan +recipe={target.name}\n")
    if target.is_elsewhere:
        sys.stdout.write(f"    (with LMRUN_RECIPE_PATH={target.folder.resolve()})\n")
    return ExitStatus.OK


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
