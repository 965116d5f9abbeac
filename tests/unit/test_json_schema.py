"""The parts of schemas refuse what they do not name."""

import jsonschema
import pytest

from lmrun import json_schema
from lmrun.json_schema import COUNT, DIGEST, TEXT

SCHEMA = json_schema.document(
    "a thing",
    3,
    {"remark": TEXT},
    digest=DIGEST,
    parts=json_schema.records(size=json_schema.or_null(COUNT)),
    versions=json_schema.mapping(TEXT),
)
RIGHT = {
    "schema_version": 3,
    "digest": "0" * 64,
    "parts": [{"size": 1}, {"size": None}],
    "versions": {"torch": "2"},
}
WRONG = {
    "another version": {"schema_version": 2},
    "an upper-case digest": {"digest": "A" * 64},
    "a negative size": {"parts": [{"size": -1}]},
    "a part without its size": {"parts": [{}]},
    "a part with more": {"parts": [{"size": 1, "more": 1}]},
    "a version that is no text": {"versions": {"torch": 2}},
    "a name that is not known": {"more": 1},
    "an optional property of another kind": {"remark": 1},
}


def test_a_document_has_what_is_required_and_may_have_what_is_optional() -> None:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    validator.validate(RIGHT)
    validator.validate({**RIGHT, "remark": "x"})
    for name in RIGHT:
        assert not validator.is_valid({key: RIGHT[key] for key in RIGHT if key != name})


@pytest.mark.parametrize("what", WRONG)
def test_a_document_with_anything_else_is_refused(what: str) -> None:
    assert not jsonschema.Draft202012Validator(SCHEMA).is_valid({**RIGHT, **WRONG[what]})


def test_a_schema_made_from_types_is_closed() -> None:
    made = {"$defs": {"A": {"type": "object", "properties": {}}, "B": {"enum": ["x"]}}}
    assert json_schema.closed(made)["$defs"] == {
        "A": {"type": "object", "properties": {}, "additionalProperties": False},
        "B": {"enum": ["x"]},
    }
