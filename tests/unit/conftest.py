"""A tiny seeded model and its workspace, made once a session by the project's own writers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from safetensors.numpy import save_file
from tokenizers import decoders, models, pre_tokenizers, processors

from lmrun.models.checkpoint import Checkpoint

BOS, EOS, IM_START, IM_END = "<|bos|>", "<|eos|>", "<|im_start|>", "<|im_end|>"
CHATML = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 272,  # a few ids more than the tokenizer knows, as padded models have
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "bos_token_id": 256,
    "eos_token_id": 257,
    "torch_dtype": "float32",
}


def byte_tokenizer() -> tokenizers.Tokenizer:
    """One token a byte (ids 0 to 255), then the four special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = tokenizers.Tokenizer(
        models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([BOS, EOS, IM_START, IM_END])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, 256)]
    )
    return tokenizer


def write_tokenizer(folder: Path, chat_template: str | None = CHATML) -> None:
    """The tokenizer files of the tiny model."""
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    config: dict[str, Any] = {"bos_token": BOS, "eos_token": EOS}
    if chat_template is not None:
        config["chat_template"] = chat_template
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [257, 259]}))


def _weights() -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    rng = np.random.default_rng(7)

    def matrix(rows: int, columns: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        return rng.normal(0, 2 / np.sqrt(columns), (rows, columns)).astype(np.float32)

    hidden, ffn = CONFIG["hidden_size"], CONFIG["intermediate_size"]
    kv = CONFIG["num_key_value_heads"] * CONFIG["head_dim"]
    ones = np.ones(hidden, np.float32)
    tensors = {"model.embed_tokens.weight": matrix(CONFIG["vocab_size"], hidden)}
    for index in range(CONFIG["num_hidden_layers"]):
        layer = f"model.layers.{index}."
        tensors |= {
            layer + "input_layernorm.weight": ones.copy(),
            layer + "post_attention_layernorm.weight": ones.copy(),
            layer + "self_attn.q_proj.weight": matrix(hidden, hidden),
            layer + "self_attn.k_proj.weight": matrix(kv, hidden),
            layer + "self_attn.v_proj.weight": matrix(kv, hidden),
            layer + "self_attn.o_proj.weight": matrix(hidden, hidden),
            layer + "mlp.gate_proj.weight": matrix(ffn, hidden),
            layer + "mlp.up_proj.weight": matrix(ffn, hidden),
            layer + "mlp.down_proj.weight": matrix(hidden, ffn),
        }
    return {**tensors, "model.norm.weight": ones}


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder: random Llama weights and a byte-level tokenizer with ChatML."""
    folder = tmp_path_factory.mktemp("tiny-checkpoint")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    save_file(_weights(), folder / "model.safetensors", metadata={"format": "pt"})
    write_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_workspace(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The engine workspace of `tiny_checkpoint`."""
    from lmrun.stages.convert import convert

    folder = tmp_path_factory.mktemp("tiny-workspace")
    convert(Checkpoint.open(tiny_checkpoint), folder, "0" * 64)
    return folder
