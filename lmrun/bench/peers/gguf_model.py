"""A GGUF file of a Llama checkpoint, linears as float16, without a vocabulary: llama.cpp's benches
draw token ids. `llama-quantize` makes 4 bits of it. Run by the Python of the peers' environment.

    python gguf_model.py CHECKPOINT FILE
"""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# what the peers' environment has, and a neighbour of this file
gguf: Any = importlib.import_module("gguf")
checkpoint_arrays: Any = importlib.import_module("checkpoint_arrays")

_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write(checkpoint: Path, file: Path) -> None:
    """Write the file, one tensor in memory at a time."""
    config, arrays = checkpoint_arrays.read_config(checkpoint), checkpoint_arrays.Arrays(checkpoint)
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("none")
    names = list(_names(config))
    for name, source in names:
        values = _values(config, arrays, source)
        writer.add_tensor_info(name, values.shape, values.dtype, values.nbytes)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _, source in names:
        writer.write_tensor_data(_values(config, arrays, source))
    writer.close()


def _names(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Name in the file → name in the checkpoint."""
    yield "token_embd.weight", "model.embed_tokens.weight"
    for layer in range(config["num_hidden_layers"]):
        for source, name in _LAYER.items():
            yield f"blk.{layer}.{name}.weight", f"model.layers.{layer}.{source}.weight"
    yield "output_norm.weight", "model.norm.weight"
    if not config.get("tie_word_embeddings", False):
        yield "output.weight", "lm_head.weight"


def _values(config: dict[str, Any], arrays: Any, name: str) -> npt.NDArray[Any]:  # noqa: ANN401
    values: npt.NDArray[Any] = arrays[name]
    for projection, key in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
        if projection in name:
            # the halves that turn together stand beside each other
            heads = values.reshape(config[key], 2, config["head_dim"] // 2, values.shape[1])
            values = np.ascontiguousarray(heads.swapaxes(1, 2)).reshape(values.shape)
    return values if values.ndim == 1 else values.astype(np.float16)


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
