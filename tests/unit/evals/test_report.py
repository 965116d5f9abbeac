"""The report: its fields, its schema, and what is refused."""

import json
from dataclasses import fields

import jsonschema
import pytest

from lmrun.errors import ArtifactError
from lmrun.evals import report
from lmrun.evals.report import Baseline, Protocol, Quality, TaskScore, ToolScore

QUALITY = Quality(
    perplexity=5.1726928,
    perplexity_standard_error=0.0449282,
    mean_logprob=-1.6433,
    mean_logprob_standard_error=0.00868,
    ppl_ratio=1.0986644,
    ppl_ratio_standard_error=0.0019629,
    kl=0.0853385,
    kl_standard_error=0.00208295,
    kl_p99=0.6362148,
    kl_max=2.6928671,
    top1=0.865479,
    top1_standard_error=0.005332,
    tasks={
        "piqa": TaskScore("choices", "piqa", "p", "0" * 64, 500, 0.528, 0.0223, 0.5, 0.0224),
        "gsm8k": TaskScore("exact", "gsm8k", "p", "0" * 64, 1, 0.0, None),
    },
    tools=ToolScore("lmrun", "0" * 64, 100, 0.8, 0.0402, 80, 0.75, 1.0),
    protocol=Protocol("builtin:stories", "0" * 64, 256, 65535, 1, 4096),
    baseline=Baseline(4.7081645, {"kv_bits": 16}),
    engine={"isa": "avx512", "kv_bits": 4},
    notes=("something was left out",),
    seconds={"text": 1.0},
)


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
