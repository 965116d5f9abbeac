"""The quick look lets nothing through that the JSON Schema refuses, and no good file falls out."""

import copy
from typing import Any

import jsonschema
import pytest

from lmrun.artifacts import digests, manifest
from lmrun.artifacts.shapes import DigestsShape, ManifestShape, fits

FILE = {"size": 1, "mtime_ns": 2, "inode": 3, "sha256": "a" * 64}
MANIFEST: dict[str, Any] = {
    "schema_version": manifest.SCHEMA_VERSION,
    "stage": "convert",
    "code_version": 1,
    "fingerprint": "0" * 64,
    "numeric_class": None,
    "inputs": {"resolve": "b" * 64},
    "config": {"parallel.tp": 1},
    "files": {"model.safetensors": FILE},
    "versions": {"numpy": "2.0"},
    "seconds": 0.5,
    "metrics": {"tokens": 3},
    "model_name": "tiny",
}
DIGESTS: dict[str, Any] = {"schema_version": digests.SCHEMA_VERSION, "files": {"/x": FILE}}
WRONG: list[Any] = [None, True, -1, 0, 1, 1.5, "", "x", "0" * 64, "A" * 64, [], {}, {"a": 1}]


def _places(document: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(document, dict):
        return [path]
    inner = [place for key in document for place in _places(document[key], (*path, key))]
    return [path, *inner] if path else inner


@pytest.mark.parametrize(
    ("document", "schema", "shape"),
    [(MANIFEST, manifest.SCHEMA, ManifestShape), (DIGESTS, digests.SCHEMA, DigestsShape)],
    ids=["manifest", "digests"],
)
def test_what_fits_is_valid(document: dict[str, Any], schema: dict[str, Any], shape: Any) -> None:
    validator = jsonschema.Draft202012Validator(schema)
    assert fits(document, shape)
    assert validator.is_valid(document)
    for place in _places(document):
        for value in [*WRONG, ...]:
            changed = copy.deepcopy(document)
            parent = changed
            for key in place[:-1]:
                parent = parent[key]
            if value is ...:
                del parent[place[-1]]
            else:
                parent[place[-1]] = value
            assert validator.is_valid(changed) or not fits(changed, shape), (place, value)
    assert not fits({**document, "more": 1}, shape)
    assert not fits([document], shape)
