"""The test's wordings have nothing in common with training's."""

import random

from lmrun.demo.generate import heldout, training_lists, variety, words
from lmrun.demo.generate.functions import Builder
from lmrun.demo.generate.lists import Lists
from lmrun.demo.generate.mixture import Mixture, Texts
from lmrun.demo.generate.words import Vocabulary


def _names(lists: Lists) -> set[str]:
    found = {name for domain in lists.domains for name in domain.names}
    found |= {name for domain in lists.domains for names, _ in domain.parameters for name in names}
    found |= {name for item in lists.operations for name in item.names}
    found |= {name for pair in lists.operand_names for name in pair}
    found |= {name for worded in lists.wordings.values() for name in worded.names}
    return found | set(lists.flags.names) | set(lists.enums)


def _plain(texts: set[str]) -> set[str]:
    return {text.lower().strip(" .?!") for text in texts if text}


def _descriptions(lists: Lists) -> set[str]:
    found = {text for domain in lists.domains for text in domain.descriptions}
    found |= {text for item in lists.operations for text in item.descriptions}
    found |= {text for pair in lists.operand_descriptions for text in pair}
    found |= {text for worded in lists.wordings.values() for text in worded.descriptions}
    return _plain(
        found
        | set(lists.description_frames)
        | set(lists.lookup_descriptions)
        | set(lists.generic_descriptions)
    )


def _phrasings(lists: Lists) -> set[str]:
    found = {text for domain in lists.domains for text in domain.requests}
    found |= {text for item in lists.operations for text in item.phrases}
    found |= {text for worded in lists.wordings.values() for text in worded.phrases}
    return _plain(
        found.union(
            lists.request_frames,
            lists.two_step_frames,
            lists.expression_frames,
            lists.lookup_frames,
            lists.lookup_names,
            lists.references,
            lists.generic_phrases,
            lists.enum_phrases,
            lists.flag_on,
            lists.flag_off,
        )
    )


def test_the_lists_share_no_name_no_description_and_no_phrasing() -> None:
    training, test = training_lists.LISTS, heldout.LISTS
    assert not _names(training) & _names(test)
    assert not _descriptions(training) & _descriptions(test)
    assert not _phrasings(training) & _phrasings(test)
    assert not {v for group in training.verb_groups for v in group} & {
        v for group in test.verb_groups for v in group
    }
    assert not set(training.lookups) & set(test.lookups)
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
    held = _phrasings(heldout.LISTS) | _descriptions(heldout.LISTS)
    for _ in range(3000):
        drawn = {
            variety.request_frame(rng),
            variety.expression_frame(rng),
            variety.two_step_frame(rng),
            variety.reference(rng),
            variety.named_phrase(rng),
            variety.loose_phrase(rng),
            variety.operation_description(rng, "+", ("c", "d")),
            variety.operation_phrase(rng, "*"),
            variety.lookup_request(rng, vocabulary),
        }
        assert not _plain(drawn) & held


def test_training_draws_no_name_and_no_noun_of_the_test() -> None:
    rng = random.Random(4)
    held, nouns = heldout.names(), set(words.HELD_OUT_NOUNS)
    builder: Builder = Mixture(Texts()).tasks.builder
    for _ in range(2000):
        function = builder.any_action(rng).function
        names = {function["name"], *function["parameters"]["properties"]}
        assert not names & held
        assert not {part for name in names for part in name.lower().split("_")} & nouns


def test_names_of_rounds_are_not_the_tests_either() -> None:
    rng, tasks = random.Random(5), Mixture(Texts()).tasks
    held = heldout.names()
    for _ in range(400):
        for task in (tasks.one_step(rng), tasks.two_steps(rng)):
            for tool in task.tools:
                assert not {tool["name"], *tool["parameters"]["properties"]} & held
