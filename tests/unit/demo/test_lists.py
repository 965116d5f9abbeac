"""The test's wordings have nothing in common with training's."""

import json
import random
from pathlib import Path

from lmrun.demo.generate import heldout, stories, sums, training_lists, variety, words
from lmrun.demo.generate.functions import Builder
from lmrun.demo.generate.heldout import bare
from lmrun.demo.generate.lists import Lists, TrainingLists
from lmrun.demo.generate.mixture import Mixture, Texts
from lmrun.demo.generate.words import Vocabulary


def _names(lists: Lists) -> set[str]:
    found = {name for domain in lists.domains for name in domain.names}
    found |= {name for domain in lists.domains for slot in domain.slots for name in slot.names}
    found |= {name for item in lists.operations for name in item.names}
    return found | {name for pair in lists.operand_names for name in pair}


def _wordings(lists: Lists) -> set[str]:
    """Descriptions and phrasings, bare."""
    found = {text for domain in lists.domains for text in (*domain.descriptions, *domain.requests)}
    found |= {slot.description for domain in lists.domains for slot in domain.slots}
    found |= {text for item in lists.operations for text in (*item.descriptions, *item.phrases)}
    found |= {text for pair in lists.operand_descriptions for text in pair}
    found |= {*lists.request_frames, *lists.two_step_frames, *lists.expression_frames}
    found |= set(lists.references)
    if isinstance(lists, TrainingLists):
        for worded in lists.wordings.values():
            found |= {*worded.descriptions, *worded.phrases}
        found |= {*lists.description_frames, *lists.lookup_descriptions, *lists.lookup_frames}
        found |= {*lists.generic_descriptions, *lists.generic_phrases, *lists.enum_phrases}
    # a frame that adds nothing to a request says nothing
    return {bare(text) for text in found} - {"", "{c}"}


def test_the_lists_share_no_name_no_description_and_no_phrasing() -> None:
    training, test = training_lists.LISTS, heldout.LISTS
    assert len(test.domains) >= 120
    assert len(_names(test)) > 250
    assert not _names(training) & _names(test)
    assert not _wordings(training) & _wordings(test)
    assert _names(test) <= heldout.names()
    assert _wordings(test) <= heldout.wordings()
    assert not set(words.NOUNS) & set(words.HELD_OUT_NOUNS)


def test_add_and_mul_with_their_descriptions_are_the_tests() -> None:
    by_sign = {item.sign: item for item in heldout.LISTS.operations}
    assert "add" in by_sign["+"].names
    assert "mul" in by_sign["*"].names
    assert "Compute the sum of two numbers" in by_sign["+"].descriptions
    assert "Calculate the product of two numbers" in by_sign["*"].descriptions
    assert {"a", "b", "add", "mul"} <= heldout.names()


def test_wordings_put_together_are_never_the_tests() -> None:
    rng, vocabulary = random.Random(3), Vocabulary()
    held = _wordings(heldout.LISTS)
    for _ in range(3000):
        drawn = {
            variety.request_frame(rng, vocabulary),
            variety.expression_frame(rng, vocabulary),
            variety.two_step_frame(rng, vocabulary),
            variety.reference(rng),
            variety.named_phrase(rng),
            variety.loose_phrase(rng),
            sums.operation_description(rng, "+", ("c", "d")),
            sums.operation_phrase(rng, "*"),
            sums.operation_phrase(rng, "-", as_number=True),
            variety.lookup_request(rng, vocabulary),
        }
        assert not {bare(text) for text in drawn} - {"{c}"} & held


def test_training_draws_no_name_and_no_description_of_the_test() -> None:
    rng = random.Random(4)
    held, wordings = heldout.names(), heldout.wordings()
    builder: Builder = Mixture(Texts()).tasks.builder
    for _ in range(3000):
        function = builder.any_action(rng).function
        properties = function["parameters"]["properties"]
        assert not {function["name"], *properties} & held
        assert bare(function.get("description", "")) not in wordings
        said = {bare(schema.get("description", "")) for schema in properties.values()}
        assert not said & wordings, function


def test_names_of_tasks_are_not_the_tests_either() -> None:
    rng, tasks = random.Random(5), Mixture(Texts()).tasks
    held = heldout.names()
    for _ in range(400):
        for task in (tasks.one_step(rng), tasks.two_steps(rng)):
            for tool in task.tools:
                assert not {tool["name"], *tool["parameters"]["properties"]} & held


def test_sayings_of_public_stories_are_not_the_tests_messages() -> None:
    text = 'He said, "Thank you for your help!" She said, "Come and see the boat," and "SOS".'
    assert stories.sayings(text) == ["Come and see the boat"]


def test_the_questions_of_the_leaderboard_are_not_in_training(test_data: Path) -> None:
    path = test_data / "function-calling" / "BFCL_v4_simple_python.json"
    questions = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()][:50]
    functions = [function for question in questions for function in question["function"]]
    names = {name for domain in training_lists.LISTS.domains for name in domain.names}
    # a name that many would give; its description and its questions differ
    assert {function["name"] for function in functions} & names <= {"get_directions"}
    assert not {bare(function["description"]) for function in functions} & _wordings(
        training_lists.LISTS
    )
