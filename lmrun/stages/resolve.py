"""resolve: digests of what comes from outside, and the files of built-in models.

A built-in model is random numbers from a seed, written as an ordinary Hugging Face folder. The
numbers come from raw PCG64 words with exact arithmetic alone, so they are the same on every machine
and with every NumPy.
"""

import itertools
import json
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmrun.artifacts.digests import DigestCache
from lmrun.models import builtin
from lmrun.models.builtin import BuiltinModel
from lmrun.models.checkpoint import SINGLE_FILE
from lmrun.models.registry import CONFIG_FILE, GENERATION_FILE, builtin_spec
from lmrun.progress import progress_bar
from lmrun.stages import tensor_files
from lmrun.stages.context import StageContext, StageResult
from lmrun.stages.tensor_files import Array, LazyTensor

SPECIAL_TOKENS = ("<unk>", "<s>", "</s>")
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ message['role'] + ': ' + message['content'] + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)
_CONSONANTS = "bdfgklmnprstvz"
_VOWELS = "aeiou"


def run(context: StageContext) -> StageResult:
    """Fill the partial folder with a built-in model."""
    model = builtin.get(context.plan.model_path)
    write_builtin(model, context.partial)
    return StageResult(metrics={"parameters": builtin_spec(model).num_parameters()})


def hash_inputs(home: Path, files: Sequence[Path]) -> None:
    """Put the digests of external files into the digest cache of a store's home folder."""
    total = sum(file.stat().st_size for file in files)
    with progress_bar("hash inputs", total, unit="bytes") as advance:
        DigestCache(home).hash_files(files, advance)


def write_builtin(model: BuiltinModel, folder: Path) -> None:
    """Write config, weights and a byte-level tokenizer; one tensor in memory at a time."""
    spec = builtin_spec(model)
    _write_json(folder / CONFIG_FILE, model.config)
    generation = {key: model.config[key] for key in ("bos_token_id", "eos_token_id")}
    _write_json(folder / GENERATION_FILE, generation)
    _write_json(folder / "tokenizer.json", tokenizer_document(spec.vocab_size))
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(spec.context_length))
    shapes = spec.float_tensors()
    with progress_bar(f"write {model.name}", len(shapes), unit="tensors") as advance:

        def load(index: int, name: str, shape: tuple[int, ...]) -> Array:
            advance(1)
            return tensor_files.from_float32(_values(model.seed, index, name, shape), spec.dtype)

        tensors = [
            LazyTensor(name, spec.dtype, shape, partial(load, index, name, shape))
            for index, (name, shape) in enumerate(shapes.items())
        ]
        tensor_files.write_safetensors(folder / SINGLE_FILE, tensors, {"format": "pt"})


def _values(seed: int, index: int, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Norms are 1; embeddings small, linears uniform with variance 1 / in_features.

    So every layer adds much more than the embedding: the model does not just repeat its input.
    """
    if len(shape) == 1:
        return np.ones(shape, np.float32)
    count = math.prod(shape)
    words = np.random.PCG64([seed, index]).random_raw(-(-count // 4)).astype("<u8")
    uniform = words.view("<u2")[:count].astype(np.float32) - np.float32(32767.5)
    deviation = 0.02 if name == "model.embed_tokens.weight" else shape[1] ** -0.5
    return (uniform * np.float32(deviation * math.sqrt(12) / 65536)).reshape(shape)


def tokenizer_document(vocab_size: int) -> dict[str, Any]:
    """A tokenizer.json: the special tokens, the 256 bytes, then syllables that no text becomes.

    The syllables give every id that a random model may draw something readable.
    """
    tokens = [*SPECIAL_TOKENS, *_byte_characters()]
    tokens += itertools.islice(_syllables(), vocab_size - len(tokens))
    special = [
        {
            "id": index,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for index, token in enumerate(SPECIAL_TOKENS)
    ]
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": False,
    }
    first = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [first, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [
                first,
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "<s>", "type_id": 1}},
                {"Sequence": {"id": "B", "type_id": 1}},
            ],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": [],
        },
    }


def _byte_characters() -> list[str]:
    """The characters that byte-level tokenizers write for bytes 0 … 255 (GPT-2's table)."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = itertools.count(256)
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def _syllables() -> itertools.chain[str]:
    """Distinct tokens of two letters and more, with the byte-level space before them."""
    pairs = [first + second for first in _CONSONANTS for second in _VOWELS]
    return itertools.chain.from_iterable(
        ("\u0120" + "".join(parts) for parts in itertools.product(pairs, repeat=length))
        for length in itertools.count(1)
    )


def _tokenizer_config(context_length: int) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": context_length,
        "chat_template": CHAT_TEMPLATE,
    }


def _write_json(path: Path, document: dict[str, Any]) -> None:
    text = json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    path.write_text(text, encoding="utf-8")
