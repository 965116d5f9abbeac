"""Real checkpoints, built through the real plan and stages, run by the native engine."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from acceptance.deployment import Builder, Built
from lmrun.artifacts.store import Store
from lmrun.config import compose
from lmrun.plan.planner import make_plan
from lmrun.stages.runner import build

PROMPTS = 20
PROMPT_CHARACTERS = 400


@pytest.fixture(scope="session")
def built(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Builder:
    """Build a checkpoint of the test data with overrides; equal ones are built once."""
    store = Store(tmp_path_factory.mktemp("acceptance"))

    def make(model: str, *overrides: str) -> Built:
        composed = compose(
            [
                f"model.path={test_data / 'models' / model}",
                f"calibration.data={test_data / 'text' / 'stories.train.txt'}",
                "backend.max_num_seqs=4",
                *overrides,
            ]
        )
        build(make_plan(composed, store), store)
        return Built(make_plan(composed, store), store)

    return make


@pytest.fixture(scope="session")
def prompts(test_data: Path) -> Callable[[str], list[list[int]]]:
    """Twenty held-out prompts of mixed lengths, as token ids of a model, BOS first."""
    text = (test_data / "text" / "stories.valid.txt").read_text()

    def make(model: str) -> list[list[int]]:
        tokenizer = AutoTokenizer.from_pretrained(test_data / "models" / model)
        bos = tokenizer.bos_token_id
        found = []
        for index in range(PROMPTS):
            start = index * 9_000
            length = PROMPT_CHARACTERS + 40 * index
            ids = tokenizer(text[start : start + length], add_special_tokens=False).input_ids
            found.append([bos, *ids[: 60 + 12 * index]])
        return found

    return make


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
