"""Any schedule gives each request the tokens of a run alone, on every ISA, and leaks nothing."""

import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmrun._engine import Engine, supported_isas
from lmrun.engine.process import rss
from unit.engine import code_workspace, test_formats
from unit.engine.schedules import MOST_TOKENS, NUM_REQUESTS, Running, tokens_alone

ACTIVATION_BITS = (32, 16, 8)
KV_BITS = (4, 16)
NOISE_BYTES = 12 << 20
"""What the allocator may hold more of, whatever the time."""

ACTIONS = st.one_of(
    st.tuples(st.just("submit"), st.integers(0, NUM_REQUESTS - 1), st.integers(1, MOST_TOKENS)),
    st.tuples(st.just("abort"), st.integers(0, 7), st.just(0)),
    st.tuples(st.just("step"), st.integers(1, 6), st.just(0)),
)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Codes of 4 bits in groups of 8."""
    folder = tmp_path_factory.mktemp("workspace")
    case = test_formats.CASES[0]
    code_workspace.write(test_formats.model_of(case), case.quant, folder)
    return folder


def _engine(workspace: Path, **changes: Any) -> Engine:
    return test_formats.engine_of(workspace, **({"prefix_caching": True} | changes))


Make = Callable[..., Engine]


@pytest.fixture(scope="module")
def alone(workspace: Path) -> Callable[[str, int, int], tuple[Make, list[list[int]]]]:
    """Engines of an ISA, bits of activations and of the cache, and what each request gets alone."""
    known: dict[tuple[str, int, int], tuple[Make, list[list[int]]]] = {}

    def of(isa: str, activation_bits: int, kv_bits: int) -> tuple[Make, list[list[int]]]:
        key = (isa, activation_bits, kv_bits)
        if key not in known:
            make = partial(
                _engine, workspace, isa=isa, activation_bits=activation_bits, kv_bits=kv_bits
            )
            known[key] = make, tokens_alone(make)
        return known[key]

    return of


@pytest.mark.parametrize("isa", supported_isas())
@settings(
    max_examples=12, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(
    actions=st.lists(ACTIONS, min_size=5, max_size=60),
    activation_bits=st.sampled_from(ACTIVATION_BITS),
    kv_bits=st.sampled_from(KV_BITS),
    threads=st.integers(1, 2),
    num_blocks=st.integers(7, 40),
    max_num_seqs=st.integers(1, 6),
    max_batch_tokens=st.integers(6, 64),
    prefix_caching=st.booleans(),
)
def test_any_schedule_gives_each_request_the_tokens_of_a_run_alone(
    alone: Callable[[str, int, int], tuple[Make, list[list[int]]]],
    isa: str,
    actions: list[tuple[str, int, int]],
    activation_bits: int,
    kv_bits: int,
    **limits: Any,
) -> None:
    make, expected = alone(isa, activation_bits, kv_bits)
    running = Running(make(**limits), expected)
    for action, number, max_tokens in actions:
        if action == "submit":
            running.submit(number, max_tokens)
        elif action == "abort":
            running.abort(number)
        else:
            for _ in range(number):
                running.step()
    running.drain()


def _soak(make: Make, expected: list[list[int]], seconds: float) -> tuple[int, list[int]]:
    """Random submits and aborts for a time; requests that ended, and resident memory each time
    that the engine had drained."""
    dice = random.Random(5)
    running = Running(make(threads=2, num_blocks=24, max_num_seqs=6), expected)
    memory = []
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(memory) < 4:
        for _ in range(200):
            while len(running.open) < 12 and dice.random() < 0.6:
                running.submit(dice.randrange(NUM_REQUESTS), dice.randint(1, MOST_TOKENS))
            if dice.random() < 0.2:
                running.abort(dice.randrange(12))
            running.step()
        running.drain()
        memory.append(rss().now)
    assert running.engine.stats()["preemptions"]
    return running.num_ended, memory


def _assert_no_growth(memory: list[int]) -> None:
    # the first rounds meet every buffer for the first time
    settled = len(memory) // 4
    assert max(memory[settled:]) - memory[settled] < NOISE_BYTES, memory


def test_adds_and_aborts_leak_no_block_and_no_memory(
    alone: Callable[[str, int, int], tuple[Make, list[list[int]]]],
) -> None:
    num_ended, memory = _soak(*alone("auto", 16, 4), seconds=2)
    assert num_ended > 40
    _assert_no_growth(memory)


@pytest.mark.slow
@pytest.mark.timeout(40 * 60)
def test_half_an_hour_of_adds_and_aborts_leaks_no_block_and_no_memory(
    alone: Callable[[str, int, int], tuple[Make, list[list[int]]]],
) -> None:
    num_ended, memory = _soak(*alone("auto", 16, 4), seconds=30 * 60)
    assert num_ended > 1000
    _assert_no_growth(memory)
