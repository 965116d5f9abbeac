"""The calibration decoder computes what transformers computes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM

from lmrun.errors import StageError
from lmrun.models.checkpoint import Checkpoint
from lmrun.stages import decoder
from lmrun.stages.decoder import RotaryTables

Write = Callable[..., Path]
QWEN2 = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "untied": {"tie_word_embeddings": False},
    "qwen2, with biases": QWEN2,
    "qwen3, with normed heads": {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"},
}


def _run(checkpoint: Checkpoint, ids: torch.Tensor) -> list[torch.Tensor]:
    hidden = decoder.embed(checkpoint, ids)
    found = [hidden]
    rotary = RotaryTables.of(checkpoint.spec, ids.shape[1])
    for index in range(checkpoint.spec.num_layers):
        weights = decoder.load_layer(checkpoint, index)
        hidden = decoder.run_layer(checkpoint.spec, weights, hidden, rotary)
        found.append(hidden)
    return found


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_hidden_states_are_those_of_transformers(write_checkpoint: Write, family: str) -> None:
    folder = write_checkpoint(**FAMILIES[family])
    ids = torch.arange(3, 63).view(2, 30)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        theirs = model(ids, output_hidden_states=True).hidden_states
        ours = _run(Checkpoint.open(folder), ids)
        ours[-1] = model.model.norm(ours[-1])  # transformers returns the last one normed
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)


def test_rope_scaling_is_that_of_transformers(write_checkpoint: Write) -> None:
    scaling: dict[str, Any] = {
        "rope_type": "llama3",
        "factor": 4.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }
    folder = write_checkpoint(rope_scaling=scaling)
    ids = torch.arange(3, 103)[None]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        theirs = model(ids, output_hidden_states=True).hidden_states[1]
        torch.testing.assert_close(
            _run(Checkpoint.open(folder), ids)[1], theirs, rtol=1e-4, atol=1e-4
        )


def test_the_trace_holds_the_input_of_every_linear(write_checkpoint: Write) -> None:
    checkpoint = Checkpoint.open(write_checkpoint(**QWEN2))
    weights = decoder.load_layer(checkpoint, 1)
    hidden = torch.randn(2, 9, 64, generator=torch.Generator().manual_seed(0))
    rotary = RotaryTables.of(checkpoint.spec, 9)
    trace = decoder.trace_layer(checkpoint.spec, weights, hidden, rotary)
    down = trace.inputs["down"] @ weights.linears["down_proj"].T
    middle = hidden + trace.inputs["o"] @ weights.linears["o_proj"].T
    torch.testing.assert_close(middle + down, trace.hidden)
    value = trace.inputs["qkv"] @ weights.linears["v_proj"].T + weights.biases["v_proj"]
    torch.testing.assert_close(trace.value.transpose(1, 2).flatten(2), value)


def test_a_nan_in_the_checkpoint_is_named(write_checkpoint: Write) -> None:
    folder = write_checkpoint()
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.2.mlp.up_proj.weight"
    tensors[name][0, 0] = np.nan
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(StageError) as caught:
        decoder.load_layer(Checkpoint.open(folder), 2)
    assert str(caught.value) == (
        f"{folder / 'model.safetensors'}: {name}: expected finite numbers, got NaN or infinity."
        " The checkpoint is damaged: copy it again."
    )


def test_activations_that_overflow_stop_with_the_layer(write_checkpoint: Write) -> None:
    checkpoint = Checkpoint.open(write_checkpoint())
    weights = decoder.load_layer(checkpoint, 1)
    rotary = RotaryTables.of(checkpoint.spec, 4)
    hidden = torch.ones(1, 4, 64)
    loud = {name: norm * 1e38 for name, norm in weights.norms.items()}
    weights = replace(weights, norms=loud)
    with pytest.raises(StageError, match=r"^layers\.1: expected finite activations"):
        decoder.run_layer(checkpoint.spec, weights, hidden, rotary)
