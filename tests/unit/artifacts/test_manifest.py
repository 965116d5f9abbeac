import json
from pathlib import Path
from typing import Any

import pytest

from lmrun.artifacts import manifest as manifests
from lmrun.artifacts.manifest import FileRecord, Manifest, ManifestFields
from lmrun.errors import ArtifactError

MANIFEST = Manifest(
    ManifestFields(
        stage="quantize",
        code_version=1,
        fingerprint="a" * 64,
        inputs={"resolve": "b" * 64},
        config={"quant.bits": 4},
        numeric_class={"isa": "avx512", "threads": 2},
        seconds=1.5,
        metrics={"fallbacks": []},
    ),
    {"model.safetensors": FileRecord(10, 1, 2, "c" * 64)},
)


def test_a_manifest_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    manifests.write(tmp_path, MANIFEST)
    document = json.loads((tmp_path / "manifest.json").read_text())
    assert document["schema_version"] == 1
    assert Manifest.from_json(document, "manifest.json") == MANIFEST
    assert MANIFEST.num_bytes == 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "manifest.json['schema_version']: 1 was expected"),
        ({"fingerprint": "a"}, "manifest.json['fingerprint']: 'a' does not match '^[0-9a-f]{64}$'"),
        ({"seconds": -1}, "manifest.json['seconds']: -1 is less than the minimum of 0"),
        ({"files": {"a": {}}}, "manifest.json['files']['a']: 'size' is a required property"),
        (
            {"more": 1},
            "manifest.json: Additional properties are not allowed ('more' was unexpected)",
        ),
    ],
)
def test_a_document_of_another_form_is_refused_with_the_place(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ArtifactError) as caught:
        Manifest.from_json({**MANIFEST.to_json(), **change}, "manifest.json")
    assert str(caught.value) == message


def test_a_manifest_is_checked_before_it_is_written(tmp_path: Path) -> None:
    wrong = Manifest(
        ManifestFields("quantize", 1, "short", {}, {}, None, seconds=0.0), MANIFEST.files
    )
    with pytest.raises(ArtifactError, match="does not match"):
        manifests.write(tmp_path, wrong)
    assert list(tmp_path.iterdir()) == []
