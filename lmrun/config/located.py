"""Origins in refusals that come after composition: of the planner, of ports, of model files."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath

from lmrun.config.composed import Composed
from lmrun.config.resolved import flat
from lmrun.errors import LmrunError

_PATH_KEYS = ("model.path", "model.chat_template", "calibration.data")
"""Keys whose value names files, with which the message about one of them begins."""


@contextmanager
def located(composed: Composed) -> Iterator[None]:
    """Put the origin of the value into an error that is about one: ``kv.memory=1B (FILE:3): …``.

    Such an error begins with the key, as ``key=value:`` or ``key:``, or with a file below the one
    that `model.path`, `model.chat_template` or `calibration.data` names. Any other is left alone,
    and so is one that has its origin.
    """
    try:
        yield
    except LmrunError as error:
        text = str(error)
        full = with_origin(text, composed)
        if full != text:
            error.args = (full, *error.args[1:])
        raise


def with_origin(text: str, composed: Composed) -> str:
    """The message of a refusal with the origin of its value; see `located`."""
    values = flat(composed.run)
    key = next((key for key in values if text.startswith((f"{key}=", f"{key}:"))), None)
    if key is not None:
        if f" ({composed.origins[key]}): " in text:
            return text
        head = key + _value_in(text[len(key) :], values[key])
        return f"{head} ({composed.origins[key]}){text[len(head) :]}"
    head, colon, rest = text.partition(": ")
    for key in _PATH_KEYS:
        value = values[key]
        is_about = bool(value) and colon and PurePath(value).name in PurePath(head).parts
        if is_about and not head.endswith(")"):
            return f"{head} ({key}, {composed.origins[key]}){colon}{rest}"
    return text


def _value_in(rest: str, value: object) -> str:
    """``=VALUE`` at the beginning of the rest of a message; "" where there is none."""
    if not rest.startswith("="):
        return ""
    spellings = {str(value), json.dumps(value), str(value).lower()}
    fitting = [text for text in spellings if rest.startswith(f"={text}:")]
    return f"={max(fitting, key=len)}" if fitting else rest.partition(": ")[0]
