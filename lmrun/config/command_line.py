"""Reading overrides such as ``kv.bits=8`` and ``recipe=NAME`` from the command line."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException

from lmrun.config import keys, recipes, values
from lmrun.config.composed import COMMAND_LINE, Origin
from lmrun.config.places import Places
from lmrun.config.suggest import did_you_mean
from lmrun.errors import ConfigError, PlanError

_ORIGIN = Origin(COMMAND_LINE)


@dataclass(frozen=True)
class CommandLine:
    """Overrides, sorted by what they do; all checked against keys and options."""

    words: tuple[str, ...]
    """As given."""
    for_hydra: tuple[str, ...]
    """The recipes and options, as Hydra's grammar has them."""
    recipes: tuple[str, ...]
    options: tuple[tuple[str, str], ...]
    """Group, option."""
    values: tuple[tuple[str, Any], ...]
    """Dotted key, value."""


def read(words: Sequence[str], places: Places) -> CommandLine:
    """Parse and check; raises `ConfigError`, or `PlanError` for what is not built yet."""
    parser = OverridesParser.create()
    for_hydra: list[str] = []
    named: list[str] = []
    options: list[tuple[str, str]] = []
    settings: list[tuple[str, Any]] = []
    for word in words:
        override = parse(parser, word)
        name = override.key_or_group
        if override.is_sweep_override():
            raise ConfigError(
                f"{name} ({_ORIGIN}): several values are a sweep. Add -m to run it."
                f" {_one_value(name)}"
            )
        if name == recipes.GROUP:
            if named:
                raise ConfigError(f"recipe ({_ORIGIN}): given twice. Write '+recipe=[A,B]'.")
            named = _recipe_names(override)
            for_hydra.append("+" + word.lstrip("+"))
        elif name in keys.groups():
            options.append((name, _option(override, places)))
            for_hydra.append(word)
        else:
            value = _value(override)
            settings.append((name, value))
    return CommandLine(
        tuple(words), tuple(for_hydra), tuple(named), tuple(options), tuple(settings)
    )


def parse(parser: OverridesParser, word: str) -> Override:
    """An override of a key, a group or recipes; several values (a sweep) are legal here.

    Raises `ConfigError`, which never repeats the value, and `PlanError`.
    """
    name = word.partition("=")[0].lstrip("+~")
    if not name or ("=" not in word and not word.startswith("~")):
        is_known = keys.find(name) or name in keys.groups() or name == recipes.GROUP
        advice = f" Write {name}=VALUE." if is_known else ""
        raise ConfigError(f"{word or repr(word)} ({_ORIGIN}): expected KEY=VALUE.{advice}")
    try:
        override = parser.parse_override(word)
    except HydraException as error:
        # The parser's own text repeats the value, which may be a secret.
        raise ConfigError(
            f"{name} ({_ORIGIN}): expected KEY=VALUE, got a value that cannot be read."
            f" Quote it twice if it holds blanks or signs: \"{name}='…'\"."
        ) from error
    if is_of_launcher(name):
        raise ConfigError(f"{name} ({_ORIGIN}): is about a sweep. Add -m, or leave it out.")
    if override.is_hydra_override() or name == "hydra":
        raise PlanError(f"{name} ({_ORIGIN}): Hydra's own settings are not built yet.")
    if override.is_delete():
        raise ConfigError(
            f"~{name} ({_ORIGIN}): a key cannot be taken away."
            f" Write {name}=VALUE, or choose another option of its group."
        )
    if override.package is not None:
        raise ConfigError(
            f"{override.get_key_element()} ({_ORIGIN}): an option goes to its own group."
            f" Write {override.key_or_group}=OPTION."
        )
    if keys.find(name) is None and name not in keys.groups() and name != recipes.GROUP:
        raise ConfigError(f"{name} ({_ORIGIN}): {_unknown(name)}")
    return override


def is_of_launcher(name: str) -> bool:
    """Whether a name is that of the one setting of Hydra's that a sweep takes."""
    return name == "hydra/launcher" or name.startswith("hydra.launcher.")


def _unknown(name: str) -> str:
    near = did_you_mean(name, [recipes.GROUP]) if "." not in name else ""
    return f"no such key.{near}" if near else keys.unknown(name)


def _one_value(name: str) -> str:
    if name == recipes.GROUP:
        return "Several recipes in one run are written '+recipe=[A,B]'."
    key = keys.find(name)
    if key is not None and key.kind is str:
        return f"A text with a comma is quoted twice: \"{name}='A,B'\"."
    if key is not None and key.kind is list:
        return f"A list is written '{name}=[A,B]'."
    return "Or give one value."


def _recipe_names(override: Override) -> list[str]:
    value = override.value()
    chosen = value if isinstance(value, list) else [value]
    if not chosen or not all(isinstance(name, str) for name in chosen):
        raise ConfigError(
            f"recipe={values.shown(value)} ({_ORIGIN}): expected the name of a recipe,"
            " or several as '+recipe=[A,B]'."
        )
    return [str(name) for name in chosen]


def _option(override: Override, places: Places) -> str:
    group = override.key_or_group
    option = override.value()
    if not isinstance(option, str):  # not repeated: it may hold a secret
        raise ConfigError(
            f"{group} ({_ORIGIN}): expected the name of one option."
            f" Options of {group}: {', '.join(places.options(group))}."
        )
    if override.is_add() or override.is_force_add():
        raise ConfigError(
            f"+{group}={option} ({_ORIGIN}): has an option already. Write {group}={option}."
        )
    if group == "model" and ("/" in option or ":" in option):
        raise ConfigError(
            f"model={option} ({_ORIGIN}): expected the name of an option, got a path."
            f" Write model.path={option}."
        )
    recipes.check_option(group, option, _ORIGIN, places)
    return option


def _value(override: Override) -> Any:  # noqa: ANN401 - any YAML value
    name = override.key_or_group
    if override.is_add() and keys.mapping_of(name) is None:
        raise ConfigError(f"+{name} ({_ORIGIN}): is a key already. Write {name}=VALUE, no plus.")
    value = plain(override.value())
    key = keys.find(name)
    is_text = key is not None and key.kind is str
    if is_text and isinstance(value, bool | int | float):
        value = override.get_value_string()
    values.check(name, value, _ORIGIN)
    return value


def plain(value: Any) -> Any:  # noqa: ANN401 - any YAML value
    """A value of Hydra's override parser as JSON has it."""
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    return value
