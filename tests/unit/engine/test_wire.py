"""Frames: what is sent is what arrives, and rubbish is refused."""

import asyncio
import socket

import pytest

from lmrun.engine import wire
from lmrun.engine.messages import (
    Abort,
    Ask,
    Event,
    Ready,
    Request,
    SamplingParams,
    Score,
    Scored,
    Submit,
    Tokens,
)
from lmrun.errors import EngineError

REQUESTS: list[Request] = [
    Submit(
        request_id="1",
        prompt_token_ids=(1, 2, 3),
        sampling=SamplingParams(temperature=0.5, seed=2**63 - 1, logit_bias={7: -100.0}),
    ),
    Score(request_id="é", token_ids=tuple(range(5000))),
    Score(request_id="2", token_ids=(1, 2), top=3),
    Abort(request_id="1"),
    Ask(what="stats"),
]
EVENTS: list[Event] = [
    Tokens(request_id="1", token_ids=(5,), logprobs=(-0.5,), top_logprobs=({5: -0.5},)),
    Tokens(request_id="1", finish_reason="error", error="why"),
    Scored(request_id="2", logprobs=(-1.25, -2.5)),
    Scored(request_id="2", logprobs=(-1.5,), top_ids=((7, 3),), top_logprobs=((-1.5, -2.0),)),
    Ready(vocab_size=10, context_length=20),
]


def test_requests_and_events_survive_the_wire() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for message in (*REQUESTS, *EVENTS):
            ours.sendall(wire.pack(message))
        ours.shutdown(socket.SHUT_WR)
        for request in REQUESTS:
            assert wire.unpack_request(wire.read_frame(theirs) or b"") == request
        for event in EVENTS:
            assert wire.unpack_event(wire.read_frame(theirs) or b"") == event
        assert wire.read_frame(theirs) is None


def test_a_stream_that_ends_inside_a_message_is_an_error() -> None:
    for size in (2, 7):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.sendall(wire.pack(REQUESTS[0])[:size])
            ours.shutdown(socket.SHUT_WR)
            with pytest.raises(EngineError, match="closed inside a message"):
                wire.read_frame(theirs)


def test_an_absurd_length_is_refused_before_it_is_read() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"GET / HTTP/1.1\r\n")
        with pytest.raises(EngineError, match="at most 67108864 bytes in a message"):
            wire.read_frame(theirs)


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x81\xa4type\xa5other", b"\x91" * 100_000])
def test_a_body_that_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(EngineError, match="expected a request"):
        wire.unpack_request(body)


def test_asyncio_reads_the_same_frames() -> None:
    async def read(data: bytes) -> list[bytes | None]:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        return [await wire.read_frame_async(reader) for _ in range(2)]

    frame = wire.pack(EVENTS[0])
    body, end = asyncio.run(read(frame))
    assert wire.unpack_event(body or b"") == EVENTS[0]
    assert end is None
    with pytest.raises(EngineError, match="closed inside a message"):
        asyncio.run(read(frame[:-1]))


def test_an_answer_to_a_score_that_is_let_through_fits_a_frame() -> None:
    tokens = 20_000
    most = wire.MAX_FRAME_BYTES // 2 // 14 // tokens
    assert wire.too_large(Score(request_id="1", token_ids=(0,) * tokens, top=most)) is None
    assert wire.too_large(Score(request_id="1", token_ids=(0,) * tokens, top=most + 1)) is not None
    answer = Scored(
        request_id="1",
        logprobs=(-0.1,) * tokens,
        top_ids=((2**31 - 1,) * most,) * tokens,
        top_logprobs=((-0.1,) * most,) * tokens,
    )
    assert len(wire.pack(answer)) <= wire.MAX_FRAME_BYTES
