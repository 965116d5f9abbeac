"""The ceilings of this machine, measured briefly."""

from pathlib import Path

import pytest

from lmrun import _engine
from lmrun.bench.ceilings import SCHEMES, Effort, cache_bytes, measure, prefill_rows
from lmrun.bench.probe import measure_overheads
from lmrun.engine.observing import build_name
from lmrun.plan.machine import this_machine


def test_every_ceiling_is_measured_and_in_order() -> None:
    machine, said = this_machine().identity, []
    found = measure(machine, said.append, 9e-5, Effort(1, 0.01, 2, caches=1))
    assert said == ["round 1 of 1"]
    assert found.machine == machine
    assert found.engine_build == build_name(_engine.build_info())
    assert found.isa == _engine.supported_isas()[0]
    assert found.threads == _engine.available_cpus()
    assert set(found.schemes) == set(SCHEMES)
    assert set(found.attention_bytes_per_s) == {"4", "8", "16", "32"}
    assert found.prefill_rows == prefill_rows()
    for rates in found.schemes.values():
        assert rates.decode_bytes_per_s > 0
        assert rates.cached_decode_bytes_per_s > 0
        assert rates.prefill_flops_per_s > 0
    assert found.serving_token_s == 9e-5
    assert found.read_bytes_per_s > 1e8
    assert found.flops_per_s > 1e8
    assert found.attention_flops_per_s > 0


def test_a_process_of_the_engine_takes_some_megabytes_and_a_step_some_microseconds() -> None:
    found = measure_overheads(threads=1, requests=2)
    assert 10 << 20 < found.process_bytes < 100 << 20
    assert 0 <= found.step_s < 0.1
    assert 0 <= found.layer_s < 0.1


def test_the_last_level_cache_is_the_largest_that_the_system_tells(tmp_path: Path) -> None:
    assert cache_bytes(tmp_path) == 0
    for index, size in enumerate(("32K", "1024K", "32M", "odd")):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        (folder / "size").write_text(f"{size}\n")
    assert cache_bytes(tmp_path) == 32 << 20


def test_a_case_that_is_not_legal_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"^format=u2: expected u4, u8, i8, F16, BF16 or F32\.$"):
        _engine.measure_gemm(
            isa="auto",
            format="u2",
            threads=1,
            rows=1,
            n=16,
            k=32,
            group_size=32,
            bytes=1,
            seconds=0.001,
        )
