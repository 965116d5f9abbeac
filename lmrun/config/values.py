"""Checking values against the schema, and saying in words what is wrong."""

import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from lmrun.config.composed import Setting
from lmrun.config.keys import API_KEYS, HUB_TOKEN, Key, find, mappings, unknown
from lmrun.config.legal import is_legal, run_config
from lmrun.config.schema import RunConfig
from lmrun.config.secrets import is_reference
from lmrun.errors import ConfigError

_SHOWN_CHARACTERS = 60
_RESOLVERS = ("oc.env", "oc.decode", "oc.select")


def check(name: str, value: object, where: object) -> None:
    """Refuse a value that is not legal for the key `name`; `where` is its origin.

    Interpolations and `???` pass: they are checked once resolved.
    """
    if name == API_KEYS:
        _check_references(value, where)
        return
    if name == HUB_TOKEN:
        _check_token(value, where)
        return
    if isinstance(value, str) and is_deferred(value) and name not in mappings():
        _check_resolver(name, value, where)
        return
    if isinstance(value, dict) and name in mappings():
        for entry, inner in value.items():
            if find(f"{name}.{entry}") is None:
                raise ConfigError(f"{name}.{entry} ({where}): {unknown(f'{name}.{entry}')}")
            check(f"{name}.{entry}", inner, where)
        return
    if not is_legal(name, value):
        raise ConfigError(refusal(name, value, where))


def build(values: dict[str, dict[str, Any]], winners: Mapping[str, Setting]) -> RunConfig:
    """The run config from a complete, resolved document; `winners` is for the messages.

    They show an interpolation as it was written: what it stands for may be a secret.
    """
    for group, leaves in values.items():
        for leaf, value in leaves.items():
            name = f"{group}.{leaf}"
            if name in mappings():
                for entry, inner in value.items():
                    _check_resolved(f"{name}.{entry}", inner, winners)
            else:
                _check_resolved(name, value, winners)
    return run_config(values)


def expectation(name: str) -> str:
    """What a value of a key, or of an entry of a mapping, must be."""
    return _key(name).expectation


def _check_resolved(name: str, value: object, winners: Mapping[str, Setting]) -> None:
    written = winners[name].value
    is_reference = isinstance(written, str) and is_deferred(written)
    if not is_reference or name in (API_KEYS, HUB_TOKEN):
        check(name, value, winners[name].origin)
    elif not is_legal(name, value):
        raise ConfigError(
            f"{name}={shown(written)} ({winners[name].origin}): refers to a"
            f" value that is not legal here: expected {_key(name).expectation}."
        )


def _key(name: str) -> Key:
    key = find(name)
    assert key is not None  # names are checked before values
    return key


def is_deferred(text: str) -> bool:
    """True for what only composition can resolve: an interpolation or a missing value."""
    return "${" in text or text == "???"


def refusal(name: str, value: object, where: object) -> str:
    """The message about a value that is not legal for the key `name`."""
    key = _key(name)
    suggestion = ""
    if isinstance(value, str) and key.choices is not None:
        near = get_close_matches(value, [str(choice) for choice in key.choices], 1)
        suggestion = f" Did you mean {near[0]}?" if near else ""
    got = _got(value, key.kind)
    return f"{name}={shown(value)} ({where}): expected {key.expectation}{got}.{suggestion}"


def shown(value: object) -> str:
    """`value` as a user would write it, cut where it is long."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    text = text.replace("\n", " ")
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def _got(value: object, kind: type) -> str:
    if isinstance(value, str) and kind in (int, float, bool):
        return f", got the text {shown(value)!r}"
    if kind is str and isinstance(value, bool | int | float):
        return ", got a number or true/false: put it in quotes"
    if isinstance(value, dict) and kind is not dict:
        return ", got a mapping"
    if isinstance(value, list) and kind is not list:
        return ", got a list"
    return ""


def _check_resolver(name: str, value: str, where: object) -> None:
    for resolver in re.findall(r"\$\{\s*([^${}:,\s]+)\s*:", value):
        if resolver not in _RESOLVERS:
            raise ConfigError(
                f"{name}={shown(value)} ({where}): no such resolver as {resolver}."
                " Use ${oc.env:NAME} for an environment variable or ${group.key} for another key."
            )


def _check_references(value: object, where: object) -> None:
    """The values themselves never stand in a message."""
    if not isinstance(value, list):
        raise ConfigError(
            f"{API_KEYS} ({where}): expected a list of references."
            " Write them as ['${oc.env:NAME}']."
        )
    if not all(isinstance(item, str) and is_reference(item) for item in value):
        raise ConfigError(
            f"{API_KEYS} ({where}): expected references, got a literal key, which would be seen"
            " in files, logs and the process list. Put it in an environment variable and write"
            " '${oc.env:NAME}'."
        )


def _check_token(value: object, where: object) -> None:
    if value is not None and not (isinstance(value, str) and is_reference(value)):
        raise ConfigError(
            f"{HUB_TOKEN} ({where}): expected a reference, got a literal token, which would be"
            " seen in files, logs and the process list. Put it in an environment variable and"
            " write '${oc.env:NAME}'."
        )
