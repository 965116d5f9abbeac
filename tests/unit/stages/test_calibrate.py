"""calibrate: what the artifact holds, and what the manifest says of the data."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file

from lmrun.errors import ArtifactError, StageError
from lmrun.models.checkpoint import Checkpoint
from lmrun.quant import kv
from lmrun.stages import calibrate, calibration_data, decoder, sample_text
from lmrun.stages.decoder import RotaryTables
from unit.stages.projects import Project


def test_the_artifact_holds_all_tokens_and_statistics_of_the_sequences_asked_for(
    project: Project,
) -> None:
    project.build("calibration.statistics_samples=3")
    artifact = project.artifact("calibrate", "calibration.statistics_samples=3")
    assert sorted(artifact.manifest.files) == ["calibration.safetensors"]
    stored = load_file(artifact.path / "calibration.safetensors")
    checkpoint = Checkpoint.open(Path(project.model))
    spec = checkpoint.spec
    ids = torch.from_numpy(stored.pop("token_ids"))
    assert ids.shape == (8, 48)
    hidden = decoder.embed(checkpoint, ids[[0, 2, 5]])
    rotary = RotaryTables.of(spec, ids.shape[1])
    for index in range(spec.num_layers):
        weights = decoder.load_layer(checkpoint, index)
        trace = decoder.trace_layer(spec, weights, hidden, rotary)
        assert trace.hidden is not None
        hidden = trace.hidden
        for name, x in trace.inputs.items():
            rows, prefix = x.flatten(0, 1).numpy(), f"layers.{index}.{name}"
            expected = {
                "abs_mean": np.abs(rows).mean(0),
                "abs_max": np.abs(rows).max(0),
                "square_sum": np.square(rows).sum(0),
            }
            for kind, values in expected.items():
                np.testing.assert_allclose(stored.pop(f"{prefix}.{kind}"), values, rtol=1e-3)
        heads = {"key": trace.key, "value": trace.value}
        for name, values in heads.items():
            low, high = values.amin((0, 2)).numpy(), values.amax((0, 2)).numpy()
            assert low.shape == (2, 16)
            close = {"rtol": 1e-3, "atol": 1e-4}
            np.testing.assert_allclose(stored.pop(f"layers.{index}.{name}.min"), low, **close)
            np.testing.assert_allclose(stored.pop(f"layers.{index}.{name}.max"), high, **close)
        projected = F.linear(trace.inputs["qkv"], weights.linears["q_proj"])
        query = rotary.rotate(projected.unflatten(-1, (-1, spec.head_dim)).transpose(1, 2))
        for bits in (8, 4):
            cached = [torch.from_numpy(kv.rounded(one.numpy(), bits)) for one in heads.values()]
            found = F.scaled_dot_product_attention(
                query, *cached, is_causal=True, scale=spec.attention_scale, enable_gqa=True
            )
            wrong = found.transpose(1, 2).flatten(2) - trace.inputs["o"]
            written = F.linear(wrong, weights.linears["o_proj"]).square().sum()
            errors = [
                *(
                    (a - b).square().sum() / a.square().sum()
                    for a, b in zip(heads.values(), cached, strict=True)
                ),
                written / trace.hidden.square().sum(),
            ]
            np.testing.assert_allclose(
                stored.pop(f"layers.{index}.kv_error.{bits}"), np.array(errors), rtol=1e-2
            )
    assert stored == {}


def test_fewer_sequences_than_the_statistics_want_are_all_taken(project: Project) -> None:
    project.build("calibration.statistics_samples=100")
    manifest = project.artifact("calibrate", "calibration.statistics_samples=100").manifest
    assert manifest.fields.metrics["statistics_tokens"] == 8 * 48


def test_sequences_of_the_statistics_are_evenly_spread() -> None:
    assert calibration_data.evenly_spread(8, 3).tolist() == [0, 2, 5]
    assert calibration_data.evenly_spread(128, 16).tolist() == list(range(0, 128, 8))
    assert calibration_data.evenly_spread(4, 9).tolist() == [0, 1, 2, 3]


def test_the_manifest_names_the_data_by_digest(project: Project) -> None:
    project.build()
    artifact = project.artifact("calibrate")
    ids = load_file(artifact.path / "calibration.safetensors")["token_ids"]
    assert artifact.manifest.fields.metrics["data"] == {
        "kind": "text",
        "documents": 1,
        "documents_read": 1,
        "text_sha256": hashlib.sha256(project.text.read_bytes()).hexdigest(),
        "token_ids_sha256": hashlib.sha256(ids.astype("<i4").tobytes()).hexdigest(),
    }


def test_errors_of_layers_are_read_back_and_four_bits_cost_more(project: Project) -> None:
    project.build()
    found = kv.read_errors(project.artifact("calibrate").path / calibrate.FILE_NAME)
    assert {bits: len(layers) for bits, layers in found.items()} == {8: 3, 4: 3}
    for fine, coarse in zip(found[8], found[4], strict=True):
        assert 0 < fine.key < coarse.key < 0.1
        assert 0 < fine.value < coarse.value < 0.1
        assert 0 < fine.output < coarse.output < 0.1


def test_a_calibration_without_errors_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "calibration.safetensors"
    path.write_bytes((2).to_bytes(8, "little") + b"{}")
    with pytest.raises(ArtifactError) as caught:
        kv.read_errors(path)
    assert str(caught.value) == (
        f"{path}: expected the KV errors of the layers (layers.0.kv_error.8), got none."
        " Build calibrate again."
    )


def test_nothing_stored_depends_on_bits_or_groups(project: Project) -> None:
    project.build()
    before = project.artifact("calibrate").manifest
    project.build("quant.group_size=32", "kv.bits=4", "quant.skip=[layers.1.mlp.down_proj]")
    assert project.artifact("calibrate").manifest == before


def test_the_built_in_text_is_always_the_same_and_as_long_as_asked() -> None:
    text = sample_text.text(20_000)
    assert len(text) >= 20_000
    assert sample_text.text(500) == text[: len(sample_text.text(500))]
    assert json.dumps(text).isascii()
    assert len(set(text.split(". "))) > 200, "sentences differ"


def test_a_tokenizer_of_another_model_is_refused(project: Project) -> None:
    tokenizer = json.loads((Path(project.model) / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["a"] = 700
    (Path(project.model) / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(StageError, match="expected token ids below 288, got 700"):
        project.build()
