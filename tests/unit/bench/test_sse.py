"""Server-sent events in pieces of any size."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmrun.bench.sse import EventReader

STREAM = (
    b": a comment\n\ndata: one\n\nevent: x\r\nid: 7\r\ndata: two\r\n\r\n"
    b"data:three\ndata: lines\n\n\n\ndata\n\nretry: 10\n\ndata:  spaced\r\rdata: [DONE]\n\n"
)
EVENTS = [b"one", b"two", b"three\nlines", b"", b" spaced", b"[DONE]"]


def read(*pieces: bytes) -> list[bytes]:
    reader = EventReader()
    return [data for piece in pieces for data in reader.feed(piece)]


def test_fields_comments_and_line_ends_are_read_as_the_standard_says() -> None:
    assert read(STREAM) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_the_cuts_between_pieces_change_nothing(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[a:b] for a, b in pairwise(places)]
    assert read(*pieces) == EVENTS


def test_byte_by_byte_gives_the_same_events() -> None:
    assert read(*(STREAM[i : i + 1] for i in range(len(STREAM)))) == EVENTS


@pytest.mark.parametrize("tail", [b"data: half", b"data: half\n", b"data: half\r\n"])
def test_an_event_without_its_blank_line_is_none(tail: bytes) -> None:
    assert read(b"data: whole\n\n" + tail) == [b"whole"]


def test_letters_of_several_bytes_may_be_cut_in_the_middle() -> None:
    text = "data: Grüße 🎉\n\n".encode()
    assert read(text[:9], text[9:17], text[17:]) == ["Grüße 🎉".encode()]
