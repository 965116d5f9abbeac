"""Tasks of the test, worded with its own lists alone, each of them decidable.

A request shares more word stems with the tool that it means than with any other tool at hand; a
request that no tool answers shares none with any.
"""

import random
from typing import Any

from lmrun.demo.generate import arithmetic
from lmrun.demo.generate.heldout import CHAINS, LISTS
from lmrun.demo.generate.task_parts import REFUSALS, Parts, Task, overlap
from lmrun.demo.generate.templates import Domain, Worded
from lmrun.demo.generate.wording import Wording
from lmrun.demo.generate.words import Vocabulary


class HeldOutTasks(Parts):
    """Draws the test's tasks."""

    def __init__(self) -> None:
        super().__init__(Wording(LISTS, Vocabulary(held_out=True)))
        self._named = {domain.names[0]: domain for domain in LISTS.domains}

    def action(self, rng: random.Random, domain: Domain) -> Worded:
        """The function of a domain; one of twenty parameters has no description."""
        properties: dict[str, Any] = {}
        names = tuple(rng.choice(slot.names) for slot in domain.slots)
        for name, slot in zip(names, domain.slots, strict=True):
            properties[name] = slot.schema()
            if rng.random() < 0.95:
                properties[name]["description"] = slot.description
        required = [name for name, slot in zip(names, domain.slots, strict=True) if slot.required]
        function = {
            "name": rng.choice(domain.names),
            "description": rng.choice(domain.descriptions),
            "parameters": {"type": "object", "properties": properties, "required": required},
        }
        return Worded(function, domain, names)

    def _any(self, rng: random.Random) -> Worded:
        return self.action(rng, rng.choice(self.lists.domains))

    def _with_distractors(
        self, rng: random.Random, request: str, right: list[dict[str, Any]]
    ) -> list[dict[str, Any]] | None:
        """The right tools among two to five others; None where one of them is not told apart."""
        least = min(overlap(request, tool) for tool in right)
        tools, count = list(right), rng.randint(2, 5)
        while len(tools) < len(right) + count and least > 0:
            if rng.random() < 0.1:
                candidate = arithmetic.function(rng, self.wording, rng.choice(LISTS.operations))
            else:
                candidate = self._any(rng).function
            taken = any(candidate["name"] == tool["name"] for tool in tools)
            if not taken and overlap(request, candidate) < least:
                tools.append(candidate)
        rng.shuffle(tools)
        return tools if least > 0 else None

    def one_step(self, rng: random.Random) -> Task:
        """A request that one call answers; one of six is a sum or the like."""
        if rng.random() < 0.17:
            return self._arithmetic(rng, steps=1)
        while True:
            action = self._any(rng)
            ask = action.ask(rng, self.vocabulary)
            request = self.framed(rng, ask)
            if tools := self._with_distractors(rng, request, [action.function]):
                result, answer = self.result(rng, action)
                return Task(tools, request, (self.call(action, ask, result),), answer, "action")

    def two_steps(self, rng: random.Random) -> Task:
        """A request that takes two calls, the second after the result of the first."""
        draw = rng.random()
        if draw < 0.25:
            return self._arithmetic(rng, steps=2)
        while True:
            task, right = self._chain(rng) if draw < 0.65 else self._sequence(rng)
            if right[0]["name"] == right[1]["name"]:
                continue
            if tools := self._with_distractors(rng, task.request, right):
                return Task(tools, task.request, task.calls, task.answer, task.sort)

    def _chain(self, rng: random.Random) -> tuple[Task, list[dict[str, Any]]]:
        """Find something, then use what was found."""
        name = rng.choice(list(CHAINS))
        first = self.action(rng, self._named[name])
        second = self.action(rng, self._named[rng.choice(CHAINS[name])])
        kind = _TAKEN_AS.get(first.result_kind, first.result_kind)
        index = second.taking(kind)
        assert index is not None, (name, second.function["name"])
        ask = first.ask(rng, self.vocabulary)
        value = self.value(rng, first.result_kind)
        noun = first.result.removeprefix("the ")
        given = {index: (value, self.reference(rng, noun))}
        fitting = tuple(r for r in second.domain.requests if takes_a_reference(r, index))
        then = second.ask(rng, self.vocabulary, given, fitting)
        final, answer = self.result(rng, second)
        calls = (
            self.call(first, ask, self.told(rng, first, value)),
            self.call(second, then, final),
        )
        task = Task([], self.joined(rng, ask, then), calls, answer, "chain")
        return task, [first.function, second.function]

    def _sequence(self, rng: random.Random) -> tuple[Task, list[dict[str, Any]]]:
        actions = self._any(rng), self._any(rng)
        return self.pair(rng, actions, []), [action.function for action in actions]

    def no_tool(self, rng: random.Random) -> Task:
        """A request that the tools at hand do not answer: they share no word with it."""
        action = self._any(rng)
        request = self.framed(rng, action.ask(rng, self.vocabulary))
        if rng.random() < 0.15:  # none of these computes
            request = arithmetic.one_step(rng, self.wording, rng.choice(LISTS.operations)).text
        tools: list[dict[str, Any]] = []
        while len(tools) < 3:
            other = self._any(rng).function
            if not overlap(request, other) and all(other["name"] != t["name"] for t in tools):
                tools.append(other)
        return Task(tools, request, (), rng.choice(REFUSALS), "no tool")

    def _arithmetic(self, rng: random.Random, steps: int) -> Task:
        expression = arithmetic.expression(rng, self.wording, steps)
        made, tools = arithmetic.functions(rng, self.wording, expression)
        if rng.random() < 0.4:
            tools.append(self._any(rng).function)
        rng.shuffle(tools)
        return self.worked_out(rng, expression, made, tools)


_NOUNS_BEFORE = (
    "order", "employee", "contact", "message", "visitor", "number", "contract", "note", "the",
)  # fmt: skip


def takes_a_reference(request: str, index: int) -> bool:
    """Whether "the retrieved city" may stand in a request where a value stands."""
    before, _, after = request.partition(f"{{{index}}}")
    words = before.split()
    return not (
        before.endswith("$")
        or after.startswith(" dollars")
        or (words and words[-1] in _NOUNS_BEFORE)
    )


_TAKEN_AS = {"whole": "integer", "word": "message"}
"""Kinds of results by the kind of the parameter that takes them."""
