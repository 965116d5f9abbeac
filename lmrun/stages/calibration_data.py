"""Which tokens calibrate looks at: a text of documents, cut into sequences that a seed chooses."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmrun.errors import LmrunError, RequestError, StageError
from lmrun.models import chat_template, documents
from lmrun.models.chat_template import ChatTemplate
from lmrun.models.documents import MESSAGES, Documents
from lmrun.models.tokenizer import Tokenizer
from lmrun.models.tools import tools_for_template, turn_for_template
from lmrun.stages import sample_text

CHARACTERS_PER_TOKEN = 8
"""Of the built-in text, generously: it is made as long as the sequences need."""
BYTES_PER_TOKEN = 16
"""Of a file, more generously: so much of a large one is read."""
LEAST_BYTES = 1 << 24
"""A file up to this size is read whole."""
SHORTEST_SEQUENCE = 8
"""Least calibration.seq_len, in tokens."""


@dataclass(frozen=True)
class CalibrationText:
    """Text to take sequences from."""

    text: str
    source: str
    """As error messages name it."""
    kind: str = "text"
    """`text`, or `chat` where conversations were rendered through the model's template."""
    documents: int = 1
    """How many the source has: of a plain text one, or the blocks of one that is read in part."""
    documents_read: int = 1
    """How many of them make up the text."""

    @property
    def digest(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True)
class Chats:
    """How conversations become text."""

    folder: Path
    """Of the model: its own template is read there."""
    choice: str
    """`model.chat_template`."""
    special_tokens: Mapping[str, str]


def read_text(
    path: Path | None,
    num_tokens: int,
    *,
    field: str | None = None,
    chats: Chats | None = None,
    seed: int = 0,
) -> CalibrationText:
    """The text of a file (`lmrun/models/documents.py` says of which kinds), or None: the built-in.

    Documents are joined by a newline, chats by nothing: their template ends them. A text is as its
    file has it: PTB one sentence a line, WikiText-2 with its empty lines. Of a file over
    `LEAST_BYTES` the seed chooses documents, `BYTES_PER_TOKEN` for each of ``num_tokens``.

    `StageError` names the file and line of what cannot be read, and a model without a template.
    """
    if path is None:
        text = sample_text.text(num_tokens * CHARACTERS_PER_TOKEN)
        return CalibrationText(text, "builtin:sample")

    def order(count: int) -> Sequence[int]:
        chosen: Sequence[int] = np.random.Generator(np.random.PCG64(seed)).permutation(count)  # type: ignore[assignment]
        return chosen

    most = max(LEAST_BYTES, num_tokens * BYTES_PER_TOKEN)
    try:
        found = documents.read(path, field, most_bytes=most, order=order)
    except LmrunError as error:
        raise StageError(str(error)) from error
    total, count = found.total, len(found.found)
    if found.is_chat:
        return CalibrationText(
            "".join(_rendered(path, found, chats)), str(path), "chat", total, count
        )
    if documents.suffix_of(path) != documents.PLAIN:
        return CalibrationText("\n".join(found.found), str(path), "text", total, count)
    text = "".join(found.found)
    return CalibrationText(text, str(path), "text", *((1, 1) if total == count else (total, count)))


def _rendered(path: Path, found: Documents, chats: Chats | None) -> list[str]:
    """Each conversation as the model's template writes it."""
    template = _template(path, chats)
    special = {} if chats is None else chats.special_tokens
    texts = []
    for place, chat in zip(found.places, found.found, strict=True):
        try:
            texts.append(_one(template, chat, special))
        except RequestError as error:
            raise StageError(f"{place}: {error}") from error
    return texts


def _one(template: ChatTemplate, chat: Mapping[str, Any], special: Mapping[str, str]) -> str:
    return template.render(
        [turn_for_template(message) for message in chat[MESSAGES]],
        tools=tools_for_template(chat["tools"]),
        add_generation_prompt=False,
        special_tokens=special,
    )


def _template(path: Path, chats: Chats | None) -> ChatTemplate:
    found = None if chats is None else chat_template.load(chats.choice, chats.folder)
    if found is None:
        raise StageError(
            f"calibration.data={path}: expected text, got chats (`messages`), and the model has no"
            " chat template. Set model.chat_template to a name that `lmrun list` shows or to a"
            " Jinja file, or name a file with `text`."
        )
    return found


def take_sequences(
    tokenizer: Tokenizer, text: CalibrationText, samples: int, seq_len: int, seed: int
) -> NDArray[np.int32]:
    """Token ids [samples, seq_len]: disjoint pieces of the text, BOS before each.

    The seed chooses the pieces; they stay in the order of the text. Too little text is refused
    with the counts.
    """
    ids = tokenizer.encode(text.text, add_special_tokens=False)
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    piece = seq_len - len(bos)
    available = len(ids) // piece
    if available < samples:
        longest = len(ids) + len(bos)
        if available:
            advice = f"Use calibration.samples={available}, shorter sequences, or a longer text."
        elif longest >= SHORTEST_SEQUENCE:
            advice = f"Use calibration.seq_len={longest} or less, or a longer text."
        else:
            advice = "Use a longer text."
        raise StageError(
            f"calibration.data={text.source}: expected text for {samples} sequences of {seq_len}"
            f" tokens ({samples * piece} tokens), got {len(ids)} tokens. {advice}"
        )
    rng = np.random.Generator(np.random.PCG64(seed))
    chosen = np.sort(rng.permutation(available)[:samples])
    pieces = np.array(ids[: available * piece], np.int32).reshape(available, piece)[chosen]
    starts = np.full((samples, len(bos)), bos[0] if bos else 0, np.int32)
    return np.concatenate([starts, pieces], axis=1)


def evenly_spread(samples: int, count: int) -> NDArray[np.int64]:
    """The numbers of ``count`` of the sequences (all, where there are fewer), evenly spread."""
    count = min(samples, count)
    return np.arange(count, dtype=np.int64) * samples // count


def record(text: CalibrationText, token_ids: NDArray[np.int32]) -> dict[str, Any]:
    """What the manifest says of the data."""
    return {
        "kind": text.kind,
        "documents": text.documents,
        "documents_read": text.documents_read,
        "text_sha256": text.digest,
        "token_ids_sha256": hashlib.sha256(token_ids.astype("<i4").tobytes()).hexdigest(),
    }
