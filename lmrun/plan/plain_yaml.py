"""YAML as a lock file has it: plain values, each key once, nothing implied."""

import re
from typing import Any

import yaml

from lmrun.errors import ConfigError

_ADVICE = "Write it anew with `lmrun lock`."
_TAG = "tag:yaml.org,2002:"
_PLAIN = frozenset(_TAG + kind for kind in ("str", "int", "float", "bool", "null", "map", "seq"))
_NUMBERS = (_TAG + "int", _TAG + "float")
_DECIMAL = re.compile(r"-?\d{1,20}(\.\d{1,20})?(e[+-]\d{1,3})?")
_SHOWN = 20


def load(text: str, where: str) -> Any:  # noqa: ANN401 - any document, not yet checked
    """The value of one document; `ConfigError` begins with ``where`` and the line.

    YAML itself takes the last of two equal keys and reads dates, octal numbers and NaN, of which a
    reviewer would think otherwise, or nothing at all.
    """
    try:
        if "*" in text:
            _refuse_aliases(text, where)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is None:
            return None
        _check(root, where)
        return yaml.SafeLoader("").construct_document(root)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "a character that YAML has not"
        raise ConfigError(f"{where}{line}: expected YAML, got {problem}. {_ADVICE}") from error
    except RecursionError:
        raise ConfigError(f"{where}: expected YAML, got too many levels. {_ADVICE}") from None


def _refuse_aliases(text: str, where: str) -> None:
    """A few lines of them can stand for gigabytes."""
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise _wrong(event, where, "expected plain values, got an alias")


def _check(root: yaml.Node, where: str) -> None:
    todo = [root]
    while todo:
        node = todo.pop()
        if node.tag not in _PLAIN:
            kind = node.tag.removeprefix(_TAG).removeprefix("!")
            raise _wrong(node, where, f"expected plain values, got a {kind}")
        if node.tag in _NUMBERS and not _is_decimal(node.value):
            raise _wrong(node, where, f"expected a decimal number, got {node.value[:_SHOWN]}")
        if isinstance(node, yaml.MappingNode):
            _check_keys(node, where)
            todo += [value for _, value in reversed(node.value)]
        elif isinstance(node, yaml.SequenceNode):
            todo += reversed(node.value)


def _check_keys(node: yaml.MappingNode, where: str) -> None:
    seen = set()
    for key, _ in node.value:
        if key.tag != f"{_TAG}str":
            shown = key.value if isinstance(key, yaml.ScalarNode) else "a list or mapping"
            raise _wrong(key, where, f"expected texts as keys, got {shown[:_SHOWN]}")
        if key.value in seen:
            raise _wrong(key, where, f"expected each key once, got {key.value!r} again")
        seen.add(key.value)


def _is_decimal(text: str) -> bool:
    digits = text.lstrip("-")
    is_octal = digits[:1] == "0" and digits[1:2].isdigit()
    return not is_octal and _DECIMAL.fullmatch(text) is not None


def _wrong(place: yaml.Node | yaml.Event, where: str, what: str) -> ConfigError:
    line = f":{place.start_mark.line + 1}" if place.start_mark else ""
    return ConfigError(f"{where}{line}: {what}. {_ADVICE}")
