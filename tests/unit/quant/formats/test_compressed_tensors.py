"""transformers, with compressed-tensors, loads what is written in that format."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from lmrun.models.checkpoint import Checkpoint
from lmrun.quant.formats import registry
from unit.stages.projects import write_checkpoint
from unit.stages.quantized_folders import write_quantized
from unit.stages.workspaces import transformers_model

SCHEMES = {
    "W4A16 asymmetric groups": (4, 32, False, 16),
    "W4A16 symmetric groups": (4, 32, True, 16),
    "W4A16 symmetric rows": (4, 0, True, 16),
    "W8A16 asymmetric groups": (8, 16, False, 16),
    "W8A16 symmetric rows": (8, 0, True, 16),
    "W8A8": (8, 0, True, 8),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", sorted(SCHEMES))
def test_transformers_computes_with_the_weights_that_were_meant(tmp_path: Path, name: str) -> None:
    bits, group_size, symmetric, activation_bits = SCHEMES[name]
    form = registry.choose(
        "compressed_tensors",
        bits,
        group_size,
        symmetric=symmetric,
        activation_bits=activation_bits,
    )
    folder = write_checkpoint(tmp_path / "model")
    kept = "layers.1.mlp.down_proj"
    floats = write_quantized(folder, form, kept=(kept,))
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    top = 127.5 if activation_bits == 8 else None
    ours = transformers_model(folder, floats, activation_top=top, kept=(kept,))
    tokens = torch.arange(3, 60)[None]
    with torch.inference_mode():
        found, expected = loaded(tokens).logits, ours(tokens).logits
    difference = (found - expected).abs()
    # int8: now and then the last digit puts an activation on the other side of a half
    assert float(difference.mean() if activation_bits == 8 else difference.max()) < 1e-4
    for linear in Checkpoint.open(folder).spec.linears:
        module = loaded.get_submodule(linear.prefix)
        assert hasattr(module, "quantization_scheme") == (linear.name != kept)
        x = torch.eye(linear.in_features)  # the first product decompresses what is packed
        with torch.inference_mode():
            weight = module(x).T.numpy()
        expected_weight = floats[f"{linear.prefix}.weight"]
        if activation_bits == 16:
            assert np.array_equal(weight, expected_weight)
        else:
            assert np.allclose(weight, expected_weight, rtol=0.01)
