"""From counters to rates: the best stretch of a run, with what lies between the steps."""

import os
from pathlib import Path

import pytest

from lmrun.artifacts.measurements import MachineIdentity, Rate, observation_key
from lmrun.engine.messages import Memory, Stats, StepCounts
from lmrun.engine.observing import BestRates, build_name, observation
from lmrun.engine.process import rss

NONE = StepCounts()


def counts(steps: int, seconds: float, context: int = 0, seqs: int = 1) -> StepCounts:
    return StepCounts(
        steps=steps,
        seqs=steps * seqs,
        tokens=steps * seqs,
        context=context * steps * seqs,
        seconds=seconds,
    )


def stats(
    decode: StepCounts = NONE,
    prefill: StepCounts = NONE,
    between: float = 0.0,
    one: StepCounts | None = None,
) -> Stats:
    steps = decode.steps + prefill.steps
    seconds = decode.seconds + prefill.seconds
    return Stats(
        num_blocks=8,
        used_blocks=0,
        running=0,
        waiting=0,
        num_steps=steps,
        prompt_tokens=0,
        completion_tokens=0,
        cached_tokens=0,
        preemptions=0,
        last_step_seqs=1,
        seqs_per_step=(steps,),
        touched_blocks=5,
        peak_used_blocks=4,
        step_seconds=seconds,
        decode_one=decode if one is None else one,
        decode=decode,
        prefill=prefill,
        busy_seconds=seconds + between,
        rss_bytes=1000,
    )


def test_a_rate_is_tokens_over_the_time_of_their_steps() -> None:
    rates = BestRates()
    rates.add(stats(counts(100, 2.0, context=30, seqs=4), one=NONE))
    assert rates.of("decode") == Rate(
        tokens_per_s=pytest.approx(200.0), steps=100, mean_context=30.0, mean_seqs=4.0
    )
    assert rates.of("decode_one") is None
    assert rates.of("prefill") is None


def test_what_the_step_loop_spends_between_steps_counts() -> None:
    rates = BestRates()
    rates.add(stats(counts(100, 0.5), between=0.5))
    rate = rates.of("decode")
    assert rate is not None
    assert rate.tokens_per_s == pytest.approx(100.0)


def test_the_best_stretch_between_two_looks_counts() -> None:
    rates = BestRates()
    rates.add(stats(counts(50, 5.0)))  # 10 a second
    rates.add(stats(counts(150, 7.0)))  # then 50 a second
    rates.add(stats(counts(170, 12.0)))  # then 4 a second
    rate = rates.of("decode_one")
    assert rate is not None
    assert rate.tokens_per_s == pytest.approx(50.0)
    assert rate.steps == 100


def test_a_stretch_goes_on_until_it_holds_enough_steps() -> None:
    rates = BestRates()
    rates.add(stats(counts(100, 10.0)))
    rates.add(stats(counts(104, 10.01)))  # 4 steps at 400 a second are no stretch
    rates.add(stats(counts(120, 11.0)))
    rate = rates.of("decode")
    assert rate is not None
    assert rate.tokens_per_s == pytest.approx(20.0)
    assert rate.steps == 20


def test_long_steps_make_a_stretch_though_they_are_few() -> None:
    rates = BestRates()
    rates.add(stats(prefill=counts(2, 4.0)))
    rates.add(stats(prefill=counts(4, 5.0)))
    rate = rates.of("prefill")
    assert rate is not None
    assert rate.tokens_per_s == pytest.approx(2.0)


def test_a_run_of_few_steps_still_shows_them() -> None:
    rates = BestRates()
    rates.add(stats(counts(3, 0.3)))
    rate = rates.of("decode")
    assert rate is not None
    assert rate.steps == 3
    assert rate.tokens_per_s == pytest.approx(10.0)


def test_a_new_engine_process_begins_afresh() -> None:
    rates = BestRates()
    rates.add(stats(counts(100, 10.0)))
    rates.add(stats(counts(40, 2.0)))
    rate = rates.of("decode")
    assert rate is not None
    assert rate.tokens_per_s == pytest.approx(20.0)


def test_an_observation_holds_peaks_and_rates(tmp_path: Path) -> None:
    machine = MachineIdentity(cpu="c", vendor="v", isa="generic", cores=1, memory_bytes=1)
    key = observation_key(tmp_path, {"workspace": "/w"}, machine)
    memory = Memory(
        rss_bytes=1, peak_rss_bytes=90, weights_bytes=50, kv_bytes=None, seconds_to_ready=0.25
    )
    rates = BestRates()
    found = stats(counts(20, 1.0))
    rates.add(found)
    seen = observation(key, "build", found, memory, rates)
    assert seen.key == key
    assert seen.engine_build == "build"
    assert seen.peak_rss_bytes == 90
    assert seen.weights_resident_bytes == 50
    assert seen.kv_resident_bytes == 0  # the system did not say
    assert seen.touched_blocks == 5
    assert seen.peak_used_blocks == 4
    assert seen.seconds_to_ready == 0.25
    assert seen.decode == rates.of("decode_one")
    assert seen.prefill is None


def test_a_build_is_one_line() -> None:
    assert build_name({"version": "1", "isas": "avx512, generic"}) == (
        "version 1; isas avx512, generic"
    )


def test_resident_memory_grows_with_what_is_touched() -> None:
    before = rss()
    block = bytearray(os.urandom(1)) * (64 << 20)
    after = rss()
    assert after.now - before.now > 60 << 20
    del block
    assert rss().peak > after.now - (1 << 20)  # the kernel counts each core's share lazily


def test_a_system_without_proc_says_zero(tmp_path: Path) -> None:
    assert rss(tmp_path / "status").peak == 0
