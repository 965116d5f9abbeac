"""Published models priced from their config.json alone, against figures worked out by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmrun.artifacts.store import Store
from lmrun.config import compose
from lmrun.errors import ExitStatus, PlanError
from lmrun.plan.plan import Plan, check_runnable
from lmrun.plan.planner import make_plan

GIB, MIB = 2**30, 2**20


def _internlm(**fields: Any) -> dict[str, Any]:
    return {
        "architectures": ["InternLM2ForCausalLM"],
        "model_type": "internlm2",
        "bias": False,
        "hidden_act": "silu",
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1000000,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "vocab_size": 92544,
        **fields,
    }


CONFIGS = {
    "internlm2.5-1.8b": _internlm(
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=24,
        num_attention_heads=16,
        num_key_value_heads=8,
        rope_scaling={"type": "dynamic", "factor": 2.0},
    ),
    "internlm2.5-7b": _internlm(
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        rope_scaling={"type": "dynamic", "factor": 2.0},
    ),
    "internlm2-20b": _internlm(
        hidden_size=6144,
        intermediate_size=16384,
        num_hidden_layers=48,
        num_attention_heads=48,
        num_key_value_heads=8,
    ),
    "llama-2-7b": {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "vocab_size": 32000,
    },
    "qwq-32b": {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_act": "silu",
        "hidden_size": 5120,
        "intermediate_size": 27648,
        "num_hidden_layers": 64,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
        "max_position_embeddings": 40960,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1000000.0,
        "sliding_window": 32768,
        "use_sliding_window": False,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "vocab_size": 152064,
    },
}
Price = Callable[..., Plan]


@pytest.fixture
def price(tmp_path: Path) -> Price:
    """Plans a model of `CONFIGS` from a folder that holds nothing but its config.json."""

    def make(name: str, *overrides: str) -> Plan:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(CONFIGS[name]))
        composed = compose([f"model.path={folder}", *overrides])
        return make_plan(composed, Store(tmp_path / "home"))

    return make


def gib(size: float) -> float:
    return round(size / GIB, 2)


def rows(plan: Plan) -> dict[str, tuple[int, float]]:
    """Layer kind → parameters and bits a weight."""
    return {row.kind: (row.parameters, row.bits_per_weight) for row in plan.budget.weights}


def test_internlm_1_8b_is_3_52_gib_in_16_bits(price: Price) -> None:
    plan = price("internlm2.5-1.8b", "device=rtx4090")
    assert plan.spec.num_parameters() == 1_889_110_016
    assert sum(row.parameters for row in plan.budget.weights) == 1_889_110_016
    assert plan.budget.weights_bytes == 2 * 1_889_110_016
    assert gib(plan.budget.weights_bytes) == 3.52


@pytest.mark.parametrize(("ratio", "size"), [(0.8, 16.38), (0.4, 8.19)])
def test_kv_cache_of_a_card_of_24_gib(price: Price, ratio: float, size: float) -> None:
    plan = price(
        "internlm2.5-1.8b", "device=rtx4090", "device.workspace=0B", f"kv.memory_ratio={ratio}"
    )
    budget = plan.budget
    assert (budget.process_bytes, budget.activation_bytes) == (0, 0)
    assert budget.total_bytes == 24 * GIB
    assert gib(budget.kv_bytes) == size


def test_internlm_1_8b_is_1_44_gib_in_4_bits(price: Price) -> None:
    plan = price("internlm2.5-1.8b", "device=rtx4090", "quant=awq_w4_g128")
    found = rows(plan)
    assert found["attention"][1] == found["mlp"][1] == 4.15625
    linears = sum(r.num_bytes for r in plan.budget.weights if r.kind in ("attention", "mlp"))
    ends = sum(r.num_bytes for r in plan.budget.weights if r.kind in ("embedding", "head"))
    assert (gib(linears), gib(ends), gib(plan.budget.weights_bytes)) == (0.73, 0.71, 1.44)


def test_tutorials_price_the_name_of_the_model() -> None:
    """1.8e9 parameters, all of them in 4 bits and without scales (`lmrun/plan/README.md`)."""
    assert gib(1.8e9 * 2) == 3.35
    assert round(0.8 * (24 - 3.35), 1) == 16.5
    assert gib(1.8e9 / 2) == 0.84


def test_internlm_7b_shrinks_from_14_41_to_4_79_gib(price: Price) -> None:
    whole = price("internlm2.5-7b", "device=a6000").budget.weights_bytes
    codes = price("internlm2.5-7b", "device=a6000", "quant=awq_w4_g128").budget.weights_bytes
    assert (gib(whole), gib(codes)) == (14.41, 4.79)


@pytest.mark.parametrize(("bits", "size"), [(16, 32), (8, 16.5), (4, 8.5)])
def test_a_block_of_llama_2_7b(price: Price, bits: int, size: float) -> None:
    plan = price("llama-2-7b", "device=rtx4090", f"kv.bits={bits}", "kv.block_size=64")
    assert plan.budget.block_bytes == size * MIB


def test_internlm_20b_caches_1_71_gb_where_the_textbook_says_10_27(price: Price) -> None:
    """16 sequences of 512 + 32 tokens; 4·b·L·d·(s+n) takes every query head for a KV head."""
    shape = (
        "backend.context_length=544",
        "backend.max_num_seqs=16",
        "kv.block_size=32",
        "device=a100_80g",
    )
    plan = price("internlm2-20b", *shape)
    budget, spec = plan.budget, plan.spec
    assert budget.needed_blocks * budget.block_size == 16 * 544
    assert round(budget.needed_blocks * budget.block_bytes / 1e9, 2) == 1.71
    assert budget.kv_bytes_per_token * 16 * 544 == budget.needed_blocks * budget.block_bytes
    textbook = 4 * 16 * spec.num_layers * spec.hidden_size * (512 + 32)
    assert round(textbook / 1e9, 2) == 10.27
    assert textbook == 6 * budget.needed_blocks * budget.block_bytes  # 48 heads share 8
    assert budget.sequences_of(544).sequences >= 16


def test_qwq_32b_is_refused_on_one_card_of_48_gib(price: Price) -> None:
    with pytest.raises(PlanError) as caught:
        price("qwq-32b", "device=a6000")
    assert caught.value.status is ExitStatus.REFUSED
    assert str(caught.value) == (
        "plan: needs 74.1 GiB, device has 48 GiB (weights 61 GiB, engine 602 MiB, KV cache"
        " 12.5 GiB: one sequence of 40960 tokens at kv.memory_ratio=0.8)."
        " Fits with parallel.tp=2 device.count=2 or quant=awq_w4_g128."
    )


def test_qwq_32b_fits_two_cards_of_48_gib(price: Price) -> None:
    plan = price("qwq-32b", "device=a6000_x2", "parallel.tp=2")
    budget = plan.budget
    assert (budget.tp, budget.total_bytes) == (2, 48 * GIB)
    assert gib(budget.weights_bytes) == 30.51
    assert [row.num_kv_heads for row in budget.kv] == [4]
    assert budget.sequences_of(40960).sequences >= 1
    assert "parallel.tp=2 (command line): not built yet; 1 is." in plan.refusals
    assert price("qwq-32b", "device=a6000", "parallel.tp=2", "device.count=2").budget == (
        price("qwq-32b", "device=a6000", "parallel.tp=2", "device.count=2").budget
    )


def test_a_folder_without_weights_is_priced_and_not_run(price: Price) -> None:
    plan = price("llama-2-7b", "quant=awq_w4_g128", "kv.bits=4")
    assert plan.model_kind == "config"
    assert plan.refusals == (
        f"{plan.model_path} (model.path, command line): expected model.safetensors or"
        " model.safetensors.index.json, got neither: the weights are missing."
        " The plan is made from config.json alone.",
    )
    assert {stage.action.value for stage in plan.stages} == {"unknown"}
    assert {stage.fingerprint for stage in plan.stages} == {None}
    with pytest.raises(PlanError, match="the weights are missing"):
        check_runnable(plan)


def test_an_architecture_that_is_not_served_is_priced_and_not_run(price: Price) -> None:
    plan = price("internlm2.5-1.8b")
    assert "architecture InternLM2ForCausalLM is not built yet." in plan.refusals[0]
    assert "InternLM2" not in plan.refusals[0].partition("Supported: ")[2]


def test_codes_of_8_bits_are_priced(price: Price) -> None:
    plan = price("llama-2-7b", "device=rtx4090", "quant=awq_w4_g128", "quant.bits=8")
    assert rows(plan)["mlp"][1] == 8 + 16 / 128 + 8 / 128
    plan = price("llama-2-7b", "device=rtx4090", "quant.method=gptq", "quant.symmetric=true")
    assert rows(plan)["mlp"][1] == 4 + 16 / 128
    assert {row.scheme for row in plan.budget.weights} == {"F16", "i4 g128"}
    plan = price("llama-2-7b", "device=h200", "quant=w8a8")
    assert rows(plan)["attention"][1] == 8 + 32 / 4096
    assert {row.scheme for row in plan.budget.weights} == {"F16", "i8 rows a8"}


def test_a_checkpoint_quantized_elsewhere_is_priced_as_it_says(
    price: Price, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": True}
    monkeypatch.setitem(CONFIGS["llama-2-7b"], "quantization_config", fields)
    plan = price("llama-2-7b", "device=rtx4090")
    assert rows(plan)["mlp"][1] == 4 + 16 / 32
    monkeypatch.setitem(CONFIGS["llama-2-7b"], "quantization_config", {"quant_method": "bnb"})
    with pytest.raises(PlanError, match="quant_method bnb is not built yet"):
        price("llama-2-7b", "device=rtx4090")
