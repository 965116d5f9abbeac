"""Prompts of an exact length that no prefix cache has seen."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models

from lmrun.bench.prompts import WORDS, Prompts, of_words, ordinary_ids

NUMBERS = st.integers(0, (1 << 32) - 1)


@given(NUMBERS, st.integers(1, 300), st.integers(2, 5000), st.integers(0, 1 << 62))
def test_a_prompt_has_its_length_and_only_the_vocabularys_ids(
    number: int, length: int, size: int, salt: int
) -> None:
    vocabulary = range(100, 100 + size)
    tokens = Prompts(vocabulary, seed=1, salt=salt).tokens(number, length)
    assert len(tokens) == length
    assert set(tokens) <= set(vocabulary)


@given(NUMBERS, NUMBERS, st.integers(2, 5000))
def test_no_two_prompts_of_a_run_begin_alike(one: int, other: int, size: int) -> None:
    """The spelling of a number is no longer than a block of 32 tokens in any vocabulary."""
    made = Prompts(range(size), seed=0)
    assert (made.tokens(one, 32) == made.tokens(other, 32)) == (one == other)


def test_the_first_token_alone_tells_as_many_apart_as_there_are_tokens() -> None:
    made = Prompts(range(512), seed=0)
    assert len({made.tokens(number, 1)[0] for number in range(512)}) == 512


def test_a_seed_makes_the_same_prompts_and_another_seed_others() -> None:
    made = Prompts(range(4096), seed=7)
    assert made.tokens(3, 64) == Prompts(range(4096), seed=7).tokens(3, 64)
    assert made.tokens(3, 64) != Prompts(range(4096), seed=8).tokens(3, 64)


def test_a_salt_makes_prompts_that_share_no_block_with_those_of_another() -> None:
    one, other = (Prompts(range(4096), 7, salt).tokens(3, 64) for salt in (1, 2))
    assert one[:16] != other[:16]


def test_a_longer_prompt_is_not_the_shorter_one_continued_by_another_number() -> None:
    made = Prompts(range(16), seed=0)
    assert made.tokens(1, 40)[:16] != made.tokens(2, 80)[:16]


def test_text_is_made_of_as_many_words() -> None:
    text = of_words(seed=0, salt=5).text(9, 50)
    assert len(text.split(" ")) == 50
    assert set(text.split(" ")) <= set(WORDS)


def test_ordinary_ids_leave_out_added_tokens_and_those_the_model_has_no_room_for(
    tmp_path: Path,
) -> None:
    backend = Tokenizer(models.WordLevel({"<s>": 0, "a": 1, "b": 2, "c": 3}, unk_token="a"))
    backend.add_special_tokens([AddedToken("<s>", special=True), AddedToken("<end>", special=True)])
    backend.save(str(tmp_path / "tokenizer.json"))
    assert ordinary_ids(tmp_path, 3) == [1, 2]
