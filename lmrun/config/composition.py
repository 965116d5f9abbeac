"""Composition: overrides → Hydra → a validated `RunConfig`, with the origin of every value."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException, ValidationError

from lmrun.config import command_line, hydra_session, keys, paths, recipes, values
from lmrun.config.command_line import CommandLine
from lmrun.config.composed import COMMAND_LINE, SCHEMA_DEFAULT, Composed, Origin
from lmrun.config.documents import Document, read
from lmrun.errors import ConfigError


class Setting(NamedTuple):
    """One value given to one key; a later setting of the same key wins."""

    key: str
    value: Any
    origin: Origin


def compose(overrides: Sequence[str], *, cwd: Path | None = None) -> Composed:
    """Compose, resolve and validate; looks at files and the environment, not at the machine.

    `cwd` is where `./recipes` is looked for (default: the working directory). Raises
    `ConfigError` with key, value, origin and what is legal; `PlanError` for sweeps, which are not
    built yet.
    """
    here = (cwd or Path.cwd()).resolve()
    line = command_line.read(overrides)
    folders = recipes.roots(here)
    taken = recipes.walk(line.recipes, folders, here)
    try:
        merged = hydra_session.merge(line.for_hydra, folders)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"configuration: cannot be composed: {error}") from error
    options = [
        read(paths.option_file(f"{group}/{option}"), group, here)
        for group, option in merged.options.items()
    ]
    settings = list(_settings([*options, *taken.values()], line))
    _check_no_option_is_lost(line, taken, settings)
    origins = {name: Origin(SCHEMA_DEFAULT) for name in keys.table()}
    origins.update((setting.key, setting.origin) for setting in settings)
    run = values.build(_resolved(merged.config, origins), origins)
    described = [recipes.describe(name, document.path) for name, document in taken.items()]
    by_name = {recipe.name: recipe for recipe in described}
    last = by_name[line.recipes[-1]] if line.recipes else None
    return Composed(run, last, line.words, origins, tuple(described))


def _settings(documents: Sequence[Document], line: CommandLine) -> Iterator[Setting]:
    """Every value that was given, in the order of merging."""
    for document in documents:
        for name, value, origin in document.settings():
            yield Setting(name, value, origin)
    for name, value in line.values:
        yield Setting(name, value, Origin(COMMAND_LINE))


def _choices(
    line: CommandLine, taken: Mapping[str, Document]
) -> Iterator[tuple[str, str, Origin, int]]:
    """Group, option, origin, and how many recipes are merged before the one that chose it."""
    for rank, document in enumerate(taken.values()):
        for index, item in enumerate(document.defaults):
            if isinstance(item, dict):
                key, option = next(iter(item.items()))
                origin = document.origin("defaults", str(index))
                yield key.rpartition("/")[2], option, origin, rank
    for group, option in line.options:
        yield group, option, Origin(COMMAND_LINE), len(taken)


def _check_no_option_is_lost(
    line: CommandLine, taken: Mapping[str, Document], settings: Sequence[Setting]
) -> None:
    """A chosen option must not be beaten by a key of a recipe that is merged before the choice.

    Hydra merges every option before every recipe, so that key would win without a word.
    """
    ranks = {document.path: rank for rank, document in enumerate(taken.values())}
    last = {setting.key: setting for setting in settings}
    for group, option, origin, rank in _choices(line, taken):
        chosen = paths.option_file(f"{group}/{option}")
        for setting in settings:
            winner = last[setting.key]
            is_earlier = winner.origin.path in ranks and ranks[winner.origin.path] < rank
            if setting.origin.path == chosen and is_earlier and winner.value != setting.value:
                raise ConfigError(
                    f"{group}={option} ({origin}): sets {setting.key}="
                    f"{values.shown(setting.value)}, but {winner.origin} sets"
                    f" {values.shown(winner.value)} and would win."
                    f" Write {setting.key}={values.shown(setting.value)} as well."
                )


def _resolved(config: DictConfig, origins: Mapping[str, Origin]) -> dict[str, Any]:
    """Plain values, interpolations resolved; the API keys stay references."""
    group, _, leaf = keys.API_KEYS.partition(".")
    references = OmegaConf.to_container(config[group], resolve=False)
    assert isinstance(references, dict)
    config[group][leaf] = []
    for name in keys.table():
        _check_resolves(config, name, origins[name])
    container = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
    assert isinstance(container, dict)
    container[group][leaf] = references[leaf]
    return {str(key): value for key, value in container.items()}


def _check_resolves(config: DictConfig, name: str, origin: Origin) -> None:
    try:
        OmegaConf.select(config, name, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ConfigError(f"{name} ({origin}): must be given. Write {name}=VALUE.") from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"{name} ({origin}): {_why_unresolved(name, error)}.") from error


def _why_unresolved(name: str, error: OmegaConfBaseException) -> str:
    """Never the value itself, which may come from the environment."""
    if isinstance(error, ValidationError):
        return (
            f"refers to a value that is not legal here: expected {keys.table()[name].expectation}"
        )
    text = str(error).splitlines()[0]
    if match := re.search(r"Environment variable '(\w+)' not found", text):
        return f"the environment variable {match[1]} is not set. Set it, or give a value"
    if match := re.search(r"Interpolation key '([\w.]+)' not found", text):
        return f"refers to {match[1]}, which is {keys.unknown(match[1]).rstrip('.')}"
    return f"cannot be resolved: {text.rstrip('.')}"
