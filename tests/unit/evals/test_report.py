"""The report: its fields, its schema, and what is refused."""

import json
from dataclasses import fields

import jsonschema
import pytest

from lmrun.errors import ArtifactError
from lmrun.evals import report
from lmrun.evals.report import Baseline, Protocol, Quality, TaskScore, ToolScore
from unit.evals.test_text import QUALITY


def test_a_report_goes_to_json_and_back() -> None:
    for quality in (QUALITY, Quality()):
        document = json.loads(json.dumps(report.to_document(quality)))
        jsonschema.validate(document, report.SCHEMA)
        assert report.from_document(document, "r") == quality


def test_the_schema_has_the_fields_of_the_classes_and_no_other() -> None:
    def names(kind: type) -> set[str]:
        return {field.name for field in fields(kind)}

    top = report.SCHEMA["properties"]
    assert set(top) == names(Quality) | {"schema_version"}
    assert set(top["tasks"]["additionalProperties"]["properties"]) == names(TaskScore)
    for key, kind in (("tools", ToolScore), ("protocol", Protocol), ("baseline", Baseline)):
        assert set(top[key]["anyOf"][0]["properties"]) == names(kind)


@pytest.mark.parametrize("found", [[], {}, {"schema_version": 2}, None])
def test_another_document_is_refused(found: object) -> None:
    with pytest.raises(ArtifactError) as caught:
        report.from_document(found, "report.json")
    assert str(caught.value) == (
        "report.json: expected a quality report with schema_version 1, got another document."
        " Evaluate again."
    )


def test_a_wrong_field_is_named() -> None:
    document = {**report.to_document(QUALITY), "kl": "small"}
    with pytest.raises(ArtifactError) as caught:
        report.from_document(document, "report.json")
    assert str(caught.value) == (
        "report.json: expected a quality report, got one where Expected `float | null`, got `str`"
        " - at `$.kl`. Evaluate again."
    )
