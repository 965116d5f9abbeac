from typing import Any

import pytest

Bench = Any  # the fixture's class lives in conftest.py

UNUSED = {
    ("quant=none", "quant.group_size=32"): (
        "quant.group_size: not used, the weights are not quantized (quant.method=none)",
        "calibration.data: not used, quant.method=none needs no calibration",
    ),
    ("quant=none", "quant.symmetric=true", "quant.activation_bits=8"): (
        "quant.symmetric: not used, the weights are not quantized (quant.method=none)",
        "quant.activation_bits: not used, the weights are not quantized (quant.method=none)",
        "calibration.data: not used, quant.method=none needs no calibration",
    ),
    ("quant=none", "quant.device=cpu", "quant.activation_memory=1GiB"): (
        "quant.device: not used, nothing is pruned, calibrated or quantized",
        "quant.activation_memory: not used, nothing is pruned, calibrated or quantized",
        "calibration.data: not used, quant.method=none needs no calibration",
    ),
    ("quant=none", "prune=wanda", "quant.device=cpu", "calibration.statistics_samples=3"): (
        "calibration.statistics_samples: not used, pruning alone looks at the text",
    ),
    ("quant=none", "backend.activation_bits=8"): (
        "calibration.data: not used, quant.method=none needs no calibration",
        "backend.activation_bits: not used, neither weights nor K and V are codes, whose inputs it"
        " rounds",
    ),
    ("quant=none", "backend.activation_bits=8", "kv.bits=4"): (
        "calibration.data: not used, quant.method=none needs no calibration",
    ),
    ("quant=none", "prune=magnitude"): (
        "calibration.data: not used, quant.method=none needs no calibration",
    ),
    ("quant=rtn",): ("calibration.data: not used, quant.method=rtn needs no calibration",),
    ("quant=rtn", "quant.damping=0.01", "quant.range=full"): (
        "quant.damping: not used, quant.method=rtn does not read it",
        "calibration.data: not used, quant.method=rtn needs no calibration",
    ),
    ("calibration.samples=4", "calibration.statistics_samples=5"): (
        "calibration.statistics_samples: not used, calibration.samples=4 is fewer",
    ),
    ("kv.memory=64MiB", "kv.memory_ratio=0.5"): (
        "kv.memory_ratio: not used, kv.memory=64MiB is the size",
    ),
    ("frontend.ui_port=7000",): (
        "frontend.ui_port: not used, there is no page (frontend.ui=none)",
    ),
    ("frontend=api_gradio", "frontend.ui_port=7000"): (),
    ("quant.group_size=64", "calibration.samples=4"): (),
    ("model.hub_offline=true",): ("model.hub_offline: not used, the model is a folder here",),
    ("device.source=datasheet",): (
        "device.source: not used, this machine is looked at, not described",
    ),
    ("device=t4", "backend.threads=4", "backend.isa=avx512", "device.cores=2"): (
        "device.cores: not used, t4 is no CPU",
        "backend.isa: not used, t4 is no CPU",
        "backend.threads: not used, t4 is no CPU",
    ),
    ("device=epyc_9354", "backend.threads=4"): (),
    ("evaluate.window=128", "evaluate.baseline=nowhere", "evaluate.task_limit=3"): (
        "evaluate.window: not used, nothing is evaluated",
        "evaluate.task_limit: not used, nothing is evaluated",
        "evaluate.baseline: not used, nothing is evaluated",
    ),
    ("evaluate.tools=builtin:tools", "evaluate.kl_tokens=64", "evaluate.task_limit=3"): (
        "evaluate.kl_tokens: not used, no text is evaluated (evaluate.data=null)",
    ),
    ("evaluate.data=builtin:stories", "evaluate.window=128", "evaluate.task_limit=3"): (
        "evaluate.task_limit: not used, no items are evaluated (evaluate.tasks, evaluate.tools)",
    ),
    ("bench.trace_speedup=2", "bench.max_ttft_ms=1", "bench.seed=3"): (
        "bench.trace_speedup: not used, no arrivals are replayed (bench.trace=null)",
        "bench.max_ttft_ms: not used, no arrivals are replayed (bench.trace=null)",
    ),
    ("bench.trace=arrivals.csv", "bench.concurrency=[2]", "bench.requests=5"): (
        "bench.concurrency: not used, bench.trace has the load",
    ),
}


@pytest.mark.parametrize("overrides", UNUSED, ids=" ".join)
def test_a_setting_of_the_command_line_that_nothing_reads_is_said(
    bench: Bench, overrides: tuple[str, ...]
) -> None:
    notes = bench.plan(*overrides, hashed=False).notes
    assert tuple(note for note in notes if ": not used, " in note) == UNUSED[overrides]
