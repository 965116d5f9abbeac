"""Text to ids as transformers does it, and back in pieces that add up."""

import json
import random
import tarfile
from pathlib import Path

import pytest
import tokenizers
from tokenizers import decoders, models

from lmrun.errors import ArtifactError
from lmrun.models.tokenizer import GenerationDefaults, Tokenizer

TEXTS = [
    "Hello world",
    "Once upon a time, there was a little girl named Lily.",
    "two  spaces and a tail ",
    "日本語 and 🙂 and 👩‍👩‍👧, ééé",
    "lines\n\n\tand tabs",
    "",
]
HARD_TEXTS = [" leading space", "   ", "<s>hi</s> there", " <s> x", "a<|im_start|>b<|im_end|>"]
"""Cut by tokenizer.json alone; transformers 5 rebuilds the tokenizers of Llama's class."""
MODELS = ["stories3m", "stories260k", "tinystories-656k"]
ARCHIVES = ["qwen2.5", "llama2", "internlm2"]


@pytest.fixture(scope="session", params=MODELS + ARCHIVES)
def folder(
    request: pytest.FixtureRequest, test_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    if request.param in MODELS:
        return test_data / "models" / request.param
    target = tmp_path_factory.mktemp("tokenizers")
    with tarfile.open(test_data / "tokenizers" / f"{request.param}.tar.xz") as archive:
        archive.extractall(target, filter="data")
    return target / str(request.param)


def pieces_of(tokenizer: Tokenizer, ids: list[int], size: int) -> str:
    stream = tokenizer.detokenizer()
    parts = [stream.push(ids[start : start + size]) for start in range(0, len(ids), size)]
    return "".join([*parts, stream.finish()])


def test_ids_and_text_are_those_of_transformers(folder: Path) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(folder)
    ours = Tokenizer.from_folder(folder)
    assert (ours.bos_token_id, ours.eos_token_id) == (theirs.bos_token_id, theirs.eos_token_id)
    for text in TEXTS:
        if folder.name == "tinystories-656k" and 0 in ours.encode(text):
            continue  # no bytes to fall back to: transformers 5 drops what is unknown
        for add in (True, False):
            assert ours.encode(text, add) == theirs(text, add_special_tokens=add).input_ids
        ids = ours.encode(text)
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)


def test_special_tokens_in_text_are_cut_as_tokenizer_json_says(folder: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    theirs = PreTrainedTokenizerFast.from_pretrained(folder)
    ours = Tokenizer.from_folder(folder)
    for text in TEXTS + HARD_TEXTS:
        for add in (True, False):
            assert ours.encode(text, add) == theirs(text, add_special_tokens=add).input_ids
    assert ours.encode_batch(TEXTS + HARD_TEXTS) == [ours.encode(t) for t in TEXTS + HARD_TEXTS]


def test_what_is_streamed_adds_up_to_the_whole_text(folder: Path) -> None:
    tokenizer = Tokenizer.from_folder(folder)
    reference = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    ascii_ids = [
        i
        for i in range(3, tokenizer.vocab_size)
        if (token := reference.id_to_token(i)) and not token.startswith("<0x")
    ]
    rng = random.Random(0)
    for _ in range(100):
        ids = rng.choices(ascii_ids, k=12)
        whole = tokenizer.decode(ids)
        assert {pieces_of(tokenizer, ids, size) for size in (1, 2, 5, 12)} == {whole}
        visible = [i for i in ids if i not in reference.get_added_tokens_decoder()]
        if visible == ids:
            assert whole == reference.decode(ids)


def test_a_character_spread_over_tokens_comes_when_it_is_whole(tiny_workspace: Path) -> None:
    tokenizer = Tokenizer.from_folder(tiny_workspace)
    stream = tokenizer.detokenizer()
    ids = tokenizer.encode("a 🙂b", add_special_tokens=False)
    parts = [stream.push([token_id]) for token_id in ids]
    assert all("\ufffd" not in part for part in parts)
    assert "".join(parts) == "a 🙂b"
    assert stream.finish() == ""


def test_the_ids_that_end_a_completion_come_from_both_files(test_data: Path) -> None:
    assert Tokenizer.from_folder(test_data / "models" / "stories3m").stop_token_ids == (1, 2)


def test_a_continuation_keeps_the_space_before_its_first_word(folder: Path) -> None:
    tokenizer = Tokenizer.from_folder(folder)
    ids = tokenizer.encode("once upon a time there was")
    whole = tokenizer.decode(ids)
    for cut in range(2, len(ids)):
        stream = tokenizer.detokenizer(after=ids[:cut])
        assert tokenizer.decode(ids[:cut]) + stream.push(ids[cut:]) + stream.finish() == whole
    stream = tokenizer.detokenizer(after=ids[:1] if ids[0] == tokenizer.bos_token_id else [])
    assert stream.push(ids) + stream.finish() == whole


def test_bytes_that_never_become_a_character_are_shown_at_the_end(tiny_workspace: Path) -> None:
    tokenizer = Tokenizer.from_folder(tiny_workspace)
    first, *_ = tokenizer.encode("é", add_special_tokens=False)
    stream = tokenizer.detokenizer()
    assert stream.push([first]) == ""
    assert stream.finish() == "\ufffd"


def test_ids_the_tokenizer_does_not_know_have_no_text(tiny_workspace: Path) -> None:
    tokenizer = Tokenizer.from_folder(tiny_workspace)
    ids = tokenizer.encode("ab", add_special_tokens=False)
    assert tokenizer.decode([ids[0], 271, ids[1]]) == "ab"


def test_special_tokens_are_shown_only_on_demand(tiny_workspace: Path) -> None:
    tokenizer = Tokenizer.from_folder(tiny_workspace)
    ids = tokenizer.encode("a<|im_end|>")
    assert tokenizer.decode(ids) == "a"
    assert tokenizer.decode(ids, skip_special_tokens=False) == "<|bos|>a<|im_end|>"


def word_pieces() -> tokenizers.Tokenizer:
    vocab = {"un": 0, "##happ": 1, "##y": 2, "end": 3, ".": 4}
    backend = tokenizers.Tokenizer(models.WordPiece(vocab=vocab, unk_token="un"))
    backend.decoder = decoders.WordPiece()
    return backend


def test_a_decoder_that_looks_at_neighbours_streams_too() -> None:
    backend = word_pieces()
    tokenizer = Tokenizer(backend)
    for ids in ([0, 1, 2, 3, 4], [3, 3, 0, 1], [4, 4]):
        assert pieces_of(tokenizer, ids, 1) == pieces_of(tokenizer, ids, 9) == backend.decode(ids)
    stream = tokenizer.detokenizer(after=[3, 0])
    assert stream.push([1, 2]) + stream.push([3]) == "happy end"


@pytest.mark.parametrize("add_bos_token", [True, False, None])
@pytest.mark.parametrize("has_template", [True, False])
def test_bos_is_added_as_tokenizer_json_says_whatever_the_config(
    add_bos_token: bool | None, has_template: bool, tiny_workspace: Path, tmp_path: Path
) -> None:
    from transformers import PreTrainedTokenizerFast

    document = json.loads((tiny_workspace / "tokenizer.json").read_text())
    if not has_template:
        document["post_processor"] = None
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    config = {"bos_token": {"__type": "AddedToken", "content": "<|bos|>"}}
    flags = {} if add_bos_token is None else {"add_bos_token": add_bos_token}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | flags))
    ours = Tokenizer.from_folder(tmp_path)
    assert ours.bos_token_id == 256
    assert ours.encode("a") == ([256, 64] if has_template else [64])
    assert ours.encode("a") == PreTrainedTokenizerFast.from_pretrained(tmp_path)("a").input_ids


def test_sampling_defaults_come_from_generation_config(
    tiny_workspace: Path, tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.json").write_text((tiny_workspace / "tokenizer.json").read_text())
    (tmp_path / "generation_config.json").write_text(
        '{"temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.05,'
        ' "do_sample": true, "min_p": 0.0, "eos_token_id": 5}'
    )
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer.stop_token_ids == (5,)
    assert tokenizer.defaults == GenerationDefaults(
        temperature=0.7, top_k=20, top_p=0.8, not_applied=("repetition_penalty=1.05",)
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", None, "expected tokenizer.json, found none. lmrun reads fast tokenizer"),
        ("tokenizer.json", "{}", "tokenizer.json: not a tokenizer: "),
        ("tokenizer_config.json", "{", "tokenizer_config.json: not JSON: "),
        ("tokenizer_config.json", "[]", "tokenizer_config.json: expected an object, got list."),
        ("generation_config.json", '{"top_p": "0.9"}', "top_p: expected a number of at least 0"),
        ("generation_config.json", '{"eos_token_id": "x"}', "eos_token_id: expected ids, got 'x'."),
    ],
)
def test_bad_files_are_named(
    name: str, content: str | None, message: str, tiny_workspace: Path, tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.json").write_text((tiny_workspace / "tokenizer.json").read_text())
    (tmp_path / name).unlink(missing_ok=True)
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ArtifactError) as caught:
        Tokenizer.from_folder(tmp_path)
    assert message in str(caught.value)


def test_offsets_point_at_the_tokens_in_the_text(folder: Path) -> None:
    tokenizer = Tokenizer.from_folder(folder)
    for text in (*TEXTS, *HARD_TEXTS):
        ids, offsets = tokenizer.encode_with_offsets(text)
        assert ids == tokenizer.encode(text)
        assert offsets == sorted(offsets)
        if tokenizer.decode(ids[1:] if ids[:1] == [tokenizer.bos_token_id] else ids, False) != text:
            continue  # unknown characters, or spaces that the tokenizer adds after special tokens
        for token_id, offset in zip(ids, offsets, strict=True):
            spelled = tokenizer.token_bytes(token_id).decode(errors="replace")
            if "\ufffd" in spelled or token_id == tokenizer.bos_token_id:
                continue
            starts = (spelled,) if folder.name == "qwen2.5" else (spelled, spelled[1:])
            assert text[offset:].startswith(starts)


def test_offsets_of_a_text_that_a_normalizer_changes_are_the_normalizers(
    tiny_workspace: Path,
) -> None:
    document = json.loads((tiny_workspace / "tokenizer.json").read_text())
    document["normalizer"] = {"type": "Lowercase"}
    tokenizer = Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(document)))
    ids, offsets = tokenizer.encode_with_offsets("Ab İ.")
    assert ids == tokenizer.encode("Ab İ.")
    assert offsets == [0, 0, 1, 2, *[3] * (len(ids) - 5), 4]


def test_a_token_by_itself_is_its_bytes(tiny_workspace: Path, test_data: Path) -> None:
    tiny = Tokenizer.from_folder(tiny_workspace)
    ids = tiny.encode("é<|im_end|> ")
    assert [tiny.token_bytes(i) for i in ids] == [
        *(b"<|bos|>", b"\xc3", b"\xa9", b"<|im_end|>", b" ")
    ]
    assert tiny.token_bytes(271) == b""
    stories = Tokenizer.from_folder(test_data / "models" / "stories3m")
    ids = stories.encode("Once ö\n")
    assert b"".join(stories.token_bytes(i) for i in ids) == "<s> Once ö\n".encode()
    assert [stories.token_bytes(i) for i in ids[-3:]] == [b"\xc3", b"\xb6", b"\n"]
    neighbours = Tokenizer(word_pieces())
    assert [neighbours.token_bytes(i) for i in (0, 3, 4, 9)] == [b"un", b"end", b".", b""]
