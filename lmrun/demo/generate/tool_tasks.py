"""Conversations in which tools are called: one step, two steps, and tools that do not fit."""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lmrun.demo.generate import arithmetic, slots, variety, words
from lmrun.demo.generate.actions import Action, Ask
from lmrun.demo.generate.functions import Builder
from lmrun.demo.generate.lists import Operation
from lmrun.demo.generate.values import Sampled

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
_DONE = ("Done.", "It is done.", "That is done.", "All done.", "Done, as you asked.")
_OK_RESULTS = (
    "ok", "done", "success", '{"status": "ok"}', '{"success": true}', "true", "null",
    '{"result": "ok"}', "OK", '{"ok": true}', '{"status": "success"}', '{"done": true}',
)  # fmt: skip
_ERRORS = (
    "not found", "access denied", "timeout", "no connection", "unknown id", "server error",
    "invalid value", "out of stock", "quota exceeded", "already exists", "too many requests",
)  # fmt: skip


def plain(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """A value as a sentence says it."""
    return value if isinstance(value, str) else json.dumps(value)


class Tasks:
    """Draws tasks from the lists of a builder."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self.lists = builder.lists
        self.vocabulary = builder.vocabulary

    # tools around the right one

    def _with_distractors(
        self, rng: random.Random, right: Sequence[dict[str, Any]], actions: Sequence[Action]
    ) -> list[dict[str, Any]]:
        tools = list(right)
        names = {tool["name"] for tool in tools}
        count = rng.choices((0, 1, 2, 3, 4), (18, 26, 28, 18, 10))[0]
        tries = 0
        while len(tools) < len(right) + count and tries < 20:
            tries += 1
            candidate = self._distractor(rng, actions)
            if candidate["name"] in names or _overlaps(candidate, right):
                continue
            names.add(candidate["name"])
            tools.append(candidate)
        rng.shuffle(tools)
        return tools

    def _distractor(self, rng: random.Random, actions: Sequence[Action]) -> dict[str, Any]:
        procedural = [action for action in actions if action.opening]
        draw = rng.random()
        if procedural and draw < 0.4:
            target = rng.choice(procedural)
            said, _, noun = target.opening.partition(" the ")
            if noun and not target.by_noun and rng.random() < 0.5:
                groups = [group for group in self.lists.verb_groups if said not in group]
                return self.builder.procedural(rng, verbs=rng.choice(groups), noun=noun).function
            for group in self.lists.verb_groups:
                if any(target.opening.startswith(verb + " ") for verb in group):
                    return self.builder.procedural(rng, verbs=group).function
        if draw < 0.55:
            return arithmetic.function(rng, self.builder, rng.choice(self.lists.operations))
        return self.builder.any_action(rng).function

    # requests

    def _framed(self, rng: random.Random, ask: Ask) -> str:
        text = self._request(rng, ask)
        if self.builder.is_varied and rng.random() < 0.12:
            said = variety.remark(rng, self.vocabulary)
            if rng.random() < 0.6:
                return f"{said} {text}"
            return f"{text if text[-1] in '.!?' else text + '.'} {said}"
        return text

    def _request(self, rng: random.Random, ask: Ask) -> str:
        text = ask.text
        if ask.is_sentence:
            draw = rng.random()
            if draw < 0.12:
                text = rng.choice(("Hi! ", "Hello. ", "Hey, ", "Quick question: ", "So, ")) + text
            return text
        frame = self.builder.frame(rng, "request")
        return frame.replace("{c}", text).replace("{C}", text[0].upper() + text[1:])

    def _result(self, rng: random.Random, action: Action) -> tuple[str, str, Sampled | None]:
        """What a call returns, what is answered, and the value that may go on."""
        draw = rng.random()
        if draw < 0.05:
            error = rng.choice(_ERRORS)
            text = rng.choice((f"error: {error}", json.dumps({"error": error}), f"Error: {error}"))
            return text, f"That did not work: {error}.", None
        if not action.result and draw < 0.75:
            return rng.choice(_OK_RESULTS), rng.choice(_DONE), None
        if not action.result or draw < 0.25:
            return *self._fields(rng), None
        kind = slots.KINDS[action.result_kind]
        value, surface = kind.sample(rng, self.vocabulary)
        noun = action.result.removeprefix("the ")
        said = plain(value)
        text = rng.choice(
            (
                said,
                said,
                json.dumps(value, ensure_ascii=False),
                json.dumps({"result": value}, ensure_ascii=False),
                json.dumps({noun.split()[-1]: value}, ensure_ascii=False),
                json.dumps({noun.replace(" ", "_"): value}, ensure_ascii=False),
                f"{noun}: {said}",
                f"{noun} = {said}",
            )
        )
        if said.endswith((".", "!", "?")):
            answer = f"{action.result.capitalize()} is: {said}"
        else:
            answer = f"{action.result.capitalize()} is {said}."
        return text, answer, (value, surface)

    def _fields(self, rng: random.Random) -> tuple[str, str]:
        """A result of some named fields, and a sentence that reads them out."""
        result: dict[str, Any] = {}
        for _ in range(rng.randint(1, 3)):
            kind = slots.KINDS[rng.choice(("word", "whole", "number", "person", "city", "date"))]
            noun = rng.choice(words.NOUNS) if rng.random() < 0.7 else self.vocabulary.word(rng)
            result[noun] = kind.sample(rng, self.vocabulary)[0]
        parts = [f"the {noun} is {plain(value)}" for noun, value in result.items()]
        text = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
        return json.dumps(result, ensure_ascii=False), text[0].upper() + text[1:] + "."

    # tasks

    def one_step(self, rng: random.Random, action: Action | None = None) -> Task:
        """A request that one call answers."""
        if action is None and rng.random() < 0.16:
            return self._arithmetic(rng, steps=1)
        action = action or self.builder.any_action(rng)
        ask = action.ask(rng, self.vocabulary)
        result, answer, _ = self._result(rng, action)
        tools = self._with_distractors(rng, [action.function], [action])
        call = Call(action.function["name"], ask.arguments, result)
        return Task(tools, self._framed(rng, ask), (call,), answer, "action")

    def two_steps(self, rng: random.Random) -> Task:
        """A request that takes two calls, the second after the result of the first."""
        draw = rng.random()
        if draw < 0.38:
            return self._arithmetic(rng, steps=2)
        if draw < 0.75:
            return self._chain(rng)
        return self._sequence(rng)

    def no_tool(self, rng: random.Random) -> Task:
        """A request that the tools at hand do not answer."""
        action = self.builder.any_action(rng)
        request = self._framed(rng, action.ask(rng, self.vocabulary))
        tools = [
            tool
            for tool in self._with_distractors(rng, [action.function], [])
            if tool["name"] != action.function["name"] and not _overlaps(tool, [action.function])
        ]
        if rng.random() < 0.15:  # none of these computes
            request = arithmetic.one_step(rng, self.builder, rng.choice(self.lists.operations)).text
            tools = [action.function]
        others = (self.builder.any_action(rng).function for _ in range(2))
        tools = tools or [tool for tool in others if not _overlaps(tool, [action.function])]
        return Task(tools, request, (), rng.choice(REFUSALS), "no tool")

    def rounds(self, rng: random.Random) -> tuple[list[dict[str, Any]], list[Task]]:
        """Tools, and a few requests for one or another of them, or for none."""
        actions: list[Action] = []
        tools: list[dict[str, Any]] = []
        if rng.random() < 0.35:
            operations = rng.sample(self.lists.operations, rng.randint(1, 4))
        else:
            operations = []
        made = [(item, arithmetic.function(rng, self.builder, item)) for item in operations]
        for _, tool in made:
            if not _clashes(tool, tools):
                tools.append(tool)
        made = [(item, tool) for item, tool in made if tool in tools]
        for _ in range(rng.randint(0 if made else 1, 4)):
            action = self.builder.any_action(rng)
            if not _overlaps(action.function, tools):
                actions.append(action)
                tools.append(action.function)
        tasks: list[Task] = []
        for _ in range(rng.choice((2, 2, 3, 3, 4))):
            draw = rng.random()
            if draw < 0.03:
                other = self.builder.any_action(rng)
                if not _overlaps(other.function, tools):
                    request = self._framed(rng, other.ask(rng, self.vocabulary))
                    tasks.append(Task(tools, request, (), rng.choice(REFUSALS), "no tool"))
            elif made and (draw < 0.5 or not actions):
                tasks.append(self._computed(rng, made))
            elif len(actions) > 1 and draw > 0.8:
                first, second = rng.sample(actions, 2)
                tasks.append(self._pair(rng, first, second, tools))
            elif actions:
                action = rng.choice(actions)
                ask = action.ask(rng, self.vocabulary)
                result, answer, _ = self._result(rng, action)
                call = Call(action.function["name"], ask.arguments, result)
                tasks.append(Task(tools, self._framed(rng, ask), (call,), answer, "action"))
        rng.shuffle(tools)
        return tools, tasks

    def _computed(
        self, rng: random.Random, made: Sequence[tuple[Operation, dict[str, Any]]]
    ) -> Task:
        """A request for the arithmetic functions at hand."""
        nests = [item for item, _ in made if item.sign in ("+", "-", "*", "/")]
        if len(nests) > 1 and rng.random() < 0.55:
            first, second = rng.sample(nests, 2)
            expression = arithmetic.two_steps(rng, self.builder, first, second)
        else:
            expression = arithmetic.one_step(rng, self.builder, rng.choice(made)[0])
        by_sign = {item.sign: tool for item, tool in made}
        return self._worked_out(rng, expression, by_sign, [tool for _, tool in made])

    def _arithmetic(self, rng: random.Random, steps: int) -> Task:
        lists = self.lists
        if steps == 1:
            expression = arithmetic.one_step(rng, self.builder, rng.choice(lists.operations))
        else:
            simple = arithmetic.simple(lists)
            first = rng.choice(simple)
            second = rng.choice([item for item in simple if item != first or rng.random() < 0.3])
            expression = arithmetic.two_steps(rng, self.builder, first, second)
        needed = {step.operation.sign: step.operation for step in expression.steps}
        made = {
            sign: arithmetic.function(rng, self.builder, operation)
            for sign, operation in needed.items()
        }
        tools = list(made.values())
        others = [item for item in lists.operations if item.sign not in needed]
        for other in rng.sample(others, min(len(others), rng.choice((0, 0, 1, 1, 2, 3)))):
            tools.append(arithmetic.function(rng, self.builder, other))
        if rng.random() < 0.4:
            extra = self.builder.any_action(rng).function
            if not _overlaps(extra, tools):
                tools.append(extra)
        rng.shuffle(tools)
        return self._worked_out(rng, expression, made, tools)

    def _worked_out(
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

    def _chain(self, rng: random.Random) -> Task:
        """Look something up, then use it."""
        while True:
            first = self.builder.lookup(rng, rng.choice(self.lists.lookups))
            if rng.random() < 0.2:
                candidates = [d for d in self.lists.domains if d.result]
                first = self.builder.domain(rng, rng.choice(candidates))
            second, index = self.builder.taking(rng, first.result_kind)
            if not _overlaps(second.function, [first.function]):
                break
        ask = first.ask(rng, self.vocabulary)
        value, _ = slots.KINDS[first.result_kind].sample(rng, self.vocabulary)
        noun = first.result.removeprefix("the ")
        reference = slots.pick(rng, self.lists.references)
        if self.builder.is_varied and rng.random() < 0.7:
            reference = variety.reference(rng)
        reference = reference.replace("{a}", noun)
        then = second.ask(rng, self.vocabulary, {index: (value, reference)})
        said = plain(value)
        result = rng.choice(
            (
                said, said, json.dumps({"result": value}, ensure_ascii=False),
                json.dumps({noun.replace(" ", "_"): value}, ensure_ascii=False),
                f"{noun}: {said}", f"{noun} = {said}",
            )
        )  # fmt: skip
        final, answer, _ = self._result(rng, second)
        calls = (
            Call(first.function["name"], ask.arguments, result),
            Call(second.function["name"], then.arguments, final),
        )
        tools = self._with_distractors(rng, [first.function, second.function], [first, second])
        return Task(tools, self._joined(rng, ask, then), calls, answer, "chain")

    def _sequence(self, rng: random.Random) -> Task:
        """Two requests in one, each with its own call."""
        while True:
            first, second = self.builder.any_action(rng), self.builder.any_action(rng)
            if not _overlaps(second.function, [first.function]):
                break
        tools = self._with_distractors(rng, [first.function, second.function], [first, second])
        return self._pair(rng, first, second, tools)

    def _pair(
        self, rng: random.Random, first: Action, second: Action, tools: list[dict[str, Any]]
    ) -> Task:
        asks = first.ask(rng, self.vocabulary), second.ask(rng, self.vocabulary)
        one, _, _ = self._result(rng, first)
        two, answer, _ = self._result(rng, second)
        calls = (
            Call(first.function["name"], asks[0].arguments, one),
            Call(second.function["name"], asks[1].arguments, two),
        )
        return Task(tools, self._joined(rng, *asks), calls, answer, "sequence")

    def _joined(self, rng: random.Random, first: Ask, second: Ask) -> str:
        if first.is_sentence or second.is_sentence:
            one = first.text[0].upper() + first.text[1:]
            two = second.text if second.is_sentence else "Then " + second.text
            return " ".join(text if text[-1] in "?.!" else text + "." for text in (one, two))
        frame = self.builder.frame(rng, "two_step")
        text = frame.replace("{C}", first.text[0].upper() + first.text[1:])
        return text.replace("{c}", first.text).replace("{d}", second.text)


def _clashes(candidate: dict[str, Any], chosen: Sequence[dict[str, Any]]) -> bool:
    return any(candidate["name"] == other["name"] for other in chosen)


def _overlaps(candidate: dict[str, Any], chosen: Sequence[dict[str, Any]]) -> bool:
    """Whether a function could be taken for one of the chosen ones."""
    stems = _stems(candidate)
    for other in chosen:
        theirs = _stems(other)
        shared = stems & theirs
        if candidate["name"] == other["name"] or len(shared) >= 0.6 * min(len(stems), len(theirs)):
            return True
    return False


_SMALL_WORDS = frozenset(
    [
        "a",
        "an",
        "the",
        "of",
        "for",
        "to",
        "in",
        "on",
        "and",
        "or",
        "from",
        "by",
        "with",
        "use",
        "this",
        "tool",
        "that",
        "function",
        "its",
        "it",
        "some",
        "is",
        "whether",
        "two",
        "values",
        "value",
        "both",
        "inputs",
        "first",
        "second",
    ]
)


def _stems(function: dict[str, Any]) -> set[str]:
    text = function["name"] + " " + function.get("description", "")
    for char in "_-.,":
        text = text.replace(char, " ")
    return {word.lower()[:5] for word in text.split() if word.lower() not in _SMALL_WORDS} or {
        function["name"]
    }


def conversation(
    rng: random.Random, tasks: Sequence[Task], tools: Sequence[dict[str, Any]]
) -> tuple[list[Message], list[dict[str, Any]]]:
    """The messages of some tasks in a row, calls and results included."""
    messages: list[Message] = []
    role = rng.choice(("tool", "environment"))
    drops_calls, drops_all = rng.random() < 0.3, rng.random() < 0.5
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
