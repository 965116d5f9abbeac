import json
from dataclasses import replace
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
        (
            {"schema_version": 2},
            "manifest.json: schema_version: expected 1, got 2 (a newer lmrun wrote it)",
        ),
        (
            {"schema_version": 0},
            "manifest.json: schema_version: expected 1, got 0 (an older lmrun wrote it)",
        ),
        ({"schema_version": "1"}, "manifest.json['schema_version']: 1 was expected"),
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


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/etc/x", "", ".", "a//b", "./a", ".damaged", "manifest.json"]
)
def test_a_file_name_that_leads_elsewhere_is_refused(name: str) -> None:
    document = MANIFEST.to_json()
    document["files"] = {name: document["files"]["model.safetensors"]}
    with pytest.raises(ArtifactError, match="expected plain relative file names, got '"):
        Manifest.from_json(document, "manifest.json")


def test_the_name_of_the_model_is_kept_and_may_be_missing(tmp_path: Path) -> None:
    assert manifests.model_name(tmp_path) is None
    manifests.write(tmp_path, MANIFEST)
    assert manifests.model_name(tmp_path) is None
    named = replace(MANIFEST, fields=replace(MANIFEST.fields, model_name="tiny"))
    manifests.write(tmp_path, named)
    assert manifests.model_name(tmp_path) == "tiny"
    assert Manifest.from_json(named.to_json(), "manifest.json") == named
    (tmp_path / "manifest.json").write_text("[]")
    assert manifests.model_name(tmp_path) is None
