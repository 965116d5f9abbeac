"""Texts to be scored: what is read, and what is refused."""

import hashlib
import json
from pathlib import Path

import pytest

from lmrun.engine.llm import LLM
from lmrun.errors import ArtifactError, PlanError
from lmrun.evals import texts
from lmrun.models import builtin_data


def test_a_txt_file_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text('{"text": "not taken apart"}\n\u2028 x\n', encoding="utf-8")
    assert texts.read(path)[0] == '{"text": "not taken apart"}\n\u2028 x\n'


def test_of_a_jsonl_file_the_texts_are_joined(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"text": "one\u2028two"}, {"text": "three", "id": 3}]
    path.write_text(
        "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n", encoding="utf-8"
    )
    assert texts.read(path)[0] == "one\u2028two\nthree"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"txt": "a"}', 'got none. Legal is {"text": "..."}, one a line.'),
        ('{"text": 3}', 'got none. Legal is {"text": "..."}, one a line.'),
        ("[1]", "a.jsonl:2: expected a JSON object, got list."),
        (
            '{"text": "a \\ud83d b"}',
            "a.jsonl:2: expected text, got half of a surrogate pair (\\ud800 to \\udfff).",
        ),
        ("{", "a.jsonl:2: expected JSON, got Expecting property name"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "fine"}\n' + line + "\n")
    with pytest.raises(ArtifactError) as caught:
        texts.read(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{path}:2: expected ")


def test_other_bytes_than_utf8_and_missing_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with pytest.raises(ArtifactError) as caught:
        texts.read(path)
    assert str(caught.value) == f"{path}: cannot be read: No such file or directory."
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ArtifactError) as caught:
        texts.read(path)
    assert str(caught.value) == f"{path}: expected UTF-8 text, got invalid start byte."


def test_windows_say_what_they_are_of(random_llm: LLM, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("abcdefghij" * 3)
    found = texts.cut(path, random_llm.tokenizer, 11, 25)
    assert [ids[0] for ids in found.windows] == [1, 1]
    assert found.windows[0] == found.windows[1]
    assert found.tokens == 20
    assert found.name == "a.txt"
    assert found.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    other = texts.cut(path, random_llm.tokenizer, 11, 15)
    assert other.ids_digest != found.ids_digest


def test_the_built_in_text_goes_by_its_name(random_llm: LLM) -> None:
    path = builtin_data.path("builtin:stories", builtin_data.TEXTS, "evaluate.data")
    assert texts.cut(path, random_llm.tokenizer, 256, 1000).name == "builtin:stories"


def test_a_text_without_one_window_is_refused(random_llm: LLM, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("short")
    with pytest.raises(PlanError) as caught:
        texts.cut(path, random_llm.tokenizer, 256, 65535)
    assert str(caught.value) == (
        "evaluate.data=a.txt: expected at least one window of 255 tokens within"
        " evaluate.max_tokens=65535, got 5 tokens. Use a longer text, a smaller evaluate.window, or"
        " more evaluate.max_tokens."
    )
