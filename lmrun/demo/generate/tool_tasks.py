"""Tool tasks of training: one step, two steps, several in a row, none that fits."""

import random
from collections.abc import Sequence
from typing import Any

from lmrun.demo.generate import arithmetic, variety
from lmrun.demo.generate.actions import Action, Ask
from lmrun.demo.generate.functions import Builder
from lmrun.demo.generate.lists import Operation
from lmrun.demo.generate.naming import spoken
from lmrun.demo.generate.task_parts import REFUSALS, Parts, Task, overlap
from lmrun.demo.generate.templates import STOP_WORDS, Worded

Tools = list[dict[str, Any]]


class Tasks(Parts):
    """Draws training's tasks."""

    def __init__(self, builder: Builder) -> None:
        super().__init__(builder)
        self.builder = builder
        domains = builder.lists.domains
        taken = {slot.kind for domain in domains for slot in domain.slots if slot.required}
        taken |= set(builder.lists.wordings)
        self._found = [item for item in domains if item.result and item.result_kind in taken]

    # tools around the right one

    def _with_distractors(
        self, rng: random.Random, request: str, right: Sequence[dict[str, Any]]
    ) -> Tools:
        """The right tools among others that share less with the request, in any order."""
        least = min(overlap(request, tool) for tool in right)
        tools = list(right)
        count = rng.choices((0, 1, 2, 3, 4, 5), (8, 14, 22, 24, 20, 12))[0]
        for _ in range(2 * count):
            if len(tools) == len(right) + count:
                break
            candidate = self._distractor(rng, right)
            taken = any(candidate["name"] == tool["name"] for tool in tools)
            if not taken and overlap(request, candidate) < max(least, 1):
                tools.append(candidate)
        rng.shuffle(tools)
        return tools

    def _distractor(self, rng: random.Random, right: Sequence[dict[str, Any]]) -> dict[str, Any]:
        draw = rng.random()
        if draw < 0.35:
            # something else about the same thing, or the same about something else
            target = rng.choice(right)
            said = spoken(target["name"]) + " " + target.get("description", "")
            known = [w for w in said.lower().split() if w.isalpha() and w not in STOP_WORDS]
            if known and draw < 0.25:
                return self.builder.procedural(rng, noun=rng.choice(known)).function
            if known:
                return self.builder.procedural(rng, verbs=[rng.choice(known)]).function
        if draw < 0.45:
            operation = rng.choice(self.lists.operations)
            return arithmetic.function(rng, self.builder, operation)
        return self.builder.any_action(rng).function

    def _asked(self, rng: random.Random) -> tuple[Action | Worded, Ask]:
        """A function and a request that shares a word with it."""
        for _ in range(4):
            action = self.builder.any_action(rng)
            ask = action.ask(rng, self.vocabulary)
            if overlap(ask.text, action.function):
                break
        return action, ask

    def framed(self, rng: random.Random, ask: Ask) -> str:
        """The request as somebody would write it, at times with a sentence beside the point."""
        text = super().framed(rng, ask)
        if rng.random() < 0.12:
            said = variety.remark(rng, self.vocabulary)
            if rng.random() < 0.6:
                return f"{said} {text}"
            return f"{text if text[-1] in '.!?' else text + '.'} {said}"
        return text

    # tasks

    def one_step(self, rng: random.Random) -> Task:
        """A request that one call answers."""
        if rng.random() < 0.12:
            return self._arithmetic(rng, steps=1)
        action, ask = self._asked(rng)
        result, answer = self.result(rng, action)
        request = self.framed(rng, ask)
        tools = self._with_distractors(rng, request, [action.function])
        return Task(tools, request, (self.call(action, ask, result),), answer, "action")

    def two_steps(self, rng: random.Random) -> Task:
        """A request that takes two calls, the second after the result of the first."""
        draw = rng.random()
        if draw < 0.24:
            return self._arithmetic(rng, steps=2)
        if draw < 0.62:
            return self._chain(rng)
        actions = self._two(rng)
        rights = [action.function for action in actions]
        task = self.pair(rng, actions, [])
        tools = self._with_distractors(rng, task.request, rights)
        return Task(tools, task.request, task.calls, task.answer, task.sort)

    def no_tool(self, rng: random.Random) -> Task:
        """A request that the tools at hand do not answer: they share no word with it."""
        _, ask = self._asked(rng)
        request = self.framed(rng, ask)
        if rng.random() < 0.15:  # none of these computes
            operation = rng.choice(self.lists.operations)
            request = arithmetic.one_step(rng, self.builder, operation).text
        tools: Tools = []
        for _ in range(rng.choice((1, 2, 3, 3, 4, 5))):
            other = self.builder.any_action(rng).function
            if not overlap(request, other):
                tools.append(other)
        return Task(tools, request, (), rng.choice(REFUSALS), "no tool")

    def _two(self, rng: random.Random) -> tuple[Action | Worded, Action | Worded]:
        while True:
            first, second = self.builder.any_action(rng), self.builder.any_action(rng)
            if first.function["name"] != second.function["name"]:
                return first, second

    def rounds(self, rng: random.Random) -> tuple[Tools, list[Task]]:
        """Tools, and a few requests for one or another of them, or for none."""
        actions: list[Action | Worded] = []
        tools: Tools = []
        operations: list[Operation] = []
        if rng.random() < 0.35:
            operations = rng.sample(self.lists.operations, rng.randint(1, 4))
        made = []
        for item in operations:
            tool = arithmetic.function(rng, self.builder, item)
            if all(tool["name"] != other["name"] for other in tools):
                tools.append(tool)
                made.append((item, tool))
        for _ in range(rng.randint(0 if made else 1, 5)):
            action = self.builder.any_action(rng)
            if all(action.function["name"] != other["name"] for other in tools):
                actions.append(action)
                tools.append(action.function)
        tasks: list[Task] = []
        for _ in range(rng.choice((2, 3, 4, 4, 5, 6))):
            draw = rng.random()
            if draw < 0.1:
                _, ask = self._asked(rng)
                request = self.framed(rng, ask)
                if not any(overlap(request, tool) for tool in tools):
                    tasks.append(Task(tools, request, (), rng.choice(REFUSALS), "no tool"))
            elif made and (draw < 0.42 or not actions):
                tasks.append(self._computed(rng, made))
            elif len(actions) > 1 and draw > 0.75:
                task = self.pair(rng, rng.sample(actions, 2), tools)
                tasks.append(task)
            elif actions:
                tasks.append(self._round(rng, rng.choice(actions), tools))
        rng.shuffle(tools)
        return tools, tasks

    def _round(self, rng: random.Random, action: Action | Worded, tools: Tools) -> Task:
        for _ in range(4):
            ask = action.ask(rng, self.vocabulary)
            shared = [
                overlap(ask.text, tool) for tool in tools if tool["name"] != action.function["name"]
            ]
            if overlap(ask.text, action.function) > max(shared, default=0):
                break
        result, answer = self.result(rng, action)
        request = self.framed(rng, ask)
        return Task(tools, request, (self.call(action, ask, result),), answer, "action")

    def _computed(
        self, rng: random.Random, made: Sequence[tuple[Operation, dict[str, Any]]]
    ) -> Task:
        """A request for the arithmetic functions at hand."""
        nests = [item for item, _ in made if item.sign in arithmetic.SIMPLE]
        if len(nests) > 1 and rng.random() < 0.65:
            first, second = rng.sample(nests, 2)
            expression = arithmetic.two_steps(rng, self.builder, first, second)
        else:
            expression = arithmetic.one_step(rng, self.builder, rng.choice(made)[0])
        by_sign = {item.sign: tool for item, tool in made}
        return self.worked_out(rng, expression, by_sign, [tool for _, tool in made])

    def _arithmetic(self, rng: random.Random, steps: int) -> Task:
        expression = arithmetic.expression(rng, self.builder, steps)
        made, tools = arithmetic.functions(rng, self.builder, expression)
        if rng.random() < 0.4:
            tools.append(self.builder.any_action(rng).function)
        rng.shuffle(tools)
        return self.worked_out(rng, expression, made, tools)

    def _chain(self, rng: random.Random) -> Task:
        """Look something up, then use it."""
        first: Action | Worded = self.builder.lookup(rng, rng.choice(self.builder.lists.lookups))
        if rng.random() < 0.35:
            first = self.builder.domain(rng, rng.choice(self._found))
        while True:
            second, index = self.builder.taking(rng, first.result_kind)
            if second.function["name"] != first.function["name"]:
                break
        ask = first.ask(rng, self.vocabulary)
        value = self.value(rng, first.result_kind)
        noun = first.result.removeprefix("the ")
        then = second.ask(rng, self.vocabulary, {index: (value, self.reference(rng, noun))})
        request = self.joined(rng, ask, then)
        final, answer = self.result(rng, second)
        calls = (
            self.call(first, ask, self.told(rng, first, value)),
            self.call(second, then, final),
        )
        tools = self._with_distractors(rng, request, [first.function, second.function])
        return Task(tools, request, calls, answer, "chain")
