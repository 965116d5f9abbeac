"""Prompts of an exact length, no two of which begin alike.

A prefix cache finds a block of tokens where another prompt began with the same ones. The first
tokens of each prompt spell its number, which no other prompt of the run has, so no two prompts have
a first block in common, whatever its size; and a server that ran before the bench is asked with
another `salt` each time. What a server says of cached tokens stands in the report all the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tokenizers

_TEXT = (
    "time year people way day man thing woman life child world school state family student group"
    " country problem hand part place case week company system program question work government"
    " number night point home water room mother area money story fact month lot right study book"
    " eye job word business issue side kind head house service friend father power hour game line"
    " end member law car city name president team minute idea kid body information back parent"
    " face others level office door health person art war history party result change morning"
    " reason research girl guy moment air teacher force education foot boy age policy music"
    " market sense nation plan college interest death experience effect use class control field"
)
WORDS = tuple(dict.fromkeys(_TEXT.split()))
"""One token each in most vocabularies."""


@dataclass(frozen=True)
class Prompts:
    """Prompts by their number, from a seed."""

    vocabulary: Sequence[int]
    """Token ids they are made of; for text, indices of `WORDS`."""
    seed: int
    salt: int = 0

    def tokens(self, number: int, length: int) -> list[int]:
        """So many ids of the vocabulary."""
        base = len(self.vocabulary)
        generator = np.random.default_rng((self.seed, self.salt, number))
        drawn = generator.integers(0, base, length)
        spelled = _digits(number, base)[:length]
        drawn[: len(spelled)] = spelled
        return [self.vocabulary[index] for index in drawn]

    def text(self, number: int, words: int) -> str:
        """So many words, of a prompt made with the indices of `WORDS`."""
        return " ".join(WORDS[index] for index in self.tokens(number, words))


def ordinary_ids(folder: Path, vocab_size: int) -> list[int]:
    """Token ids of a model's own vocabulary without those that were added to it, such as the
    special ones. ``folder`` has its tokenizer.json; ids of the model end at ``vocab_size``."""
    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    added = backend.get_added_tokens_decoder().keys()
    ids = backend.get_vocab(with_added_tokens=False).values()
    return sorted(token for token in ids if token < vocab_size and token not in added)


def of_words(seed: int, salt: int) -> Prompts:
    """Prompts for `Prompts.text`."""
    return Prompts(range(len(WORDS)), seed, salt)


def _digits(number: int, base: int) -> list[int]:
    """The lowest first, of a fixed width: the first token alone tells as many prompts apart as the
    vocabulary has tokens, all of them four billion."""
    width = 1
    while base**width < 1 << 32:
        width += 1
    digits = []
    for _ in range(width):
        number, digit = divmod(number, base)
        digits.append(digit)
    return digits
