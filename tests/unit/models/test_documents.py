"""Documents of text files: which are read, what is refused, and where."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmrun.errors import ArtifactError, PlanError
from lmrun.models import documents

CHAT = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]


def _lines(path: Path, *objects: Any) -> Path:
    text = "".join(json.dumps(one) + "\n" for one in objects)
    raw = text.encode()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.jsonl.gz", "c4-train.00000.json.gz"])
def test_the_text_fields_of_json_lines_are_read_packed_or_not(tmp_path: Path, name: str) -> None:
    path = _lines(tmp_path / name, {"text": "one", "url": "u"}, {"text": "two\nlines"})
    found = documents.read(path)
    assert found.found == ("one", "two\nlines")
    assert (found.is_chat, found.total) == (False, 2)
    assert not documents.holds_chats(path)


def test_blank_lines_do_not_count_and_lines_keep_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n\n{"text": "two"}\n')
    assert documents.read(path).places == (f"{path}:1", f"{path}:3")


def test_chats_come_with_their_tools(tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    path = _lines(tmp_path / "a.jsonl", {"messages": CHAT}, {"messages": CHAT[:1], "tools": [tool]})
    assert documents.holds_chats(path)
    assert documents.read(path).found == (
        {"messages": CHAT, "tools": []},
        {"messages": CHAT[:1], "tools": [tool]},
    )


def test_a_field_of_another_name_is_text_or_chat_by_what_it_holds(tmp_path: Path) -> None:
    path = _lines(tmp_path / "a.jsonl", {"body": "one", "turns": CHAT, "text": "not this"})
    assert documents.read(path, "body").found == ("one",)
    assert documents.read(path, "turns").found == ({"messages": CHAT, "tools": []},)
    assert documents.holds_chats(path, "turns")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"text": "a"}, {"txt": "x"}], "2: expected an object with a string `text`, got none."),
        ([{"text": "a"}, {"text": 3}], "2: expected an object with a string `text`, got none."),
        ([{"text": "a"}, "x"], "2: expected an object with a string `text`, got none."),
        (
            [{"text": "a"}, {"messages": CHAT}],
            "2: expected an object with a string `text`, got none.",
        ),
        (
            [{"messages": CHAT}, {"messages": ["hi"]}],
            "2: expected an object with a list `messages` of objects, got none.",
        ),
        (
            [{"title": "a"}],
            "1: expected an object with a string `text`, or a list `messages` of a chat, got none.",
        ),
        (
            [{"messages": CHAT, "tools": "none"}],
            "1: tools: expected a list of objects, got something else.",
        ),
        (
            [{"text": "\ud800"}],
            "1: expected text, got half of a surrogate pair (\\ud800 to \\udfff).",
        ),
    ],
)
def test_a_line_that_is_no_document_is_named(tmp_path: Path, lines: Any, message: str) -> None:
    path = _lines(tmp_path / "a.jsonl", *lines)
    with pytest.raises(ArtifactError) as caught:
        documents.read(path)
    assert str(caught.value) == f"{path}:{message}"


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("{\n")
    with pytest.raises(ArtifactError, match=r"a\.jsonl:1: expected a JSON object a line, got Exp"):
        documents.read(path)


def test_bytes_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"caf\xe9")
    with pytest.raises(ArtifactError, match=r"a\.txt: expected UTF-8 text, got "):
        documents.read(path)


def test_a_torn_gzip_file_is_refused(tmp_path: Path) -> None:
    path = _lines(tmp_path / "a.json.gz", *({"text": f"text {i}"} for i in range(99)))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ArtifactError, match="expected a whole gzip file, got"):
        documents.read(path)
    path.write_bytes(b"plain text")
    with pytest.raises(ArtifactError, match="expected a whole gzip file, got Not a gzipped file"):
        documents.read(path)


def test_a_plain_text_is_the_file_with_newlines_of_one_kind(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(" \n = Title = \r\nüber\rend".encode())
    assert "".join(documents.read(path).found) == " \n = Title = \nüber\nend"


def test_blocks_of_a_large_text_end_lines_and_make_up_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    text = "".join(f"line {i} über\n" * (i % 40) for i in range(1000))
    path.write_text(text)
    found = documents.read(path)
    assert found.total > 3
    assert "".join(found.found) == text
    assert all(block.endswith("\n") for block in found.found)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json.gz"])
def test_of_a_large_file_no_more_than_asked_is_taken_in_the_order_given(
    tmp_path: Path, name: str
) -> None:
    path = _lines(tmp_path / name, *({"text": f"{i:03}"} for i in range(100)))
    size = len('{"text": "000"}\n')
    found = documents.read(path, most_bytes=10 * size, order=lambda n: list(reversed(range(n))))
    assert found.found == tuple(f"{i:03}" for i in range(90, 100)), "in the order of the file"
    assert found.total == 100
    whole = documents.read(path, most_bytes=100 * size, order=lambda n: [0])
    assert len(whole.found) == 100


def test_lines_that_are_not_taken_are_not_judged(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\nbroken line too\n')
    found = documents.read(path, most_bytes=16, order=np.arange)
    assert found.found == ("one",)


def test_other_endings_are_refused_with_those_that_are_read() -> None:
    with pytest.raises(PlanError) as caught:
        documents.check_readable(Path("a.csv"), "calibration.data=a.csv")
    assert str(caught.value) == (
        "calibration.data=a.csv: expected a file that ends in one of .txt, .jsonl, .json,"
        " .jsonl.gz, .json.gz, .parquet."
    )
