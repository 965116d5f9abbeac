"""What tool tasks of training and of the test have in common: calls, results, conversations."""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lmrun.demo.generate import arithmetic, kinds, slots, variety
from lmrun.demo.generate.actions import Action, Ask
from lmrun.demo.generate.templates import Worded, stems, told
from lmrun.demo.generate.wording import Wording

Message = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """A call that is expected, and what its function returns."""

    name: str
    arguments: Mapping[str, Any]
    result: str


@dataclass(frozen=True)
class Task:
    """A request, the tools at hand and the calls that answer it, one after another."""

    tools: list[dict[str, Any]]
    request: str
    calls: tuple[Call, ...]
    answer: str
    """What is said after the last result; without calls, the answer to the request."""
    sort: str = field(default="", compare=False)


REFUSALS = (
    "I am sorry, but none of my tools can do that.",
    "None of the tools I have can help with that.",
    "Sorry, I have no tool for that.",
    "I do not have a tool that can do this.",
    "That is not something my tools can do.",
    "I cannot do that with the tools I have.",
)
DONE = ("Done.", "It is done.", "That is done.", "All done.", "Done, as you asked.")
OK_RESULTS = (
    "ok", "done", "success", '{"status": "ok"}', '{"success": true}', "true", "null",
    '{"result": "ok"}', "OK", '{"ok": true}', '{"status": "success"}', '{"done": true}',
)  # fmt: skip
ERRORS = (
    "not found", "access denied", "timeout", "no connection", "unknown id", "server error",
    "invalid value", "out of stock", "quota exceeded", "already exists", "too many requests",
)  # fmt: skip


def plain(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """A value as a sentence says it."""
    return value if isinstance(value, str) else json.dumps(value)


class Parts:
    """Draws what tasks are made of."""

    def __init__(self, wording: Wording) -> None:
        self.wording = wording
        self.lists = wording.lists
        self.vocabulary = wording.vocabulary

    def framed(self, rng: random.Random, ask: Ask) -> str:
        """The request as somebody would write it."""
        if not ask.is_sentence:
            frame = self.wording.frame(rng, "request")
            text = frame.replace("{c}", ask.text)
            return text.replace("{C}", ask.text[0].upper() + ask.text[1:])
        if rng.random() < 0.12:
            return rng.choice(("Hi! ", "Hello. ", "Hey, ", "Quick question: ", "So, ")) + ask.text
        return ask.text

    def joined(self, rng: random.Random, first: Ask, second: Ask) -> str:
        """Two requests in one."""
        if first.is_sentence or second.is_sentence:
            one = first.text[0].upper() + first.text[1:]
            two = second.text if second.is_sentence else "Then " + second.text
            return " ".join(text if text[-1] in "?.!" else text + "." for text in (one, two))
        frame = self.wording.frame(rng, "two_step")
        text = frame.replace("{C}", first.text[0].upper() + first.text[1:])
        return text.replace("{c}", first.text).replace("{d}", second.text)

    def reference(self, rng: random.Random, noun: str) -> str:
        """How a second request points at what the first one found."""
        text = slots.pick(rng, self.lists.references)
        if self.wording.is_varied and rng.random() < 0.7:
            text = variety.reference(rng)
        return text.replace("{a}", noun)

    def value(self, rng: random.Random, kind: str) -> Any:  # noqa: ANN401 - any JSON value
        """What a function may return."""
        return kinds.SAMPLERS[kind].sample(rng, self.vocabulary)[0]

    def result(self, rng: random.Random, action: Action | Worded) -> tuple[str, str]:
        """What a call returns, and what is answered then."""
        draw = rng.random()
        if draw < 0.05:
            error = rng.choice(ERRORS)
            text = rng.choice((f"error: {error}", json.dumps({"error": error}), f"Error: {error}"))
            return text, f"That did not work: {error}."
        if not action.result and draw < 0.75:
            return rng.choice(OK_RESULTS), rng.choice(DONE)
        if not action.result or draw < 0.25:
            return self._fields(rng)
        value = self.value(rng, action.result_kind)
        said = plain(value)
        end = "" if said.endswith((".", "!", "?")) else "."
        answer = (
            f"{action.result[0].upper()}{action.result[1:]} is{':' if not end else ''} {said}{end}"
        )
        return self.told(rng, action, value), answer

    def told(self, rng: random.Random, action: Action | Worded, value: Any) -> str:  # noqa: ANN401
        """A value as a function returns it."""
        noun, said = action.result.removeprefix("the "), plain(value)
        texts = [said, said, f"{noun}: {said}", f"{noun} = {said}"]
        for key in ("result", noun.replace(" ", "_"), noun.split()[-1]):
            texts.append(json.dumps({key: value}, ensure_ascii=False))
        return rng.choice(texts)

    def _fields(self, rng: random.Random) -> tuple[str, str]:
        """A result of some named fields, and a sentence that reads them out."""
        result: dict[str, Any] = {}
        for _ in range(rng.randint(1, 3)):
            kind = rng.choice(("word", "whole", "number", "person", "city", "date"))
            noun = self.vocabulary.word(rng)
            result[noun] = self.value(rng, kind)
        parts = [f"the {noun} is {plain(value)}" for noun, value in result.items()]
        text = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
        return json.dumps(result, ensure_ascii=False), text[0].upper() + text[1:] + "."

    def call(self, action: Action | Worded, ask: Ask, result: str) -> Call:
        """The call that answers a request."""
        return Call(action.function["name"], ask.arguments, result)

    def pair(
        self, rng: random.Random, actions: Sequence[Action | Worded], tools: list[dict[str, Any]]
    ) -> Task:
        """Two requests in one that have nothing to do with each other."""
        asks = [action.ask(rng, self.vocabulary) for action in actions]
        one, _ = self.result(rng, actions[0])
        two, answer = self.result(rng, actions[1])
        calls = self.call(actions[0], asks[0], one), self.call(actions[1], asks[1], two)
        return Task(tools, self.joined(rng, *asks), calls, answer, "sequence")

    def worked_out(
        self,
        rng: random.Random,
        expression: arithmetic.Expression,
        made: Mapping[str, dict[str, Any]],
        tools: list[dict[str, Any]],
    ) -> Task:
        calls = []
        for step in expression.steps:
            tool = made[step.operation.sign]
            passed = arithmetic.arguments(tool, step)
            for parameter, value in passed.items():
                if isinstance(value, float):
                    tool["parameters"]["properties"][parameter]["type"] = "number"
            result = rng.choice(
                (
                    str(step.value), str(step.value), f"{step.text}={step.value}",
                    f"{step.text} = {step.value}", json.dumps({"result": step.value}),
                    f"The result is {step.value}", json.dumps({"value": step.value}),
                    json.dumps({tool["name"]: step.value}), f"result: {step.value}",
                )
            )  # fmt: skip
            calls.append(Call(tool["name"], passed, result))
        answer = rng.choice(("The answer is {v}.", "The result is {v}.", "That is {v}."))
        answer = answer.replace("{v}", str(expression.steps[-1].value))
        return Task(tools, expression.text, tuple(calls), answer, "arithmetic")


def overlap(request: str, function: Mapping[str, Any]) -> int:
    """How many stems a request shares with the name and the description of a function."""
    return len(stems(request) & told(function))


def conversation(
    rng: random.Random, tasks: Sequence[Task], tools: Sequence[dict[str, Any]]
) -> tuple[list[Message], list[dict[str, Any]]]:
    """The messages of some tasks in a row, calls and results included."""
    messages: list[Message] = []
    role = rng.choice(("tool", "environment"))
    drops_calls, drops_all = rng.random() < 0.22, rng.random() < 0.5
    for task in tasks:
        messages.append({"role": "user", "content": task.request})
        for index, call in enumerate(task.calls):
            made = {"function": {"name": call.name, "arguments": dict(call.arguments)}}
            # a client may send back the content alone; a call that is not shown is not learned
            dropped = drops_calls and (drops_all or index < len(task.calls) - 1)
            messages.append({"role": "assistant", **({} if dropped else {"tool_calls": [made]})})
            messages.append({"role": role, "content": call.result})
        messages.append({"role": "assistant", "content": task.answer})
    return messages, list(tools)
