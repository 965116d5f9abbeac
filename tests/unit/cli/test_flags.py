"""Flags stand anywhere; overrides keep their order."""

import pytest

from lmrun.cli.flags import split
from lmrun.errors import UsageError

KNOWN = {"--json": False, "--url": True}


def test_flags_stand_anywhere_and_overrides_keep_their_order() -> None:
    argv = ["--json", "+recipe=x", "--url", "http://a?b=c", "kv.bits=4"]
    assert split(argv, KNOWN) == (
        {"--json": "", "--url": "http://a?b=c"},
        ["+recipe=x", "kv.bits=4"],
    )


def test_a_value_may_be_joined_with_an_equals_sign() -> None:
    assert split(["--url=http://a?b=c"], KNOWN) == ({"--url": "http://a?b=c"}, [])


def test_a_negative_number_is_a_value() -> None:
    known = {"--x": True}
    assert split(["--x", "-1"], known) == ({"--x": "-1"}, [])
    assert split(["--x", "-.5"], known) == ({"--x": "-.5"}, [])


def test_an_override_with_a_negative_value_is_no_flag() -> None:
    assert split(["calibration.seed=-1", "~kv"], KNOWN) == ({}, ["calibration.seed=-1", "~kv"])


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--jsn"], "--jsn: no such flag. Did you mean --json?"),
        (["-v"], "-v: no such flag. Flags here: --json, --url."),
        (["--json=1"], "--json: takes no value, got '1'. Write --json alone."),
        (["--url"], "--url: expected a value, got none. Write --url VALUE."),
        (["--url", "--json"], "--url: expected a value, got none. Write --url VALUE."),
        (["--json", "--json"], "--json: expected once, got twice. Give it one time."),
    ],
)
def test_a_wrong_flag_is_refused(argv: list[str], text: str) -> None:
    with pytest.raises(UsageError) as caught:
        split(argv, KNOWN)
    assert str(caught.value) == text


def test_a_verb_without_flags_says_so() -> None:
    with pytest.raises(UsageError) as caught:
        split(["--json"], {})
    assert str(caught.value) == "--json: no such flag. This verb has no flags."
