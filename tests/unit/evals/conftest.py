"""Engines: the built-in random model, and trained models of the test data."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lmrun.engine.llm import LLM
from lmrun.models import builtin, builtin_data
from lmrun.models.checkpoint import Checkpoint
from lmrun.stages import resolve
from lmrun.stages.convert import convert
from unit.evals.engines import engine

Workspaces = Callable[[str], Path]


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`builtin:random-llama`."""
    folder = tmp_path_factory.mktemp("random-llama")
    resolve.write_builtin(builtin.get("builtin:random-llama"), folder)
    return folder


@pytest.fixture(scope="session")
def random_workspace(random_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The engine workspace of `random_checkpoint`."""
    folder = tmp_path_factory.mktemp("random-llama-workspace")
    convert(Checkpoint.open(random_checkpoint), folder, "0" * 64)
    return folder


@pytest.fixture(scope="session")
def random_llm(random_workspace: Path) -> LLM:
    """`builtin:random-llama` unquantized, KV 16, one thread."""
    return engine(random_workspace)


@pytest.fixture(scope="session")
def trained(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspaces:
    """The unquantized workspace of a model of the test data; made once."""
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            convert(Checkpoint.open(test_data / "models" / name), made[name], "0" * 64)
        return made[name]

    return make


@pytest.fixture(scope="session")
def rounded_checkpoint(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """stories3m with every linear rounded to 4 bits in groups of 64 and written as floats again:
    plain asymmetric round-to-nearest, by code of this test's own."""
    folder = tmp_path_factory.mktemp("stories3m-rounded")
    source = test_data / "models" / "stories3m"
    tensors = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        is_linear = name.endswith("_proj.weight")
        tensors[name] = _rounded(tensor.float()) if is_linear else tensor.float()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((source / "config.json").read_text())
    config = {**config, "torch_dtype": "float32", "dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(config))
    for path in source.iterdir():
        if path.name.startswith(("tokenizer", "special", "generation")):
            (folder / path.name).write_bytes(path.read_bytes())
    return folder


def _rounded(weight: torch.Tensor) -> torch.Tensor:
    size = 64 if weight.shape[1] % 64 == 0 else weight.shape[1]
    groups = weight.view(weight.shape[0], -1, size)
    low = groups.amin(2, keepdim=True).clamp(max=0)
    step = (groups.amax(2, keepdim=True).clamp(min=0) - low) / 15
    zero = (-low / step).round()
    codes = ((groups / step).round() + zero).clamp(0, 15)
    return ((codes - zero) * step).view(weight.shape)


@pytest.fixture(scope="session")
def rounded_workspace(rounded_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The engine workspace of `rounded_checkpoint`."""
    folder = tmp_path_factory.mktemp("stories3m-rounded-workspace")
    convert(Checkpoint.open(rounded_checkpoint), folder, "0" * 64)
    return folder


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def stories(tmp_path: Path) -> Path:
    """The start of the built-in text, 12,000 characters."""
    path = tmp_path / "stories.txt"
    path.write_text(builtin_data.TEXTS["stories"].read_text(encoding="utf-8")[:12_000])
    return path
