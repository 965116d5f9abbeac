"""Held-out tasks and how answers are scored. Nothing of the answers is repaired."""

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmrun.demo.format import parse_calls as parse
from lmrun.demo.format import prompt
from lmrun.demo.generate import json_tasks
from lmrun.demo.generate.heldout_tasks import HeldOutTasks
from lmrun.demo.generate.task_parts import DONE, Task
from lmrun.demo.generate.words import Vocabulary

Complete = Callable[[Sequence[str]], list[str]]
"""Prompts to what the model writes, greedily, up to the end of its turn."""

SEED = 20
MAX_TOKENS = 160


@dataclass(frozen=True)
class Score:
    """Right answers among all, and the wrong ones as (prompt's request, answer, expected)."""

    right: int
    total: int
    wrong: tuple[tuple[str, str, str], ...]

    @property
    def share(self) -> float:
        """Between 0 and 1."""
        return self.right / self.total


def one_step(count: int, seed: int = SEED) -> list[Task]:
    """Requests for one call."""
    tasks, rng = HeldOutTasks(), random.Random(f"one/{seed}")
    return [tasks.one_step(rng) for _ in range(count)]


def two_steps(count: int, seed: int = SEED) -> list[Task]:
    """Requests for two calls."""
    tasks, rng = HeldOutTasks(), random.Random(f"two/{seed}")
    return [tasks.two_steps(rng) for _ in range(count)]


def no_tool(count: int, seed: int = SEED) -> list[Task]:
    """Requests that no tool at hand answers."""
    tasks, rng = HeldOutTasks(), random.Random(f"none/{seed}")
    return [tasks.no_tool(rng) for _ in range(count)]


def score_calls(complete: Complete, tasks: Sequence[Task], *, shows_calls: bool = True) -> Score:
    """A task is right when each of its calls is: name and arguments equal as JSON, and no more.

    A call is asked for only after the right ones before it, whose results are given;
    ``shows_calls`` decides whether the assistant's earlier turn is shown or empty.
    """
    histories: list[list[dict[str, Any]]] = [
        [{"role": "user", "content": task.request}] for task in tasks
    ]
    wrong: dict[int, tuple[str, str, str]] = {}
    for depth in range(max(len(task.calls) for task in tasks)):
        asked = [
            index
            for index, task in enumerate(tasks)
            if depth < len(task.calls) and index not in wrong
        ]
        answers = complete([prompt(histories[index], tasks[index].tools) for index in asked])
        for index, answer in zip(asked, answers, strict=True):
            call = tasks[index].calls[depth]
            expected = [(call.name, dict(call.arguments))]
            if parse(answer) != expected or answer.split("<|call|>")[0]:
                wrong[index] = (tasks[index].request, answer, json.dumps(expected))
                continue
            made = {"function": {"name": call.name, "arguments": dict(call.arguments)}}
            said = {"tool_calls": [made]} if shows_calls else {}
            histories[index].append({"role": "assistant", **said})
            histories[index].append({"role": "tool", "content": call.result})
    return Score(len(tasks) - len(wrong), len(tasks), tuple(wrong.values()))


def score_answers(complete: Complete, tasks: Sequence[Task]) -> Score:
    """Whether the turn after the last result says what is expected, word for word or in effect.

    Right is an answer in words that holds every value the expected one holds.
    """
    prompts = []
    for task in tasks:
        messages: list[dict[str, Any]] = [{"role": "user", "content": task.request}]
        for call in task.calls:
            made = {"function": {"name": call.name, "arguments": dict(call.arguments)}}
            messages.append({"role": "assistant", "tool_calls": [made]})
            messages.append({"role": "tool", "content": call.result})
        prompts.append(prompt(messages, task.tools))
    wrong = []
    for task, answer in zip(tasks, complete(prompts), strict=True):
        value = task.answer.removesuffix(".").rsplit(" ", 1)[-1]
        is_done = task.answer in DONE
        if "<|call|>" in answer or (value not in answer and not (is_done and "one" in answer)):
            wrong.append((task.request, answer, task.answer))
    return Score(len(tasks) - len(wrong), len(tasks), tuple(wrong))


def score_words(complete: Complete, tasks: Sequence[Task]) -> Score:
    """Whether requests that no tool answers are answered in words."""
    answers = complete(
        [prompt([{"role": "user", "content": task.request}], task.tools) for task in tasks]
    )
    wrong = tuple(
        (task.request, answer, "words")
        for task, answer in zip(tasks, answers, strict=True)
        if "<|call|>" in answer or not answer.strip()
    )
    return Score(len(tasks) - len(wrong), len(tasks), wrong)


def score_json(complete: Complete, count: int, seed: int = SEED) -> Score:
    """JSON of a small schema, compared as JSON."""
    rng, vocabulary = random.Random(f"json/{seed}"), Vocabulary(held_out=True)
    turns = [json_tasks.turn(rng, vocabulary) for _ in range(count)]
    answers = complete([prompt([{"role": "user", "content": asked}]) for asked, _ in turns])
    wrong = []
    for (asked, expected), answer in zip(turns, answers, strict=True):
        try:
            is_right = json.loads(answer) == json.loads(expected)
        except ValueError:
            is_right = False
        if not is_right:
            wrong.append((asked, answer, expected))
    return Score(count - len(wrong), count, tuple(wrong))


def score_simple_python(complete: Complete, folder: Path, count: int = 50) -> Score:
    """The first questions of the Berkeley leaderboard's simple_python, with its answers."""
    questions = _lines(folder / "BFCL_v4_simple_python.json")[:count]
    answers = _lines(folder / "possible_answer" / "BFCL_v4_simple_python.json")[:count]
    prompts = [prompt(item["question"][0], item["function"]) for item in questions]
    wrong = []
    for question, item, answer in zip(questions, answers, complete(prompts), strict=True):
        if not _accepted(parse(answer), item["ground_truth"][0]):
            asked = question["question"][0][-1]["content"]
            wrong.append((asked, answer, json.dumps(item["ground_truth"])))
    return Score(count - len(wrong), count, tuple(wrong))


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def _accepted(
    calls: Sequence[tuple[str, Any]] | None, truth: Mapping[str, Mapping[str, list[Any]]]
) -> bool:
    """A value must be among the accepted ones; "" among them marks a parameter as optional."""
    if calls is None or len(calls) != 1 or calls[0][0] not in truth:
        return False
    name, arguments = calls[0]
    accepted = truth[name]
    if not isinstance(arguments, dict) or set(arguments) - set(accepted):
        return False
    return all(
        arguments[key] in values if key in arguments else "" in values
        for key, values in accepted.items()
    )


def bits_per_byte(log_likelihood: float, num_bytes: int) -> float:
    """From a sum of natural logarithms."""
    return -log_likelihood / math.log(2) / num_bytes


def report(complete: Complete, count: int, data: Path | None, seed: int = SEED) -> dict[str, Any]:
    """Every score, with up to 25 wrong answers of each; ``seed`` draws the tasks."""
    single, double = one_step(count, seed), two_steps(count, seed)
    scores = {
        "one step": score_calls(complete, single),
        "two steps": score_calls(complete, double),
        "two steps, calls not sent back": score_calls(complete, double, shows_calls=False),
        "answers from results": score_answers(complete, single),
        "no tool": score_words(complete, no_tool(count, seed)),
        "json": score_json(complete, count, seed),
    }
    if data is not None:
        scores["simple_python"] = score_simple_python(complete, data)
    return {
        name: {"right": score.right, "of": score.total, "wrong": score.wrong[:25]}
        for name, score in scores.items()
    }
