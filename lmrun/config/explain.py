"""Who set a value, and what it beat: the text and JSON forms of `Composed.chain`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lmrun import json_schema
from lmrun.columns import columns
from lmrun.config import keys
from lmrun.config.composed import Composed, Origin, Setting
from lmrun.config.resolved import flat
from lmrun.config.suggest import listed
from lmrun.config.values import shown
from lmrun.errors import ConfigError
from lmrun.json_schema import DIGEST, TEXT, TEXT_OR_NULL, Schema, records

SCHEMA_VERSION = 1
RECIPE = "recipe"
_GAP = "   "
Effect = Callable[[str], str]
"""Dotted key → what it changes, in words; planning knows that."""

_ORIGIN: Mapping[str, Schema] = {
    "source": TEXT,
    "path": TEXT_OR_NULL,
    "line": {"type": ["integer", "null"], "minimum": 1},
}

SCHEMA = json_schema.document(
    "lmrun explain",
    SCHEMA_VERSION,
    recipes=records(name=TEXT, path=TEXT, sha256=DIGEST),
    groups=records(group=TEXT, option=TEXT, choices=records(option=TEXT, **_ORIGIN)),
    keys=records(
        key=TEXT,
        value={},
        description=TEXT,
        changes=TEXT,
        settings=records(value={}, **_ORIGIN),
    ),
)
"""JSON Schema of `document`. Settings and choices are in the order of merging, the winner last."""


def check(names: Sequence[str]) -> None:
    """Refuse a name that is no key, no group and not ``recipe``."""
    for name in names:
        if keys.find(name) is None and name not in keys.groups() and name != RECIPE:
            raise ConfigError(f"{name}: {keys.unknown(name)}")


def document(composed: Composed, names: Sequence[str], effect: Effect) -> dict[str, Any]:
    """The JSON form of the named keys and groups; of everything where none is named."""
    wanted = names or [RECIPE, *keys.groups()]
    groups = [name for name in wanted if name in keys.groups()]
    leaves = [key for name in wanted for key in _keys(name)]
    _check_given(composed, leaves)
    values = _values(composed)
    return {
        "schema_version": SCHEMA_VERSION,
        "recipes": [
            {"name": recipe.name, "path": str(recipe.path), "sha256": recipe.digest}
            for recipe in (composed.recipes if RECIPE in wanted else ())
        ],
        "groups": [
            {
                "group": group,
                "option": composed.choices[group][-1].option,
                "choices": [
                    {"option": choice.option, **_place(choice.origin)}
                    for choice in composed.choices[group]
                ],
            }
            for group in groups
        ],
        "keys": [
            {
                "key": key,
                "value": values[key],
                "description": _key_of(key).rules["description"],
                "changes": effect(key),
                "settings": [
                    {"value": _json(setting), **_place(setting.origin)}
                    for setting in composed.chain[key]
                ],
            }
            for key in leaves
        ],
    }


def text(composed: Composed, names: Sequence[str], effect: Effect) -> str:
    """The text form; of everything where none is named."""
    if not names:
        blocks = [_recipes(composed)] if composed.recipes else []
        blocks += [_group(composed, group, effect) for group in keys.groups()]
        return "\n\n".join(blocks)
    _check_given(composed, [key for name in names for key in _keys(name)])
    return "\n\n".join(_block(composed, name, effect) for name in names)


def _block(composed: Composed, name: str, effect: Effect) -> str:
    if name == RECIPE:
        return _recipes(composed)
    if name in keys.groups():
        return _group(composed, name, effect)
    return _key(composed, name, effect)


def _keys(name: str) -> list[str]:
    if name in keys.groups():
        return [f"{name}.{leaf}" for leaf in keys.groups()[name]]
    return [name] if keys.find(name) is not None else []


def _key_of(name: str) -> keys.Key:
    key = keys.find(name)
    assert key is not None  # `check` saw to it
    return key


def _values(composed: Composed) -> dict[str, Any]:
    """Of every key, and of the entries of mappings."""
    values = flat(composed.run)
    entries = {
        f"{name}.{entry}": value
        for name in keys.mappings()
        for entry, value in values[name].items()
    }
    return values | entries


def _check_given(composed: Composed, names: Sequence[str]) -> None:
    """An entry of a mapping is there where something gave it."""
    for name in names:
        above = keys.mapping_of(name)
        if above is not None and name not in composed.chain:
            given = listed(flat(composed.run)[above], "and") or "none"
            raise ConfigError(f"{name}: nothing sets it. Entries of {above}: {given}.")


def _recipes(composed: Composed) -> str:
    if not composed.recipes:
        return (
            "recipe: none is named\n  choose one with +recipe=NAME; `lmrun list recipes` lists them"
        )
    files = {file.name: file for file in composed.files if file.kind == RECIPE}
    rows = [
        (recipe.name, f"{recipe.path}", f"sha256 {files[recipe.name].digest[:12]}")
        for recipe in composed.recipes
    ]
    head = f"recipe = {composed.recipes[-1].name}"
    return "\n".join([head, *_ladder(rows)])


def _key(composed: Composed, key: str, effect: Effect) -> str:
    described = _key_of(key)
    value = _values(composed)[key]
    rows = [
        (_shown(setting.value), str(setting.origin), _through(composed, setting))
        for setting in composed.chain[key]
    ]
    lines = [f"{key} = {_shown(value)}", *_ladder(rows)]
    lines.append(f"  means    {described.rules['description']}")
    lines.append(f"  legal    {described.expectation}")
    lines.append(f"  changes  {effect(key)}")
    return "\n".join(lines)


def _through(composed: Composed, setting: Setting) -> str:
    """For a line of an option file: which option, and who chose it."""
    group = setting.key.partition(".")[0]
    chosen = composed.choices[group][-1]
    is_option = any(
        file.kind == "option" and file.path == setting.origin.path for file in composed.files
    )
    return f"{group}={chosen.option}, chosen by {chosen.origin}" if is_option else ""


def _group(composed: Composed, group: str, effect: Effect) -> str:
    choices = composed.choices[group]
    lines = [f"{group} = {choices[-1].option}"]
    lines += _ladder([(choice.option, str(choice.origin), "") for choice in choices])
    values = flat(composed.run)
    rows = [("key", "value", "set by", "changes")]
    rows += [
        (
            leaf,
            _shown(values[f"{group}.{leaf}"]),
            _beats(composed.chain[f"{group}.{leaf}"]),
            effect(f"{group}.{leaf}"),
        )
        for leaf in keys.groups()[group]
    ]
    return "\n".join([*lines, *("  " + row for row in columns(rows, _GAP))])


def _beats(settings: Sequence[Setting]) -> str:
    """The winner's place, and the other values it beat, nearest first."""
    winner = settings[-1]
    beaten = [setting for setting in settings[-2::-1] if _json(setting) != _json(winner)]
    lost = [f"{_shown(setting.value)} ({setting.origin})" for setting in beaten]
    return f"{winner.origin}, beats {', '.join(lost)}" if lost else str(winner.origin)


def _ladder(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Rows in the order of merging, the last one marked."""
    lines = list(columns(rows, _GAP))
    for line in lines[:-1]:
        yield f"    {line}"
    yield f"  > {lines[-1]}"


def _shown(value: object) -> str:
    return shown(value) or "''"


def _place(origin: Origin) -> dict[str, Any]:
    path = None if origin.path is None else str(origin.path)
    return {"source": origin.source, "path": path, "line": origin.line}


def _json(setting: Setting) -> Any:  # noqa: ANN401 - any JSON value
    return getattr(setting.value, "value", setting.value)
