"""The text that perplexity, KL and top-1 are counted on, cut into windows of token ids."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lmrun.errors import PlanError
from lmrun.evals import lines
from lmrun.evals.lines import Line
from lmrun.evals.perplexity import windows
from lmrun.models import builtin_data
from lmrun.models.tokenizer import Tokenizer


@dataclass(frozen=True)
class ScoredText:
    """Windows of one text."""

    name: str
    """`builtin:NAME`, or the name of the file."""
    digest: str
    """SHA-256 of the file."""
    windows: list[list[int]]
    bos_token_id: int | None
    window: int

    @property
    def tokens(self) -> int:
        """Predicted tokens."""
        return sum(len(ids) - 1 for ids in self.windows)

    @property
    def ids_digest(self) -> str:
        """SHA-256 of all token ids: equal only where the tokenizers agree, too."""
        return hashlib.sha256(np.asarray(self.windows, "<i4").tobytes()).hexdigest()


def read(path: Path) -> tuple[str, str]:
    """A .txt file as it is, or the `text` fields of a .jsonl file with a newline between two; and
    the SHA-256 of the file that was read.

    `ArtifactError` names file, line and what is legal.
    """
    content = lines.read_bytes(path)
    if path.suffix == ".jsonl":
        text = "\n".join(_text_field(line) for line in lines.read(path, content))
    else:
        text = lines.decoded(path, content)
    return text, lines.digest(content)


def _text_field(line: Line) -> str:
    text = line.fields.get("text")
    if not isinstance(text, str):
        line.refuse("an object with a string `text`, got none", '{"text": "..."}, one a line')
    return text


def cut(path: Path, tokenizer: Tokenizer, window: int, max_tokens: int) -> ScoredText:
    """The windows of a text file, by the protocol of `lmrun.evals.perplexity`.

    `PlanError` where the text has not one full window.
    """
    text, digest = read(path)
    ids = tokenizer.encode(text, add_special_tokens=False)
    try:
        found = windows(ids, tokenizer.bos_token_id, window, max_tokens)
    except ValueError as error:
        short = window - (tokenizer.bos_token_id is not None)
        raise PlanError(
            f"evaluate.data={builtin_data.shown(path)}: expected at least one window of {short}"
            f" tokens within evaluate.max_tokens={max_tokens}, got {len(ids)} tokens. Use a longer"
            " text, a smaller evaluate.window, or more evaluate.max_tokens."
        ) from error
    name = builtin_data.shown(path)
    return ScoredText(name, digest, found, tokenizer.bos_token_id, window)
