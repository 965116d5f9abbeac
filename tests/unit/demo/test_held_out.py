"""Each task of the test can be decided from what it says.

The rule: a request shares more word stems with the tool that it means than with any other at hand,
and each argument is the only one of its sort or named by a word of its parameter.
"""

import random
import re

import pytest

from lmrun.demo import scoring
from lmrun.demo.generate.heldout import CHAINS, LISTS
from lmrun.demo.generate.heldout_tasks import HeldOutTasks, takes_a_reference
from lmrun.demo.generate.task_parts import Task, overlap
from lmrun.demo.generate.templates import STOP_WORDS, Domain, Slot, filled, stems, told

PLACE = re.compile(r"\{(\d)\}")
SMALL = STOP_WORDS - {"from", "to", "into", "first", "second", "before", "each", "many"}


def _words(slot: Slot) -> set[str]:
    return stems(" ".join(slot.names) + " " + slot.description, SMALL)


@pytest.mark.parametrize("domain", LISTS.domains, ids=lambda domain: str(domain.names[0]))
def test_every_request_shares_a_word_with_its_function(domain: Domain) -> None:
    assert len(domain.requests) >= 3
    for request in domain.requests:
        said = stems(PLACE.sub(" ", filled(request, dict.fromkeys(_required(domain), "{0}"))))
        for name in domain.names:
            for description in domain.descriptions:
                assert said & told({"name": name, "description": description}), request


def _required(domain: Domain) -> list[int]:
    return [index for index, slot in enumerate(domain.slots) if slot.required]


@pytest.mark.parametrize("domain", LISTS.domains, ids=lambda domain: str(domain.names[0]))
def test_every_argument_is_alone_of_its_sort_or_named(domain: Domain) -> None:
    for request in domain.requests:
        placed = {int(index) for index in PLACE.findall(request)}
        assert set(_required(domain)) <= placed
        for index in placed:
            slot = domain.slots[index]
            rivals = [
                domain.slots[other]
                for other in placed
                if other != index and domain.slots[other].sort == slot.sort
            ]
            if rivals:
                own = _words(slot) - set().union(*(_words(rival) for rival in rivals))
                assert own & stems(request.replace("{", " {"), SMALL), (request, slot.names)


def test_the_tools_at_hand_share_less_with_the_request_than_the_right_ones() -> None:
    for task in (*scoring.one_step(300, seed=2), *scoring.two_steps(300, seed=2)):
        if task.sort == "arithmetic":
            continue
        right = {call.name for call in task.calls}
        least = min(overlap(task.request, tool) for tool in task.tools if tool["name"] in right)
        others = [tool for tool in task.tools if tool["name"] not in right]
        assert 2 <= len(others) <= 5
        assert all(overlap(task.request, tool) < least for tool in others), task.request


def test_a_request_that_no_tool_answers_shares_nothing_with_any() -> None:
    for task in scoring.no_tool(200, seed=2):
        assert len(task.tools) == 3
        assert not any(overlap(task.request, tool) for tool in task.tools)


def test_a_chain_hands_on_what_the_first_call_returned() -> None:
    found = [task for task in scoring.two_steps(200, seed=3) if task.sort == "chain"]
    assert len(found) > 50
    for task in found:
        first, second = task.calls
        handed = [value for value in second.arguments.values() if str(value) in first.result]
        assert handed, task
        assert not any(str(value) in task.request for value in handed if len(str(value)) > 3)


def test_every_chain_has_a_sentence_for_what_it_hands_on() -> None:
    named = {domain.names[0]: domain for domain in LISTS.domains}
    for seconds in CHAINS.values():
        for name in seconds:
            requests = named[name].requests
            assert any(takes_a_reference(request, 0) for request in requests) or any(
                takes_a_reference(request, 1) for request in requests
            )


def test_optional_parameters_are_given_at_times_and_left_out_at_times() -> None:
    rng, tasks = random.Random(1), HeldOutTasks()
    with_optional = [d for d in LISTS.domains if any(not slot.required for slot in d.slots)]
    assert len(with_optional) > 30
    for domain in with_optional:
        given = {
            len(tasks.action(rng, domain).ask(rng, tasks.vocabulary).arguments) for _ in range(40)
        }
        assert len(given) > 1, domain.names


def test_a_sixth_of_one_step_tasks_and_a_quarter_of_two_step_tasks_are_arithmetic() -> None:
    def share(tasks: list[Task]) -> float:
        return sum(task.sort == "arithmetic" for task in tasks) / len(tasks)

    assert share(scoring.one_step(600, seed=4)) == pytest.approx(0.17, abs=0.05)
    assert share(scoring.two_steps(600, seed=4)) == pytest.approx(0.25, abs=0.05)
