"""Machines that one is not on."""

from typing import Any

import pytest

from lmrun.config import compose, paths
from lmrun.config.schema import DeviceConfig
from lmrun.errors import PlanError
from lmrun.plan.described import planned_machine
from lmrun.plan.plan import check_runnable
from lmrun.plan.text import plan_text

Bench = Any  # the fixture's class lives in conftest.py
NAMES = [name for name in paths.options("device") if name != "auto"]
MODEL = ("model.path=builtin:random-llama-1b", "quant=none")


@pytest.mark.parametrize("name", NAMES)
def test_each_described_device_gives_every_number_and_its_source(name: str) -> None:
    device = compose([f"device={name}"]).run.device
    assert device.name == name
    assert None not in (device.memory_gib, device.bandwidth_gb_s, device.peak_gflop_s)
    assert device.source and len(device.source) > 20
    assert (device.cores is not None) == (device.kind == "cpu")
    text = (paths.shipped("configs") / "device" / f"{name}.yaml").read_text()
    assert text.count("\n# ") >= 1


@pytest.mark.parametrize("name", NAMES)
def test_a_plan_can_be_made_for_each_and_nothing_run(bench: Bench, name: str) -> None:
    plan = bench.plan(*MODEL, f"device={name}")
    assert plan.device.name == name
    assert plan.speeds.source == plan.device.source
    assert plan.speeds.estimates
    assert plan.refusals == (
        f"device={name}: is described, not this machine: plans can be made for it here, and"
        " nothing is run. Use device=auto, or run lmrun there.",
    )
    with pytest.raises(PlanError, match="is described, not this machine"):
        check_runnable(plan)


def test_what_this_machine_cannot_know_is_unknown(bench: Bench) -> None:
    plan = bench.plan("device=rtx4090")
    assert [(stage.name, stage.action.value) for stage in plan.stages] == [
        ("resolve", "cached"),
        ("calibrate", "unknown"),
        ("quantize", "unknown"),
        ("convert", "unknown"),
    ]
    assert plan.stages[1].why == "the numeric class of rtx4090 is not known here"
    assert plan.stages[3].why == "the workspace of rtx4090 is not built yet"
    assert plan.workspace is None
    assert bench.plan("device=epyc_9354", "quant=none").stages[1].fingerprint is not None


def test_a_gpu_takes_its_share_of_memory_whatever_is_needed(bench: Bench) -> None:
    budget = bench.plan(*MODEL, "device=t4", "kv.memory_ratio=0.5").budget
    assert budget.limited_by == "memory_ratio"
    assert budget.num_blocks == int(0.5 * budget.left_bytes) // budget.block_bytes
    assert budget.num_blocks > budget.needed_blocks


def test_a_workspace_stands_for_process_and_activations_on_this_machine_too(bench: Bench) -> None:
    plan = bench.plan("device.workspace=1GiB")
    assert (plan.budget.process_bytes, plan.budget.activation_bytes) == (2**30, 0)
    assert plan.refusals == ()
    assert plan.device.is_this_machine


def test_numbers_may_be_given_one_by_one(bench: Bench) -> None:
    plan = bench.plan(
        *MODEL, "device.memory_gib=4", "device.bandwidth_gb_s=100", "device.peak_gflop_s=1000"
    )
    assert plan.device.name == "a described cpu device"
    assert plan.budget.total_bytes == 4 * 2**30
    assert plan.budget.device == "a described cpu device: cpu, as described"
    decode = plan.speeds.estimates[0]
    weights = sum(
        row.num_bytes for row in plan.budget.weights if row.kind in ("attention", "mlp", "head")
    )
    assert decode.tokens_per_s == pytest.approx(100e9 / weights)


def test_a_description_without_its_memory_is_refused() -> None:
    with pytest.raises(PlanError) as caught:
        planned_machine(DeviceConfig(name="h100"))
    assert str(caught.value) == (
        "device.memory_gib: expected the memory of h100, got null."
        " Use device=h100, an option with its numbers, or give them."
    )
    with pytest.raises(PlanError, match="Use device=NAME"):
        planned_machine(DeviceConfig(kind="cuda"))


def test_a_device_without_rates_has_no_estimate(bench: Bench) -> None:
    speeds = bench.plan("device.memory_gib=4").speeds
    assert speeds.estimates == ()
    assert speeds.source == "device.bandwidth_gb_s and device.peak_gflop_s are not given"


def test_more_ranks_than_devices_are_refused(bench: Bench) -> None:
    with pytest.raises(PlanError) as caught:
        bench.plan(*MODEL, "device=a6000_x2", "parallel.tp=4")
    assert str(caught.value) == (
        "parallel.tp=4 (command line): needs 4 devices with parallel.replicas=1, a6000_x2 has 2."
        " Use device.count=4, an option with as many devices, or fewer ranks."
    )


def test_ranks_on_cpus_share_the_memory_of_the_machine(bench: Bench) -> None:
    one, two = bench.plan(*MODEL), bench.plan(*MODEL, "parallel.tp=2")
    assert two.budget.total_bytes * 2 == one.budget.total_bytes
    assert two.budget.kv_bytes_per_token * 2 == one.budget.kv_bytes_per_token
    assert "        4 GiB  cpu, installed memory: 8 GiB shared by 2 ranks\n" in plan_text(two)


def test_a_degree_that_divides_nothing_is_refused(bench: Bench) -> None:
    with pytest.raises(PlanError) as caught:
        bench.plan("parallel.tp=3", "quant=none")
    assert str(caught.value) == (
        "parallel.tp=3 (command line): must divide 4 (query heads). Use 1, 2, 4."
    )
    with pytest.raises(PlanError, match="groups of 128 must divide the 64 input features"):
        bench.plan("parallel.tp=2")


@pytest.mark.parametrize(
    ("name", "gigahertz", "channels", "multiply_adds", "cycles"),
    [
        ("xeon_8480", 2.0, 8, 16 * 16 * 32, 16),  # one TDPBF16PS of full tiles
        ("epyc_9354", 3.25, 12, 512 // 32 * 2, 1),  # one VDPBF16PS of 512 bits
    ],
)
def test_the_peaks_of_a_cpu_are_what_its_cores_do_in_a_cycle(
    name: str, gigahertz: float, channels: int, multiply_adds: int, cycles: int
) -> None:
    device = compose([f"device={name}"]).run.device
    assert device.cores is not None
    peak = device.cores * gigahertz * 2 * multiply_adds / cycles
    assert device.peak_gflop_s == peak
    assert device.peak_int8_gop_s == 2 * peak
    assert device.bandwidth_gb_s == pytest.approx(channels * 4800e6 * 8 / 1e9)
