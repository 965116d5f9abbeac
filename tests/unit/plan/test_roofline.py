"""Estimates of speed: each is the sum or the longer of sums that it shows."""

import json
from dataclasses import replace
from typing import Any

import pytest

from lmrun.artifacts.measurements import (
    Ceilings,
    Observation,
    Rate,
    SchemeRates,
    observation_key,
    record_observation,
    save_ceilings,
)
from lmrun.plan.plan import Plan
from lmrun.plan.speed import SpeedEstimate, Speeds
from lmrun.plan.text import plan_text

Bench = Any  # the fixture's class lives in conftest.py
MODEL = ("model.path=builtin:random-llama-1b", "quant=rtn", "kv.bits=4")
U4 = 207_618_048 + 761_266_176
"""Parameters of the linears of the model."""
HEAD = 32000 * 2048
LAYERS = 22


def ceilings(bench: Bench, **changes: Any) -> Ceilings:
    rates = SchemeRates(
        decode_bytes_per_s=30e9, cached_decode_bytes_per_s=45e9, prefill_flops_per_s=200e9
    )
    fields: dict[str, Any] = {
        "machine": bench.machine.identity,
        "engine_build": "x",
        "isa": "avx512",
        "threads": 2,
        "read_bytes_per_s": 40e9,
        "flops_per_s": 400e9,
        "cache_bytes": 32 << 20,
        "schemes": {"u4": rates, "F16": replace(rates, decode_bytes_per_s=50e9)},
        "prefill_rows": 256,
        "attention_bytes_per_s": {"4": 4e9, "8": 8e9, "16": 16e9, "32": 20e9},
        "attention_flops_per_s": 100e9,
        "step_overhead_s": 5e-6,
        "serving_token_s": 0.0,
        "layer_overhead_s": 4e-6,
        "process_bytes": 30 << 20,
        "measured_at": "2026-01-01T00:00:00+00:00",
    }
    return Ceilings(**{**fields, **changes})


def measured(bench: Bench, *overrides: str, **changes: Any) -> Plan:
    save_ceilings(bench.store.home, ceilings(bench, **changes))
    plan: Plan = bench.plan(*MODEL, *overrides)
    return plan


def estimate(plan: Plan, phase: str, num_seqs: int, context: int) -> SpeedEstimate:
    return next(
        one
        for one in plan.speeds.estimates
        if (one.phase, one.num_seqs, one.context_length) == (phase, num_seqs, context)
    )


def test_a_machine_that_was_not_measured_gets_no_invented_figure(bench: Bench) -> None:
    speeds = bench.plan(*MODEL).speeds
    assert (speeds.source, speeds.estimates) == ("not measured: lmrun doctor --measure", ())
    plan = measured(bench, "backend.isa=generic")
    assert plan.speeds.source == "measured with isa avx512, not with generic"


def test_what_was_not_measured_is_not_estimated(bench: Bench) -> None:
    assert measured(bench, "parallel.tp=2").speeds == Speeds(
        "not estimated: this machine runs nothing like it yet", ()
    )
    assert measured(bench, "quant=none").speeds.source == "not measured for weights BF16"


def test_decode_reads_the_weights_and_the_cache_once_a_token(bench: Bench) -> None:
    plan = measured(bench)
    weights = U4 * 4.1875 / 8 / 30e9 + HEAD * 2 / 50e9 + LAYERS * 4e-6 + 5e-6
    at_start = estimate(plan, "decode", 1, 0)
    assert at_start.seconds == pytest.approx(weights)
    assert at_start.tokens_per_s == pytest.approx(1 / weights)
    kv = 2047 * plan.budget.kv_bytes_per_token / 4e9
    assert estimate(plan, "decode", 1, 2047).seconds == pytest.approx(weights + kv)


def test_many_sequences_are_bound_by_arithmetic(bench: Bench) -> None:
    many = estimate(measured(bench), "decode", 32, 0)
    computing = 2 * 32 * (U4 + HEAD) / 200e9 + LAYERS * 4e-6 + 5e-6
    assert many.seconds == pytest.approx(computing)
    assert many.tokens_per_s == pytest.approx(32 / computing)


def test_prefill_counts_linears_and_pairs_of_tokens(bench: Bench) -> None:
    plan = measured(bench)
    linears = 2 * U4 * 2048 / 200e9
    attention = 4 * 2048 * LAYERS * (2048 * 2049 / 2) / 100e9
    steps = 2048 // 256
    overhead = steps * (LAYERS * 4e-6 + 5e-6)
    assert estimate(plan, "prefill", 1, 2048).seconds == pytest.approx(
        linears + attention + overhead
    )


def test_a_model_that_stays_in_the_cache_is_read_from_there(bench: Bench) -> None:
    plan = measured(bench, cache_bytes=2**30)
    step = U4 * 4.1875 / 8 / 45e9 + HEAD * 2 / 45e9 + LAYERS * 4e-6 + 5e-6
    assert estimate(plan, "decode", 1, 0).seconds == pytest.approx(step)


def test_fewer_threads_are_slower_in_proportion(bench: Bench) -> None:
    one = estimate(measured(bench, "backend.threads=1"), "decode", 1, 0)
    assert one.seconds == pytest.approx(
        2 * (U4 * 4.1875 / 8 / 30e9 + HEAD * 2 / 50e9) + LAYERS * 4e-6 + 5e-6
    )


def test_the_process_is_as_large_as_it_was_measured(bench: Bench) -> None:
    budget = measured(bench).budget
    assert (budget.process_bytes, budget.process_source) == (30 << 20, "measured")


def test_another_machines_ceilings_are_not_used(bench: Bench) -> None:
    other = replace(bench.machine, cores=4).identity
    assert measured(bench, machine=other).speeds.estimates == ()


def test_a_described_device_overlaps_reading_and_computing(bench: Bench) -> None:
    plan = bench.plan("model.path=builtin:random-llama-1b", "quant=none", "device=rtx4090")
    linears, peak = U4, 165.2e12
    decode = estimate(plan, "decode", 1, 0)
    assert decode.rule == "max"
    assert decode.seconds == pytest.approx((linears + HEAD) * 2 / 1008e9)
    prefill = estimate(plan, "prefill", 1, 2048)
    pairs = 4 * 2048 * LAYERS * (2048 * 2049 / 2)
    assert prefill.seconds == pytest.approx((2 * linears * 2048 + pairs) / peak)


def test_an_engine_on_all_cores_waits_for_the_server(bench: Bench) -> None:
    plan = measured(bench, serving_token_s=8e-5)
    alone = measured(bench, "backend.threads=1", serving_token_s=8e-5)
    for num_seqs in (1, 32):
        terms = {term.what: term for term in estimate(plan, "decode", num_seqs, 0).terms}
        assert terms["serving"].seconds == pytest.approx(num_seqs * 8e-5)
        others = {term.what for term in estimate(alone, "decode", num_seqs, 0).terms}
        assert others == set(terms) - {"serving"}
    assert "        80 us  serving: 1 x 80 us\n" in plan_text(plan)


def test_a_rank_reads_its_share(bench: Bench) -> None:
    shape = ("model.path=builtin:random-llama-1b", "quant=none", "device=a6000_x2")
    one, two = bench.plan(*shape), bench.plan(*shape, "parallel.tp=2")
    whole, half = (estimate(plan, "decode", 1, 0).tokens_per_s for plan in (one, two))
    assert half == pytest.approx(2 * whole, rel=1e-3)
    assert "communication between ranks is not counted" in plan_text(two)


def test_integer_units_are_used_for_8_bit_weights_and_activations(bench: Bench) -> None:
    shape = ("model.path=builtin:random-llama-1b", "device=h200")
    slow = estimate(bench.plan(*shape, "quant=w8a16"), "prefill", 1, 2048)
    fast = estimate(bench.plan(*shape, "quant=w8a8"), "prefill", 1, 2048)
    rates = [{t.rate for t in one.terms if t.unit == "FLOP"} for one in (slow, fast)]
    assert rates == [{989.5e12}, {1979e12, 989.5e12}]


def test_the_text_shows_each_estimate_as_a_sum(bench: Bench) -> None:
    text = plan_text(measured(bench, "backend.max_num_seqs=1"))
    assert (
        """\
speed     at best (measured here 2026-01-01T00:00:00+00:00, 2 threads)
  decode, 1 sequence at context 0: 51 tokens/s = 1 / 19.6 ms
      16.9 ms  weights u4 g128: 507 MB / 30 GB/s
      2.62 ms  weights F16: 131 MB / 50 GB/s
        88 us  layers: 22 x 4 us
         5 us  steps: 1 x 5 us
"""
        in text
    )
    text = plan_text(
        bench.plan("model.path=builtin:random-llama-1b", "quant=none", "device=rtx4090")
    )
    assert (
        """\
  decode, 1 sequence at context 0: 487 tokens/s = 1 / 2.05 ms, the longer of
      2.05 ms  reading weights BF16: 2.07 GB / 1.01 TB/s
      12.5 us  computing weights BF16: 2.07 GFLOP / 165 TFLOP/s
  decode, 1 sequence at context 2047: 477 tokens/s = 1 / 2.1 ms, the longer of
       2.1 ms  reading
                2.05 ms weights BF16: 2.07 GB / 1.01 TB/s
                45.7 us KV: 46.1 MB / 1.01 TB/s
"""
        in text
    )


def test_an_estimate_stands_beside_what_a_run_showed(bench: Bench) -> None:
    plan = measured(bench)
    assert plan.observed is None
    budget = plan.budget
    seen = Observation(
        key=observation_key(bench.store.home, vars(plan.engine), bench.machine.identity),
        engine_build="x",
        weights_resident_bytes=budget.weights_bytes,
        kv_resident_bytes=12 << 20,
        touched_blocks=30,
        peak_used_blocks=30,
        peak_rss_bytes=budget.fixed_bytes + (10 << 20),
        decode=Rate(tokens_per_s=50.0, steps=99, mean_context=100.0, mean_seqs=1.0),
        decode_all=Rate(tokens_per_s=80.0, steps=99, mean_context=100.0, mean_seqs=4.0),
        prefill=None,
        seconds_to_ready=1.0,
        recorded_at="2026-01-02T00:00:00+00:00",
    )
    record_observation(bench.store.home, seen)
    found = bench.plan(*MODEL).observed
    assert found is not None
    again = bench.plan(*MODEL)
    assert Plan.from_json(json.loads(json.dumps(again.to_json()))) == again
    rows = {row.what: row for row in found.rows}
    assert list(rows) == [
        "weights",
        "KV cache, 30 blocks used",
        "peak RSS, 30 blocks used",
        "decode, 1 sequence at context 100",
        "decode, 4.0 sequences at context 100",
    ]
    assert rows["weights"].error == 0
    assert rows["KV cache, 30 blocks used"].estimated == 12 << 20  # 11.6 MiB in pages of 2
    assert rows["peak RSS, 30 blocks used"].estimated == budget.fixed_bytes + (12 << 20)
    decode = estimate(plan, "decode", 1, 0).seconds + 100 * budget.kv_bytes_per_token / 4e9
    assert rows["decode, 1 sequence at context 100"].estimated == pytest.approx(1 / decode)
    text = plan_text(bench.plan(*MODEL))
    assert (
        """
observed  2026-01-02T00:00:00+00:00           observed       estimated
  weights                                      736 MiB         736 MiB  +0.0%
  KV cache, 30 blocks used                      12 MiB          12 MiB  +0.0%
"""
        in text
    )
    assert bench.plan(*MODEL, "backend.max_num_seqs=2").observed is None
