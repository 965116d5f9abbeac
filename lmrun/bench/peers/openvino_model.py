"""An OpenVINO IR of a Llama checkpoint, as optimum's int4 export gives one: the linears of the
layers in 4 bits, symmetric, groups of 128; embedding and head in 8 bits, a scale a row.

Run by the Python of the peers' virtual environment.
"""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# what the peers' environment has, and a neighbour of this file
ov: Any = importlib.import_module("openvino")
op: Any = importlib.import_module("openvino.opset13")
state: Any = importlib.import_module("openvino.op.util")
checkpoint_arrays: Any = importlib.import_module("checkpoint_arrays")

GROUP_SIZE = 128

_Floats = npt.NDArray[np.float32]


def write(checkpoint: Path, folder: Path) -> None:
    """Write `openvino_model.xml` and `.bin` and the configs beside them."""
    config = checkpoint_arrays.read_config(checkpoint)
    folder.mkdir(parents=True)
    model = build(config, checkpoint_arrays.Arrays(checkpoint), config["num_hidden_layers"])
    ov.save_model(model, folder / "openvino_model.xml", compress_to_fp16=False)
    for name in ("config.json", "generation_config.json"):
        if (checkpoint / name).is_file():
            (folder / name).write_bytes((checkpoint / name).read_bytes())


def build(config: dict[str, Any], arrays: Any, layers: int) -> Any:  # noqa: ANN401
    """The graph with its state: K and V of each layer [batch, KV heads, positions, head_dim]."""
    tokens = _input("input_ids", [-1, -1], np.int64)
    mask = _input("attention_mask", [-1, -1], np.int64)
    positions = _input("position_ids", [-1, -1], np.int64)
    beams = _input("beam_idx", [-1], np.int32)
    embedding = _eight_bits(arrays["model.embed_tokens.weight"])
    x = op.gather(embedding, op.convert(tokens, "i32"), _int(0))
    dim = config["head_dim"]
    inverse = config["rope_theta"] ** (-np.arange(0, dim, 2, dtype=np.float64) / dim)
    angles = op.multiply(
        op.unsqueeze(op.convert(positions, "f32"), _int(2)),
        op.constant(inverse.astype(np.float32).reshape(1, 1, -1)),
    )
    both = op.concat([angles, angles], -1)
    cos, sin = (op.unsqueeze(f(both), _int(1)) for f in (op.cos, op.sin))
    absent = op.subtract(op.constant(np.float32(1)), op.convert(mask, "f32"))
    hidden = op.multiply(absent, op.constant(np.float32(-65504)))
    additive = op.unsqueeze(op.unsqueeze(hidden, _int(1)), _int(1))
    sinks: list[Any] = []
    for index in range(layers):
        layer = _Layer(config, arrays, f"model.layers.{index}", index)
        x = op.add(x, layer.attention(layer.norm(x, "input_layernorm"), cos, sin, additive, beams))
        x = op.add(x, layer.feed_forward(layer.norm(x, "post_attention_layernorm")))
        sinks += layer.sinks
    x = _norm(x, arrays["model.norm.weight"], config["rms_norm_eps"])
    tied = config.get("tie_word_embeddings", False)
    head = embedding if tied else _eight_bits(arrays["lm_head.weight"])
    logits = op.result(op.matmul(x, head, False, True))
    logits.get_output_tensor(0).set_names({"logits"})
    return ov.Model([logits], sinks, [tokens, mask, positions, beams], "llama")


class _Layer:
    def __init__(self, config: dict[str, Any], arrays: Any, name: str, index: int) -> None:  # noqa: ANN401
        self._config, self._arrays, self._name, self._index = config, arrays, name, index
        self.sinks: list[Any] = []

    def norm(self, x: Any, name: str) -> Any:  # noqa: ANN401 - nodes of a graph
        weight = self._arrays[f"{self._name}.{name}.weight"]
        return _norm(x, weight, self._config["rms_norm_eps"])

    def attention(self, x: Any, cos: Any, sin: Any, mask: Any, beams: Any) -> Any:  # noqa: ANN401
        heads, kv_heads = (
            self._config[key] for key in ("num_attention_heads", "num_key_value_heads")
        )
        dim = self._config["head_dim"]
        q = _rotated(self._heads(x, "self_attn.q_proj", heads), cos, sin, dim)
        k = _rotated(self._heads(x, "self_attn.k_proj", kv_heads), cos, sin, dim)
        v = self._heads(x, "self_attn.v_proj", kv_heads)
        group = heads // kv_heads
        keys = _repeated(self._state("key", k, beams, kv_heads, dim), group, heads, dim)
        values = _repeated(self._state("value", v, beams, kv_heads, dim), group, heads, dim)
        mixed = op.scaled_dot_product_attention(q, keys, values, mask)
        rows = op.reshape(
            op.transpose(mixed, _ints(0, 2, 1, 3)), _ints(0, 0, heads * dim), special_zero=True
        )
        return self._linear(rows, "self_attn.o_proj")

    def feed_forward(self, x: Any) -> Any:  # noqa: ANN401 - nodes of a graph
        gate = op.swish(self._linear(x, "mlp.gate_proj"))
        up = self._linear(x, "mlp.up_proj")
        return self._linear(op.multiply(gate, up), "mlp.down_proj")

    def _linear(self, x: Any, name: str) -> Any:  # noqa: ANN401 - nodes of a graph
        weight = four_bits(self._arrays[f"{self._name}.{name}.weight"])
        return op.matmul(x, weight, False, True)

    def _heads(self, x: Any, name: str, heads: int) -> Any:  # noqa: ANN401 - nodes of a graph
        shape = _ints(0, 0, heads, self._config["head_dim"])
        rows = op.reshape(self._linear(x, name), shape, special_zero=True)
        return op.transpose(rows, _ints(0, 2, 1, 3))

    def _state(self, what: str, new: Any, beams: Any, kv_heads: int, dim: int) -> Any:  # noqa: ANN401
        info = state.VariableInfo()
        info.data_shape = ov.PartialShape([-1, kv_heads, -1, dim])
        info.data_type = ov.Type.f32
        info.variable_id = f"past_key_values.{self._index}.{what}present.{self._index}.{what}"
        variable = state.Variable(info)
        rows = op.gather(op.shape_of(beams, "i32"), _int(0), _int(0))
        shape = op.concat(
            [op.unsqueeze(rows, _int(0)), op.constant(np.array([kv_heads, 0, dim], np.int32))], 0
        )
        empty = op.broadcast(op.constant(np.float32(0)), shape)
        past = op.gather(op.read_value(empty, variable), beams, _int(0))
        whole = op.concat([past, new], 2)
        self.sinks.append(op.assign(whole, variable))
        return whole


def four_bits(weight: _Floats) -> Any:  # noqa: ANN401 - a node of a graph
    """[out, in] as symmetric codes with a scale a group."""
    rows, inputs = weight.shape
    size = GROUP_SIZE if inputs % GROUP_SIZE == 0 else inputs
    groups = weight.reshape(rows, inputs // size, size)
    scale = np.maximum(np.abs(groups).max(-1, keepdims=True) / 7, 1e-8).astype(np.float16)
    codes = np.clip(np.rint(groups / scale.astype(np.float32)), -8, 7).astype(np.int8)
    nibbles = codes.reshape(-1).view(np.uint8) & 15
    packed = nibbles[0::2] | (nibbles[1::2] << 4)
    tensor = ov.Tensor(packed, list(groups.shape), ov.Type.i4)
    floats = op.multiply(
        op.convert(op.constant(tensor, shared_memory=False), "f16"), op.constant(scale)
    )
    return op.convert(op.reshape(floats, _ints(rows, inputs), special_zero=False), "f32")


def _eight_bits(weight: _Floats) -> Any:  # noqa: ANN401 - a node of a graph
    scale = np.maximum(np.abs(weight).max(-1, keepdims=True) / 127, 1e-8).astype(np.float16)
    codes = np.clip(np.rint(weight / scale.astype(np.float32)), -127, 127).astype(np.int8)
    return op.convert(op.multiply(op.convert(op.constant(codes), "f16"), op.constant(scale)), "f32")


def _norm(x: Any, weight: _Floats, epsilon: float) -> Any:  # noqa: ANN401 - nodes of a graph
    squares = op.reduce_mean(op.power(x, op.constant(np.float32(2))), _ints(-1), keep_dims=True)
    root = op.sqrt(op.add(squares, op.constant(np.float32(epsilon))))
    inverse = op.divide(op.constant(np.float32(1)), root)
    return op.multiply(op.constant(weight.reshape(1, 1, -1)), op.multiply(x, inverse))


def _rotated(x: Any, cos: Any, sin: Any, dim: int) -> Any:  # noqa: ANN401 - nodes of a graph
    first = op.slice(x, _ints(0), _ints(dim // 2), _ints(1), _ints(3))
    second = op.slice(x, _ints(dim // 2), _ints(1 << 31), _ints(1), _ints(3))
    turned = op.concat([op.multiply(second, op.constant(np.float32(-1))), first], -1)
    return op.add(op.multiply(x, cos), op.multiply(turned, sin))


def _repeated(x: Any, group: int, heads: int, dim: int) -> Any:  # noqa: ANN401 - nodes of a graph
    if group == 1:
        return x
    wide = op.unsqueeze(x, _int(2))
    shape = op.concat(
        [
            op.gather(op.shape_of(x), _ints(0, 1), _int(0)),
            _ints(group),
            op.gather(op.shape_of(x), _ints(2, 3), _int(0)),
        ],
        0,
    )
    copies = op.broadcast(wide, shape, broadcast_spec="BIDIRECTIONAL")
    return op.reshape(copies, _ints(0, heads, -1, dim), special_zero=True)


def _input(name: str, shape: list[int], kind: type) -> Any:  # noqa: ANN401 - a node of a graph
    node = op.parameter(ov.PartialShape(shape), kind, name=name)
    node.get_output_tensor(0).set_names({name})
    return node


def _ints(*values: int) -> Any:  # noqa: ANN401 - a node of a graph
    return op.constant(np.array(values, np.int64))


def _int(value: int) -> Any:  # noqa: ANN401 - a node of a graph
    return op.constant(np.int64(value))
