"""Text to token ids and back, from the files a checkpoint or a workspace ships.

`tokenizer.json` decides how text is cut and whether BOS and EOS go around it: where that file is,
transformers 5 ignores `add_bos_token` too. `tokenizer_config.json` names the special tokens,
`generation_config.json` the ids that end a completion. No transformers here.
"""

import codecs
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers

from lmrun.errors import ArtifactError

_METASPACE = "\u2581"
_REPLACEMENT = "\ufffd"
_CONTEXT = 4
"""Tokens that a decoder which looks at neighbours is shown."""
_SPECIAL_NAMES = (
    "bos_token",
    "eos_token",
    "unk_token",
    "pad_token",
    "sep_token",
    "cls_token",
    "mask_token",
)


@dataclass(frozen=True)
class GenerationDefaults:
    """What generation_config.json says about sampling; None where it is silent.

    ``not_applied`` names settings of the file that lmrun has not built, with their values.
    """

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    max_new_tokens: int | None = None
    not_applied: tuple[str, ...] = ()


class Tokenizer:
    """The tokenizer of one model folder. Thread-safe: nothing changes after construction."""

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        *,
        special_tokens: Mapping[str, str] | None = None,
        stop_token_ids: Sequence[int] = (),
        defaults: GenerationDefaults | None = None,
    ) -> None:
        self._backend = backend
        self.special_tokens: Mapping[str, str] = dict(special_tokens or {})
        """``bos_token``, ``eos_token`` … → text: the names a chat template may use."""
        bos_token = self.special_tokens.get("bos_token")
        eos_token = self.special_tokens.get("eos_token")
        self.bos_token_id: int | None = backend.token_to_id(bos_token) if bos_token else None
        self.eos_token_id: int | None = backend.token_to_id(eos_token) if eos_token else None
        ids = dict.fromkeys(stop_token_ids)
        if self.eos_token_id is not None:
            ids[self.eos_token_id] = None
        self.stop_token_ids: tuple[int, ...] = tuple(ids)
        """Ids that end a completion: those of generation_config.json, then the tokenizer's EOS."""
        self.defaults = defaults or GenerationDefaults()
        added = backend.get_added_tokens_decoder()
        self._special_ids = frozenset(i for i, token in added.items() if token.special)
        # `id_to_token` of the library returns the normalized form of an added token
        self._added = {token_id: token.content for token_id, token in added.items()}
        self._to_bytes = _bytes_of_tokens(json.loads(backend.to_str())["decoder"])

    @classmethod
    def from_folder(cls, folder: Path) -> "Tokenizer":
        """Read the tokenizer of a checkpoint or workspace; `ArtifactError` when a file is bad."""
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ArtifactError(
                f"{folder}: expected tokenizer.json, found none. lmrun reads fast tokenizers"
                " only; write one with `AutoTokenizer.from_pretrained(...).save_pretrained(...)`."
            )
        try:
            backend = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception
            raise ArtifactError(f"{path}: not a tokenizer: {error}") from error
        backend.no_truncation()
        backend.no_padding()
        config = _read_json(folder / "tokenizer_config.json")
        named = _read_json(folder / "special_tokens_map.json") | config
        special = {name: text for name in _SPECIAL_NAMES if (text := _token_text(named.get(name)))}
        generation = _read_json(folder / "generation_config.json")
        return cls(
            backend,
            special_tokens=special,
            stop_token_ids=_ids(generation.get("eos_token_id"), folder),
            defaults=_defaults(generation, folder),
        )

    @property
    def vocab_size(self) -> int:
        """Ids the tokenizer knows, added tokens included; the model's may be padded further."""
        return int(self._backend.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Token ids of ``text``; BOS and EOS around it where tokenizer.json says so.

        A rendered chat template carries its own special tokens: encode it without.
        """
        return list(self._backend.encode(text, add_special_tokens=add_special_tokens).ids)

    def encode_batch(
        self, texts: Sequence[str], add_special_tokens: bool = True
    ) -> list[list[int]]:
        """`encode` of many texts, on the library's own threads."""
        batch = self._backend.encode_batch_fast(list(texts), add_special_tokens=add_special_tokens)
        return [list(encoding.ids) for encoding in batch]

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[int]]:
        """`encode`, and the character of ``text`` at which each token begins.

        A token begins with the space in front of its word; one that is a part of a character
        where the character does. BOS and EOS around the text have no width.
        """
        encoding = self._backend.encode(text)
        stream = TokenOffsets(self, self.detokenizer(skip_special_tokens=False))
        offsets = [
            stream.length if is_around else stream.push(token_id)
            for token_id, is_around in zip(encoding.ids, encoding.special_tokens_mask, strict=True)
        ]
        if stream.finish() != text:  # a normalizer changed it; these offsets leave the space out
            offsets = [start for start, _ in encoding.offsets]
        return list(encoding.ids), offsets

    def token_bytes(self, token_id: int) -> bytes:
        """What a token spells by itself: text, or a part of a character; a special token its name.

        Nothing for an id that the tokenizer does not know.
        """
        token = self._added.get(token_id) or self._backend.id_to_token(token_id)
        if token is None:
            return b""
        if token_id in self._special_ids:
            return token.encode()
        if self._to_bytes is not None:
            return self._to_bytes.convert(token)
        return str(self._backend.decode([token_id], skip_special_tokens=False)).encode()

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Text of the ids: exactly what a `Detokenizer` streams for them."""
        stream = self.detokenizer(skip_special_tokens)
        return stream.push(token_ids) + stream.finish()

    def detokenizer(
        self, skip_special_tokens: bool = True, *, after: Sequence[int] = ()
    ) -> "Detokenizer":
        """A fresh stream of one completion.

        ``after``: the tokens of a text that the completion goes on with, so that the space in
        front of its first word is kept; without it the completion is a text of its own.
        """
        skip = self._special_ids if skip_special_tokens else frozenset()
        before = [token_id for token_id in after if token_id not in self._special_ids]
        return Detokenizer(self._backend, skip, self._added, self._to_bytes, before[-_CONTEXT:])


class Detokenizer:
    """Turns the tokens of one completion into text as they arrive.

    A character whose bytes are spread over tokens is held back until it is whole. What is
    pushed in pieces adds up to what is pushed at once.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        skip: frozenset[int],
        added: Mapping[int, str],
        to_bytes: "_TokenBytes | None",
        before: Sequence[int],
    ) -> None:
        self._backend = backend
        self._skip = skip
        self._added = added
        self._to_bytes = to_bytes
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._strip = to_bytes.strip_start if to_bytes and not before else 0
        self._context = list(before)
        self._pending: list[int] = []

    def push(self, token_ids: Sequence[int]) -> str:
        """The text that these tokens complete; may be empty."""
        ids = [token_id for token_id in token_ids if token_id not in self._skip]
        if self._to_bytes is None:
            return "".join(self._push_window(token_id) for token_id in ids)
        convert = self._to_bytes.convert
        data = b"".join(
            convert(token)
            for token_id in ids
            if (token := self._added.get(token_id) or self._backend.id_to_token(token_id))
        )
        return self._strip_start(self._utf8.decode(data))

    def finish(self) -> str:
        """The text still held back; bytes that never became a character read as U+FFFD."""
        if self._to_bytes is None:
            text = self._window_text(self._context + self._pending)
            start = len(self._window_text(self._context))
            self._context, self._pending = [], []
            return text[start:]
        return self._strip_start(self._utf8.decode(b"", final=True))

    def _strip_start(self, text: str) -> str:
        while self._strip and text:
            if not text.startswith(" "):
                self._strip = 0
                break
            text = text[1:]
            self._strip -= 1
        return text

    def _window_text(self, ids: list[int]) -> str:
        return str(self._backend.decode(ids, skip_special_tokens=False))

    def _push_window(self, token_id: int) -> str:
        """For decoders that look at neighbours: decode a window, report what it grew by."""
        self._pending.append(token_id)
        before = self._window_text(self._context)
        after = self._window_text(self._context + self._pending)
        if after.endswith(_REPLACEMENT) and len(self._pending) < 4:
            return ""
        self._context, self._pending = self._pending, []
        return after[len(before) :]


class TokenOffsets:
    """Where each token begins in the text that a detokenizer streams, in characters.

    A part of a character begins where the character does.
    """

    def __init__(self, tokenizer: Tokenizer, stream: Detokenizer) -> None:
        self._tokenizer = tokenizer
        self._stream = stream
        self._parts: list[str] = []
        self.length = 0
        """Characters so far."""

    def push(self, token_id: int) -> int:
        """Add a token; where it begins."""
        text = self._stream.push((token_id,))
        begin = self.length
        self.length += len(text)
        self._parts.append(text)
        spelled = self._tokenizer.token_bytes(token_id).decode(errors="replace")
        # what came before it in this text is left of a character that never became whole
        is_behind = text.endswith(spelled) and _REPLACEMENT not in spelled
        return self.length - len(spelled) if text and is_behind else begin

    def finish(self) -> str:
        """The whole text."""
        return "".join([*self._parts, self._stream.finish()])


@dataclass(frozen=True)
class _TokenBytes:
    """A decoder whose text is the concatenation of each token's bytes."""

    convert: Callable[[str], bytes]
    strip_start: int
    """Spaces taken off the front of the whole text, at most."""


def _bytes_of_tokens(decoder: dict[str, Any] | None) -> _TokenBytes | None:
    """How this decoder of tokenizer.json maps tokens to bytes; None when it looks at neighbours."""
    parts = decoder.get("decoders", [decoder]) if decoder else []
    kinds = [part["type"] for part in parts]
    if kinds == ["ByteLevel"]:
        return _TokenBytes(_byte_level, 0)
    strip = 0
    if kinds and kinds[-1] == "Strip" and parts[-1]["content"] == " " and parts[-1]["stop"] == 0:
        strip = parts[-1]["start"]
        kinds = kinds[:-1]
    if kinds == ["Replace", "ByteFallback", "Fuse"]:
        replace = parts[0]
        if replace["pattern"] == {"String": _METASPACE} and replace["content"] == " ":
            return _TokenBytes(_byte_fallback, strip)
    return None


def _byte_fallback(token: str) -> bytes:
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        try:
            return bytes([int(token[3:5], 16)])
        except ValueError:
            pass
    return token.replace(_METASPACE, " ").encode()


def _byte_level_table() -> dict[str, int]:
    """The printable characters that GPT-2's byte-level BPE writes for the 256 bytes."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    table = {chr(byte): byte for byte in printable}
    table.update({chr(256 + index): byte for index, byte in enumerate(others)})
    return table


_BYTE_OF_CHAR = _byte_level_table()


def _byte_level(token: str) -> bytes:
    try:
        return bytes([_BYTE_OF_CHAR[char] for char in token])
    except KeyError:  # an added token with characters outside the table stands for itself
        return token.encode()


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ArtifactError(f"{path}: expected an object, got {type(document).__name__}.")
    return document


def _token_text(value: str | dict[str, Any] | None) -> str | None:
    if isinstance(value, dict):
        return str(value["content"])
    return value


def _ids(value: int | list[int] | None, folder: Path) -> list[int]:
    ids = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(token_id, int) and token_id >= 0 for token_id in ids):
        raise ArtifactError(
            f"{folder / 'generation_config.json'}: eos_token_id: expected ids, got {value!r}."
        )
    return ids


_NEUTRAL = {
    "repetition_penalty": 1.0,
    "min_p": 0.0,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1.0,
    "num_beams": 1,
    "bad_words_ids": None,
    "suppress_tokens": None,
}


def _defaults(generation: dict[str, Any], folder: Path) -> GenerationDefaults:
    not_applied = [
        f"{name}={generation[name]}"
        for name, neutral in _NEUTRAL.items()
        if generation.get(name) not in (None, neutral)
    ]
    top_k = _number(generation, "top_k", folder)
    max_new_tokens = _number(generation, "max_new_tokens", folder)
    return GenerationDefaults(
        temperature=_number(generation, "temperature", folder),
        top_k=int(top_k) if top_k else None,
        top_p=_number(generation, "top_p", folder),
        max_new_tokens=int(max_new_tokens) if max_new_tokens else None,
        not_applied=tuple(not_applied),
    )


def _number(generation: dict[str, Any], name: str, folder: Path) -> float | None:
    value = generation.get(name)
    if value is None or (type(value) in (int, float) and value >= 0):
        return value
    raise ArtifactError(
        f"{folder / 'generation_config.json'}: {name}: expected a number of at least 0,"
        f" got {value!r}."
    )
