"""Everything that touches Hydra's machinery: sources, search path, and one composition."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from lmrun.config import keys, paths, recipes
from lmrun.config.schema import RunConfig

PRIMARY = "config"
SCHEMA = "lmrun_schema"
_SCHEME = "recipe"
_roots: ContextVar[tuple[Path, ...]] = ContextVar("recipe_roots")


class RecipeSource(ConfigSource):
    """The config group `recipe`, fed by flat folders.

    The folders ride in the source's own path, so they are the same wherever it is opened. The
    package is global whatever the file's first lines say: Hydra drops a `# @package` line that
    stands below another comment, without a word.
    """

    @staticmethod
    def scheme() -> str:
        return _SCHEME

    def available(self) -> bool:
        return True

    def is_config(self, config_path: str) -> bool:
        return self._find(config_path) is not None

    def is_group(self, config_path: str) -> bool:
        return config_path.strip("/") in ("", recipes.GROUP)

    def load_config(self, config_path: str) -> ConfigResult:
        path = self._find(config_path)
        if path is None:
            raise ConfigLoadError(f"no such recipe: {config_path}")
        return ConfigResult(
            provider=self.provider,
            path=f"{_SCHEME}://{path}",
            config=OmegaConf.create(path.read_text("utf-8") or "{}"),
            header={"package": "_global_"},
        )

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        if config_path.strip("/") == recipes.GROUP:
            return [] if results_filter == ObjectType.GROUP else recipes.names(self._folders())
        return [] if results_filter == ObjectType.CONFIG else [recipes.GROUP]

    def _folders(self) -> tuple[Path, ...]:
        return tuple(Path(part) for part in self.path.split(os.pathsep) if part)

    def _find(self, config_path: str) -> Path | None:
        group, _, name = config_path.strip("/").partition("/")
        if group != recipes.GROUP:
            return None
        return recipes.find(name.removesuffix(".yaml"), self._folders())


class RecipeSearchPath(SearchPathPlugin):
    """Puts the recipe folders of the open session on Hydra's search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        folders = os.pathsep.join(map(str, _roots.get(())))
        search_path.append(provider="lmrun-recipes", path=f"{_SCHEME}://{folders}")


@dataclass(frozen=True)
class Merged:
    """What Hydra made of the overrides."""

    config: DictConfig
    options: Mapping[str, str]
    """Group → the option it got. Options are merged in the order of the groups, recipes after."""


def merge(overrides: Sequence[str], folders: tuple[Path, ...]) -> Merged:
    """Compose `configs/config.yaml` with the overrides; writes nothing anywhere."""
    _register()
    with _session(folders):
        config = hydra.compose(PRIMARY, list(overrides), return_hydra_config=True)
    choices = config.hydra.runtime.choices
    options = {group: str(choices[group]) for group in keys.groups()}
    with open_dict(config):
        del config["hydra"]
    return Merged(config, options)


def order(overrides: Sequence[str], folders: tuple[Path, ...]) -> tuple[str, ...]:
    """Hydra's own list of what is merged, such as ``kv/kv4`` and ``recipe/base``, in its order.

    As costly as `merge` (40 ms), so composition relies on its order and a test compares the two.
    """
    _register()
    with _session(folders):
        loader = GlobalHydra.instance().config_loader()
        defaults = loader.compute_defaults_list(PRIMARY, list(overrides), RunMode.RUN).defaults
    paths_in_order = (default.config_path or "" for default in defaults)
    return tuple(path for path in paths_in_order if "/" in path and not path.startswith("hydra/"))


@contextmanager
def _session(folders: tuple[Path, ...]) -> Iterator[None]:
    token = _roots.set(folders)
    configs = str(paths.shipped("configs"))
    try:
        # 1.4 knows one behaviour and warns when a version is passed.
        is_older = tuple(map(int, hydra.__version__.split(".")[:2])) < (1, 4)
        arguments = {"version_base": "1.3"} if is_older else {}
        with hydra.initialize_config_dir(configs, "lmrun", **arguments):
            yield
    finally:
        _roots.reset(token)


def _register() -> None:
    """Register our sources and schema; again is harmless.

    Hydra's first look for plugins imports every installed one, Ray and Optuna with it (0.1 s
    each). A single run uses none, so they are hidden from it.
    """
    hidden = "hydra_plugins" not in sys.modules
    if hidden:
        sys.modules["hydra_plugins"] = None  # type: ignore[assignment] # blocks the import
    try:
        plugins = Plugins.instance()
    finally:
        if hidden:
            del sys.modules["hydra_plugins"]
    plugins.register(RecipeSource)
    plugins.register(RecipeSearchPath)
    store = ConfigStore.instance()
    if f"{SCHEMA}.yaml" not in store.repo:
        store.store(name=SCHEMA, node=RunConfig, provider="lmrun")
