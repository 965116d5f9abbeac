"""Files of one JSON object a line, whose errors name file and line."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from lmrun.errors import ArtifactError

_HALF = re.compile(r"\\u[dD][89a-fA-F]")
"""How JSON may write a half of a surrogate pair."""
_LONGEST = 400
"""Characters of a message that may quote a line."""


@dataclass(frozen=True)
class Line:
    """One object of a file."""

    path: Path
    number: int
    fields: dict[str, Any]

    def refuse(self, expected: str, legal: str) -> NoReturn:
        """`ArtifactError`: what this line should have been, and what is legal."""
        if len(expected) > _LONGEST:
            expected = expected[:_LONGEST] + " …"
        raise ArtifactError(f"{self.path}:{self.number}: expected {expected}. Legal is {legal}.")


def read_bytes(path: Path) -> bytes:
    """`ArtifactError` where the file cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror}.") from error


def decoded(path: Path, content: bytes) -> str:
    """`ArtifactError` where the content is not UTF-8. Line ends are read as newlines."""
    try:
        return content.decode().replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{path}: expected UTF-8 text, got {error.reason}.") from error


def digest(*contents: bytes) -> str:
    """SHA-256 of the contents, one after another."""
    return hashlib.sha256(b"".join(contents)).hexdigest()


def read(path: Path, content: bytes) -> Iterator[Line]:
    """The objects of a file; blank lines do not count. `ArtifactError` for another line."""
    for number, line in enumerate(decoded(path, content).split("\n"), 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ArtifactError(f"{path}:{number}: expected JSON, got {error}.") from error
        if _HALF.search(line) and not _is_text(found):
            raise ArtifactError(
                f"{path}:{number}: expected text, got half of a surrogate pair"
                r" (\ud800 to \udfff)."
            )
        if not isinstance(found, dict):
            raise ArtifactError(
                f"{path}:{number}: expected a JSON object, got {type(found).__name__}."
            )
        yield Line(path, number, found)


def _is_text(value: Any) -> bool:  # noqa: ANN401 - any JSON
    """Whether the strings in a JSON value are text, that is, can be written as UTF-8."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
