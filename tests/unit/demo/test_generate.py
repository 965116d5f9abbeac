"""Generators give the same data for the same seed, and tasks whose calls fit their schemas."""

import json
import random
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import lmrun.demo
from lmrun.demo.batches import Maker, stream
from lmrun.demo.format import CALL, segments
from lmrun.demo.generate import arithmetic
from lmrun.demo.generate.bindings import binding
from lmrun.demo.generate.disguise import disguised
from lmrun.demo.generate.heldout_tasks import HeldOutTasks
from lmrun.demo.generate.mixture import SHARES, Mixture, Texts
from lmrun.demo.generate.task_parts import conversation
from lmrun.demo.generate.templates import filled, read, stem
from lmrun.demo.generate.words import Vocabulary

FOLDER = Path(lmrun.demo.__file__).parent
ARTICLE = "\n".join(f"The river @-@ side town {i} , which is old , lies . " * 9 for i in range(40))
STORY = ("Once upon a time, there was a cat named Tom.\n" + "He ran after the mouse.\n" * 20) * 9


@pytest.mark.parametrize("sort", SHARES)
def test_a_document_is_a_function_of_the_seed(sort: str) -> None:
    def draw(seed: int) -> list:
        mixture, rng = (
            Mixture(Texts(stories=STORY, plays="To be or not", articles=ARTICLE)),
            random.Random(seed),
        )
        return [mixture.document(rng, sort) for _ in range(5)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_a_batch_is_a_function_of_its_number_whoever_makes_it() -> None:
    given = (FOLDER, None, 5, 2, 256)
    alone = Maker(*given)
    batches = stream(alone, given, 3, 0)
    first, second = next(batches), next(batches)
    batches.close()
    again = Maker(*given)
    for made, index in ((first, 3), (second, 4)):
        for field in ("token_ids", "is_learned", "documents"):
            assert np.array_equal(getattr(made, field), getattr(again.make(index), field))
    assert not np.array_equal(first.token_ids, second.token_ids)


def test_a_batch_learns_answers_and_numbers_its_documents() -> None:
    maker = Maker(FOLDER, None, 1, 4, 512)
    batch = maker.make(0)
    assert 0.1 < batch.is_learned.mean() < 0.9
    assert (np.diff(batch.documents, axis=1) >= 0).all()
    starts = np.flatnonzero(batch.token_ids[0] == 0)
    assert starts[0] == 0
    assert (batch.documents[0][starts] == np.arange(len(starts))).all()


@pytest.mark.parametrize("is_held_out", [False, True])
def test_the_calls_of_a_task_fit_the_schemas_of_its_tools(is_held_out: bool) -> None:
    rng = random.Random(6)
    tasks = HeldOutTasks() if is_held_out else Mixture(Texts()).tasks
    for _ in range(300):
        for task in (tasks.one_step(rng), tasks.two_steps(rng)):
            tools = {tool["name"]: tool for tool in task.tools}
            assert len(tools) == len(task.tools)
            for call in task.calls:
                arguments = json.loads(json.dumps(call.arguments))
                jsonschema.validate(arguments, tools[call.name]["parameters"])
                assert set(arguments) <= set(tools[call.name]["parameters"]["properties"])


def test_a_task_without_a_fitting_tool_has_tools_and_an_answer_in_words() -> None:
    rng, tasks = random.Random(7), HeldOutTasks()
    for _ in range(200):
        task = tasks.no_tool(rng)
        assert not task.calls
        assert CALL not in task.answer
        computes = {name for item in tasks.lists.operations for name in item.names}
        if any(char in task.request for char in "+*×÷"):
            assert not computes & {tool["name"] for tool in task.tools}


def test_exchanged_words_are_the_same_in_a_request_and_in_its_function() -> None:
    rng, vocabulary = random.Random(3), Vocabulary()
    (domain,) = read(
        "send_kite/fly # Send a kite # kite_color:color=Color of the kite"
        " # Send the {0} kites | Kite sending: {0} # kite:word"
    )
    exchanged = 0
    for _ in range(40):
        new = disguised(rng, domain, vocabulary)
        kite = new.descriptions[0].split()[-1]
        assert kite in new.slots[0].description
        assert kite.lower() in new.requests[0].lower()
        assert new.slots[0].names[0].startswith(kite.lower())
        exchanged += kite != "kite"
    assert exchanged > 15


def test_words_that_the_request_does_not_say_mostly_stay() -> None:
    rng, vocabulary = random.Random(4), Vocabulary()
    (domain,) = read("send_kite # Send a kite # receiver:email=Mail address # A kite for {0} # -")
    drawn = [disguised(rng, domain, vocabulary).slots[0] for _ in range(200)]
    assert sum(slot.description == "Mail address" for slot in drawn) > 160
    assert any(slot.names != ("receiver",) for slot in drawn)


def test_each_value_of_a_binding_is_told_by_a_word_a_unit_or_its_looks() -> None:
    rng, builder = random.Random(5), Mixture(Texts()).tasks.builder
    orders = set()
    for _ in range(300):
        action = binding(rng, builder)
        ask = action.ask(rng, builder.vocabulary)
        properties = action.function["parameters"]["properties"]
        assert set(ask.arguments) == set(action.function["parameters"]["required"])
        numbers = [value for value in ask.arguments.values() if not isinstance(value, str)]
        assert len(ask.arguments) >= 2
        for value in numbers:
            assert str(value) in ask.text
        if len(set(numbers)) == len(numbers) > 1:
            places = {name: ask.text.find(str(ask.arguments[name])) for name in ask.arguments}
            schema_order = [name for name in properties if name in places]
            orders.add(sorted(schema_order, key=places.__getitem__) == schema_order)
    assert orders == {False, True}


def test_optional_words_of_a_request_stay_with_their_value() -> None:
    (domain,) = read("x # Y # day:date=D; loud?:flag=L # Ring on {0}[, loudly{1}] # -")
    assert filled(domain.requests[0], {0: "Monday"}) == "Ring on Monday"
    assert filled(domain.requests[0], {0: "Monday", 1: ""}) == "Ring on Monday, loudly"
    assert domain.slots[1].schema() == {"type": "boolean"}
    assert not domain.slots[1].required


@pytest.mark.parametrize(
    ("one", "other"),
    [("plants", "planting"), ("bake", "baking"), ("flip", "flipped"), ("expires", "expired")],
)
def test_words_of_one_family_have_one_stem(one: str, other: str) -> None:
    assert stem(one) == stem(other)


def test_only_what_the_assistant_writes_is_learned() -> None:
    rng, tasks = random.Random(8), Mixture(Texts()).tasks
    for _ in range(100):
        task = tasks.two_steps(rng)
        messages, tools = conversation(rng, [task], task.tools)
        learned = [text for text, is_learned in segments(messages, tools) if is_learned]
        assert learned[-1] == task.answer + "<|end|>"
        assert all(text.startswith(CALL) for text in learned[:-1])


@pytest.mark.parametrize(
    ("sign", "left", "right", "value"),
    [("+", 3, 5, 8), ("*", 8, 2, 16), ("-", 2, 5, -3), ("/", 1, 3, 0.3333), ("/", 6, 3, 2),
     ("**", 2, 10, 1024), ("%", 7, 4, 3), ("+", 0.1, 0.2, 0.3)],
)  # fmt: skip
def test_results_are_whole_where_they_are_whole(
    sign: str, left: float, right: float, value: float
) -> None:
    computed = arithmetic.compute(sign, left, right)
    assert computed == value
    assert isinstance(computed, type(value))


def test_the_second_step_takes_the_result_of_the_first() -> None:
    rng, tasks = random.Random(9), HeldOutTasks()
    for _ in range(300):
        made = arithmetic.expression(rng, tasks.wording, 2)
        inner, outer = made.steps
        assert inner.value in (outer.left, outer.right)
        assert outer.value == arithmetic.compute(outer.operation.sign, outer.left, outer.right)
