"""The file the engine maps: an ordinary safetensors file, aligned, the same for the same inputs."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from lmrun.errors import StageError
from lmrun.stages.workspace_writer import LazyTensor, write_workspace


def _tensors() -> list[LazyTensor]:
    return [
        LazyTensor.of("tok_embeddings.weight", np.arange(96, dtype=np.float32).reshape(2, 3, 16)),
        LazyTensor.of("norm.weight", np.ones(3, np.float32)),
        LazyTensor.of("a.qweight", np.arange(64, dtype=np.uint8).reshape(1, 1, 16, 4)),
        LazyTensor.of("a.scales", np.ones((1, 1, 16), np.float16)),
        LazyTensor.of("a.zeros", np.ones((1, 1, 16), np.uint8)),
        LazyTensor.of("b.weight", np.full((1, 2, 16, 2), 0x3F80, np.uint16), "BF16"),
    ]


def _header(path: Path) -> tuple[int, dict[str, dict[str, list[int]]]]:
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    return 8 + length, json.loads(raw[8 : 8 + length])


def test_tensors_start_on_64_bytes_and_the_file_ends_on_2_mib(tmp_path: Path) -> None:
    write_workspace(tmp_path, {"hidden_size": 3}, _tensors())
    path = tmp_path / "rank-0.safetensors"
    start, header = _header(path)
    assert start % 64 == 0
    assert path.stat().st_size == 2 << 20
    end = 0
    for name, entry in header.items():
        begin, stop = entry["data_offsets"]
        assert begin == end, "contiguous"
        assert begin % 64 == 0 or name.startswith("__pad__.")
        end = stop
    assert start + end == path.stat().st_size
    assert [name for name in header if not name.startswith("__pad__.")] == [
        tensor.name for tensor in _tensors()
    ]


def test_an_ordinary_reader_loads_it(tmp_path: Path) -> None:
    write_workspace(tmp_path, {}, [tensor for tensor in _tensors() if tensor.dtype != "BF16"])
    loaded = load_file(tmp_path / "rank-0.safetensors")
    for tensor in _tensors()[:-1]:
        assert np.array_equal(loaded[tensor.name], tensor.load())


@pytest.mark.parametrize("size", [2097152 - 64 * k for k in range(12)])
def test_any_size_fits_its_own_last_pad_into_the_header(tmp_path: Path, size: int) -> None:
    write_workspace(tmp_path, {}, [LazyTensor.of("t", np.zeros(size, np.uint8))])
    assert (tmp_path / "rank-0.safetensors").stat().st_size % (2 << 20) == 0
    assert load_file(tmp_path / "rank-0.safetensors")["t"].size == size


def test_the_model_document_carries_format_version_and_layout(tmp_path: Path) -> None:
    write_workspace(tmp_path, {"hidden_size": 3}, _tensors())
    assert json.loads((tmp_path / "model.json").read_text()) == {
        "format": "lmrun-workspace",
        "schema_version": 2,
        "layout": "cpu-tile16",
        "tp": 1,
        "hidden_size": 3,
    }


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_workspace(tmp_path / name, {"hidden_size": 3}, _tensors())
    for name in ("model.json", "rank-0.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_tensor_unlike_its_declaration_is_refused_by_name(tmp_path: Path) -> None:
    wrong = LazyTensor("norm.weight", "F32", (4,), lambda: np.ones(3, np.float32))
    with pytest.raises(StageError, match=r"^norm\.weight: expected float32 \[4\], got float32"):
        write_workspace(tmp_path, {}, [wrong])
    with pytest.raises(StageError, match="comes twice"):
        write_workspace(tmp_path, {}, [wrong, wrong])
