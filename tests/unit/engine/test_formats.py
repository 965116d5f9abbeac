"""Every way of storing the linears gives the logits of the weights that the codes mean."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from lmrun._engine import Engine, supported_isas
from lmrun.quant.layout import WeightQuant
from unit.engine import code_workspace

VOCABULARY, CONTEXT = 101, 128
TOLERANCE = 1e-3
"""Of a logit, beside the dequantized weights in transformers."""


@dataclass(frozen=True)
class Case:
    """A small model and how its linears are stored."""

    name: str
    quant: WeightQuant
    hidden: int = 64
    intermediate: int = 96
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 16
    has_bias: bool = False


def codes(bits: int, group_size: int, **changes: Any) -> WeightQuant:
    return WeightQuant("gptq", group_size, bits=bits, **changes)


INT8 = WeightQuant("smoothquant", bits=8, is_symmetric=True, activation_bits=8)
CASES = [
    Case("u4 groups of 8", codes(4, 8)),
    Case("u4 rows", codes(4, 0)),
    Case("u4 rows of odd sizes, symmetric", codes(4, 0, is_symmetric=True), 72, 88, 3, 1, 24),
    Case("u4 f32 scales, bias", codes(4, 32, scale_dtype="F32"), has_bias=True),
    Case("u4 ordered", codes(4, 32, has_order=True)),
    Case("u4 ordered, one order for all", codes(4, 24, has_order=True), 72, 120, 3, 1, 24),
    Case("u8 groups of 32", codes(8, 32)),
    Case("u8 rows, symmetric, f32 scales", codes(8, 0, is_symmetric=True, scale_dtype="F32")),
    Case("u8 rows of odd sizes, bias", codes(8, 0), 72, 88, 3, 1, 24, True),
    Case("u8 ordered", codes(8, 16, has_order=True)),
]
INT8_CASES = [
    Case("i8", INT8),
    Case("i8 of odd sizes", INT8, 51, 77, 3, 1, 40),
    Case("i8, bias", INT8, has_bias=True),
    Case("i8 ordered", WeightQuant("gptq", bits=8, activation_bits=8, is_symmetric=True,
                                   has_order=True)),
]  # fmt: skip


def model_of(case: Case) -> PreTrainedModel:
    """Seeded, in float32; a few inputs of each norm are large, as in trained models."""
    config_class: Any = Qwen2Config if case.has_bias else LlamaConfig
    model_class: Any = Qwen2ForCausalLM if case.has_bias else LlamaForCausalLM
    config = config_class(
        hidden_size=case.hidden,
        intermediate_size=case.intermediate,
        num_hidden_layers=2,
        num_attention_heads=case.heads,
        num_key_value_heads=case.kv_heads,
        head_dim=case.head_dim,
        vocab_size=VOCABULARY,
        max_position_embeddings=CONTEXT,
        attn_implementation="eager",
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = model_class(config).eval()
    generator = torch.Generator().manual_seed(len(case.name))
    for name, parameter in model.named_parameters():
        centre = 1.0 if "norm" in name else 0.0
        parameter.data = centre + 0.1 * torch.randn(parameter.shape, generator=generator)
        if "norm" in name:
            parameter.data[::19] *= 6
    return model  # type: ignore[no-any-return]


def engine_of(folder: Path, **changes: Any) -> Engine:
    settings: dict[str, Any] = {
        "workspace": str(folder),
        "isa": "auto",
        "threads": 1,
        "num_blocks": 20,
        "block_size": 16,
        "kv_bits": 32,
        "activation_bits": 32,
        "max_num_seqs": 4,
        "max_batch_tokens": 48,
        "context_length": CONTEXT,
        "prefix_caching": False,
    }
    return Engine(**(settings | changes))


def tokens_of(count: int) -> list[int]:
    return [int(token) for token in np.random.default_rng(count).integers(0, VOCABULARY, count)]


@torch.inference_mode()
def logits_of(model: PreTrainedModel, tokens: list[int]) -> Any:
    return model(torch.tensor([tokens]), use_cache=False).logits[0].numpy()


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_logits_are_those_of_the_weights_that_the_codes_mean(case: Case, tmp_path: Path) -> None:
    model = model_of(case)
    code_workspace.write(model, case.quant, tmp_path)
    for isa in supported_isas():
        engine = engine_of(tmp_path, isa=isa)
        for count in (1, 5, 100):
            tokens = tokens_of(count)
            assert np.abs(engine.logits(tokens) - logits_of(model, tokens)).max() < TOLERANCE


@pytest.mark.parametrize("case", CASES[:7:3], ids=[case.name for case in CASES[:7:3]])
def test_a_digit_less_of_activations_costs_about_256_times_the_error(
    case: Case, tmp_path: Path
) -> None:
    model = model_of(case)
    code_workspace.write(model, case.quant, tmp_path)
    tokens = tokens_of(100)
    expected = logits_of(model, tokens)
    for isa in supported_isas():
        error = {}
        for bits in (32, 16, 8):
            logits = engine_of(tmp_path, isa=isa, activation_bits=bits).logits(tokens)
            error[bits] = np.abs(logits - expected)
        assert error[32].mean() < 1e-5
        assert 2e-5 < error[16].mean() < 5e-4
        assert error[16].max() < 5e-3
        assert 50 < error[8].mean() / error[16].mean() < 1000


@pytest.mark.parametrize("case", INT8_CASES, ids=[case.name for case in INT8_CASES])
def test_int8_products_round_their_inputs_as_the_contract_says(case: Case, tmp_path: Path) -> None:
    model = model_of(case)
    code_workspace.write(model, case.quant, tmp_path)
    tokens = tokens_of(100)
    exact = logits_of(model, tokens)
    for name, module in list(model.model.named_modules()):
        if isinstance(module, torch.nn.Linear):
            model.model.set_submodule(name, code_workspace.Int8Linear(module))
    rounded = logits_of(model, tokens)
    for isa in supported_isas():
        got = engine_of(tmp_path, isa=isa).logits(tokens)
        # Not zero: a sum in another order puts a few inputs on the other side of a boundary.
        assert np.abs(got - rounded).mean() < np.abs(exact - rounded).mean() / 20
        assert np.abs(got - exact).mean() < 0.05 * exact.std()


@pytest.mark.parametrize("case", CASES + INT8_CASES, ids=lambda case: case.name)
def test_logits_do_not_depend_on_chunks_or_threads(case: Case, tmp_path: Path) -> None:
    code_workspace.write(model_of(case), case.quant, tmp_path)
    tokens = tokens_of(110)
    expected = engine_of(tmp_path, max_batch_tokens=128, kv_bits=[4, 16]).logits(tokens)
    for budget, threads in ((7, 1), (64, 2), (16, 2)):
        engine = engine_of(
            tmp_path, max_batch_tokens=budget, threads=threads, kv_bits=[4, 16], block_size=32
        )
        assert np.array_equal(engine.logits(tokens), expected)


@pytest.mark.parametrize("bits", [[16, 4], [4, 16], [8, 32], [32, 8], [4, 8], [16, 16]])
def test_each_layer_keeps_its_own_bits(bits: list[int], tmp_path: Path) -> None:
    case = CASES[0]
    code_workspace.write(model_of(case), case.quant, tmp_path)
    tokens = tokens_of(100)

    def error(kv_bits: list[int]) -> float:
        difference = engine_of(tmp_path, kv_bits=kv_bits).logits(tokens) - exact
        return float(np.square(difference).mean())

    exact = engine_of(tmp_path).logits(tokens)
    engine = engine_of(tmp_path, kv_bits=bits)
    assert engine.effective_config()["kv_bits"] == (16 if bits == [16, 16] else bits)
    # What a layer rounds away, it rounds away whatever the other one keeps.
    alone = error([bits[0], 32]) + error([32, bits[1]])
    assert alone / 4 < error(bits) < alone * 4
    assert error([min(bits)] * 2) * 1.1 > error(bits) > 0


def test_layers_of_other_bits_share_prefixes_and_survive_preemption(tmp_path: Path) -> None:
    code_workspace.write(model_of(CASES[0]), CASES[0].quant, tmp_path)
    prompts = [tokens_of(32) + tokens_of(5 + index) for index in range(5)]

    def complete(engine: Engine, wanted: list[list[int]]) -> dict[int, list[int]]:
        for index, prompt in enumerate(wanted):
            engine.submit(
                index, prompt, temperature=0.0, top_k=None, top_p=1.0, seed=0, max_tokens=40,
                min_tokens=0, stop_token_ids=[], logit_bias={}, logprobs=None,
            )  # fmt: skip
        got: dict[int, list[int]] = {index: [] for index in range(len(wanted))}
        while engine.has_work():
            for output in engine.step():
                got[output.id] += output.token_ids
        return got

    alone = [complete(engine_of(tmp_path, kv_bits=[4, 16]), [prompt])[0] for prompt in prompts]
    for num_blocks in (40, 9):
        engine = engine_of(
            tmp_path, kv_bits=[4, 16], num_blocks=num_blocks, prefix_caching=True, threads=2
        )
        complete(engine, prompts[:1])
        assert list(complete(engine, prompts).values()) == alone
        stats = engine.stats()
        assert stats["cached_tokens"] > 0
        assert (stats["preemptions"] > 0) == (num_blocks == 9)


def test_bits_that_are_not_one_a_layer_are_refused(tmp_path: Path) -> None:
    code_workspace.write(model_of(CASES[0]), CASES[0].quant, tmp_path)
    with pytest.raises(ValueError, match=r"^kv_bits: expected one number, or one for each of the"
                       r" 2 layers, got 3\.$"):  # fmt: skip
        engine_of(tmp_path, kv_bits=[8, 8, 8])
    with pytest.raises(ValueError, match=r"^kv_bits=5: expected 32, 16, 8 or 4\.$"):
        engine_of(tmp_path, kv_bits=[8, 5])


@pytest.mark.parametrize("case", INT8_CASES[:1], ids=["i8"])
def test_logits_of_int8_products_that_are_not_finite_end_the_request(
    case: Case, tmp_path: Path
) -> None:
    model = model_of(case)
    # Finite weights whose products overflow: the input of the last linear is infinite.
    model.model.layers[1].post_attention_layernorm.weight.data.fill_(3e38)
    code_workspace.write(model, case.quant, tmp_path)
    engine = engine_of(tmp_path)
    engine.score(1, tokens_of(8))
    outputs = [output for _ in range(3) for output in engine.step()]
    assert outputs[-1].finish_reason == "error"
    assert "expected finite numbers" in (outputs[-1].error or "")
