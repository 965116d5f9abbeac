"""Origins in refusals that come after composition: of the planner, of ports, of model files."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import Any

from lmrun.config.composed import Composed
from lmrun.config.keys import mapping_of, mappings
from lmrun.config.resolved import flat
from lmrun.errors import LmrunError

_PATH_KEYS = (
    *("model.path", "model.chat_template", "calibration.data"),
    *("evaluate.data", "evaluate.tools", "evaluate.baseline", "evaluate.tasks"),
)
"""Keys whose value names files, with which the message about one of them begins."""


@contextmanager
def located(composed: Composed) -> Iterator[None]:
    """Put the origin of the value into an error that is about one: ``kv.memory=1B (FILE:3): …``.

    Such an error begins with the key, as ``key=value:`` or ``key:``, or with a file below the one
    that `model.path`, `model.chat_template`, `calibration.data` or a key of `evaluate` names. Any
    other is left alone, and so is one that has its origin. Of several lines, each that begins with
    a key gets its own.
    """
    try:
        yield
    except LmrunError as error:
        text = str(error)
        first, *others = text.split("\n")
        keys = tuple(f"{key}{sign}" for key in _values(composed) for sign in "=:")
        full = "\n".join(
            [
                with_origin(first, composed),
                *(with_origin(one, composed) if one.startswith(keys) else one for one in others),
            ]
        )
        if full != text:
            error.args = (full, *error.args[1:])
        raise


def with_origin(text: str, composed: Composed) -> str:
    """The message of a refusal with the origin of its value; see `located`."""
    values = _values(composed)
    key = next((key for key in values if text.startswith((f"{key}=", f"{key}:"))), None)
    if key is not None:
        if f" ({composed.origins[key]}): " in text:
            return text
        head = key + _value_in(text[len(key) :], values[key])
        return f"{head} ({composed.origins[key]}){text[len(head) :]}"
    head, colon, rest = text.partition(": ")
    for key, value in values.items():
        if key not in _PATH_KEYS and mapping_of(key) not in _PATH_KEYS:
            continue
        is_about = (
            isinstance(value, str)
            and bool(value)
            and colon
            and PurePath(value).name in PurePath(head).parts
        )
        if is_about and not head.endswith(")"):
            return f"{head} ({key}, {composed.origins[key]}){colon}{rest}"
    return text


def _values(composed: Composed) -> dict[str, Any]:
    """By dotted key; the entries of a mapping as keys of their own, too."""
    values = flat(composed.run)
    for name in mappings():
        values |= {f"{name}.{entry}": value for entry, value in values[name].items()}
    return values


def _value_in(rest: str, value: object) -> str:
    """``=VALUE`` at the beginning of the rest of a message; "" where there is none."""
    if not rest.startswith("="):
        return ""
    spellings = {str(value), json.dumps(value), str(value).lower()}
    fitting = [text for text in spellings if rest.startswith(f"={text}:")]
    return f"={max(fitting, key=len)}" if fitting else rest.partition(": ")[0]
