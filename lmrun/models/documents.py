"""Documents of a text file: plain text, JSON lines, packed JSON lines, parquet.

| ending | a document is |
| --- | --- |
| `.txt` | the whole file; of one larger than asked for, a piece of `BLOCK_BYTES` that ends a line |
| `.jsonl`, `.json`, the same `.gz` | an object a line: the string `text`, or the list `messages` |
| `.parquet` | a row with such a column (needs pyarrow) |

What is read is read in two passes, so that of a file of many gigabytes no more than what is asked
for stands in memory.
"""

import gzip
import json
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import numpy as np

from lmrun.errors import ArtifactError, PlanError

LINES = (".jsonl", ".json", ".jsonl.gz", ".json.gz")
PARQUET = ".parquet"
PLAIN = ".txt"
SUFFIXES = (PLAIN, *LINES, PARQUET)
"""Endings that are read."""
BLOCK_BYTES = 1 << 16
TEXT, MESSAGES = "text", "messages"


@dataclass(frozen=True)
class Documents:
    """Some documents of a file, in its order."""

    found: tuple[Any, ...]
    """Strings; or, of chats, objects with a list `messages` and perhaps a list `tools`."""
    is_chat: bool
    total: int
    """How many the file has."""
    places: tuple[str, ...]
    """File and line (or row) of each, for messages."""


def suffix_of(path: Path) -> str | None:
    """The ending in `SUFFIXES`, or None for a file that is not read."""
    name = path.name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)


def check_readable(path: Path, where: str) -> None:
    """`PlanError` where the ending is not read, or the package that reads it is missing.

    ``where`` is the setting that names the file, as `calibration.data=x`.
    """
    suffix = suffix_of(path)
    if suffix is None:
        raise PlanError(f"{where}: expected a file that ends in one of {', '.join(SUFFIXES)}.")
    if suffix == PARQUET and find_spec("pyarrow") is None:
        raise PlanError(
            f"{where}: reading parquet needs the package pyarrow, which is not installed."
            " Run `pip install 'lmrun[parquet]'`, or name a .jsonl or .txt file."
        )


def holds_chats(path: Path, field: str | None = None) -> bool:
    """Whether the documents are chats, by the first one; `ArtifactError` where it is neither."""
    suffix = suffix_of(path)
    if suffix is None or suffix == PLAIN:
        return False
    with _reader(path, field) as reader:
        for place, raw in reader.documents():
            return _field_of(reader.parse(place, raw), field, place) == "chat"
    return False


def read(
    path: Path,
    field: str | None = None,
    *,
    most_bytes: int | None = None,
    order: Callable[[int], Sequence[int]] = range,
) -> Documents:
    """The documents of a file, or of a large one as many as make ``most_bytes``.

    ``field`` names the field in place of `text` or `messages`. ``order(n)`` is a permutation of
    n documents: those of a large file are taken in that order until they are enough, and then
    stand in the order of the file. `ArtifactError` names the file and the line.
    """
    with _reader(path, field) as reader:
        sizes = np.fromiter((len(raw) for _, raw in reader.documents()), np.int64)
        chosen = _chosen(sizes, most_bytes, order)
        found, places = [], []
        is_chat: bool | None = None
        for number, (place, raw) in enumerate(reader.documents()):
            if chosen is not None and number not in chosen:
                continue
            document = reader.parse(place, raw)
            kind = _field_of(document, field, place, is_chat)
            is_chat = kind == "chat"
            found.append(_content(document, field, is_chat, place))
            places.append(place)
    return Documents(tuple(found), bool(is_chat), len(sizes), tuple(places))


def _chosen(
    sizes: "np.ndarray[Any, np.dtype[np.int64]]",
    most_bytes: int | None,
    order: Callable[[int], Sequence[int]],
) -> frozenset[int] | None:
    """Documents to take, or None for all."""
    if most_bytes is None or int(sizes.sum()) <= most_bytes:
        return None
    ranked = np.asarray(order(len(sizes)), np.int64)
    count = int(np.searchsorted(np.cumsum(sizes[ranked]), most_bytes)) + 1
    return frozenset(int(number) for number in ranked[:count])


class _Reader(ABC):
    """The raw documents of an open file, as often as asked."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def documents(self) -> Iterator[tuple[str, bytes]]:
        """Place and raw bytes of each."""

    @abstractmethod
    def parse(self, place: str, raw: bytes) -> Any:  # noqa: ANN401 - a string, or any JSON
        """The document itself."""


class _PlainReader(_Reader):
    """A text in blocks that end with a line; together they are the text."""

    def documents(self) -> Iterator[tuple[str, bytes]]:
        with self.path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                yield str(self.path), block + file.readline()

    def parse(self, place: str, raw: bytes) -> str:
        return _decoded(raw, place)


class _LinesReader(_Reader):
    """An object a line; blank lines do not count."""

    def documents(self) -> Iterator[tuple[str, bytes]]:
        with self._open() as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield f"{self.path}:{number}", line

    def _open(self) -> "IO[bytes] | gzip.GzipFile":
        return gzip.open(self.path) if self.path.name.endswith(".gz") else self.path.open("rb")

    def parse(self, place: str, raw: bytes) -> Any:  # noqa: ANN401
        try:
            document = json.loads(_decoded(raw, place))
        except (ValueError, RecursionError) as error:
            raise ArtifactError(
                f"{place}: expected a JSON object a line, got {_first_line(error)}."
            ) from error
        _check_text(document, place)
        return document if isinstance(document, dict) else {}


class _ParquetReader(_Reader):
    """Rows of a parquet file, through pyarrow: the column of the text or of the messages alone."""

    def __init__(self, path: Path, field: str | None) -> None:
        super().__init__(path)
        # optional: `pip install lmrun[parquet]`
        import pyarrow.parquet  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: PLC0415

        try:
            self._file = pyarrow.parquet.ParquetFile(path)
        except (pyarrow.ArrowInvalid, OSError) as error:
            raise ArtifactError(
                f"{path}: expected a parquet file, got {_first_line(error)}."
            ) from error
        names = self._file.schema_arrow.names
        wanted = [field] if field else [TEXT, MESSAGES]
        self._column = next((name for name in wanted if name in names), "")
        if not self._column:
            raise ArtifactError(
                f"{path}: expected a column {' or '.join(wanted)}, got {', '.join(names)}."
                " Name one: hub:DATASET:SPLIT:FIELD."
            )

    def documents(self) -> Iterator[tuple[str, bytes]]:
        number = 0
        for batch in self._file.iter_batches(batch_size=1024, columns=[self._column]):
            for value in batch.column(0).to_pylist():
                number += 1
                text = json.dumps({self._column: value}, ensure_ascii=False, default=str)
                yield f"{self.path}: row {number}", text.encode(errors="surrogatepass")

    def parse(self, place: str, raw: bytes) -> Any:  # noqa: ANN401
        return json.loads(raw)


@contextmanager
def _reader(path: Path, field: str | None) -> Iterator[_Reader]:
    """A reader of the file; what goes wrong with its bytes names the file."""
    suffix = suffix_of(path)
    try:
        if suffix == PARQUET:
            yield _ParquetReader(path, field)
        elif suffix in LINES:
            yield _LinesReader(path)
        else:
            yield _PlainReader(path)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ArtifactError(
            f"{path}: expected a whole gzip file, got {_first_line(error)}. Copy it again."
        ) from error
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror or error}.") from error


def _field_of(
    document: Any,  # noqa: ANN401 - a string, or any JSON
    field: str | None,
    place: str,
    is_chat: bool | None = None,
) -> str:
    """`text` or `chat`; all documents of a file are of one kind."""
    if isinstance(document, str):
        return "text"
    fields = document if isinstance(document, dict) else {}
    wanted = {False: "a string", True: "a list"}
    if field is not None:
        value = fields.get(field)
        if isinstance(value, str) and is_chat is not True:
            return "text"
        if _is_chat(value) and is_chat is not False:
            return "chat"
        kinds = "a string or a list" if is_chat is None else wanted[is_chat]
        raise _refusal(place, f"{kinds} `{field}`")
    if isinstance(fields.get(TEXT), str) and is_chat is not True:
        return "text"
    if _is_chat(fields.get(MESSAGES)) and is_chat is not False:
        return "chat"
    if is_chat is None and MESSAGES not in fields and TEXT not in fields:
        raise _refusal(place, f"a string `{TEXT}`, or a list `{MESSAGES}` of a chat")
    chats = is_chat is True or (is_chat is None and MESSAGES in fields)
    raise _refusal(place, f"a list `{MESSAGES}` of objects" if chats else f"a string `{TEXT}`")


def _refusal(place: str, wanted: str) -> ArtifactError:
    return ArtifactError(f"{place}: expected an object with {wanted}, got none.")


def _is_chat(value: Any) -> bool:  # noqa: ANN401 - any JSON
    return isinstance(value, list) and all(
        isinstance(one, dict) and isinstance(one.get("role"), str) for one in value
    )


def _content(
    document: Any,  # noqa: ANN401 - a string, or any JSON
    field: str | None,
    is_chat: bool,
    place: str,
) -> Any:  # noqa: ANN401 - as `Documents.found`
    if isinstance(document, str):
        return document
    if not is_chat:
        return document[field or TEXT]
    tools = document.get("tools") or []
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise ArtifactError(f"{place}: tools: expected a list of objects, got something else.")
    return {MESSAGES: document[field or MESSAGES], "tools": tools}


def _decoded(raw: bytes, place: str) -> str:
    try:
        return raw.decode().replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{place}: expected UTF-8 text, got {error.reason}.") from error


def _check_text(document: Any, place: str) -> None:  # noqa: ANN401 - any JSON
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError) as error:
        raise ArtifactError(
            f"{place}: expected text, got half of a surrogate pair (\\ud800 to \\udfff)."
        ) from error


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0].rstrip(".") if text else type(error).__name__
