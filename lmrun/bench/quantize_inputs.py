"""What every quantizer of a bench is given: one random model, the same token ids."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmrun.models import builtin
from lmrun.stages.resolve import SPECIAL_TOKENS, tokenizer_document, write_builtin

HELD_OUT = 8
"""Sequences that no quantizer sees; errors are counted on them."""
BOS = SPECIAL_TOKENS.index("<s>")


@dataclass(frozen=True)
class Inputs:
    """Files that the quantizers read, and what is held out."""

    model: Path
    """A Hugging Face folder in bfloat16."""
    text: Path
    """The ids as words, which the model's tokenizer reads back: what our calibrate takes."""
    ids: Path
    """.npy, int32 [samples, seq_len], each with BOS first: what the peers take."""
    held_out: NDArray[np.int32]
    """[`HELD_OUT`, seq_len]."""


def write(folder: Path, model: str, layers: int, samples: int, seq_len: int, seed: int) -> Inputs:
    """Write the first layers of `builtin:MODEL` and token ids drawn evenly from its vocabulary."""
    found = builtin.get(builtin.PREFIX + model)
    config = {**found.config, "num_hidden_layers": layers, "torch_dtype": "bfloat16"}
    target = folder / "model"
    target.mkdir(parents=True)
    write_builtin(dataclasses.replace(found, config=config), target)
    vocab_size = config["vocab_size"]
    document = json.dumps(word_tokenizer(vocab_size))
    (target / "tokenizer.json").write_text(document, encoding="utf-8")
    rng = np.random.Generator(np.random.PCG64(seed))
    shape = (samples + HELD_OUT, seq_len)
    ids = rng.integers(len(SPECIAL_TOKENS), vocab_size, shape, np.int32)
    ids[:, 0] = BOS
    np.save(folder / "ids.npy", ids[:samples])
    words = (" ".join(f"w{token}" for token in row[1:]) for row in ids[:samples].tolist())
    (folder / "text.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    return Inputs(target, folder / "text.txt", folder / "ids.npy", ids[samples:])


def word_tokenizer(vocab_size: int) -> dict[str, Any]:
    """A tokenizer.json in which the word `wN` is the token N."""
    document = tokenizer_document(vocab_size)
    words = [f"w{token}" for token in range(len(SPECIAL_TOKENS), vocab_size)]
    vocab = {word: index for index, word in enumerate([*SPECIAL_TOKENS, *words])}
    model = {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"}
    return {
        **document,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "decoder": None,
        "model": model,
    }


def ids_digest(inputs: Inputs) -> str:
    """SHA-256 of the ids that the quantizers see."""
    return hashlib.sha256(np.load(inputs.ids).astype("<i4").tobytes()).hexdigest()
