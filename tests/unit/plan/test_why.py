from typing import Any

import pytest

from lmrun.artifacts.manifest import ManifestFields
from lmrun.plan.why import why_missing

CONFIG = {"quant.method": "awq", "quant.group_size": 128, "quant.skip": []}
INPUTS = {"resolve": "a", "calibrate": "b"}
CLASS = {"isa": "avx512", "threads": 2}


def entry(**changes: Any) -> ManifestFields:
    fields: dict[str, Any] = {
        "stage": "quantize",
        "code_version": 1,
        "fingerprint": "f",
        "inputs": INPUTS,
        "config": CONFIG,
        "numeric_class": CLASS,
        "seconds": 0.0,
        **changes,
    }
    return ManifestFields(**fields)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"config": {**CONFIG, "quant.group_size": 64}}, "quant.group_size 64 → 128"),
        ({"config": {**CONFIG, "quant.method": "rtn"}}, "quant.method rtn → awq"),
        (
            {"config": {**CONFIG, "quant.skip": ["layers.0.mlp.down_proj"]}},
            'quant.skip ["layers.0.mlp.down_proj"] → []',
        ),
        (
            {"config": {"quant.method": "awq", "quant.group_size": 128, "quant.old": 1}},
            "quant.skip none → [], quant.old 1 → none",
        ),
        ({"code_version": 2}, "code version 2 → 1"),
        ({"inputs": {**INPUTS, "resolve": "x"}}, "the checkpoint changed"),
        ({"inputs": {**INPUTS, "calibrate": "x"}}, "calibrate changed"),
        ({"inputs": {"text": "x", **INPUTS}}, "the calibration text changed"),
        ({"numeric_class": {**CLASS, "threads": 1}}, "numeric class: threads 1 → 2"),
        (
            {"numeric_class": None},
            "numeric class: isa none → avx512, numeric class: threads none → 2",
        ),
    ],
)
def test_each_difference_is_named_from_old_to_new(changes: dict[str, Any], words: str) -> None:
    assert why_missing(entry(), [entry(**changes)]) == words


def test_the_nearest_entry_is_compared_with() -> None:
    far = entry(code_version=2, config={**CONFIG, "quant.method": "rtn"})
    near = entry(config={**CONFIG, "quant.group_size": 32})
    older = entry(config={**CONFIG, "quant.group_size": 64})
    assert why_missing(entry(), [far, near, older]) == "quant.group_size 32 → 128"


def test_many_differences_are_counted() -> None:
    other = entry(
        code_version=2,
        config={"quant.method": "rtn", "quant.group_size": 32, "quant.skip": ["x"]},
        inputs={},
    )
    assert why_missing(entry(), [other]) == (
        'quant.method rtn → awq, quant.group_size 32 → 128, quant.skip ["x"] → [], 3 more'
    )


def test_an_empty_store_has_no_entry() -> None:
    assert why_missing(entry(), []) == "no entry yet"
