"""What is legal at run time is what the JSON Schema that editors get says is legal."""

import json
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from lmrun.config import keys, legal
from lmrun.config.keys import API_KEYS, HUB_TOKEN
from lmrun.config.schema import RunConfig

ADAPTER = TypeAdapter(RunConfig)
ORDINARY: list[Any] = [
    *(None, True, False, 0, 1, -1, 3, 4, 8, 16, 31, 32, 33, 48, 64, 96, 1024, 1025, 4096, 65535),
    *(65536, 0.0, 0.5, 1.0, 1.5, 8.0, -0.5, 1e300, "", " ", "4", "auto", "none", "awq", "AWQ"),
    *("2GiB", "2 GiB", "2GiB\n", "-2GiB", "1.5MB", "5B", "org/name", "org/name/x", "main", "v1/"),
    *("cpu", "cuda", "cpus", "avx512", "native", [], ["a"], ["a", "b"], [1], [None], "[a]", {}),
    *({"a": 1}, [["a"]]),
]
VALUES = st.one_of(
    st.integers(-(2**40), 2**40),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12),
    st.booleans(),
    st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=4), max_size=3),
)


def _by_pydantic(name: str, value: Any) -> bool:
    group, _, leaf = name.partition(".")
    choices = keys.table()[name].choices
    try:
        document = json.dumps({group: {leaf: value}}, allow_nan=False)
        ADAPTER.validate_json(document, strict=True)
    except (ValidationError, ValueError):
        return False
    return choices is None or value in choices


@pytest.mark.parametrize("name", [key for key in keys.table() if key not in (API_KEYS, HUB_TOKEN)])
def test_both_readers_of_the_rules_agree(name: str) -> None:
    for value in ORDINARY:
        assert legal.is_legal(name, value) == _by_pydantic(name, value), value

    @hypothesis.settings(max_examples=60, deadline=None, database=None)
    @hypothesis.given(VALUES)
    def agree(value: Any) -> None:
        assert legal.is_legal(name, value) == _by_pydantic(name, value)

    agree()
