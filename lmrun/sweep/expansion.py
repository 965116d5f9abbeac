"""From the words of a sweep to the overrides of each point, by Hydra's own grammar and sweeper."""

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    FloatRange,
    Override,
    RangeSweep,
    ValueType,
)
from hydra.errors import HydraException

from lmrun.config import command_line, hydra_session, keys, recipes
from lmrun.config.composed import COMMAND_LINE
from lmrun.config.places import Places
from lmrun.errors import ConfigError, PlanError

MOST_POINTS = 10_000
"""Of one sweep. Planning them takes minutes."""
_DIGITS = 12
_SHOWN_NAMES = 12


@dataclass(frozen=True)
class Candidate:
    """A point of the command line: not looked at yet, so it may be illegal."""

    overrides: tuple[str, ...]
    keys: dict[str, Any]
    """Swept key → plain value, in the order of the command line."""


@dataclass(frozen=True)
class Expansion:
    """What the words of a sweep ask for."""

    candidates: tuple[Candidate, ...]
    """In Hydra's order: the last key moves first."""
    launcher: tuple[str, ...]
    """Words about Hydra's launcher."""


def expand(words: Sequence[str], places: Places) -> Expansion:
    """Every combination of the swept values.

    What is wrong with all points at once is raised: a word that cannot be read, an unknown key,
    a sweep without a value, a literal secret. Whether a combination is legal is for the planner.
    Raises `ConfigError`, and `PlanError` for what no sweep can do.
    """
    launcher = tuple(word for word in words if command_line.is_of_launcher(_name(word)))
    rest = [word for word in words if word not in launcher]
    if not rest:
        raise ConfigError(
            f"-m ({COMMAND_LINE}): expected what to sweep, got nothing: the sweep is empty."
            " Write lmrun -m +recipe=NAME kv.bits=16,8,4."
        )
    with hydra_session.config_loader(places) as loader:
        parser = OverridesParser.create(config_loader=loader)
        parsed = [_parsed(parser, word, places) for word in rest]
        _check_each_once(parsed)
        swept = [_enumerated(override) for override in parsed if override.is_sweep_override()]
    _check_size(swept)
    command_line.read(
        [word for word, one in zip(rest, parsed, strict=True) if not one.is_sweep_override()],
        places,
    )
    [combinations] = BasicSweeper.split_arguments(swept, None)
    values = itertools.product(*(_plain_values(override) for override in swept))
    names = [override.key_or_group for override in swept]
    candidates = tuple(
        Candidate(_with(rest, parsed, combination), dict(zip(names, chosen, strict=True)))
        for combination, chosen in zip(combinations, values, strict=True)
    )
    return Expansion(candidates, launcher)


def _parsed(parser: OverridesParser, word: str, places: Places) -> Override:
    with _seeded(word):
        override = command_line.parse(parser, word)
    override.config_loader = parser.config_loader
    if not override.is_sweep_override():
        return override
    name, form = override.key_or_group, override.value_type
    if form is ValueType.INTERVAL_SWEEP:
        raise PlanError(
            f"{name} ({COMMAND_LINE}): an interval has no list of values, and a search through one"
            f" is not built yet. Write {name}=range(START,STOP,STEP)."
        )
    if form is ValueType.GLOB_CHOICE_SWEEP and name not in (recipes.GROUP, *keys.groups()):
        raise ConfigError(
            f"{name} ({COMMAND_LINE}): glob is for recipes and options, and this is a key."
            f" Write its values: {name}=A,B."
        )
    if name in keys.SECRETS:
        _check_are_references(override, places)
    return override


def _enumerated(override: Override) -> Override:
    """The same sweep with its values written out: names that match a glob, rounded floats, a
    shuffle that is the same each time."""
    word, name = str(override.input_line), override.key_or_group
    try:
        with _seeded(word):
            found = list(itertools.islice(override.sweep_iterator(), MOST_POINTS + 1))
    except HydraException as error:
        raise ConfigError(f"{name} ({COMMAND_LINE}): {error}.") from error
    values = _in_range(override, [_rounded(value) for value in found])
    if not values:
        raise ConfigError(f"{name} ({COMMAND_LINE}): {_why_empty(override)} The sweep is empty.")
    key = keys.find(name)
    if key is not None and key.kind is str and any(isinstance(v, bool | float) for v in values):
        raise ConfigError(
            f"{name} ({COMMAND_LINE}): texts that look like numbers would be swept as numbers."
            f" Quote each: \"{name}='1.10','1.20'\"."
        )
    return replace(override, value_type=ValueType.CHOICE_SWEEP, _value=ChoiceSweep(list=values))


def _why_empty(override: Override) -> str:
    if override.value_type is not ValueType.GLOB_CHOICE_SWEEP:
        return "has no value."
    assert override.config_loader is not None  # that of the parser
    names = override.config_loader.get_group_options(override.key_or_group)
    listed = ", ".join(names[:_SHOWN_NAMES])
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return f"matches none of {listed}{more}."


def _check_are_references(override: Override, places: Places) -> None:
    """A literal secret is refused before anything of it is kept."""
    for text in _enumerated(override).sweep_string_iterator():
        command_line.read([f"{override.key_or_group}={text}"], places)


def _check_each_once(parsed: Sequence[Override]) -> None:
    """Hydra's sweeper takes the last of two words about a key, and says nothing."""
    names = [override.key_or_group for override in parsed]
    for override in parsed:
        name = override.key_or_group
        if override.is_sweep_override() and names.count(name) > 1:
            raise ConfigError(
                f"{name} ({COMMAND_LINE}): given twice. Write all its values in one: {name}=A,B."
            )


def _check_size(swept: Sequence[Override]) -> None:
    count = math.prod(len(_values(override)) for override in swept)
    if count > MOST_POINTS:
        shown = f"{count:,}" if all(len(_values(one)) <= MOST_POINTS for one in swept) else "more"
        raise ConfigError(
            f"-m ({COMMAND_LINE}): expected at most {MOST_POINTS:,} points, got {shown}."
            " Sweep fewer values, or sweep them one key after the other."
        )


def _values(override: Override) -> list[Any]:
    sweep = override.value()
    assert isinstance(sweep, ChoiceSweep)
    return sweep.list


def _plain_values(override: Override) -> list[Any]:
    """As JSON has them; a number that is given to a text is a text."""
    key = keys.find(override.key_or_group)
    is_text = key is not None and key.kind is str
    plain = [command_line.plain(value) for value in _values(override)]
    return [str(value) if is_text and isinstance(value, int) else value for value in plain]


def _rounded(value: Any) -> Any:  # noqa: ANN401 - any YAML value
    """0.7000000000000001, the third value of range(0.5,0.9,0.2), is 0.7."""
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value


def _in_range(override: Override, values: list[Any]) -> list[Any]:
    """Without the end of a range of floats: Hydra's sums fall short of it by less than is shown,
    so that range(0.2,0.8,0.2) would have 0.8."""
    sweep = override.value()
    if not isinstance(sweep, RangeSweep) or not isinstance(sweep.range(), FloatRange):
        return values
    end = _rounded(float(sweep.stop if sweep.stop is not None else 0))
    return [value for value in values if value != end]


def _with(
    words: Sequence[str], parsed: Sequence[Override], combination: Sequence[str]
) -> tuple[str, ...]:
    """The words of one point: those that are not swept stay as they were typed."""
    chosen = iter(combination)
    return tuple(
        next(chosen) if override.is_sweep_override() else word
        for word, override in zip(words, parsed, strict=True)
    )


def _name(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")


@contextmanager
def _seeded(word: str) -> Iterator[None]:
    """Let Hydra's `shuffle`, which draws from Python's generator, do the same each time."""
    state = random.getstate()
    random.seed(word)
    try:
        yield
    finally:
        random.setstate(state)
