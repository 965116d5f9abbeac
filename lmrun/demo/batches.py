"""Token batches of the mixture, made by worker processes, the same for the same seed."""

import multiprocessing
import os
import random
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from lmrun.demo.generate.mixture import Mixture
from lmrun.demo.tokenize import read_texts

PROMPT_WEIGHT = 0.02
"""What a token of the prompt counts beside one that the assistant writes."""


@dataclass(frozen=True)
class Batch:
    """Rows of packed documents, [rows, length + 1]: a row's targets are its tokens shifted."""

    token_ids: npt.NDArray[np.int16]
    is_learned: npt.NDArray[np.bool_]
    documents: npt.NDArray[np.int16]
    """Number of the document within its row."""


class Maker:
    """Makes batch number i from (seed, i) alone."""

    def __init__(self, folder: Path, texts: Path | None, seed: int, rows: int, length: int) -> None:
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.mixture = Mixture(read_texts(texts), sorted(self.tokenizer.get_vocab()))
        self.seed, self.rows, self.length = seed, rows, length

    def make(self, index: int) -> Batch:
        """Fill each row with whole documents; what does not fit is cut, and ends the row."""
        rng = random.Random(f"{self.seed}/{index}")
        width = self.length + 1
        token_ids = np.full((self.rows, width), 2, np.int16)
        is_learned = np.zeros((self.rows, width), np.bool_)
        documents = np.zeros((self.rows, width), np.int16)
        row, used, number = 0, 0, 0
        while row < self.rows:
            drawn = [self.mixture.document(rng) for _ in range(64)]
            encoded = iter(
                self.tokenizer.encode_batch_fast(
                    [text for document in drawn for text, _ in document], add_special_tokens=False
                )
            )
            for document in drawn:
                ids: list[int] = []
                learned: list[bool] = []
                for _, is_answer in document:
                    new = next(encoded).ids
                    ids += new
                    learned += [is_answer] * len(new)
                if len(ids) > width or row >= self.rows:
                    continue
                # a document that hardly begins teaches little: leave the rest of the row empty
                if used + len(ids) > width and (width - used < 64 or used + len(ids) > width + 400):
                    row, used, number = row + 1, 0, 0
                    if row >= self.rows:
                        continue
                end = min(used + len(ids), width)
                token_ids[row, used:end] = ids[: end - used]
                is_learned[row, used:end] = learned[: end - used]
                documents[row, used:end] = number
                documents[row, end:] = number + 1
                used, number = end, number + 1
                if used >= width:
                    row, used, number = row + 1, 0, 0
        return Batch(token_ids, is_learned, documents)


_maker: list[Maker] = []


def _start(*arguments: object) -> None:
    os.environ["RAYON_NUM_THREADS"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.nice(5)  # who trains goes first
    _maker.append(Maker(*arguments))  # type: ignore[arg-type]


def _make(index: int) -> Batch:
    return _maker[0].make(index)


def stream(
    maker: Maker, arguments: tuple[object, ...], first: int, workers: int
) -> Generator[Batch, None, None]:
    """Batches from number ``first`` on; ``arguments`` are those that made ``maker``."""
    if workers == 0:
        index = first
        while True:
            yield maker.make(index)
            index += 1
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, _start, arguments) as pool:
        waiting = deque(pool.apply_async(_make, (first + i,)) for i in range(3 * workers))
        index = first + len(waiting)
        while True:
            batch = waiting.popleft().get()
            waiting.append(pool.apply_async(_make, (index,)))
            index += 1
            yield batch
