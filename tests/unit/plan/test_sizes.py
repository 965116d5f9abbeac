import pytest

from lmrun.errors import ConfigError
from lmrun.plan.sizes import parse_bytes, show_bytes


@pytest.mark.parametrize(
    ("text", "count"),
    [("0B", 0), ("2GiB", 2**31), ("1.5 GiB", 3 * 2**29), ("1 MB", 10**6), ("3KiB", 3072)],
)
def test_sizes_are_read(text: str, count: int) -> None:
    assert parse_bytes(text, "kv.memory") == count


@pytest.mark.parametrize("text", ["2", "GiB", "-1GiB", "2 gib", "1e3B", "2GiB more"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_bytes(text, "kv.memory")
    assert str(caught.value) == (f"kv.memory={text}: expected a size such as 2GiB, got {text!r}.")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (17 * 2**19, "8.5 MiB"),
        (15 * 2**30, "15 GiB"),
        (1_100_048_384, "1.02 GiB"),
        (23.54 * 2**30, "23.5 GiB"),
        (2**50, "1024 TiB"),
    ],
)
def test_sizes_are_shown_in_three_digits(count: int, text: str) -> None:
    assert show_bytes(int(count)) == text
