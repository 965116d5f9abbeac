"""Reading one YAML file of settings as data, with the line of every key."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from lmrun.config import keys, values
from lmrun.config.composed import Origin
from lmrun.config.places import Places
from lmrun.errors import ConfigError

_FAST = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_BYTES = 1 << 20
_MAX_LEVELS = 20
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


@dataclass(frozen=True)
class Document:
    """A settings file: an option of `configs/`, or a recipe."""

    path: Path
    shown: str
    """The path as messages show it."""
    package: str
    """Where its content goes: a group for an option, "" for a recipe."""
    content: Mapping[str, Any]
    """Unresolved, without the defaults list."""
    defaults: list[Any]
    lines: Mapping[tuple[str, ...], int]
    """Path of a key, or of an item of the defaults list, → its line, counted from 1."""
    digest: str
    """SHA-256 of the file's bytes, in hex."""

    def origin(self, *parts: str) -> Origin:
        """The line of a key of this file, or of the nearest one above it that has a line."""
        for length in range(len(parts), 0, -1):
            if parts[:length] in self.lines:
                return Origin(self.shown, self.path, self.lines[parts[:length]])
        return Origin(self.shown, self.path, 1)

    def settings(self) -> Iterator[tuple[str, Any, Origin]]:
        """Dotted key, value and origin of each leaf, in the order of the file.

        The entries of a mapping are leaves of their own.
        """
        for parts, value in _leaves(self.content, (self.package,) if self.package else ()):
            own = parts[1:] if self.package else parts
            yield ".".join(parts), value, self.origin(*own)


def read(path: Path, package: str, places: Places) -> Document:
    """The file with every key and literal value checked against the schema.

    Raises `ConfigError`, naming file and line, on text that is no YAML mapping, on an unknown key,
    a value that is not legal, an anchor, and on `_target_` anywhere.
    """
    shown = places.show(path)
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8")
    except OSError as error:
        raise ConfigError(f"{shown}: cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{shown}: expected UTF-8 text, got byte 0x{raw[error.start]:02x} at {error.start}."
            " Save it as UTF-8."
        ) from error
    if len(text) > _MAX_BYTES:
        raise ConfigError(f"{shown}: expected at most 1 MiB, got {len(text)} characters.")
    lines, values_in = _parsed(text, shown)
    container = dict(values_in)
    defaults = container.pop("defaults", [])
    digest = hashlib.sha256(raw).hexdigest()
    document = Document(path, shown, package, container, defaults, lines, digest)
    if not isinstance(defaults, list):
        raise ConfigError(f"defaults ({document.origin('defaults')}): expected a list.")
    _check(document, places)
    return document


def content(path: Path) -> dict[str, Any]:
    """The values of a file that `read` has read, its defaults list among them; not checked."""
    return _container(path.read_bytes().decode("utf-8"), str(path))


def _parsed(text: str, shown: str) -> tuple[Mapping[tuple[str, ...], int], dict[str, Any]]:
    return _lines(text, shown), _container(text, shown)


def _lines(text: str, shown: str) -> dict[tuple[str, ...], int]:
    try:
        _refuse_bombs(text, shown)
        root = _composed(text)
    except yaml.YAMLError as error:
        raise ConfigError(_broken(error, shown)) from error
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{shown}:1: expected `key: value` lines, got {_kind(root)}.")
    return dict(_marks(root, (), shown))


def _composed(text: str) -> yaml.Node | None:
    """The nodes; libyaml is ten times as fast, and the other loader has the better messages."""
    try:
        return yaml.compose(text, Loader=_FAST)
    except yaml.YAMLError:
        return yaml.compose(text, Loader=yaml.SafeLoader)


def _refuse_bombs(text: str, shown: str) -> None:
    """Aliases can stand for gigabytes in a few lines; given many levels, a loader crashes."""
    depth = 0
    with suppress(yaml.YAMLError):  # who composes says so, in better words
        for event in yaml.parse(text, Loader=_FAST):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            line = f":{event.start_mark.line + 1}" if event.start_mark else ""
            if isinstance(event, yaml.AliasEvent):
                raise ConfigError(
                    f"{shown}{line}: expected plain values, got an alias. Write the value out."
                )
            if depth > _MAX_LEVELS:
                raise ConfigError(
                    f"{shown}{line}: expected at most {_MAX_LEVELS} levels, got more."
                )


def _marks(
    node: yaml.Node, parts: tuple[str, ...], shown: str
) -> Iterator[tuple[tuple[str, ...], int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag != "tag:yaml.org,2002:str":
                raise ConfigError(f"{shown}:{line}: expected the name of a key before the colon.")
            inner = (*parts, str(key.value))
            yield inner, line
            yield from _marks(value, inner, shown)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*parts, str(index)), value.start_mark.line + 1
            yield from _marks(value, (*parts, str(index)), shown)
    elif node.tag in _NUMBERS and not _is_plain_number(node.value):
        raise ConfigError(
            f"{shown}:{node.start_mark.line + 1}: expected a decimal number, got {node.value},"
            " which YAML reads as another one. Write it out, or put a text in quotes."
        )


def _is_plain_number(text: str) -> bool:
    """False for YAML's other notations: 010 is 8, 1:30 is 90, 0x10 is 16, 1_0 is 10."""
    digits = text.lstrip("+-")
    is_octal = digits[:1] == "0" and digits[1:2].isdigit()
    return not is_octal and not set(digits[:2].lower()) & {"x", "b"} and not set(digits) & set(":_")


def _container(text: str, shown: str) -> dict[str, Any]:
    """The values as OmegaConf reads them, so that what is checked is what is merged."""
    try:
        return _values(text)
    except yaml.YAMLError as error:
        raise ConfigError(_broken(error, shown)) from error


@lru_cache(maxsize=256)
def _values(text: str) -> dict[str, Any]:
    """Kept: a file is read to be checked and to be merged, and by both sides of a diff."""
    if not text.strip():
        return {}
    container = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    assert isinstance(container, dict)  # `_lines` refused anything but a mapping
    return {str(key): value for key, value in container.items()}


def _broken(error: yaml.YAMLError, shown: str) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "not YAML"
    line = f":{mark.line + 1}" if mark is not None else ""
    return f"{shown}{line}: expected YAML: {problem}."


def _kind(node: yaml.Node) -> str:
    return "a list" if isinstance(node, yaml.SequenceNode) else "a single value"


def _check(document: Document, places: Places) -> None:
    for parts in document.lines:
        if parts[-1].startswith("_") and parts[-1].endswith("_") and parts[0] != "defaults":
            raise ConfigError(
                f"{parts[-1]} ({document.origin(*parts)}): no such key. A recipe is data:"
                " it names no classes and calls nothing."
            )
    for key in document.content:
        group, dot, leaf = key.partition(".")
        if dot:
            raise ConfigError(
                f"{key} ({document.origin(key)}): expected as nested keys."
                f" Write `{group}:` and below it `{leaf}:`."
            )
    for name, value, origin in document.settings():
        if keys.find(name) is None:
            raise ConfigError(_unknown(name, value, origin, places))
        values.check(name, value, origin)


def _unknown(name: str, value: object, origin: Origin, places: Places) -> str:
    if name in keys.groups():
        is_option = isinstance(value, str) and value in places.options(name)
        got = (
            f"the text {value!r}" if is_option else "nothing" if value in (None, {}) else "a value"
        )
        advice = f" Under `defaults:` write `override /{name}: {value}`." if is_option else ""
        return (
            f"{name} ({origin}): expected its keys below it, got {got}.{advice} Keys of {name}:"
            f" {', '.join(keys.groups()[name])}."
        )
    return f"{name} ({origin}): {keys.unknown(name)}"


def _leaves(
    node: Mapping[str, Any], above: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in node.items():
        parts = (*above, str(key))
        name = ".".join(parts)
        is_split = name not in keys.table() or name in keys.mappings()
        if isinstance(value, dict) and value and is_split:
            yield from _leaves(value, parts)
        else:
            yield parts, value
