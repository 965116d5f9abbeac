"""Quantized folders of other tools, in the engine: logits of the dequantized weights, perplexity
as their makers measured it."""

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lmrun._engine import Engine
from lmrun.evals.perplexity import perplexity, windows
from lmrun.models.checkpoint import Checkpoint
from lmrun.models.tokenizer import Tokenizer
from lmrun.stages.convert import convert
from unit.stages.workspaces import transformers_model, unpacked

TOLERANCE = 1e-3
"""Of a logit: the bound the engine is held to on real checkpoints."""
FOLDERS = (
    "autoround-sym-ts",
    "awq-gemm-autoawq-ts",
    "awq-gemm-gptqmodel-ts",
    "ct-int-w8a8-ts",
    "ct-pack-w4a16-asym-ts",
    "ct-pack-w4a16-sym-ts",
    "gptq-v1-descact-asym-ts",
    "gptq-v1-noact-asym-ts",
    "gptq-v2-descact-asym-ts",
)


@pytest.fixture(scope="module")
def made_by_others(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quantized")
    with tarfile.open(test_data / "quantized" / "checkpoints.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.mark.parametrize("name", FOLDERS)
def test_folders_of_other_tools_keep_their_logits_and_perplexity(
    made_by_others: Path, test_data: Path, tmp_path: Path, name: str
) -> None:
    checkpoint = Checkpoint.open(made_by_others / name)
    convert(checkpoint, tmp_path, "0" * 64)
    engine = Engine(
        workspace=str(tmp_path),
        isa="auto",
        threads=1,
        num_blocks=64,
        block_size=16,
        kv_bits=32,
        activation_bits=32,
        max_num_seqs=4,
        max_batch_tokens=256,
        context_length=512,
        prefix_caching=False,
    )
    tokenizer = Tokenizer.from_folder(test_data / "models" / "tinystories-656k")
    text = (test_data / "text" / "stories.valid.txt").read_text(encoding="utf-8")
    pieces = windows(tokenizer.encode(text, add_special_tokens=False), 1)

    def score(ids: Any) -> Any:
        engine.score(1, ids)
        outputs = []
        while engine.has_work():
            outputs += engine.step()
        return outputs[-1].scores

    is_int8 = name == "ct-int-w8a8-ts"
    expected = json.loads((test_data / "quantized" / "index.json").read_text())[name]["ppl"]
    # int8 activations: a sum in another order puts some on the other side of a half
    assert perplexity(score, pieces) == pytest.approx(expected, rel=5e-5 if is_int8 else 1e-5)
    model = transformers_model(
        made_by_others / name,
        unpacked(tmp_path, checkpoint.spec),
        activation_top=127.0 if is_int8 else None,
    )
    for ids in pieces[:4]:
        with torch.inference_mode():
            reference = model(torch.tensor([ids])).logits[0].numpy()
        difference = np.abs(engine.logits(ids) - reference)
        if is_int8:
            assert difference.mean() < 5 * TOLERANCE
        else:
            assert difference.max() < TOLERANCE
