import json
from pathlib import Path
from typing import Any

import pytest

from lmrun.errors import PlanError
from lmrun.models import builtin, registry
from lmrun.models.checkpoint import Checkpoint
from lmrun.models.registry import read_known_spec, read_spec
from lmrun.models.spec import RopeSpec

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 32,
    "max_position_embeddings": 128,
}
SUPPORTED = "LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM"


def refusal(**changes: Any) -> str:
    with pytest.raises(PlanError) as caught:
        registry.spec_from_config({**CONFIG, **changes}, "config.json")
    return str(caught.value)


def test_what_config_leaves_out_is_what_transformers_assumes() -> None:
    spec = registry.spec_from_config(CONFIG, "config.json")
    assert (spec.num_kv_heads, spec.head_dim, spec.rms_norm_eps) == (4, 16, 1e-6)
    assert (spec.tie_word_embeddings, spec.dtype) == (False, "F32")
    assert spec.rope == RopeSpec("default", 10000.0)
    assert spec.eos_token_ids == ()
    assert spec.bos_token_id is None


def test_the_linears_carry_the_names_of_the_checkpoint() -> None:
    config = {**CONFIG, "num_key_value_heads": 2, "head_dim": 32}
    linears = registry.spec_from_config(config, "config.json").layer(1)
    assert [(item.role, item.in_features, item.out_features) for item in linears] == [
        ("q_proj", 64, 128),
        ("k_proj", 64, 64),
        ("v_proj", 64, 64),
        ("o_proj", 128, 64),
        ("gate_proj", 64, 96),
        ("up_proj", 64, 96),
        ("down_proj", 96, 64),
    ]
    assert linears[3].prefix == "model.layers.1.self_attn.o_proj"
    assert linears[6].name == "layers.1.mlp.down_proj"


def test_a_config_that_asks_for_a_billion_layers_is_refused() -> None:
    assert refusal(num_hidden_layers=10**9) == (
        "config.json: num_hidden_layers: expected at most 4096, got 1000000000."
    )


def test_internlm2_is_refused_by_name_with_the_supported_list() -> None:
    assert refusal(architectures=["InternLM2ForCausalLM"]) == (
        f"config.json: architecture InternLM2ForCausalLM is not built yet. Supported: {SUPPORTED}."
    )


def test_a_config_without_architectures_is_known_by_its_model_type() -> None:
    config = {**CONFIG, "architectures": None, "model_type": "llama"}
    assert registry.spec_from_config(config, "c").architecture == "LlamaForCausalLM"
    assert refusal(architectures=None) == (
        f"config.json: architectures: expected a list, got nothing. Supported: {SUPPORTED}."
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"hidden_act": "gelu"},
            "config.json: hidden_act=gelu is not built yet. Supported: hidden_act=silu.",
        ),
        (
            {"mlp_bias": True},
            "config.json: mlp_bias=True is not built yet. Supported: mlp_bias=false.",
        ),
        (
            {"attention_bias": True},
            "config.json: attention_bias=True is not built yet. Supported: attention_bias=false.",
        ),
        (
            {"num_key_value_heads": 3},
            "config.json: num_key_value_heads: expected a divisor of 4, got 3.",
        ),
        (
            {"hidden_size": 66},
            "config.json: hidden_size: expected a multiple of 4 heads, got 66.",
        ),
        ({"head_dim": 12}, "config.json: head_dim: expected a multiple of 8, got 12."),
        (
            {"num_hidden_layers": -1},
            "config.json: num_hidden_layers: expected a positive integer, got -1.",
        ),
        (
            {"vocab_size": None},
            "config.json: vocab_size: expected a positive integer, got nothing.",
        ),
        (
            {"dtype": "int8"},
            "config.json: dtype: expected float32 or float16 or bfloat16, got 'int8'.",
        ),
        (
            {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
            "config.json: rope_scaling: expected default, linear, llama3, got 'yarn'."
            " Other kinds of RoPE scaling are not built yet.",
        ),
        (
            {"eos_token_id": ["</s>"]},
            "config.json: eos_token_id: expected token ids, got ['</s>'].",
        ),
    ],
)
def test_what_is_not_served_is_refused_with_the_key(changes: dict[str, Any], message: str) -> None:
    assert refusal(**changes) == message


def test_both_spellings_of_dtype_and_rope_are_read() -> None:
    old = {**CONFIG, "torch_dtype": "float16", "rope_theta": 5e5}
    old["rope_scaling"] = {"type": "linear", "factor": 2.0}
    new = {**CONFIG, "dtype": "float16"}
    new["rope_parameters"] = {"rope_type": "linear", "factor": 2.0, "rope_theta": 5e5}
    first, second = (registry.spec_from_config(config, "c") for config in (old, new))
    assert first == second
    assert first.dtype == "F16"
    assert first.rope == RopeSpec("linear", 5e5, 2.0)


def test_qwen2_has_biases_and_qwen3_norms_of_heads() -> None:
    qwen = {**CONFIG, "num_key_value_heads": 2, "hidden_act": "silu"}
    second = registry.spec_from_config({**qwen, "architectures": ["Qwen2ForCausalLM"]}, "c")
    third = registry.spec_from_config({**qwen, "architectures": ["Qwen3ForCausalLM"]}, "c")
    assert "model.layers.0.self_attn.q_proj.bias" in second.float_tensors()
    assert "model.layers.0.self_attn.o_proj.bias" not in second.float_tensors()
    assert third.float_tensors()["model.layers.1.self_attn.k_norm.weight"] == (16,)


def test_a_sliding_window_shortens_the_context_only_where_it_is_used() -> None:
    base = {**CONFIG, "num_key_value_heads": 2, "sliding_window": 32}
    mistral = {**base, "architectures": ["MistralForCausalLM"]}
    assert registry.spec_from_config(mistral, "c").context_length == 32
    assert registry.spec_from_config({**mistral, "sliding_window": None}, "c").context_length == 128
    qwen = {**base, "architectures": ["Qwen2ForCausalLM"]}
    assert registry.spec_from_config(qwen, "c").context_length == 128
    assert registry.spec_from_config({**qwen, "use_sliding_window": True}, "c").context_length == 32


def test_generation_config_decides_where_generation_ends(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "eos_token_id": 2}))
    assert registry.read_spec(tmp_path).eos_token_ids == (2,)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [1, 2]}')
    assert registry.read_spec(tmp_path).eos_token_ids == (1, 2)


def test_a_folder_without_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError) as caught:
        registry.read_spec(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/config.json: no such file."
        " model.path names a Hugging Face folder or an lmrun workspace."
    )
    (tmp_path / "config.json").write_text("[1")
    with pytest.raises(PlanError, match=r"config\.json: expected JSON"):
        registry.read_spec(tmp_path)


@pytest.mark.parametrize("name", list(builtin.MODELS))
def test_built_in_models_are_models_that_lmrun_serves(name: str) -> None:
    spec = registry.builtin_spec(builtin.get(f"builtin:{name}"))
    assert spec.context_length in (2048, 8192)
    assert spec.head_dim in (64, 128)


def test_the_tinyllama_shape_has_its_1_1_billion_parameters() -> None:
    spec = registry.builtin_spec(builtin.get("builtin:random-llama-1b"))
    assert spec.num_parameters() == 1_100_048_384


def test_an_unknown_built_in_model_is_refused_with_the_list() -> None:
    with pytest.raises(PlanError) as caught:
        builtin.get("builtin:lama")
    assert str(caught.value) == (
        "model.path=builtin:lama: no such built-in model."
        " Use builtin:random-llama, builtin:random-llama-1b, builtin:random-llama-1b-8k,"
        " builtin:random-internlm2_5-1.8b or a folder."
    )


def test_an_architecture_that_is_known_is_read_for_its_price_alone(tmp_path: Path) -> None:
    config = {
        "architectures": ["InternLM2ForCausalLM"],
        "bias": False,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 100,
        "max_position_embeddings": 64,
        "rope_scaling": {"type": "dynamic", "factor": 2.0},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    spec = read_known_spec(tmp_path)
    assert spec.num_parameters() == 2 * 100 * 64 + 2 * (64 * (64 + 64 + 64 + 3 * 128) + 128) + 64
    assert spec.rope.kind == "dynamic"
    for read in (read_spec, Checkpoint.open):
        with pytest.raises(PlanError) as caught:
            read(tmp_path)
        assert str(caught.value) == (
            f"{tmp_path / 'config.json'}: architecture InternLM2ForCausalLM is not built yet."
            " Supported: LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM."
        )
