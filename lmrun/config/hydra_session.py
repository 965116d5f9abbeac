"""Everything that touches Hydra's machinery: sources, search path, and one composition."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import hydra
from hydra.conf import HydraConf
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from lmrun.config import keys, recipes
from lmrun.config.documents import content
from lmrun.config.names import is_name, recipe_names
from lmrun.config.places import Places
from lmrun.config.schema import RunConfig

PRIMARY = "config"
SCHEMA = "lmrun_schema"
_SCHEME = "recipe"
_OPTION_SCHEME = "option"
_places: ContextVar[Places] = ContextVar("places")


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
            config=OmegaConf.create(content(path)),
            header={"package": "_global_"},
        )

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        if config_path.strip("/") == recipes.GROUP:
            return [] if results_filter == ObjectType.GROUP else recipe_names(self._folders())
        return [] if results_filter == ObjectType.CONFIG else [recipes.GROUP]

    def _folders(self) -> tuple[Path, ...]:
        return tuple(Path(part) for part in self.path.split(os.pathsep) if part)

    def _find(self, config_path: str) -> Path | None:
        group, _, name = config_path.strip("/").partition("/")
        if group != recipes.GROUP:
            return None
        return recipes.find(name.removesuffix(".yaml"), self._folders())


class OptionSource(ConfigSource):
    """Options: a file `GROUP/NAME.yaml` below one of the folders of the path.

    The package is the group's, whatever the file's first lines say.
    """

    @staticmethod
    def scheme() -> str:
        return _OPTION_SCHEME

    def available(self) -> bool:
        return True

    def is_config(self, config_path: str) -> bool:
        return self._file(config_path) is not None

    def is_group(self, config_path: str) -> bool:
        return config_path.strip("/") in ("", *keys.groups())

    def load_config(self, config_path: str) -> ConfigResult:
        path = self._file(config_path)
        if path is None:
            raise ConfigLoadError(f"no such option: {config_path}")
        return ConfigResult(
            provider=self.provider,
            path=f"{_OPTION_SCHEME}://{path}",
            config=OmegaConf.create(content(path)),
            header={"package": None},
        )

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        group = config_path.strip("/")
        if group not in keys.groups():
            return [] if results_filter == ObjectType.CONFIG else list(keys.groups())
        files = (file for folder in self._folders() for file in (folder / group).glob("*.yaml"))
        return [] if results_filter == ObjectType.GROUP else sorted({file.stem for file in files})

    def _folders(self) -> tuple[Path, ...]:
        return tuple(Path(part) for part in self.path.split(os.pathsep) if part)

    def _file(self, config_path: str) -> Path | None:
        group, _, name = config_path.strip("/").removesuffix(".yaml").partition("/")
        if group not in keys.groups() or not is_name(name):
            return None
        files = (folder / group / f"{name}.yaml" for folder in self._folders())
        return next((file for file in files if file.is_file()), None)


class LmrunSearchPath(SearchPathPlugin):
    """Puts the folders of the open session on Hydra's search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        places = _places.get(None)
        if places is None:
            return
        folders = os.pathsep.join(map(str, places.recipe_folders))
        search_path.append(provider="lmrun-recipes", path=f"{_SCHEME}://{folders}")
        options = [str(places.configs)] + [str(path) for path in [places.own_configs] if path]
        path = f"{_OPTION_SCHEME}://{os.pathsep.join(options)}"
        search_path.prepend(provider="lmrun-options", path=path)


@lru_cache(maxsize=256)
def merge(choices: tuple[str, ...], places: Places, digests: tuple[str, ...]) -> DictConfig:
    """`configs/config.yaml` merged with the recipes and options of the command line.

    Writes nothing anywhere. The result is kept, and the caller copies it: overrides of keys come
    after everything else, so that two runs that differ in them alone share this. ``digests`` are
    those of the files that take part, so that a file that changed is read again.
    """
    _register()
    with _session(places):
        config = hydra.compose(PRIMARY, list(choices), return_hydra_config=True)
    with open_dict(config):
        del config["hydra"]
    return config


def merge_by_group(
    choices: Sequence[str], options: Mapping[str, str], places: Places, digests: tuple[str, ...]
) -> DictConfig:
    """`merge`, put together from one composition for each of ``options``.

    An option sets keys of its own group alone, and recipes are merged after all options, so a
    group depends on the recipes and on its own option. A sweep composes the sum of its options in
    place of their product; a single run would pay more. ``options`` are those of ``choices``, each
    once, with the digest of its file; ``digests`` are those of all other files.
    """
    rest = tuple(choice for choice in choices if choice not in options)
    config = merge(rest, places, digests).copy()
    with open_dict(config):
        for option, digest in options.items():
            group = option.partition("=")[0]
            config[group] = merge((*rest, option), places, (*digests, digest))[group]
    return config


@contextmanager
def config_loader(places: Places) -> Iterator[ConfigLoader]:
    """Hydra's loader, which knows our recipes and options; overrides with `glob` ask it."""
    _register()
    with _session(places):
        yield GlobalHydra.instance().config_loader()


def order(overrides: Sequence[str], places: Places) -> tuple[str, ...]:
    """Hydra's own list of what is merged, such as ``kv/kv4`` and ``recipe/base``, in its order.

    As costly as `merge` (40 ms), so composition relies on its order and a test compares the two.
    """
    _register()
    with _session(places):
        loader = GlobalHydra.instance().config_loader()
        defaults = loader.compute_defaults_list(PRIMARY, list(overrides), RunMode.RUN).defaults
    paths_in_order = (default.config_path or "" for default in defaults)
    return tuple(path for path in paths_in_order if "/" in path and not path.startswith("hydra/"))


@contextmanager
def _session(places: Places) -> Iterator[None]:
    token = _places.set(places)
    try:
        # 1.4 knows one behaviour and warns when a version is passed.
        is_older = tuple(map(int, hydra.__version__.split(".")[:2])) < (1, 4)
        arguments = {"version_base": "1.3"} if is_older else {}
        with (
            _bare_hydra_node(),
            hydra.initialize_config_dir(str(places.configs), "lmrun", **arguments),
        ):
            yield
    finally:
        _places.reset(token)


@contextmanager
def _bare_hydra_node() -> Iterator[None]:
    """Hydra's own settings without its launcher, sweeper, logging and help, which no composition
    needs and which would double its cost."""
    group = ConfigStore.instance().repo["hydra"]
    full = group["config.yaml"]
    node = OmegaConf.structured(HydraConf(defaults=[]))
    group["config.yaml"] = replace(full, node=node)
    try:
        yield
    finally:
        group["config.yaml"] = full


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
    plugins.register(OptionSource)
    plugins.register(LmrunSearchPath)
    store = ConfigStore.instance()
    if f"{SCHEMA}.yaml" not in store.repo:
        store.store(name=SCHEMA, node=RunConfig, provider="lmrun")
