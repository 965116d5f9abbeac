"""From the bytes of an answer to its times and counts."""

import json

import pytest

from lmrun.bench.answers import read
from unit.bench.pieces import (
    DONE,
    END,
    HEAD,
    chunk,
    event,
    exchange,
    said,
    streamed,
    text,
    usage,
)


def test_times_are_those_of_the_pieces_that_completed_an_event() -> None:
    answer = read(
        streamed(
            [
                (10.5, text("a")),
                (10.6, text("b")),
                (10.8, text("c", "length")),
                (10.9, usage(7, 3, cached=4) + DONE),
            ],
            sent=10.0,
        )
    )
    assert answer.error is None
    assert answer.ttft == pytest.approx(0.5)
    assert answer.gaps == pytest.approx((0.1, 0.2))
    assert answer.itl == pytest.approx(0.15)
    assert answer.latency == pytest.approx(0.9)
    assert (answer.prompt_tokens, answer.tokens, answer.cached_tokens) == (7, 3, 4)


def test_several_events_in_a_piece_came_at_once() -> None:
    answer = read(streamed([(1.0, text("a") + text("b")), (2.0, text("c", "stop") + DONE)]))
    assert answer.texts == (1.0, 1.0, 2.0)
    assert answer.gaps == (0.0, 1.0)


def test_an_event_cut_in_the_middle_of_its_chunk_counts_when_it_is_whole() -> None:
    whole = HEAD + chunk(text("word")) + chunk(text("", "length")) + END
    middle = whole.index(b"word")
    answer = read(exchange((1.0, whole[:middle]), (2.0, whole[middle:])))
    assert answer.error is None
    assert answer.texts == (2.0,)


def test_every_cut_of_the_wire_gives_the_same_answer() -> None:
    whole = HEAD + chunk(text("é🎉")) + chunk(text("b", "stop") + usage(3, 2)) + chunk(DONE) + END
    for cut in range(1, len(whole)):
        answer = read(exchange((1.0, whole[:cut]), (2.0, whole[cut:])))
        assert (answer.error, len(answer.texts), answer.tokens) == (None, 2, 2)


def test_events_without_text_are_no_tokens_of_their_own() -> None:
    """A letter of several tokens comes with the last of them: the mean counts all, per usage."""
    events = [(1.0, text("a")), (1.1, text("")), (1.4, text("é")), (1.5, text("", "length"))]
    answer = read(streamed([*events, (1.5, usage(2, 5) + DONE)]))
    assert answer.texts == (1.0, 1.4)
    assert answer.gaps == pytest.approx((0.4,))
    assert answer.tokens == 5
    assert answer.itl == pytest.approx(0.1)


def test_without_usage_the_events_with_text_are_the_tokens() -> None:
    answer = read(streamed([(1.0, text("a")), (2.0, text("b", "stop") + DONE)]))
    assert (answer.tokens, answer.prompt_tokens, answer.cached_tokens) == (2, None, None)


def test_a_chat_and_its_reasoning_are_read_too() -> None:
    events = [
        (1.0, event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})),
        (2.0, said(None, reasoning_content="hm")),
        (3.0, said("yes")),
        (4.0, said(None, "stop") + DONE),
    ]
    assert read(streamed(events)).texts == (2.0, 3.0)


def test_a_usage_of_null_in_every_event_is_no_usage() -> None:
    with_null = event({"choices": [{"text": "a", "finish_reason": "stop"}], "usage": None})
    answer = read(streamed([(1.0, usage(4, 1)), (2.0, with_null)]))
    assert (answer.error, answer.tokens) == (None, 1)


def test_one_token_has_no_inter_token_latency() -> None:
    answer = read(streamed([(1.0, text("a", "length")), (1.1, usage(9, 1) + DONE)]))
    assert (answer.itl, answer.gaps) == (None, ())


def test_an_error_in_the_stream_ends_it_and_keeps_the_times_before() -> None:
    failure = event({"error": {"message": "engine: died.", "type": "server_error"}})
    answer = read(streamed([(1.0, text("a")), (2.0, failure)]))
    assert answer.error == "engine: died."
    assert answer.texts == (1.0,)
    assert answer.status == 200


def test_a_finish_reason_of_error_is_an_error() -> None:
    answer = read(streamed([(1.0, text("a")), (2.0, text("", "abort"))]))
    assert answer.error == "the server ended it: abort"


def test_a_stream_that_stops_before_its_end_broke_off() -> None:
    cut = exchange((1.0, HEAD), (1.5, chunk(text("a"))), problem=None)
    assert read(cut).error is not None
    assert str(read(cut).error).startswith("the answer broke off: peer closed connection")
    well_formed = streamed([(1.0, text("a"))])
    assert read(well_formed).error == "the answer broke off: no event said that it was finished"


def test_why_the_connection_broke_is_told() -> None:
    broken = exchange(
        (1.0, HEAD + chunk(text("a"))), problem="the connection broke: Connection reset by peer"
    )
    assert read(broken).error == "the connection broke: Connection reset by peer"


def test_nothing_at_all_is_an_error() -> None:
    assert read(exchange()).error == "the server closed the connection without an answer"
    unreachable = exchange(problem="http://127.0.0.1:1: cannot be reached: Connection refused")
    assert read(unreachable).error == "http://127.0.0.1:1: cannot be reached: Connection refused"


def test_what_is_no_http_and_what_is_no_json_are_told_apart() -> None:
    assert str(read(exchange((1.0, b"SSH-2.0-OpenSSH\r\n"))).error).startswith("no HTTP: ")
    garbled = streamed([(1.0, b"data: {oops\n\n")])
    assert read(garbled).error == "an event that is not JSON: {oops"
    listed = streamed([(1.0, b"data: [1]\n\n")])
    assert read(listed).error == "an event that is not JSON: [1]"


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"error": {"message": "busy. Try later.", "type": "x"}}, "status 429: busy. Try later."),
        ({"error": "no such model"}, "status 429: no such model"),
        ({"detail": "not found"}, "status 429: not found"),
        ({"message": "slow down"}, "status 429: slow down"),
    ],
)
def test_a_refusal_tells_its_status_and_its_reason(document: dict[str, object], told: str) -> None:
    content = json.dumps(document).encode()
    reply = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: %d\r\n\r\n%s" % (
        len(content),
        content,
    )
    answer = read(exchange((1.0, reply)))
    assert (answer.error, answer.status) == (told, 429)


def test_a_refusal_that_is_no_json_is_shown_as_it_is() -> None:
    reply = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 11\r\n\r\nbad gateway"
    assert read(exchange((1.0, reply))).error == "status 502: bad gateway"


def test_an_answer_that_ends_with_the_connection_is_whole() -> None:
    """HTTP/1.0 and servers without chunks: the body ends where the connection does."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    answer = read(exchange((1.0, head), (1.5, text("a")), (2.0, text("b", "stop") + DONE)))
    assert (answer.error, answer.texts) == (None, (1.5, 2.0))
