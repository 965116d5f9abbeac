from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from lmrun.artifacts.canonical import canonical, digest


class Colour(Enum):
    red = "red"


def test_key_order_and_spelling_of_floats_do_not_count() -> None:
    assert digest({"a": 1, "b": [0.1]}) == digest({"b": [0.1 + 1e-17], "a": 1})
    assert digest(0.3) == digest(0.1 + 0.2)
    assert digest(1.0) == digest(1)
    assert digest(1e-05) == digest(0.00001)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.8, "0.8"),
        (1 / 3, "0.333333333333"),
        (-0.0, "0"),
        (30.0, "30"),
        (1.5e-7, "1.5e-07"),
        (True, "true"),
        (None, "null"),
        ("é", '"\\u00e9"'),
        (Colour.red, '"red"'),
        ({"b": (1, 2), "a": {}}, '{"a":{},"b":[1,2]}'),
    ],
)
def test_each_value_has_one_spelling(value: Any, text: str) -> None:
    assert canonical(value) == text


def test_values_that_differ_hash_apart() -> None:
    values = [0, "0", False, None, [], {}, [0], {"0": 0}, 1e-13, 0.1, 0.10000000001]
    assert len({digest(value) for value in values}) == len(values)


@pytest.mark.parametrize("value", [Path("x"), object(), {1: 2}, {1, 2}, b"x"])
def test_what_json_has_no_form_for_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        canonical(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="no form"):
        canonical([value])


def test_the_golden_digest_does_not_move() -> None:
    assert digest({"stage": "quantize", "eps": 1e-05, "skip": ["a"], "n": 1}) == (
        "935148425169a83422bb24f2acb50c56ff8683ac05fb2a09f492a71ba476c52a"
    )
