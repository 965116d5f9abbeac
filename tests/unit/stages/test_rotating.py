"""A rotated model computes what the model computes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from lmrun.models.checkpoint import Checkpoint
from lmrun.stages import decoder
from lmrun.stages.decoder import RotaryTables
from lmrun.stages.layer_source import CheckpointSource, LayerSource
from lmrun.stages.rotating import RotatedSource

Write = Callable[..., Path]
FAMILIES: dict[str, dict[str, Any]] = {
    "tied, grouped heads": {},
    "untied": {"tie_word_embeddings": False},
    "with biases": {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"},
    "with normed heads": {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"},
}


def _logits(source: LayerSource, ids: Tensor) -> Tensor:
    """Of a model whose head is a tensor of its own."""
    spec = source.spec
    hidden = source.embed(ids)
    rotary = RotaryTables.of(spec, ids.shape[1])
    for index in range(spec.num_layers):
        hidden = decoder.run_layer(spec, source.layer(index), hidden, rotary)
    normed = decoder.rms_norm(hidden, source.outer("model.norm.weight"), spec.rms_norm_eps)
    return normed @ source.outer("lm_head.weight").T


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_logits_are_those_of_the_model_as_it_is(write_checkpoint: Write, family: str) -> None:
    folder = write_checkpoint(**FAMILIES[family])
    ids = torch.arange(3, 63).view(2, 30)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    rotated = RotatedSource.of(CheckpointSource(Checkpoint.open(folder)), seed=0)
    with torch.inference_mode():
        theirs = model(ids).logits
        ours = _logits(rotated, ids)
    assert float(theirs.std()) > 0.05
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_norm_weights_are_folded_and_a_tied_head_is_a_tensor_of_its_own(
    write_checkpoint: Write,
) -> None:
    source = CheckpointSource(Checkpoint.open(write_checkpoint()))
    rotated = RotatedSource.of(source, seed=0)
    assert source.spec.tie_word_embeddings
    assert not rotated.spec.tie_word_embeddings
    assert rotated.config({"tie_word_embeddings": True, "vocab_size": 8}) == {
        "tie_word_embeddings": False,
        "vocab_size": 8,
    }
    norms = [*rotated.layer(0).norms.values(), rotated.outer("model.norm.weight")]
    assert len(norms) == 3
    assert all(bool((norm == 1).all()) for norm in norms)
    embedding, head = rotated.outer("model.embed_tokens.weight"), rotated.outer("lm_head.weight")
    assert embedding.shape == head.shape
    ids = torch.tensor([[5, 1, 5]])
    torch.testing.assert_close(rotated.embed(ids), embedding[ids])


def test_a_channel_that_stands_out_no_longer_does(write_checkpoint: Write) -> None:
    source = CheckpointSource(Checkpoint.open(write_checkpoint()))
    loud = source.layer(0)
    loud.norms["input_layernorm"][7] = 50.0

    def peak(weights: Tensor) -> float:
        return float(weights.abs().amax(0).max() / weights.abs().amax(0).median())

    class Loud(CheckpointSource):
        def layer(self, index: int) -> decoder.LayerWeights:
            return loud

    rotated = RotatedSource.of(Loud(source.checkpoint), seed=0).layer(0)
    folded = loud.linears["q_proj"] * loud.norms["input_layernorm"]
    assert peak(folded) > 20
    assert peak(rotated.linears["q_proj"]) < 3


def test_the_same_seed_gives_the_same_bytes(write_checkpoint: Write) -> None:
    source = CheckpointSource(Checkpoint.open(write_checkpoint()))
    first, again = (RotatedSource.of(source, seed=3).layer(1).linears for _ in range(2))
    other = RotatedSource.of(source, seed=4).layer(1).linears
    assert all(torch.equal(first[role], again[role]) for role in first)
    assert not torch.equal(first["down_proj"], other["down_proj"])
