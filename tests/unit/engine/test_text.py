"""Stop strings are matched on text, across tokens."""

from collections.abc import Sequence

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models

from lmrun.engine.messages import FinishReason, Tokens
from lmrun.engine.text import CompletionText, TextDelta
from lmrun.models.tokenizer import Tokenizer

PIECES = ["a", "b", "c", "ab", "bc", "abc", " end", "é", "d"]
IDS = {piece: index for index, piece in enumerate(PIECES)}


def piece_tokenizer() -> Tokenizer:
    """A token for each of `PIECES`, decoded by concatenation."""
    backend = tokenizers.Tokenizer(models.WordLevel(vocab=IDS, unk_token="a"))
    backend.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return Tokenizer(backend)


def run(
    pieces: Sequence[str],
    stop: Sequence[str],
    *,
    last: FinishReason | None = "length",
    chunk: int = 1,
    min_tokens: int = 0,
) -> tuple[str, int, FinishReason | None, list[TextDelta]]:
    """Push pieces in events of ``chunk`` tokens: text, counted tokens, reason, deltas."""
    text = CompletionText(piece_tokenizer().detokenizer(), stop, min_tokens=min_tokens)
    deltas = []
    ids = [IDS[piece] for piece in pieces]
    for start in range(0, len(ids), chunk):
        is_last = start + chunk >= len(ids)
        deltas.append(
            text.push(
                Tokens(
                    request_id="r",
                    token_ids=tuple(ids[start : start + chunk]),
                    finish_reason=last if is_last else None,
                )
            )
        )
    return "".join(d.text for d in deltas), text.num_tokens, text.finish_reason, deltas


def test_a_stop_string_across_tokens_ends_the_text_before_it() -> None:
    assert run(["d", "a", "bc", "d"], ["abc"])[:3] == ("d", 3, "stop")


def test_tokens_past_the_match_are_dropped_and_not_counted() -> None:
    text, count, reason, deltas = run(["d", "abc", "d", "d"], ["b"], chunk=4)
    assert (text, count, reason) == ("da", 2, "stop")
    assert deltas[0].token_ids == (IDS["d"], IDS["abc"])


def test_text_that_could_become_a_stop_string_is_held_back_and_then_shown() -> None:
    text, _, reason, deltas = run(["a", "b", "d"], ["abc"])
    assert [delta.text for delta in deltas] == ["", "", "abd"]
    assert (text, reason) == ("abd", "length")


def test_held_text_is_shown_when_the_completion_ends() -> None:
    assert run(["d", "a", "b"], ["abc"])[:3] == ("dab", 3, "length")


def test_the_stop_string_that_is_complete_first_wins_and_of_two_the_longer() -> None:
    assert run(["a", "b", "c"], ["abcd", "bc"])[0] == "a"
    assert run(["abc"], ["bc", "abc"])[0] == ""


def test_a_stop_string_within_the_first_min_tokens_is_text() -> None:
    assert run(["a", "b", "d", "b", "d"], ["b"], min_tokens=3)[:3] == ("abd", 4, "stop")


def test_a_stop_string_in_the_last_token_turns_length_into_stop() -> None:
    assert run(["d", "abc"], ["abc"], last="length")[:3] == ("d", 2, "stop")


def test_after_the_end_further_events_add_nothing() -> None:
    text = CompletionText(piece_tokenizer().detokenizer(), ["b"])
    text.push(Tokens(request_id="r", token_ids=(IDS["b"],)))
    late = text.push(Tokens(request_id="r", token_ids=(IDS["d"],), finish_reason="abort"))
    assert (late.text, late.token_ids, late.finish_reason) == ("", (), "stop")
    assert text.num_tokens == 1


def test_a_stop_token_counts_but_has_no_text() -> None:
    text = CompletionText(piece_tokenizer().detokenizer(), stop_token_ids=(IDS["d"],))
    delta = text.push(Tokens(request_id="r", token_ids=(IDS["a"], IDS["d"]), finish_reason="stop"))
    assert (delta.text, text.num_tokens) == ("a", 2)


@given(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=20),
    st.lists(st.sampled_from(["a", "bca", "abc", "cab", "d end", "éd", "cc"]), max_size=3),
)
def test_the_text_does_not_depend_on_how_tokens_arrive(pieces: list[str], stop: list[str]) -> None:
    results = {run(pieces, stop, chunk=chunk)[:3] for chunk in (1, 2, 3, 20)}
    assert len(results) == 1
    text, _, reason = results.pop()
    whole = "".join(pieces)
    assert whole.startswith(text)
    assert not any(string in text for string in stop)
    assert (reason == "stop") == any(string in whole for string in stop)


@pytest.mark.parametrize("reason", ["stop", "length", "abort"])
def test_without_stop_strings_the_engines_reason_stands(reason: FinishReason) -> None:
    assert run(["a", "b"], [], last=reason)[:3] == ("ab", 2, reason)
