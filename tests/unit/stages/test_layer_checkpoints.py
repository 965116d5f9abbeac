"""A stage goes on from what it kept only if those are the bytes that it kept."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lmrun.artifacts.store import Store
from lmrun.stages.hidden_states import HiddenWriter
from lmrun.stages.layer_checkpoints import LayerCheckpoints
from unit.stages.projects import Project

LAYER = {"codes": np.arange(64, dtype=np.int32)}


def _keep(folder: Path, layers: int = 2) -> LayerCheckpoints:
    kept = LayerCheckpoints(folder)
    for index in range(layers):
        _write_hidden(kept.hidden_file(index + 1, "hidden"))
        kept.save(index, LAYER, ["hidden"])
    return kept


def _write_hidden(file: Path) -> None:
    writer = HiddenWriter((2, 4, 8), torch.empty(0, 4, 8), file)
    writer.append(torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(3)))
    writer.close()


def _flip_last_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def test_a_flipped_bit_ends_what_counts_as_finished(tmp_path: Path) -> None:
    kept = _keep(tmp_path)
    assert kept.num_done(["hidden"], 3) == 2
    _flip_last_bit(tmp_path / "layer-1.safetensors")
    assert kept.num_done() == 1
    _flip_last_bit(tmp_path / "layer-0.safetensors")
    assert kept.num_done() == 0


def test_a_flipped_bit_in_the_hidden_states_begins_again(tmp_path: Path) -> None:
    kept = _keep(tmp_path)
    _flip_last_bit(tmp_path / "hidden-2.safetensors")
    assert kept.num_done(["hidden"], 3) == 0
    assert kept.num_done() == 2, "for a stage that needs no hidden states"


@pytest.mark.parametrize("name", ["layer-1.sha256", "layer-1.safetensors"])
def test_a_file_without_its_digest_is_not_finished(tmp_path: Path, name: str) -> None:
    kept = _keep(tmp_path)
    (tmp_path / name).unlink()
    assert kept.num_done() == 1


def test_a_digest_of_earlier_bytes_never_stands_beside_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = _keep(tmp_path)
    monkeypatch.setattr("lmrun.stages.layer_checkpoints.write_text", _killed)
    with pytest.raises(KeyboardInterrupt):
        kept.save(1, {"codes": np.zeros(64, dtype=np.int32)})
    assert LayerCheckpoints(tmp_path).num_done() == 1


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_only_the_input_of_the_next_layer_stays(tmp_path: Path) -> None:
    kept = _keep(tmp_path)
    assert [file.name for file in sorted(tmp_path.glob("hidden-*"))] == [
        "hidden-2.safetensors",
        "hidden-2.sha256",
    ]
    kept.save(2, LAYER, ["hidden"], is_last=True)
    assert not list(tmp_path.glob("hidden-*"))
    assert kept.num_done(["hidden"], 3) == 3


def test_layers_without_the_input_of_the_next_do_not_count(tmp_path: Path) -> None:
    kept = LayerCheckpoints(tmp_path)
    kept.save(0, LAYER)
    assert kept.num_done() == 1
    assert kept.num_done(["hidden"], 2) == 0
    assert kept.num_done(["hidden"], 1) == 1, "nothing follows the last layer"


def test_both_inputs_of_a_layer_are_needed_where_both_are_kept(tmp_path: Path) -> None:
    kept = _keep(tmp_path, 1)
    assert kept.num_done(["hidden", "quantized"], 2) == 0
    _write_hidden(kept.hidden_file(1, "quantized"))
    assert kept.num_done(["hidden", "quantized"], 2) == 1


def test_a_stage_computes_again_what_was_changed(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.build()
    wanted = project.artifact("quantize").manifest
    other = Project(project.model, project.text, Store(tmp_path / "other"))
    monkeypatch.setattr("lmrun.stages.quantize.write_folder", _killed)
    with pytest.raises(KeyboardInterrupt):
        other.build()
    (partial,) = (tmp_path / "other" / "partial").glob("quantize-*")
    _flip_last_bit(partial / ".resume" / "layer-2.safetensors")
    monkeypatch.undo()
    other.build()
    got = other.artifact("quantize").manifest
    assert {name: file.sha256 for name, file in got.files.items()} == {
        name: file.sha256 for name, file in wanted.files.items()
    }
