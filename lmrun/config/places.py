"""Where one composition looks for its YAML: shipped options, the user's own, and recipes."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lmrun import env
from lmrun.config import paths
from lmrun.config.names import is_name
from lmrun.errors import ConfigError

_SUFFIX = ".yaml"


@dataclass(frozen=True)
class Places:
    """The folders of a composition. `Places.at` makes that of a working directory."""

    base: Path
    """Files below it are shown relative to it."""
    configs: Path
    """The options that come with lmrun, and `config.yaml`."""
    shipped_recipes: Path
    recipe_folders: tuple[Path, ...]
    """Nearest first; they exist."""
    own_configs: Path | None
    """`./configs`, where it is not `configs` itself: options of the user's own."""
    label: str = ""
    """Stands before the paths that are shown: `main:` for a git revision."""

    @classmethod
    def at(cls, cwd: Path) -> "Places":
        """The places of a working directory."""
        recipes = paths.shipped("recipes").resolve()
        return cls(
            base=cwd,
            configs=paths.shipped("configs").resolve(),
            shipped_recipes=recipes,
            recipe_folders=existing(*env.recipe_folders(), cwd / "recipes", recipes),
            own_configs=own_configs(cwd, paths.shipped("configs").resolve()),
        )

    def options(self, group: str) -> Mapping[str, Path]:
        """Option → file, sorted by name; raises nothing (see `option_file`)."""
        return self._options.get(group) or self._read_options(group)

    def option_file(self, group: str, option: str) -> Path:
        """The file of an option that `options` has.

        Raises `ConfigError` where a file of the user's own has the name of a shipped option and
        other content: one of the two would be hidden.
        """
        path = self.options(group)[option]
        rival = self.rival(group, option)
        if rival is not None:
            raise ConfigError(
                f"{group}={option}: {self.show(rival)} has the name of an option that comes with"
                f" lmrun ({path}). Give the file another name."
            )
        return path

    def rival(self, group: str, option: str) -> Path | None:
        """The user's file that has the name of a shipped option and other content."""
        if self.own_configs is None:
            return None
        own = self.own_configs / group / f"{option}{_SUFFIX}"
        shipped = self.configs / group / own.name
        is_rival = own.is_file() and shipped.is_file() and own.read_bytes() != shipped.read_bytes()
        return own if is_rival else None

    def show(self, path: Path) -> str:
        """A path as messages show it: relative below `base`, `lmrun:` before a shipped one."""
        if path.is_relative_to(self.base):
            return f"{self.label}{path.relative_to(self.base)}"
        for folder in (self.configs, self.shipped_recipes):
            if path.is_relative_to(folder):
                return f"lmrun:{Path(folder.name) / path.relative_to(folder)}"
        return str(path)

    @cached_property
    def _options(self) -> dict[str, dict[str, Path]]:
        return {}

    def _read_options(self, group: str) -> dict[str, Path]:
        folders = [self.configs / group]
        if self.own_configs is not None:
            folders.insert(0, self.own_configs / group)  # the shipped one of a name replaces it
        found = {
            path.stem: path
            for folder in folders
            for path in folder.glob(f"*{_SUFFIX}")
            if path.is_file() and is_name(path.stem)
        }
        self._options[group] = dict(sorted(found.items()))
        return self._options[group]


def existing(*folders: Path) -> tuple[Path, ...]:
    """The folders that exist, each once, in their order."""
    return tuple(dict.fromkeys(path.resolve() for path in folders if path.is_dir()))


def own_configs(cwd: Path, shipped: Path) -> Path | None:
    """`./configs`, unless there is none or it is the shipped folder itself."""
    folder = (cwd / "configs").resolve()
    return folder if folder.is_dir() and folder != shipped else None
