from dataclasses import replace

import pytest

from lmrun.errors import PlanError
from lmrun.models import builtin
from lmrun.models.registry import builtin_spec
from lmrun.plan import fitting
from lmrun.plan.budget import Demand, Reserved, make_budget
from lmrun.plan.costs import Budget
from lmrun.plan.fitting import Alternative
from lmrun.plan.weights import Storage, Weights, weigh
from lmrun.quant.layout import WeightQuant

MIB, GIB = 2**20, 2**30
SPEC = builtin_spec(builtin.get("builtin:random-llama-1b"))
PROCESS_BYTES = 128 * MIB
DEMAND = Demand(
    spec=SPEC,
    weights=Weights((), 2 * GIB, 2 * GIB),
    reserved=Reserved(PROCESS_BYTES, "estimate"),
    kv_bits=16,
    block_size=64,
    context_length=2048,
    max_num_seqs=32,
    max_batch_tokens=256,
    memory_ratio=0.8,
    memory_bytes=None,
)
BLOCK = 22 * 4 * 2 * 64 * 128  # layers, KV heads, K and V, tokens, bytes of a vector


def budget_of(demand: Demand, memory: int) -> Budget:
    """Checked, as the planner does."""
    fitting.check_fits(demand, memory)
    return make_budget(demand, memory, "cpu, installed memory")


def refusal(demand: Demand, memory: int, *alternatives: Alternative) -> str:
    with pytest.raises(PlanError) as caught:
        fitting.check_fits(demand, memory, alternatives)
    return str(caught.value)


def fitting_changes(demand: Demand, memory: int) -> list[str]:
    """All of them, the message shows the nearest two."""
    return list(fitting._changes(demand, memory, ()))


def codes(size: int) -> Alternative:
    """4-bit weights of that many bytes, on 2 GiB."""
    return Alternative(
        "quant=awq_w4_g128", replace(DEMAND, weights=Weights((), size, size)), 2 * GIB
    )


def test_each_sum_can_be_redone() -> None:
    budget = budget_of(DEMAND, 16 * GIB)
    assert budget.block_bytes == BLOCK
    assert budget.kv_bytes_per_token == BLOCK // 64 == 22528
    token = 2 * 2048 + (32 + 8) * 64 + 32 * 64 + 3 * 5632
    assert budget.activation_bytes == 4 * (256 * token + 32 * 32000 + 2048 * 64)
    assert budget.left_bytes == (
        16 * GIB - PROCESS_BYTES - budget.weights_bytes - budget.activation_bytes
    )


def test_plenty_of_memory_takes_what_is_needed() -> None:
    budget = budget_of(DEMAND, 16 * GIB)
    assert (budget.num_blocks, budget.needed_blocks) == (32 * 32, 32 * 32)
    assert budget.limited_by == "need"


def test_a_context_that_fills_no_whole_block_takes_one_more() -> None:
    budget = budget_of(replace(DEMAND, context_length=65, max_num_seqs=3), 16 * GIB)
    assert budget.num_blocks == 3 * 2


def test_little_memory_takes_its_share_of_what_is_left() -> None:
    budget = budget_of(DEMAND, 3 * GIB)
    assert budget.limited_by == "memory_ratio"
    assert budget.num_blocks == int(0.8 * budget.left_bytes) // BLOCK
    assert 32 <= budget.num_blocks < 1024


@pytest.mark.parametrize(("bits", "part"), [(32, 256), (16, 128), (8, 68), (4, 36)])
def test_quantized_blocks_count_scale_and_zero(bits: int, part: int) -> None:
    budget = budget_of(replace(DEMAND, kv_bits=bits), 16 * GIB)
    assert budget.kv_bytes_per_token == 22 * 4 * 2 * part


def test_an_absolute_size_is_divided_into_blocks() -> None:
    budget = budget_of(replace(DEMAND, memory_bytes=100 * MIB), 16 * GIB)
    assert budget.num_blocks == 100 * MIB // BLOCK
    assert budget.limited_by == "memory"


def test_an_absolute_size_below_one_sequence_is_refused() -> None:
    assert refusal(replace(DEMAND, memory_bytes=40 * MIB), 16 * GIB) == (
        "kv.memory=40 MiB: one sequence of 2048 tokens needs 44 MiB."
        " Fits with kv.memory=44MiB or backend.context_length ≤ 1856."
    )


def test_an_absolute_size_above_what_is_left_is_refused() -> None:
    text = refusal(replace(DEMAND, memory_bytes=8 * GIB), 8 * GIB)
    assert text == (
        "plan: needs 10.2 GiB, device has 8 GiB (weights 2 GiB, engine 157 MiB, KV cache 8 GiB:"
        " as kv.memory says). Fits with kv.memory=5986MiB or kv.memory=auto."
    )
    budget_of(replace(DEMAND, memory_bytes=5986 * MIB), 8 * GIB)


def test_layers_kept_at_more_bits_are_given_up_before_others_lose_some() -> None:
    long = replace(DEMAND, context_length=131072, max_num_seqs=1, kv_bits=8, kept_layers=11)
    assert not long.fits(4 * GIB + GIB // 2)
    assert fitting_changes(long, 4 * GIB + GIB // 2)[:2] == ["kv.keep=0", "kv.bits=4"]
    named = replace(long, kept_bits=16, kept_by="kv.keep_layers=[]")
    assert fitting_changes(named, 4 * GIB + GIB // 2)[0] == "kv.keep_layers=[]"
    budget_of(replace(long, kept_layers=0), 4 * GIB + GIB // 2)


def test_bits_that_are_no_less_than_those_of_kept_layers_are_not_offered() -> None:
    long = replace(DEMAND, context_length=131072, max_num_seqs=1, kept_layers=1, kept_bits=8)
    offered = fitting_changes(long, 5 * GIB)
    assert "kv.bits=4" in offered
    assert "kv.bits=8" not in offered


def test_what_fits_with_fewer_bits_is_told_so() -> None:
    long = replace(DEMAND, context_length=131072, max_num_seqs=1)
    text = refusal(long, 5 * GIB)
    assert text == (
        "plan: needs 5.62 GiB, device has 5 GiB (weights 2 GiB, engine 189 MiB, KV cache 3.44 GiB:"
        " one sequence of 131072 tokens at kv.memory_ratio=0.8)."
        " Fits with kv.bits=8 or backend.context_length ≤ 107520."
    )
    budget_of(replace(long, kv_bits=8), 5 * GIB)
    budget_of(replace(long, context_length=107520), 5 * GIB)
    refusal(replace(long, context_length=107520 + 64), 5 * GIB)


def test_what_fits_with_fewer_sequences_is_told_so() -> None:
    many = replace(DEMAND, max_num_seqs=4096, memory_bytes=300 * MIB)
    total = many.fixed_bytes + 300 * MIB - 5 * MIB
    text = refusal(many, total)
    assert "backend.max_num_seqs ≤ 87" in fitting_changes(many, total)
    assert text.endswith("Fits with kv.memory=295MiB or kv.memory=auto.")
    budget_of(replace(many, max_num_seqs=87), total)
    refusal(replace(many, max_num_seqs=88), total)


def test_logits_are_counted_as_the_engine_holds_them() -> None:
    """32 rows at least, 128 at most, and no more than a step has tokens."""
    rows = {1: 32, 32: 32, 100: 100, 128: 128, 4096: 128}
    assert {seqs: replace(DEMAND, max_num_seqs=seqs).logit_rows for seqs in rows} == rows
    assert replace(DEMAND, max_batch_tokens=16).logit_rows == 16


def test_inputs_that_linears_round_or_reorder_are_counted() -> None:
    """The widest input of a linear, of each token: int8 codes with scale and sum, or floats."""
    schemes = {
        WeightQuant("none"): 0,
        WeightQuant("gptq", 128): 0,
        WeightQuant("gptq", 128, has_order=True): 4 * 5632,
        WeightQuant("smoothquant", bits=8, is_symmetric=True, activation_bits=8): 5632 + 8,
    }
    for quant, size in schemes.items():
        weights = weigh(SPEC, Storage("BF16", quant))
        wanted = replace(DEMAND, weights=weights)
        assert wanted.activation_bytes - DEMAND.activation_bytes == 256 * size


def test_weights_that_do_not_fit_are_told_about_4_bits() -> None:
    assert refusal(DEMAND, 2 * GIB, codes(700 * MIB)).endswith("Fits with quant=awq_w4_g128.")
    assert refusal(DEMAND, 2 * GIB, codes(3 * GIB)).endswith(
        "No one setting, and no two, make it fit: take a smaller model or a larger machine."
    )


def test_two_changes_are_named_where_no_single_one_is_enough() -> None:
    long = replace(DEMAND, context_length=65536)
    smaller = replace(long, weights=Weights((), 700 * MIB, 700 * MIB))
    text = refusal(long, 2 * GIB, Alternative("quant=awq_w4_g128", smaller, 2 * GIB))
    assert text.endswith(
        "Fits with quant=awq_w4_g128 kv.bits=8 or quant=awq_w4_g128 backend.context_length ≤ 43904."
    )
    budget_of(replace(smaller, context_length=43904), 2 * GIB)
    refusal(replace(smaller, context_length=43904 + 64), 2 * GIB)


def test_every_proposal_fits() -> None:
    """Whatever the size, the change that the message names is enough."""
    long = replace(DEMAND, context_length=65536)
    for memory in range(2 * GIB, 5 * GIB, 97 * MIB):
        try:
            budget_of(long, memory)
        except PlanError as error:
            hint = str(error).rpartition("Fits with ")[2].rstrip(".")
            for change in hint.split(" or ") if hint != str(error).rstrip(".") else []:
                key, value = change.replace(" ≤ ", "=").split("=")
                name = {"kv.bits": "kv_bits"}.get(key, key.removeprefix("backend."))
                budget_of(replace(long, **{name: int(value)}), memory)
