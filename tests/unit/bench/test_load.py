"""Requests on real connections, to a server whose delays are known.

A wait is never shorter than what the server slept; how much longer it is depends on the machine,
and nothing is asserted of that.
"""

import asyncio
import itertools
import time
from typing import Any

import pytest

from lmrun.bench.answers import read
from lmrun.bench.client import Address, encode, exchange
from lmrun.bench.load import Server
from unit.bench.pieces import DONE, END, HEAD, chunk, text
from unit.bench.someone_elses import Write, patient, serving

EARLY_S = 0.002
"""By which a sleep may end before its time, as clocks are read."""


def request(address: Address, tokens: int = 4) -> bytes:
    body = {"prompt": [1, 2, 3], "max_tokens": tokens, "stream_options": {"include_usage": True}}
    return encode(address, "/v1/completions", body)


def test_the_first_token_and_the_gaps_are_what_the_server_slept() -> None:
    with serving(patient(first_s=0.2, gap_s=0.05)) as theirs:
        address = Address.of(theirs.url)
        one = Server(address).closed([request(address)], 1)
    (answer,) = one.good
    assert answer.ttft is not None
    assert answer.ttft >= 0.2 - EARLY_S
    assert len(answer.gaps) == 3
    assert all(gap >= 0.05 - EARLY_S for gap in answer.gaps)
    assert answer.latency >= 0.35 - EARLY_S
    assert one.seconds >= answer.latency
    assert 0 <= one.cpu_seconds <= one.seconds * 2
    assert (answer.prompt_tokens, answer.tokens) == (3, 4)


def test_no_more_requests_are_open_than_the_level_says() -> None:
    with serving(patient(gap_s=0.005)) as theirs:
        address = Address.of(theirs.url)
        one = Server(address).closed([request(address)] * 12, 3)
        assert (len(one.good), theirs.most_open) == (12, 3)


def test_the_next_request_starts_when_one_ends() -> None:
    with serving(patient(first_s=0.05)) as theirs:
        address = Address.of(theirs.url)
        one = Server(address).closed([request(address, 1)] * 4, 2)
    first_end = min(answer.ended for answer in one.answers[:2])
    assert all(answer.sent >= first_end for answer in one.answers[2:])


def test_arrivals_are_sent_at_their_time_whatever_is_open() -> None:
    with serving(patient(first_s=0.3)) as theirs:
        address = Address.of(theirs.url)
        one = Server(address).open([(at, request(address, 1)) for at in (0.0, 0.05, 0.1)])
        assert theirs.most_open == 3
    sent = [answer.sent for answer in one.answers]
    assert all(b - a >= 0.05 - 0.02 for a, b in itertools.pairwise(sent))


def test_several_events_in_one_write_are_all_counted() -> None:
    async def reply(body: dict[str, Any], write: Write) -> None:
        await write(HEAD + chunk(text("a") + text("b")) + chunk(text("c", "stop")))
        await write(chunk(DONE) + END)

    with serving(reply) as theirs:
        address = Address.of(theirs.url)
        (answer,) = Server(address).closed([request(address)], 1).good
    assert len(answer.texts) == 3


def test_an_event_in_two_writes_came_with_the_second() -> None:
    async def reply(body: dict[str, Any], write: Write) -> None:
        whole = chunk(text("word", "stop"))
        await write(HEAD + whole[:20])
        await asyncio.sleep(0.1)
        await write(whole[20:] + chunk(DONE) + END)

    with serving(reply) as theirs:
        address = Address.of(theirs.url)
        (answer,) = Server(address).closed([request(address)], 1).good
    assert answer.ttft is not None
    assert answer.ttft >= 0.1 - EARLY_S


def test_a_server_that_keeps_the_connection_open_does_not_hold_the_client() -> None:
    """`Connection: close` was asked for; the end of the chunks is the end all the same."""

    async def reply(body: dict[str, Any], write: Write) -> None:
        head = HEAD.replace(b"connection: close\r\n", b"")
        await write(head + chunk(text("a", "stop")) + chunk(DONE) + END)
        await asyncio.sleep(20)

    with serving(reply) as theirs:
        address = Address.of(theirs.url)
        begin = time.monotonic()
        one = Server(address).closed([request(address)], 1)
        assert time.monotonic() - begin < 15
    assert len(one.good) == 1


def test_a_piece_that_only_looks_like_the_end_is_none() -> None:
    """A ping as sse-starlette sends it ends in a zero and an empty line; a packet may end there."""

    async def reply(body: dict[str, Any], write: Write) -> None:
        ping = chunk(b": ping - 2026-11-21 17:00:00.120000+00:00\r\n\r\n")
        await write(HEAD + chunk(text("a")) + ping[:-2])
        await asyncio.sleep(0.1)
        await write(ping[-2:] + chunk(text("b", "stop")) + chunk(DONE) + END)

    with serving(reply) as theirs:
        address = Address.of(theirs.url)
        (answer,) = Server(address).closed([request(address)], 1).good
    assert len(answer.texts) == 2


def test_a_server_that_hangs_up_in_the_middle_fails_that_request_alone() -> None:
    count = itertools.count()

    async def reply(body: dict[str, Any], write: Write) -> None:
        if next(count) == 1:
            await write(HEAD + chunk(text("a")))
            return
        await patient()(body, write)

    with serving(reply) as theirs:
        address = Address.of(theirs.url)
        one = Server(address).closed([request(address)] * 3, 1)
    assert [answer.error is None for answer in one.answers] == [True, False, True]
    assert "broke off" in str(one.answers[1].error)


def test_silence_is_not_waited_for_without_end() -> None:
    async def reply(body: dict[str, Any], write: Write) -> None:
        await write(HEAD + chunk(text("a")))
        await asyncio.sleep(20)

    with serving(reply) as theirs:
        address = Address.of(theirs.url)
        one = Server(address, patience_s=0.3).closed([request(address)], 1)
    assert one.answers[0].error == "no end of the answer within 0.3 s"
    assert len(one.answers[0].texts) == 1


def test_nobody_there_is_an_answer_with_that_error() -> None:
    address = Address("127.0.0.1", 1, False, "")
    found = read(asyncio.run(exchange(address, request(address), 1.0)))
    assert found.error == "http://127.0.0.1:1: cannot be reached: Connection refused"


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://127.0.0.1:23333", "http://127.0.0.1:23333"),
        ("http://127.0.0.1:23333/v1/", "http://127.0.0.1:23333"),
        ("https://example.org/openai/v1", "https://example.org:443/openai"),
        ("http://[::1]:8000/", "http://[::1]:8000"),
    ],
)
def test_an_address_is_taken_with_or_without_v1(url: str, base: str) -> None:
    assert Address.of(url).base_url == base


@pytest.mark.parametrize("url", ["", "127.0.0.1:80", "ftp://x", "http://", "http://x/?a=b"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected http://HOST:PORT"):
        Address.of(url)


def test_a_request_is_http_and_carries_its_key_and_path() -> None:
    address = Address.of("http://[::1]:8000/api/v1", "sk-1")
    head, _, content = encode(address, "/v1/completions", {"a": "ü"}).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /api/v1/completions HTTP/1.1"
    assert "Host: [::1]:8000" in lines
    assert "Authorization: Bearer sk-1" in lines
    assert f"Content-Length: {len(content)}" in lines
    assert "sk-1" not in repr(address)
