"""The baseline's scores on disk: written once a model, compared with by every deployment of it.

| file | holds |
| --- | --- |
| `scores.json` | what was scored (`SCHEMA`) |
| `logprobs.npy` | float32 [tokens]: log p of each predicted token |
| `best.npy` | int32 [kl_tokens]: the most probable token of each place |
| `rows.npy` | uint16 [kl_tokens, V]: every token's log-probability (`divergence.py`) |
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from lmrun.engine.scoring import Scores
from lmrun.errors import ArtifactError
from lmrun.evals import divergence
from lmrun.evals.scoring import perplexity_of
from lmrun.evals.texts import ScoredText
from lmrun.json_schema import COUNT, DIGEST, TEXT, Schema, document, mapping

SCHEMA_VERSION = 1
SCHEMA: Schema = document(
    "what the scores of a baseline are of",
    SCHEMA_VERSION,
    text=TEXT,
    text_digest=DIGEST,
    ids_digest={**DIGEST, "description": "of the token ids of all windows"},
    window=COUNT,
    tokens=COUNT,
    kl_tokens=COUNT,
    vocab_size=COUNT,
    engine=mapping({"type": ["string", "integer"]}),
)
_FILE, _LOGPROBS, _BEST, _ROWS = "scores.json", "logprobs.npy", "best.npy", "rows.npy"


@dataclass(frozen=True)
class Scored:
    """What was scored, and by which engine."""

    text: str
    text_digest: str
    ids_digest: str
    window: int
    tokens: int
    kl_tokens: int
    vocab_size: int
    engine: dict[str, str | int]

    @classmethod
    def of(
        cls, text: ScoredText, kl_tokens: int, vocab_size: int, engine: dict[str, str | int]
    ) -> Self:
        """``kl_tokens`` is how many rows there are, not how many were asked for."""
        return cls(
            text=text.name,
            text_digest=text.digest,
            ids_digest=text.ids_digest,
            window=text.window,
            tokens=text.tokens,
            kl_tokens=kl_tokens,
            vocab_size=vocab_size,
            engine=engine,
        )


class Writer:
    """Writes the scores of one baseline into a folder; rows go to disk as they come."""

    def __init__(self, folder: Path, scored: Scored) -> None:
        self._folder, self._scored = folder, scored
        self._logprobs: list[NDArray[np.float32]] = []
        self._best: list[NDArray[np.int32]] = []
        self._rows = (folder / _ROWS).open("wb")
        np.lib.format.write_array_header_1_0(
            self._rows,
            {
                "descr": np.lib.format.dtype_to_descr(divergence.ROW_TYPE),
                "fortran_order": False,
                "shape": (scored.kl_tokens, scored.vocab_size),
            },
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._rows.close()
        if error is None:
            self._finish()

    def add(self, scores: Scores) -> None:
        """The next window's."""
        self._logprobs.append(scores.logprobs)
        if scores.rows is not None:
            self._best.append(divergence.best(scores.rows))
            self._rows.write(divergence.stored(scores.rows).tobytes())

    def _finish(self) -> None:
        logprobs = np.concatenate(self._logprobs).astype("<f4")
        chosen = np.concatenate([*self._best, np.empty(0, np.int32)]).astype("<i4")
        assert logprobs.shape == (self._scored.tokens,)
        assert chosen.shape == (self._scored.kl_tokens,)
        np.save(self._folder / _LOGPROBS, logprobs)
        np.save(self._folder / _BEST, chosen)
        text = json.dumps({"schema_version": SCHEMA_VERSION, **asdict(self._scored)}, indent=1)
        (self._folder / _FILE).write_text(text + "\n", encoding="utf-8")


class Reader:
    """Scores that a `Writer` has written. Rows are read when they are asked for."""

    def __init__(self, folder: Path) -> None:
        """`ArtifactError` where the folder does not hold them, whole."""
        self.folder = folder
        self.scored = _read_scored(folder / _FILE)
        tokens, kl_tokens = self.scored.tokens, self.scored.kl_tokens
        self.logprobs: NDArray[np.float64] = self._array(_LOGPROBS, "<f4", (tokens,)).astype(
            np.float64
        )
        if not np.isfinite(self.logprobs).all():
            raise ArtifactError(f"{folder / _LOGPROBS}: expected finite numbers, got others.")
        self.best = self._array(_BEST, "<i4", (kl_tokens,))
        self._rows = self._array(_ROWS, divergence.ROW_TYPE, (kl_tokens, self.scored.vocab_size))

    @property
    def perplexity(self) -> float:
        """Of the baseline itself; `StageError` where no double holds it."""
        return perplexity_of(float(np.mean(self.logprobs)), f"{self.scored.text}, baseline")

    def check(self, expected: Scored) -> None:
        """`ArtifactError` where these are not the scores of the same text, cut alike."""
        for name in ("text_digest", "ids_digest", "window", "tokens", "kl_tokens", "vocab_size"):
            ours, theirs = getattr(expected, name), getattr(self.scored, name)
            if ours != theirs:
                raise ArtifactError(
                    f"{self.folder}: expected the baseline's scores with {name}={ours}, got"
                    f" {theirs}. Score the baseline again with the same evaluate keys; its"
                    " tokenizer and vocabulary must be those of the model."
                )

    def rows(self, start: int, count: int) -> NDArray[np.uint16]:
        """Rows [count, V] of a baseline, from a place on."""
        return np.array(self._rows[start : start + count])

    def _array(self, name: str, kind: Any, shape: tuple[int, ...]) -> NDArray[Any]:  # noqa: ANN401
        path = self.folder / name
        try:
            found = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{path}: expected an array, got none: {error}") from error
        if found.dtype != np.dtype(kind) or found.shape != shape:
            raise ArtifactError(
                f"{path}: expected {np.dtype(kind)} {list(shape)}, got {found.dtype}"
                f" {list(found.shape)}."
            )
        loaded: NDArray[Any] = found
        return loaded


def _read_scored(path: Path) -> Scored:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: expected the baseline's scores, got none: {error}") from error
    if not isinstance(found, dict) or found.pop("schema_version", None) != SCHEMA_VERSION:
        raise ArtifactError(f"{path}: expected schema_version {SCHEMA_VERSION}, got another one.")
    try:
        return msgspec.convert(found, Scored)
    except msgspec.ValidationError as error:
        raise ArtifactError(f"{path}: not the baseline's scores: {error}.") from error
