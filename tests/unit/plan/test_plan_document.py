import json
from typing import Any

import pytest

from lmrun.errors import ArtifactError
from lmrun.plan.plan import Plan

Bench = Any  # the fixture's class lives in conftest.py


@pytest.mark.parametrize("overrides", [(), ("quant=none", "frontend=api_gradio")])
@pytest.mark.parametrize("hashed", [True, False])
def test_a_plan_is_read_back_as_it_was_written(
    bench: Bench, overrides: tuple[str, ...], hashed: bool
) -> None:
    plan = bench.plan(*overrides, hashed=hashed)
    document = json.loads(json.dumps(plan.to_json()))
    assert document["schema_version"] == 4
    assert Plan.from_json(document) == plan


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 1}, "plan['schema_version']: 4 was expected"),
        ({"more": 1}, "plan: Additional properties are not allowed ('more' was unexpected)"),
        ({"unhashed": "x"}, "plan['unhashed']: 'x' is not of type 'array'"),
        ({"model_kind": "gguf"}, "plan['model_kind']: 'gguf' is not one of"),
    ],
)
def test_a_document_of_another_form_is_refused(
    bench: Bench, change: dict[str, Any], message: str
) -> None:
    document = {**bench.plan().to_json(), **change}
    with pytest.raises(ArtifactError) as caught:
        Plan.from_json(document)
    assert str(caught.value).startswith(message)


def test_a_plan_holds_no_resolved_secret(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "s3cret")
    document = json.dumps(bench.plan("frontend.api_keys=['${oc.env:KEY}']").to_json())
    assert "s3cret" not in document
