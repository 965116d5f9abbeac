"""Task files: JSON lines in one of five formats, told apart by the fields of the first line.

`choices`: `{"prompt", "choices": [text, ...], "answer": index}`
`exact`:   `{"prompt", "answer": text}`, maybe `"stop": [text, ...]`
`arc`:     `{"question": {"stem", "choices": [{"text", "label"}, ...]}, "answerKey"}`
`piqa`:    `{"goal", "sol1", "sol2"}`, and 0 or 1 a line in `FILE.labels` or `FILE-labels.lst`
`gsm8k`:   `{"question", "answer": "... #### number"}`
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from lmrun.errors import ArtifactError
from lmrun.evals import lines
from lmrun.evals.lines import Line
from lmrun.models.builtin_data import companion

QUESTION = "Question: {q}\nAnswer:"
_STOPS = ("\n",)
_GSM8K_STOPS = ("Question:", "</s>", "<|im_end|>")
"""lm-eval's `until`."""


@dataclass(frozen=True)
class Choices:
    """An item whose answer is one of several continuations, each put behind one space."""

    prompt: str
    choices: tuple[str, ...]
    answer: int


@dataclass(frozen=True)
class Exact:
    """An item whose answer is written by the model."""

    prompt: str
    answer: str
    stop: tuple[str, ...]


Item = Choices | Exact


@dataclass(frozen=True)
class Task:
    """The items of one file."""

    format: str
    prompt: str
    """How prompts are made, as reports say it."""
    digest: str
    items: tuple[Item, ...]

    @property
    def is_choices(self) -> bool:
        """Scored by likelihood; else by what is generated."""
        return isinstance(self.items[0], Choices)


@dataclass(frozen=True)
class _Format:
    name: str
    keys: frozenset[str]
    """That every line has."""
    prompt: str
    legal: str
    item: Callable[[Line, "_Format"], Item]


def read_task(path: Path, limit: int | None = None) -> Task:
    """The first ``limit`` items of a task file. `ArtifactError` names file, line and what is legal.

    The whole file is read and checked, whatever the limit.
    """
    content = lines.read_bytes(path)
    beside = companion(path)
    labels = b"" if beside is None else lines.read_bytes(beside)
    found = list(lines.read(path, content))
    if not found:
        raise ArtifactError(f"{path}: expected one item a line, got none. {_all_legal()}")
    kind = _format_of(found[0])
    items = [kind.item(_checked(line, kind), kind) for line in found]
    if kind.name == "piqa":
        items = _labelled(items, path, beside, labels)
    else:
        labels = b""
    return Task(kind.name, kind.prompt, lines.digest(content, labels), tuple(islice(items, limit)))


def _format_of(line: Line) -> _Format:
    for kind in FORMATS:
        if kind.keys <= line.fields.keys():
            question = line.fields.get("question")
            if kind.name not in ("arc", "gsm8k") or isinstance(question, dict) == (
                kind.name == "arc"
            ):
                return kind
    raise ArtifactError(
        f"{line.path}:{line.number}: expected an item of a task, got fields"
        f" {', '.join(line.fields) or '(none)'}. {_all_legal()}"
    )


def _all_legal() -> str:
    return "Legal is one of " + "; ".join(kind.legal for kind in FORMATS) + "."


def _checked(line: Line, kind: _Format) -> Line:
    missing = [key for key in sorted(kind.keys) if key not in line.fields]
    if missing:
        line.refuse(f"an item of the format {kind.name}, got none of {missing[0]}", kind.legal)
    return line


def _text(line: Line, kind: _Format, key: str) -> str:
    value = line.fields[key]
    if not isinstance(value, str) or not value.strip():
        line.refuse(f"{key} to be a text that is not empty, got {value!r}", kind.legal)
    return value


def _texts(line: Line, kind: _Format, key: str, values: Any, least: int) -> tuple[str, ...]:  # noqa: ANN401
    if not isinstance(values, list) or len(values) < least:
        line.refuse(f"{key} to be a list of at least {least}, got {values!r}", kind.legal)
    for value in values:
        if not isinstance(value, str) or not value:
            line.refuse(f"{key} to hold texts that are not empty, got {value!r}", kind.legal)
    return tuple(values)


def _choices(line: Line, kind: _Format) -> Item:
    prompt = _text(line, kind, "prompt")
    choices = _texts(line, kind, "choices", line.fields["choices"], 2)
    answer = line.fields["answer"]
    if type(answer) is not int or not 0 <= answer < len(choices):
        line.refuse(
            f"answer to be an index of choices, 0 to {len(choices) - 1}, got {answer!r}", kind.legal
        )
    return Choices(prompt, choices, answer)


def _exact(line: Line, kind: _Format) -> Item:
    prompt, answer = _text(line, kind, "prompt"), _text(line, kind, "answer").strip()
    stop = _texts(line, kind, "stop", line.fields.get("stop", list(_STOPS)), 0)
    if any(text in answer for text in stop):
        line.refuse(
            f"an answer without a stop text in it (stop: {list(stop)!r}), got one", kind.legal
        )
    return Exact(prompt, answer, stop)


def _arc(line: Line, kind: _Format) -> Item:
    question = line.fields["question"]
    if not isinstance(question, dict):
        line.refuse(f"question to be an object, got {question!r}", kind.legal)
    stem, given = question.get("stem"), question.get("choices")
    if not isinstance(stem, str) or not stem.strip():
        line.refuse(f"question.stem to be a text that is not empty, got {stem!r}", kind.legal)
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        line.refuse(f"question.choices to be a list of objects, got {given!r}", kind.legal)
    texts = _texts(line, kind, "question.choices", [one.get("text") for one in given], 2)
    labels = [one.get("label") for one in given]
    key = line.fields["answerKey"]
    if labels.count(key) != 1:
        line.refuse(f"answerKey to be the label of one choice ({labels}), got {key!r}", kind.legal)
    return Choices(QUESTION.replace("{q}", stem), texts, labels.index(key))


def _piqa(line: Line, kind: _Format) -> Item:
    goal = _text(line, kind, "goal")
    choices = (_text(line, kind, "sol1"), _text(line, kind, "sol2"))
    return Choices(QUESTION.replace("{q}", goal), choices, 0)


def _gsm8k(line: Line, kind: _Format) -> Item:
    question, answer = _text(line, kind, "question"), _text(line, kind, "answer")
    if not answer.rpartition("#### ")[1]:
        line.refuse(f"answer to end in #### and a number, got {answer[-40:]!r}", kind.legal)
    return Exact(QUESTION.replace("{q}", question), answer, _GSM8K_STOPS)


def _labelled(items: Iterable[Item], path: Path, beside: Path | None, content: bytes) -> list[Item]:
    if beside is None:
        raise ArtifactError(
            f"{path}: expected the answers of a PIQA file beside it, found none. Legal is"
            f" {path.stem}.labels or {path.stem}-labels.lst, 0 or 1 a line."
        )
    labels = content.decode("utf-8", "replace").split()
    items = list(items)
    if len(labels) != len(items):
        raise ArtifactError(
            f"{beside}: expected {len(items)} labels, one a line of {path.name}, got {len(labels)}."
        )
    found: list[Item] = []
    for number, (item, label) in enumerate(zip(items, labels, strict=True), 1):
        if label not in ("0", "1"):
            raise ArtifactError(f"{beside}:{number}: expected 0 or 1, got {label!r}.")
        assert isinstance(item, Choices)
        found.append(Choices(item.prompt, item.choices, int(label)))
    return found


FORMATS = (
    _Format(
        "choices",
        frozenset({"prompt", "choices", "answer"}),
        "the prompt, then each choice behind one space",
        '{"prompt": "...", "choices": ["...", "..."], "answer": 0}',
        _choices,
    ),
    _Format(
        "exact",
        frozenset({"prompt", "answer"}),
        "the prompt",
        '{"prompt": "...", "answer": "..."}',
        _exact,
    ),
    _Format(
        "arc",
        frozenset({"question", "answerKey"}),
        "`Question: STEM\\nAnswer:`, then each choice behind one space",
        '{"question": {"stem": "...", "choices": [{"text": "...", "label": "A"}]},'
        ' "answerKey": "A"}',
        _arc,
    ),
    _Format(
        "piqa",
        frozenset({"goal", "sol1", "sol2"}),
        "`Question: GOAL\\nAnswer:`, then each solution behind one space",
        '{"goal": "...", "sol1": "...", "sol2": "..."}',
        _piqa,
    ),
    _Format(
        "gsm8k",
        frozenset({"question", "answer"}),
        "`Question: QUESTION\\nAnswer:`",
        '{"question": "...", "answer": "... #### 12"}',
        _gsm8k,
    ),
)
"""The closed list; the first whose fields are there is taken."""
