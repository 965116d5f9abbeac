"""Models that lmrun makes itself from a seed: `model.path=builtin:NAME`.

The `resolve` stage writes them (weights, `config`, a tokenizer) into the store. ``version`` is part
of the fingerprint: whoever changes what is written for the same config and seed raises it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmrun.errors import PlanError

PREFIX = "builtin:"
DEMO = PREFIX + "demo"
"""The demo model: a checkpoint that ships with lmrun, so no stage makes it."""
DEMO_DESCRIPTION = "lmrun's own small trained model: chats, tells stories, calls tools"


def demo_folder() -> Path:
    """Where the demo model lies in the installed package."""
    return Path(__file__).parents[1] / "demo"


@dataclass(frozen=True)
class BuiltinModel:
    """A seeded random-weight model."""

    name: str
    description: str
    seed: int
    version: int
    config: dict[str, Any]
    """Its config.json."""


def _llama(**fields: Any) -> dict[str, Any]:  # noqa: ANN401 - values of config.json
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "attention_bias": False,
        "mlp_bias": False,
        "initializer_range": 0.02,
        "max_position_embeddings": 2048,
        "bos_token_id": 1,
        "eos_token_id": 2,
        **fields,
    }


_TINY_LLAMA = {
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 22,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "vocab_size": 32000,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
_LONG_CONTEXT = 8192

_MODELS = (
    BuiltinModel(
        name="random-llama",
        description="random weights, 2.5 million parameters; for trying lmrun out",
        seed=20261121,
        version=1,
        config=_llama(
            hidden_size=256,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=64,
            vocab_size=512,
            tie_word_embeddings=True,
            torch_dtype="float16",
        ),
    ),
    BuiltinModel(
        name="random-llama-1b",
        description="random weights in the shape of TinyLlama 1.1B; for measuring speed",
        seed=20261121,
        version=1,
        config=_llama(**_TINY_LLAMA),
    ),
    BuiltinModel(
        name="random-llama-1b-8k",
        description="the same with a context of 8192 tokens; for lmrun bench engine",
        seed=20261121,
        version=1,
        config=_llama(**_TINY_LLAMA, max_position_embeddings=_LONG_CONTEXT),
    ),
    BuiltinModel(
        name="random-internlm2_5-1.8b",
        description="random weights in the shape of InternLM2.5 1.8B; for lmrun bench engine",
        seed=20261121,
        version=1,
        config=_llama(
            hidden_size=2048,
            intermediate_size=8192,
            num_hidden_layers=24,
            num_attention_heads=16,
            num_key_value_heads=8,
            head_dim=128,
            vocab_size=92544,
            rope_theta=1000000.0,
            tie_word_embeddings=False,
            torch_dtype="bfloat16",
            max_position_embeddings=_LONG_CONTEXT,
        ),
    ),
)
MODELS: dict[str, BuiltinModel] = {model.name: model for model in _MODELS}
"""The closed registry, by name without the prefix."""


def get(path: str) -> BuiltinModel:
    """The model of `builtin:NAME`; `PlanError` names the legal ones."""
    name = path.removeprefix(PREFIX)
    if name not in MODELS:
        legal = ", ".join(PREFIX + known for known in MODELS)
        raise PlanError(
            f"model.path={PREFIX}{name}: no such built-in model. Use {legal} or a folder."
        )
    return MODELS[name]
