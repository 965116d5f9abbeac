"""Where the stages compute, and what that means for plans. No GPU is needed."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lmrun.errors import PlanError
from lmrun.plan import compute_device
from lmrun.plan.compute_device import Gpu
from lmrun.plan.text import plan_text

Bench = Any  # the fixture's class lives in conftest.py
H200 = Gpu("NVIDIA H200", "9.0", 139 * 2**30)


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute_device, "torch_cuda", lambda: "12.8")
    monkeypatch.setattr(compute_device, "gpu", lambda: H200)


@pytest.fixture
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute_device, "torch_cuda", lambda: "12.8")
    monkeypatch.setattr(compute_device, "gpu", lambda: None)


def _classes(plan: Any) -> dict[str, str]:
    return {
        stage.name: stage.numeric_class["device"] for stage in plan.stages if stage.numeric_class
    }


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("cuda: Optional[str] = '12.8'\n", "12.8"),
        ("debug = False\ncuda = '11.8'\nhip = None\n", "11.8"),
        ("cuda: Optional[str] = None\nhip = '6.0'\n", None),
        ("__version__ = '2.9.0'\n", None),
    ],
)
def test_the_cuda_of_torch_is_read_without_torch(
    text: str, version: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "version.py").write_text(text)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "nothing"), str(tmp_path)])
    compute_device.torch_cuda.cache_clear()
    try:
        assert compute_device.torch_cuda() == version
    finally:
        compute_device.torch_cuda.cache_clear()


def test_there_is_no_gpu_without_a_driver() -> None:
    assert compute_device.gpu("libno-such-driver.so.1") is None


def test_auto_is_the_gpu_where_there_is_one(bench: Bench, with_gpu: None) -> None:
    plan = bench.plan("prune=magnitude")
    assert _classes(plan) == {"prune": "cuda", "calibrate": "cuda", "quantize": "cuda"}
    assert plan.stage("quantize").numeric_class == {
        "device": "cuda",
        "gpu": "NVIDIA H200",
        "capability": "9.0",
        "vendor": "AuthenticAMD",
        "isa": "avx512",
        "torch": "2.9.0",
    }
    cpu = bench.plan("prune=magnitude", "quant.device=cpu")
    assert set(_classes(cpu).values()) == {"cpu"}
    assert cpu.stage("quantize").fingerprint != plan.stage("quantize").fingerprint


def test_auto_is_the_cpu_where_there_is_no_gpu(bench: Bench, without_gpu: None) -> None:
    plan = bench.plan()
    assert set(_classes(plan).values()) == {"cpu"}
    same = bench.plan("quant.device=cpu")
    assert [stage.fingerprint for stage in same.stages] == [
        stage.fingerprint for stage in plan.stages
    ]


def test_cuda_that_cannot_be_had_is_refused(
    bench: Bench, without_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PlanError) as caught:
        bench.plan("quant.device=cuda")
    assert str(caught.value) == (
        "quant.device=cuda (command line): no CUDA device is visible here. Use quant.device=cpu."
    )
    monkeypatch.setattr(compute_device, "torch_cuda", lambda: None)
    with pytest.raises(PlanError) as caught:
        bench.plan("quant.device=cuda")
    assert str(caught.value) == (
        "quant.device=cuda (command line): this torch is built without CUDA. Use quant.device=cpu."
    )


def test_nothing_is_looked_for_where_nothing_computes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never() -> None:
        raise AssertionError("the driver was asked")

    monkeypatch.setattr(compute_device, "torch_cuda", never)
    assert bench.plan("quant=none").stages
    assert bench.plan("quant=none", "quant.device=cuda").notes == (
        "quant.device: not used, nothing is pruned, calibrated or quantized",
        "calibration.data: not used, quant.method=none needs no calibration",
    )


def test_memory_of_the_stages_is_that_of_the_gpu(
    bench: Bench, with_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "quantize needs about 2.5" in plan_text(bench.plan())  # torch with a CUDA context
    small = replace(H200, memory_bytes=2**20)
    monkeypatch.setattr(compute_device, "gpu", lambda: small)
    with pytest.raises(PlanError) as caught:
        bench.plan("quant.activation_memory=1MiB")
    assert str(caught.value) == (
        "plan: calibrate needs about 3.25 MiB of GPU memory, NVIDIA H200 has 1 MiB. Lower"
        " quant.activation_memory, or use quant.device=cpu."
    )
