"""The demo tokenizer round-trips all text and cuts a word the same wherever it stands."""

from pathlib import Path

import hypothesis
from hypothesis import strategies

import lmrun.demo
from lmrun.demo.format import CALL, SPECIAL_TOKENS
from lmrun.models.tokenizer import Tokenizer

FOLDER = Path(lmrun.demo.__file__).parent
TOKENIZER = Tokenizer.from_folder(FOLDER)


@hypothesis.given(strategies.text())
@hypothesis.settings(max_examples=400, deadline=None)
def test_any_text_comes_back(text: str) -> None:
    hypothesis.assume(not any(token in text for token in (*SPECIAL_TOKENS, CALL)))
    ids = TOKENIZER.encode(text, add_special_tokens=False)
    assert TOKENIZER.decode(ids) == text


def test_the_special_tokens_have_the_first_ids_and_a_call_is_text() -> None:
    for index, token in enumerate(SPECIAL_TOKENS):
        assert TOKENIZER.encode(token, add_special_tokens=False) == [index]
        assert TOKENIZER.decode([index]) == ""
    ids = TOKENIZER.encode(CALL, add_special_tokens=False)
    assert len(ids) == 1
    assert TOKENIZER.decode(ids) == CALL
    assert TOKENIZER.vocab_size == 4096
    assert (TOKENIZER.bos_token_id, TOKENIZER.eos_token_id) == (0, 1)


def test_a_word_has_the_same_tokens_in_a_sentence_in_a_name_and_in_json() -> None:
    word = TOKENIZER.encode("weather", add_special_tokens=False)
    for text in ("the weather is", "get_weather", '{"weather": 3}', "(weather)"):
        ids = TOKENIZER.encode(text, add_special_tokens=False)
        assert any(ids[i : i + len(word)] == word for i in range(len(ids))), text


def test_digits_are_tokens_of_their_own() -> None:
    assert len(TOKENIZER.encode("1234567890", add_special_tokens=False)) == 10
