"""Where a recipe that lmrun writes goes: its name, its folder, and what may not be overwritten."""

import re
from dataclasses import dataclass
from pathlib import Path

from lmrun import env
from lmrun.config import paths, recipe_schema
from lmrun.errors import StageError, UsageError

FOLDER = "recipes"


@dataclass(frozen=True)
class RecipeFile:
    """A recipe that is to be written."""

    name: str
    folder: Path
    force: bool = False

    @property
    def path(self) -> Path:
        """The file."""
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
        if self.path.exists() and not self.force:
            raise UsageError(f"{self.path}: is there already. Write --force to replace it.")
        shipped = paths.shipped(FOLDER) / self.path.name
        if shipped.is_file() and not self.force:
            raise UsageError(
                f"{self.name}: is a recipe that comes with lmrun, which yours would hide."
                " Choose another name, or write --force."
            )

    def write(self, text: str) -> None:
        """Write it, and the schema for editors beside it; raises `StageError`."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            schema = self.folder / recipe_schema.FILE_NAME
            if not schema.exists():
                schema.write_text(recipe_schema.text(Path.cwd()), encoding="utf-8")
            self.path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise StageError(f"{self.path}: cannot be written: {error.strerror}.") from error


def _is_new_name(name: str) -> bool:
    """Whether `+recipe=NAME` can be written without quotes, and names a file anywhere."""
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}", name) is None:
        return False
    try:
        float(name.replace("_", ""))
    except ValueError:
        return name.lower() not in ("null", "true", "false")
    return False
