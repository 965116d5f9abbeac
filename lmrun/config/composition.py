"""Composition: overrides → Hydra → a validated `RunConfig`, with the origin of every value."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException, ValidationError

from lmrun.config import (
    command_line,
    hydra_session,
    keys,
    model_choice,
    recipes,
    values,
)
from lmrun.config.command_line import CommandLine
from lmrun.config.composed import (
    COMMAND_LINE,
    SCHEMA_DEFAULT,
    Choice,
    Composed,
    ConfigFile,
    Interpolation,
    Origin,
    RecipeOrigin,
    Setting,
)
from lmrun.config.documents import Document, read
from lmrun.config.places import Places
from lmrun.config.resolved import flat
from lmrun.config.schema import RunConfig
from lmrun.errors import ConfigError


def compose(
    overrides: Sequence[str],
    *,
    cwd: Path | None = None,
    places: Places | None = None,
    is_one_of_many: bool = False,
) -> Composed:
    """Compose, resolve and validate; looks at files and the environment, not at the machine.

    `cwd` is where `./recipes` and `./configs` are looked for (default: the working directory);
    `places` says it in full. `is_one_of_many` composes in a way that pays where many combinations
    of options follow, to the same result. Raises `ConfigError` with key, value, origin and what is
    legal; `PlanError` for what is not built yet.
    """
    places = places or Places.at((cwd or Path.cwd()).resolve())
    line = command_line.read(overrides, places)
    taken = recipes.walk(line.recipes, places)
    primary = read(places.configs / f"{hydra_session.PRIMARY}.yaml", "", places)
    choices = choices_of(primary, taken, line)
    options = {
        f"{group}/{chosen[-1].option}": read(
            places.option_file(group, chosen[-1].option), group, places
        )
        for group, chosen in choices.items()
        if chosen
    }
    chain = _chain([*options.values(), *taken.values()], line)
    others = (primary, *taken.values())
    config = _merged(line, places, options, others, is_one_of_many=is_one_of_many)
    model_choice.give_way(chain, choices, places)
    winners = {key: settings[-1] for key, settings in chain.items()}
    if winners[model_choice.PATH].value is None:
        config.model.path = None
    _check_no_option_is_lost(line, taken, chain, places)
    origins = {key: setting.origin for key, setting in winners.items()}
    run = values.build(_resolved(config, winners), winners)
    model_choice.check_one(run, origins)
    described = {
        name: RecipeOrigin(
            name, document.path, document.digest, recipes.shadowed(document.path, places)
        )
        for name, document in taken.items()
    }
    return Composed(
        run=run,
        recipe=described[line.recipes[-1]] if line.recipes else None,
        overrides=line.words,
        origins=origins,
        recipes=tuple(described.values()),
        files=(
            ConfigFile("defaults", hydra_session.PRIMARY, primary.path, primary.digest),
            *(ConfigFile("option", name, d.path, d.digest) for name, d in options.items()),
            *(ConfigFile("recipe", name, d.path, d.digest) for name, d in taken.items()),
        ),
        chain=chain,
        choices=choices,
        interpolations=tuple(_interpolations(winners.values())),
    )


def _merged(
    line: CommandLine,
    places: Places,
    options: Mapping[str, Document],
    others: Sequence[Document],
    *,
    is_one_of_many: bool,
) -> DictConfig:
    """What Hydra makes of the files, with the values of the command line set in it."""
    try:
        if is_one_of_many:
            config = _merged_by_group(line, places, options, others)
        else:
            digests = tuple(file.digest for file in (*others, *options.values()))
            config = hydra_session.merge(line.for_hydra, places, digests).copy()
        for key, value in line.values:
            _set(config, key, value)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"configuration: cannot be composed: {error}") from error
    return config


def _merged_by_group(
    line: CommandLine,
    places: Places,
    options: Mapping[str, Document],
    others: Sequence[Document],
) -> DictConfig:
    """As `hydra_session.merge`; a group that the command line names twice is left to that."""
    groups = [group for group, _ in line.options]
    own = {
        f"{group}={option}": f"{group}/{option}"
        for group, option in line.options
        if groups.count(group) == 1 and f"{group}={option}" in line.for_hydra
    }
    rest = [file for name, file in options.items() if name not in own.values()]
    digests = tuple(file.digest for file in (*others, *rest))
    digest_of = {word: options[name].digest for word, name in own.items()}
    return hydra_session.merge_by_group(line.for_hydra, digest_of, places, digests)


def _set(config: DictConfig, key: str, value: Any) -> None:  # noqa: ANN401 - any YAML value
    """A value of the command line; a whole mapping replaces, an entry of one is added."""
    is_entry = keys.mapping_of(key) is not None
    OmegaConf.update(config, key, value, merge=False, force_add=is_entry)


def _chain(documents: Sequence[Document], line: CommandLine) -> dict[str, tuple[Setting, ...]]:
    """Every value that each key was given, in the order of merging.

    An entry of a mapping is a key of its own, and the mapping gets a value with each of them.
    """
    found = {
        key: [Setting(key, value, Origin(SCHEMA_DEFAULT))]
        for key, value in flat(RunConfig()).items()
    }
    for document in documents:
        for key, value, origin in document.settings():
            if key in keys.mappings():
                continue  # empty there: merging it changes nothing
            _append(found, Setting(key, value, origin))
    for key, value in line.values:
        origin = Origin(COMMAND_LINE)
        if key in keys.mappings():
            for name in [name for name in found if keys.mapping_of(name) == key]:
                del found[name]
            found[key].append(Setting(key, {}, origin))
            for entry, inner in value.items():
                _append(found, Setting(f"{key}.{entry}", inner, origin))
        else:
            _append(found, Setting(key, value, origin))
    return {key: tuple(settings) for key, settings in found.items()}


def _append(found: dict[str, list[Setting]], setting: Setting) -> None:
    found.setdefault(setting.key, []).append(setting)
    above = keys.mapping_of(setting.key)
    if above is not None:
        before = found[above][-1]
        whole = {**before.value, setting.key.rpartition(".")[2]: setting.value}
        if (before.origin.source, before.origin.path) == (
            setting.origin.source,
            setting.origin.path,
        ):
            found[above].pop()  # one file, or the command line, gives the mapping one value
        found[above].append(Setting(above, whole, setting.origin))


def choices_of(
    primary: Document, taken: Mapping[str, Document], line: CommandLine
) -> dict[str, tuple[Choice, ...]]:
    """Every option that was chosen for each group, in the order of choosing."""
    found: dict[str, list[Choice]] = {group: [] for group in keys.groups()}
    for document in (primary, *taken.values()):
        for choice in _chosen_by(document):
            found[choice.group].append(choice)
    for group, option in line.options:
        found[group].append(Choice(group, option, Origin(COMMAND_LINE)))
    return {group: tuple(chosen) for group, chosen in found.items()}


def _chosen_by(document: Document) -> Iterator[Choice]:
    for index, item in enumerate(document.defaults):
        if isinstance(item, dict):
            key, option = next(iter(item.items()))
            group = str(key).split()[-1].lstrip("/")
            yield Choice(group, option, document.origin("defaults", str(index)))


def _interpolations(winners: Iterable[Setting]) -> Iterator[Interpolation]:
    for setting in winners:
        texts = setting.value if isinstance(setting.value, list) else [setting.value]
        for text in texts:
            if isinstance(text, str) and "${" in text:
                names = re.findall(r"\$\{\s*oc\.env:\s*(\w+)", text)
                yield Interpolation(setting.key, text, tuple(sorted(set(names))))


def _check_no_option_is_lost(
    line: CommandLine,
    taken: Mapping[str, Document],
    chain: Mapping[str, tuple[Setting, ...]],
    places: Places,
) -> None:
    """A chosen option must not be beaten by a key of a recipe that is merged before the choice.

    Hydra merges every option before every recipe, so that key would win without a word.
    """
    ranks = {document.path: rank for rank, document in enumerate(taken.values())}
    ranked = [
        (choice, rank)
        for rank, document in enumerate(taken.values())
        for choice in _chosen_by(document)
    ]
    ranked += [
        (Choice(group, option, Origin(COMMAND_LINE)), len(taken)) for group, option in line.options
    ]
    for choice, rank in ranked:
        chosen = places.option_file(choice.group, choice.option)
        for key, settings in chain.items():
            winner = settings[-1]
            if key in keys.mappings():
                continue  # its entries are looked at
            is_earlier = winner.origin.path in ranks and ranks[winner.origin.path] < rank
            for setting in settings:
                if setting.origin.path == chosen and is_earlier and winner.value != setting.value:
                    raise ConfigError(
                        f"{choice.group}={choice.option} ({choice.origin}): sets {setting.key}="
                        f"{values.shown(setting.value)}, but {winner.origin} sets"
                        f" {values.shown(winner.value)} and would win."
                        f" Write {setting.key}={values.shown(setting.value)} as well."
                    )


def _resolved(config: DictConfig, winners: Mapping[str, Setting]) -> dict[str, Any]:
    """Plain values, interpolations resolved; secrets stay references."""
    written = OmegaConf.to_container(config, resolve=False)
    assert isinstance(written, dict)
    for secret in keys.SECRETS:
        group, _, leaf = secret.partition(".")
        config[group][leaf] = [] if keys.table()[secret].kind is list else None
    for name, setting in winners.items():
        if _is_deferred(setting.value):
            _check_resolves(config, name, setting.origin)
    container = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
    assert isinstance(container, dict)
    for secret in keys.SECRETS:
        group, _, leaf = secret.partition(".")
        container[group][leaf] = written[group][leaf]
    return {str(key): value for key, value in container.items()}


def _is_deferred(value: object) -> bool:
    """Whether a value as written, or one in a list, is known only once composed."""
    texts = value if isinstance(value, list) else [value]
    return any(isinstance(text, str) and values.is_deferred(text) for text in texts)


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
        return f"refers to a value that is not legal here: expected {values.expectation(name)}"
    text = str(error).splitlines()[0]
    if match := re.search(r"Environment variable '(\w+)' not found", text):
        return f"the environment variable {match[1]} is not set. Set it, or give a value"
    if match := re.search(r"Interpolation key '([\w.]+)' not found", text):
        return f"refers to {match[1]}, which is {keys.unknown(match[1]).rstrip('.')}"
    return f"cannot be resolved: {text.rstrip('.')}"
