"""report.json of quantize: what every method says of every linear."""

import json
from typing import Any

import jsonschema
import pytest
import torch
from safetensors.torch import load_file, save_file

from lmrun.artifacts.manifest import ManifestFields
from lmrun.errors import StageError
from lmrun.quant import rtn
from lmrun.quant.weight import QuantizedWeight, Scheme
from lmrun.stages.quantize_report import SCHEMA, RowFacts, role_row
from lmrun.stages.runner import build
from unit.stages.projects import Project

INT8 = ("quant.bits=8", "quant.group_size=0", "quant.symmetric=true")
METHODS: dict[str, tuple[str, ...]] = {
    "rtn": ("quant.method=rtn",),
    "rtn mse": ("quant.method=rtn", "quant.range=mse"),
    "awq": ("quant.method=awq",),
    "gptq": ("quant.method=gptq",),
    "gptq symmetric": ("quant.method=gptq", "quant.symmetric=true"),
    "awq_gptq": ("quant.method=awq_gptq",),
    "rotated gptq": ("quant.method=gptq", "quant.rotate=true"),
    "w8a8": ("quant.method=smoothquant", "quant.activation_bits=8", *INT8),
    "w8a8, alpha": (
        *("quant.method=smoothquant", "quant.activation_bits=8", "quant.alpha=0.8"),
        *INT8,
    ),
    "w8a16": ("quant.method=rtn", *INT8),
}


def _quantized(project: Project, *asked: str) -> tuple[dict[str, Any], ManifestFields]:
    build(project.plan(*asked), project.store, goal="quantize")
    artifact = project.artifact("quantize", *asked)
    return json.loads((artifact.path / "report.json").read_text()), artifact.manifest.fields


@pytest.mark.parametrize("name", METHODS)
def test_every_method_tells_of_every_linear(project: Project, name: str) -> None:
    asked = METHODS[name]
    report, fields = _quantized(project, *asked)
    jsonschema.validate(report, SCHEMA)
    assert len(report["layers"]) == 3
    for layer in report["layers"]:
        assert len(layer) == 7
        for row in layer.values():
            has_text = "rtn" not in asked[0] and "smoothquant" not in asked[0]
            assert (row["relative_output_error"] is not None) >= has_text
            assert 0 < row["relative_weight_error"] < 0.1
            assert 0 <= row["clipped_share"] < 0.2
            scaled = "awq" in asked[0] or "smoothquant" in asked[0]
            assert (row["channel_scales"] is not None) == scaled
            solved = "gptq" in asked[0] or "smoothquant" in asked[0]
            assert (row["damping"] is not None) == solved
    if "quant.alpha=0.8" in asked:
        assert {row["alpha"] for row in report["layers"][0].values()} == {0.8}
    assert report["quantized_bytes"] < report["float_bytes"] / 3
    assert len(fields.metrics["seconds_by_layer"]) == 3
    assert fields.metrics["peak_rss_bytes"] > 0


def test_gptq_moves_outputs_less_than_awq(project: Project) -> None:
    awq, _ = _quantized(project, *METHODS["awq"])
    gptq, _ = _quantized(project, *METHODS["gptq"])
    errors, others = (one["mean_relative_output_error"] for one in (gptq, awq))
    assert sum(errors.values()) < sum(others.values())


def test_skipped_linears_are_named_and_stay_as_they_are(project: Project) -> None:
    report, _ = _quantized(project, "quant.method=gptq", "quant.skip=[*.down_proj]")
    assert report["skipped"] == [f"layers.{index}.mlp.down_proj" for index in range(3)]
    assert all("down_proj" not in layer for layer in report["layers"])
    asked = ("quant.method=gptq", "quant.skip=[*.down_proj]")
    stored = load_file(project.artifact("quantize", *asked).path / "model.safetensors")
    original = load_file(f"{project.model}/model.safetensors")
    name = "model.layers.1.mlp.down_proj.weight"
    assert torch.equal(stored[name], original[name].half())


def test_a_row_counts_what_is_clipped_and_what_is_loud() -> None:
    weight = torch.linspace(-1, 1, 64).repeat(4, 1)
    low, high = rtn.group_range(weight, Scheme(4, 32))
    codes = rtn.quantize(weight, Scheme(4, 32), clip=(low / 2, high / 2))
    moment = torch.eye(64)
    moment[3, 3] = moment[7, 7] = 1000.0
    row = role_row(weight, codes, RowFacts(moment))
    assert row["outlier_inputs"] == 2
    assert 0.4 < row["clipped_share"] < 0.55
    exact = (codes.dequantize() - weight) @ moment.sqrt()
    share = exact.square().sum() / (weight @ moment.sqrt()).square().sum()
    assert row["relative_output_error"] == pytest.approx(float(share), rel=1e-4)


def test_codes_without_error_have_none() -> None:
    scheme = Scheme(4, 32)
    codes = QuantizedWeight(
        torch.arange(64).remainder(16).to(torch.uint8).repeat(2, 1),
        torch.full((2, 2), 0.5).half(),
        torch.full((2, 2), 8, dtype=torch.uint8),
        scheme.bits,
    )
    row = role_row(codes.dequantize(), codes, RowFacts(torch.eye(64)))
    assert (row["relative_output_error"], row["relative_weight_error"]) == (0.0, 0.0)
    assert row["clipped_share"] == 0.0


def test_activations_that_overflow_name_the_layer(project: Project) -> None:
    path = f"{project.model}/model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.1.post_attention_layernorm.weight"] *= 1e30
    save_file(tensors, path)
    with pytest.raises(StageError, match=r"^layers\.1: expected finite activations"):
        project.build("quant.method=gptq")
