"""What a machine could do at most, from rates that are known."""

from dataclasses import replace

import pytest

from lmrun import env
from lmrun.artifacts.measurements import Ceilings, save_ceilings
from lmrun.artifacts.store import Store
from lmrun.bench import bounds, ceilings
from lmrun.bench.bounds import HERE, KEPT, Limits, limits_of
from lmrun.bench.report import Bound, Load
from lmrun.config import compose
from lmrun.engine.observing import build_name
from lmrun.plan.machine import this_machine
from lmrun.plan.plan import Plan
from lmrun.plan.planner import make_plan
from unit.artifacts.test_measurements import CEILINGS
from unit.bench.test_serving_text import LOAD

PROMPT, OUTPUT = 128, 32


@pytest.fixture
def plan() -> Plan:
    return make_plan(compose(["model=random_llama", "quant=none"]), Store(env.home()))


@pytest.fixture
def machine(plan: Plan) -> Ceilings:
    """Round figures, for as many threads as the plan has."""
    rates = next(iter(CEILINGS.schemes.values()))
    rates = replace(
        rates,
        decode_bytes_per_s=1e9,
        cached_decode_bytes_per_s=10e9,
        prefill_flops_per_s=100e9,
    )
    return replace(
        CEILINGS,
        threads=plan.engine.threads,
        cache_bytes=0,
        schemes=dict.fromkeys(("u4", "F16", "BF16", "F32"), rates),
        attention_bytes_per_s={"16": 2e9},
        attention_flops_per_s=50e9,
        step_overhead_s=1e-3,
        layer_overhead_s=1e-4,
        serving_token_s=0.0,
    )


def found(limits: Limits, load: Load) -> dict[str, Bound]:
    return {bound.figure: bound for bound in limits.of(load, PROMPT, OUTPUT)}


def weights_read(plan: Plan) -> int:
    """Bytes of a step: all matrices, the tied embedding too, without norms."""
    return sum(row.num_bytes for row in plan.budget.weights if row.kind in READ)


READ = ("attention", "mlp", "embedding")


def test_decoding_alone_is_bound_by_the_bytes_of_weights_and_kv(
    plan: Plan, machine: Ceilings
) -> None:
    itl = found(Limits(plan, machine, is_kept=True), LOAD)["itl_ms"]
    kv = plan.budget.kv_bytes_per_token * (PROMPT + OUTPUT / 2)
    assert itl.ceiling == pytest.approx(1e3 * (weights_read(plan) / 1e9 + kv / 2e9))
    assert itl.value == 1.5
    assert itl.share == pytest.approx(itl.ceiling / 1.5)
    assert itl.expected == pytest.approx(itl.ceiling + 1 + 0.1 * plan.spec.num_layers)


def test_a_prompt_is_bound_by_its_operations(plan: Plan, machine: Ceilings) -> None:
    ttft = found(Limits(plan, machine, is_kept=True), LOAD)["ttft_ms"]
    parameters = sum(
        row.parameters for row in plan.budget.weights if row.kind in ("attention", "mlp")
    )
    spec = plan.spec
    pairs = PROMPT * (PROMPT + 1) / 2
    attention = 4 * spec.num_heads * spec.head_dim * spec.num_layers * pairs
    seconds = 2 * parameters * PROMPT / 100e9 + attention / 50e9
    assert ttft.ceiling == pytest.approx(1e3 * seconds)


def test_throughput_is_bound_by_prompts_one_by_one_and_steps_of_all(
    plan: Plan, machine: Ceilings
) -> None:
    limits = Limits(plan, machine, is_kept=True)
    four = found(limits, replace(LOAD, concurrency=4))
    seconds = (four["ttft_ms"].ceiling + (OUTPUT - 1) * four["itl_ms"].ceiling / 4) / 1e3
    assert four["output_tokens_per_s"].ceiling == pytest.approx(OUTPUT / seconds)
    assert four["output_tokens_per_s"].share == pytest.approx(386 * seconds / OUTPUT)
    one = found(limits, LOAD)
    assert four["output_tokens_per_s"].ceiling > one["output_tokens_per_s"].ceiling
    assert four["itl_ms"].ceiling > one["itl_ms"].ceiling
    assert four["ttft_ms"].ceiling == one["ttft_ms"].ceiling


def test_no_more_sequences_share_a_step_than_there_are(plan: Plan, machine: Ceilings) -> None:
    limits = Limits(plan, machine, is_kept=True)
    many = replace(LOAD, concurrency=1000, requests=3000)
    full = replace(LOAD, concurrency=plan.engine.max_num_seqs, requests=3000)
    assert found(limits, many)["itl_ms"].ceiling == found(limits, full)["itl_ms"].ceiling
    few = replace(LOAD, concurrency=1000, requests=6)  # two in each of three rounds
    two = replace(LOAD, concurrency=2)
    assert found(limits, few)["itl_ms"].ceiling == found(limits, two)["itl_ms"].ceiling


def test_rates_that_say_nothing_of_the_model_give_no_bounds(plan: Plan, machine: Ceilings) -> None:
    limits = Limits(plan, replace(machine, schemes={}), is_kept=True)
    assert limits.of(LOAD, PROMPT, OUTPUT) == []


def test_kept_ceilings_are_used_as_they_are(plan: Plan, machine: Ceilings) -> None:
    from lmrun import _engine

    here = this_machine().identity
    build = build_name(_engine.build_info())
    save_ceilings(env.home(), replace(machine, machine=here, engine_build=build))
    limits = limits_of(plan)
    assert limits.again() is limits
    assert limits.rates.source == KEPT
    assert limits.rates.read_bytes_per_s == machine.read_bytes_per_s


def test_two_quick_looks_give_the_better_of_each_figure(
    plan: Plan, machine: Ceilings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another run on the machine slowed in one look, the other may have seen."""
    looks = iter(
        [
            replace(machine, read_bytes_per_s=9e9, flops_per_s=1e9),
            replace(machine, read_bytes_per_s=2e9, flops_per_s=5e9),
        ]
    )
    monkeypatch.setattr(bounds, "load_ceilings", lambda *_: None)
    monkeypatch.setattr(ceilings, "measure", lambda *_: next(looks))
    limits = limits_of(plan).again()
    assert (limits.rates.read_bytes_per_s, limits.rates.flops_per_s) == (9e9, 5e9)
    assert limits.rates.source == HERE
