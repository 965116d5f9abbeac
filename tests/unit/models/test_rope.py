from typing import Any

import numpy as np
import pytest

from lmrun.models.registry import spec_from_config
from lmrun.models.rope import inv_freq

KINDS: list[dict[str, Any]] = [
    {"rope_type": "default"},
    {"rope_type": "linear", "factor": 4.0},
    {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind["rope_type"]))
@pytest.mark.parametrize("head_dim", [8, 64, 128])
@pytest.mark.parametrize("theta", [10000.0, 500000.0])
def test_frequencies_are_those_of_transformers(
    kind: dict[str, Any], head_dim: int, theta: float
) -> None:
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    sizes = {
        "hidden_size": 256,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "vocab_size": 8,
        "max_position_embeddings": 131072,
        "head_dim": head_dim,
    }
    config = LlamaConfig(**sizes, rope_parameters={**kind, "rope_theta": theta})
    theirs = LlamaRotaryEmbedding(config).inv_freq.numpy()
    ours = inv_freq(
        spec_from_config(
            {
                **sizes,
                "architectures": ["LlamaForCausalLM"],
                "rope_theta": theta,
                "rope_scaling": kind,
            },
            "config.json",
        )
    )
    assert ours.dtype == np.float32
    # torch's vector power is off by at most one unit in the last place; scaling adds up to three
    units = 1 if kind["rope_type"] != "llama3" else 4
    np.testing.assert_array_max_ulp(ours, theirs, units)
