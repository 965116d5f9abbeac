"""Task files: five formats, and errors that name file, line and what is legal."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from lmrun.errors import ArtifactError
from lmrun.evals.task_files import Choices, Exact, Task, read_task

ARC = {
    "id": "1",
    "question": {
        "stem": "Which is warm?",
        "choices": [{"text": "ice", "label": "1"}, {"text": "fire", "label": "2"}],
    },
    "answerKey": "2",
}
GSM8K = {"question": "How many?", "answer": "One and one.\n#### 2"}
PIQA = {"goal": "warm up", "sol1": "ice", "sol2": "fire "}
CHOICES = {"prompt": "Warm is", "choices": ["ice", "fire"], "answer": 1}
EXACT = {"prompt": "2 + 2 =", "answer": " 4 "}


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(tmp_path: Path, *rows: Any, limit: int | None = None) -> Task:
    return read_task(write(tmp_path / "task.jsonl", *rows), limit)


def test_arc(tmp_path: Path) -> None:
    task = read(tmp_path, ARC)
    assert task.format == "arc"
    assert task.items == (Choices("Question: Which is warm?\nAnswer:", ("ice", "fire"), 1),)


@pytest.mark.parametrize("beside", ["task.labels", "task-labels.lst"])
def test_piqa_with_its_labels(tmp_path: Path, beside: str) -> None:
    (tmp_path / beside).write_text("1\n0\n")
    task = read(tmp_path, PIQA, PIQA, limit=1)
    assert task.format == "piqa"
    assert task.items == (Choices("Question: warm up\nAnswer:", ("ice", "fire "), 1),)
    content = (tmp_path / "task.jsonl").read_bytes() + b"1\n0\n"
    assert task.digest == hashlib.sha256(content).hexdigest()


def test_gsm8k(tmp_path: Path) -> None:
    task = read(tmp_path, GSM8K)
    assert task.format == "gsm8k"
    stop = ("Question:", "</s>", "<|im_end|>")
    assert task.items == (Exact("Question: How many?\nAnswer:", GSM8K["answer"], stop),)


def test_choices_of_our_own(tmp_path: Path) -> None:
    task = read(tmp_path, CHOICES, {**CHOICES, "answer": 0})
    assert task.items == (
        Choices("Warm is", ("ice", "fire"), 1),
        Choices("Warm is", ("ice", "fire"), 0),
    )
    assert task.digest == hashlib.sha256((tmp_path / "task.jsonl").read_bytes()).hexdigest()


def test_exact_answers_of_our_own(tmp_path: Path) -> None:
    task = read(tmp_path, EXACT, {"prompt": "p", "answer": "a\nb", "stop": ["END"]})
    assert task.items == (Exact("2 + 2 =", "4", ("\n",)), Exact("p", "a\nb", ("END",)))


def test_a_limit_takes_the_first_items_and_still_checks_all(tmp_path: Path) -> None:
    assert len(read(tmp_path, *[CHOICES] * 5, limit=3).items) == 3
    with pytest.raises(ArtifactError, match=r"task\.jsonl:5: "):
        read(tmp_path, *[CHOICES] * 4, {**CHOICES, "answer": 2}, limit=1)


LEGAL_CHOICES = '{"prompt": "...", "choices": ["...", "..."], "answer": 0}'
LEGAL_ARC = (
    '{"question": {"stem": "...", "choices": [{"text": "...", "label": "A"}]}, "answerKey": "A"}'
)
LEGAL_EXACT = '{"prompt": "...", "answer": "..."}'
LEGAL_PIQA = '{"goal": "...", "sol1": "...", "sol2": "..."}'
LEGAL_GSM8K = '{"question": "...", "answer": "... #### 12"}'


@pytest.mark.parametrize(
    ("first", "bad", "expected", "legal"),
    [
        (CHOICES, {**CHOICES, "answer": 2}, "answer to be an index of choices, 0 to 1, got 2",
         LEGAL_CHOICES),
        (CHOICES, {**CHOICES, "answer": True}, "answer to be an index of choices, 0 to 1, got True",
         LEGAL_CHOICES),
        (CHOICES, {**CHOICES, "choices": ["a"]}, "choices to be a list of at least 2, got ['a']",
         LEGAL_CHOICES),
        (CHOICES, {**CHOICES, "choices": ["a", ""]},
         "choices to hold texts that are not empty, got ''", LEGAL_CHOICES),
        (CHOICES, {**CHOICES, "prompt": " "}, "prompt to be a text that is not empty, got ' '",
         LEGAL_CHOICES),
        (CHOICES, {"prompt": "p"}, "an item of the format choices, got none of answer",
         LEGAL_CHOICES),
        (EXACT, {**EXACT, "answer": "a\nb"},
         "an answer without a stop text in it (stop: ['\\n']), got one", LEGAL_EXACT),
        (ARC, {**ARC, "answerKey": "3"},
         "answerKey to be the label of one choice (['1', '2']), got '3'", LEGAL_ARC),
        (ARC, {**ARC, "question": {"choices": []}},
         "question.stem to be a text that is not empty, got None", LEGAL_ARC),
        (ARC, {**ARC, "question": {"stem": "s", "choices": "ab"}},
         "question.choices to be a list of objects, got 'ab'", LEGAL_ARC),
        (ARC, {**ARC, "question": "flat"}, "question to be an object, got 'flat'", LEGAL_ARC),
        (PIQA, {**PIQA, "sol2": 3}, "sol2 to be a text that is not empty, got 3", LEGAL_PIQA),
        (GSM8K, {**GSM8K, "answer": "two"}, "answer to end in #### and a number, got 'two'",
         LEGAL_GSM8K),
    ],
)  # fmt: skip
def test_a_bad_line_is_named_with_what_is_legal(
    tmp_path: Path, first: dict[str, Any], bad: dict[str, Any], expected: str, legal: str
) -> None:
    (tmp_path / "task.labels").write_text("1\n0\n")
    with pytest.raises(ArtifactError) as caught:
        read(tmp_path, first, bad)
    path = tmp_path / "task.jsonl"
    assert str(caught.value) == f"{path}:2: expected {expected}. Legal is {legal}."


def test_what_is_no_task_is_told_all_formats(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        read(tmp_path, {"text": "a"})
    assert str(caught.value) == (
        f"{tmp_path / 'task.jsonl'}:1: expected an item of a task, got fields text. Legal is one"
        f" of {LEGAL_CHOICES}; {LEGAL_EXACT}; {LEGAL_ARC}; {LEGAL_PIQA}; {LEGAL_GSM8K}."
    )
    with pytest.raises(ArtifactError, match=r"expected one item a line, got none\. Legal is"):
        read(tmp_path)


def test_a_long_line_is_quoted_in_part(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        read(tmp_path, {**CHOICES, "choices": "x" * 10_000})
    assert " …. Legal is " in str(caught.value)
    assert len(str(caught.value)) < 700


def test_labels_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        read(tmp_path, PIQA)
    assert str(caught.value) == (
        f"{tmp_path / 'task.jsonl'}: expected the answers of a PIQA file beside it, found none."
        " Legal is task.labels or task-labels.lst, 0 or 1 a line."
    )
    labels = tmp_path / "task.labels"
    labels.write_text("1\n")
    with pytest.raises(ArtifactError) as caught:
        read(tmp_path, PIQA, PIQA)
    assert str(caught.value) == f"{labels}: expected 2 labels, one a line of task.jsonl, got 1."
    labels.write_text("1\n2\n")
    with pytest.raises(ArtifactError) as caught:
        read(tmp_path, PIQA, PIQA)
    assert str(caught.value) == f"{labels}:2: expected 0 or 1, got '2'."


@pytest.mark.parametrize(
    ("name", "task_format", "items"),
    [
        ("ARC-Challenge-Dev.jsonl", "arc", 294),
        ("gsm8k.test.head300.jsonl", "gsm8k", 300),
        ("piqa.valid.head500.jsonl", "piqa", 500),
    ],
)
def test_published_files_are_read(test_data: Path, name: str, task_format: str, items: int) -> None:
    task = read_task(test_data / "eval" / name)
    assert task.format == task_format
    assert len(task.items) == items
    if task_format == "piqa":
        labels = (test_data / "eval" / "piqa.valid.head500.labels").read_text().split()
        assert [str(item.answer) for item in task.items] == labels
