"""calibrate: which tokens are taken, what is stored, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from lmrun.errors import StageError
from lmrun.models.checkpoint import Checkpoint
from lmrun.models.tokenizer import Tokenizer
from lmrun.stages import calibrate, decoder, sample_text
from lmrun.stages.decoder import RotaryTables
from unit.stages.projects import TEXT, Project


def _tokenizer(project: Project) -> Tokenizer:
    return Tokenizer.from_folder(Path(project.model))


def test_sequences_are_disjoint_pieces_behind_a_bos(project: Project) -> None:
    tokenizer = _tokenizer(project)
    text = calibrate.read_text(project.text, 0)
    ids = calibrate.take_sequences(tokenizer, text, 5, 40, seed=0)
    assert ids.shape == (5, 40)
    assert (ids[:, 0] == tokenizer.bos_token_id).all()
    whole = tokenizer.encode(TEXT, add_special_tokens=False)
    pieces = [whole[i : i + 39] for i in range(0, len(whole), 39)]
    places = [pieces.index(row.tolist()) for row in ids[:, 1:]]
    assert places == sorted(places)
    assert not np.array_equal(ids, calibrate.take_sequences(tokenizer, text, 5, 40, seed=1))
    assert np.array_equal(ids, calibrate.take_sequences(tokenizer, text, 5, 40, seed=0))


def test_too_little_text_is_refused_with_the_counts(project: Project) -> None:
    project.text.write_text("x" * 100)
    with pytest.raises(StageError) as caught:
        project.build()
    assert str(caught.value) == (
        f"calibration.data={project.text}: expected text for 8 sequences of 48 tokens (376 tokens),"
        " got 100 tokens. Use calibration.samples=2, shorter sequences, or a longer text."
    )


def test_text_shorter_than_one_sequence_says_how_long_one_may_be(project: Project) -> None:
    project.text.write_text("x" * 20)
    with pytest.raises(StageError, match=r"Use calibration\.seq_len=21 or less, or a longer text"):
        project.build()


def test_text_too_short_for_any_sequence_asks_for_more(project: Project) -> None:
    project.text.write_text("xyz")
    with pytest.raises(StageError, match=r"got 3 tokens\. Use a longer text\.$"):
        project.build()


def test_the_text_fields_of_a_jsonl_file_are_read(tmp_path: Path) -> None:
    path = tmp_path / "text.jsonl"
    path.write_text('{"text": "one"}\n\n{"text": "two", "id": 3}\n')
    assert calibrate.read_text(path, 0).text == "one\ntwo"


@pytest.mark.parametrize("line", ['{"txt": "x"}', '"x"', '{"text": 3}'])
def test_a_jsonl_line_without_text_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "text.jsonl"
    path.write_text('{"text": "one"}\n' + line + "\n")
    with pytest.raises(StageError) as caught:
        calibrate.read_text(path, 0)
    assert str(caught.value) == f"{path}:2: expected an object with a string `text`, got none."


def test_a_broken_jsonl_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "text.jsonl"
    path.write_text("{\n")
    with pytest.raises(StageError, match=r"text\.jsonl:1: expected a JSON object a line"):
        calibrate.read_text(path, 0)


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"caf\xe9")
    with pytest.raises(StageError, match="expected UTF-8 text"):
        calibrate.read_text(path, 0)


def test_the_artifact_holds_tokens_and_statistics_of_every_input(project: Project) -> None:
    project.build()
    artifact = project.artifact("calibrate")
    assert sorted(artifact.manifest.files) == ["calibration.safetensors"]
    stored = load_file(artifact.path / "calibration.safetensors")
    checkpoint = Checkpoint.open(Path(project.model))
    ids = torch.from_numpy(stored.pop("token_ids"))
    hidden = decoder.embed(checkpoint, ids)
    rotary = RotaryTables.of(checkpoint.spec, ids.shape[1])
    for index in range(checkpoint.spec.num_layers):
        weights = decoder.load_layer(checkpoint, index)
        trace = decoder.run_layer(checkpoint.spec, weights, hidden, rotary)
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
        for name, heads in (("key", trace.key), ("value", trace.value)):
            low, high = heads.amin((0, 2)).numpy(), heads.amax((0, 2)).numpy()
            assert low.shape == (2, 16)
            close = {"rtol": 1e-3, "atol": 1e-4}
            np.testing.assert_allclose(stored.pop(f"layers.{index}.{name}.min"), low, **close)
            np.testing.assert_allclose(stored.pop(f"layers.{index}.{name}.max"), high, **close)
    assert stored == {}


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
