"""stdout and stderr as they may be found: of few letters, closed, full, or left by their reader."""

import codecs
import contextlib
import errno
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from lmrun.errors import LmrunError

_PLAIN = {"→": "->", "–": "-", "−": "-", "…": "...", "×": "x", "·": "-", "µ": "u", "≤": "<="}
_HANDLER = "lmrun.plain"
_SHOWN = 200
"""Characters of a file's name in a message."""
_OF_FILES = frozenset(
    (
        *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
        *(errno.ENAMETOOLONG, errno.ELOOP, errno.EIO, errno.ENOTDIR, errno.EISDIR),
    )
)
"""What is the matter with a file system, not with lmrun."""


class Lost(LmrunError):
    """stdout takes no more text; from now on it goes nowhere."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"stdout: cannot be written: {error.strerror}.")
        self.is_left = isinstance(error, BrokenPipeError)
        """The reader has seen enough, as `head` has."""


def as_json(document: Mapping[str, Any]) -> str:
    """A document as `--json` prints it, a newline at its end."""
    return json.dumps(document, indent=1) + "\n"


def settle() -> None:
    """Make both streams take any text: what their encoding lacks is written in plain letters.

    A stream that was closed before the command began goes nowhere, and one that fails later says
    so as `Lost`.
    """
    codecs.register_error(_HANDLER, _plain)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors=_HANDLER)
    if isinstance(sys.stdout, io.TextIOWrapper):
        encoding, is_by_line = sys.stdout.encoding, sys.stdout.line_buffering
        sys.stdout = _Output(sys.stdout.detach(), encoding, _HANDLER, line_buffering=is_by_line)


class _Output(io.TextIOWrapper):
    def write(self, text: str, /) -> int:
        with self._noticing():
            return super().write(text)

    def flush(self) -> None:
        with self._noticing():
            super().flush()

    @contextlib.contextmanager
    def _noticing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            raise Lost(error) from error


def of_a_file(error: Exception) -> str | None:
    """What to say where a file or folder of the user's is in the way; None for a bug."""
    if not isinstance(error, OSError) or error.errno not in _OF_FILES or error.filename is None:
        return None
    name = os.fsdecode(error.filename)
    shown = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…"
    return f"{shown}: cannot be used: {error.strerror}. Give another, or the rights to it."


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wrong = error.object[error.start : error.end]
    with contextlib.suppress(UnicodeEncodeError):
        return wrong.encode("ascii", "surrogateescape"), error.end  # bytes of a file's name
    text = "".join(
        _PLAIN.get(letter) or letter.encode("ascii", "backslashreplace").decode("ascii")
        for letter in wrong
    )
    return text, error.end
