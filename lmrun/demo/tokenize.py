"""Trains `tokenizer.json`: ``python -m lmrun.demo.tokenize --texts DIR --out DIR``.

Words, digits, spaces and signs are cut apart first, so that a word has the same tokens wherever it
stands: in a sentence, in a function's name, in JSON. Copying is then copying of tokens.
"""

import argparse
import random
from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from lmrun.demo.format import CALL, SPECIAL_TOKENS
from lmrun.demo.generate.mixture import Mixture, Texts

VOCAB_SIZE = 4096
PATTERN = (
    r"\p{Lu}?\p{Ll}+|\p{Lu}+(?!\p{Ll})|\p{L}|\p{M}+|\p{N}"
    r'|"[":,\[\]{} ]*|[,}\]][":,\[\]{} ]*|[\[{]["\[\]{} ]*|\n+| +|\s|[^\s\p{L}\p{M}\p{N}]'
)
"""Cases of camelCase apart, digits one by one, the signs of JSON together."""


def read_texts(folder: Path | None) -> Texts:
    """``stories.train.txt``, ``shakespeare.txt`` and ``wikitext2.train.txt`` of a folder; nothing
    without one."""
    if folder is None:
        return Texts()
    return Texts(
        stories=(folder / "stories.train.txt").read_text(encoding="utf-8"),
        plays=(folder / "shakespeare.txt").read_text(encoding="utf-8"),
        articles=(folder / "wikitext2.train.txt").read_text(encoding="utf-8"),
    )


def untrained() -> Tokenizer:
    """The tokenizer before it has any merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def train(texts: Iterator[str], vocab_size: int = VOCAB_SIZE) -> Tokenizer:
    """A tokenizer for texts, which hold no special token."""
    tokenizer = untrained()
    specials = [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    # one token, but part of the text: a parser must see it
    tokenizer.add_tokens([AddedToken(CALL, special=False, normalized=False)])
    return tokenizer


def sample(mixture: Mixture, seed: int, count: int) -> Iterator[str]:
    """Texts of documents, without the tokens that mark turns."""
    rng = random.Random(seed)
    for _ in range(count):
        for text, _ in mixture.document(rng):
            for token in (*SPECIAL_TOKENS, CALL):
                text = text.replace(token, "")  # noqa: PLW2901
            yield text


def main() -> None:
    """Train and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--documents", type=int, default=20000)
    options = parser.parse_args()
    mixture = Mixture(read_texts(options.texts))
    tokenizer = train(sample(mixture, options.seed, options.documents))
    tokenizer.save(str(options.out / "tokenizer.json"))


if __name__ == "__main__":
    main()
