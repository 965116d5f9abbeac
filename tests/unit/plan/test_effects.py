"""What `explain` says a key changes is what it changes: tried for every key."""

from pathlib import Path
from typing import Any

import pytest

from lmrun.artifacts.digests import DigestCache
from lmrun.artifacts.store import Store
from lmrun.config import compose, keys
from lmrun.plan.effects import effect, stages_changed
from lmrun.plan.planner import make_plan

CHATS = str(Path(__file__).with_name("chats.jsonl"))
BASE = ["quant=gptq_w4_g128", "prune=wanda", "kv=kv4", "kv.keep=2", "evaluate=quick"]
"""With every stage that there is."""
READ_BY: dict[str, list[str]] = {
    "model.chat_template": [f"calibration.data={CHATS}", "model.path=builtin:random-llama"],
    "quant.alpha": ["quant=w8a8"],
    "quant.preset": ["quant=autoround_w4_g128"],
    "quant.rotate": ["prune=none"],
    "kv.keep_layers": ["kv.keep=0", "kv.keep_layers=[0]"],
}
"""Key → what must be so that it is read, where that is not so of `BASE`."""
OTHER: dict[str, Any] = {
    "model.path": "builtin:random-llama-1b",
    "model.served_name": "other",
    "model.chat_template": "chatml",
    "backend.isa": "generic",
    "backend.threads": 1,
    "backend.max_num_seqs": 4,
    "backend.max_batch_tokens": 64,
    "backend.context_length": 512,
    "backend.weight_memory": "mapped",
    "quant.method": "awq_gptq",
    "quant.bits": 8,
    "quant.symmetric": "true",
    "quant.range": "full",
    "quant.act_order": "false",
    "quant.damping": 0.02,
    "quant.alpha": 0.5,
    "quant.rotate": "true",
    "quant.preset": "best",
    "quant.format": "gptq",
    "quant.activation_memory": "1GiB",
    "prune.method": "sparsegpt",
    "prune.sparsity": 0.25,
    "prune.pattern": "2:4",
    "kv.keep": 1,
    "kv.keep_bits": 8,
    "kv.keep_layers": "[1]",
    "calibration.statistics_samples": 4,
    "quant.group_size": 64,
    "quant.skip": "[layers.0.mlp.down_proj]",
    "kv.bits": 8,
    "kv.memory_ratio": 0.5,
    "kv.memory": "64MiB",
    "kv.block_size": 32,
    "kv.prefix_caching": "false",
    "calibration.samples": 3,
    "calibration.seq_len": 16,
    "calibration.batch_size": 2,
    "calibration.seed": 7,
    "frontend.host": "127.0.0.2",
    "frontend.port": 8000,
    "frontend.ui": "gradio",
    "frontend.ui_port": 7000,
    "frontend.drain_s": 1,
    "frontend.api_keys": "['${oc.env:KEY}']",
    "parallel.replicas": 2,
    "evaluate.data": str(Path(__file__).with_name("held_out.txt")),
    "evaluate.window": 64,
    "evaluate.max_tokens": 2000,
    "evaluate.kl_tokens": 100,
    "evaluate.tasks.words": str(Path(__file__).with_name("words.jsonl")),
    "evaluate.task_limit": 3,
    "evaluate.tools": str(Path(__file__).with_name("words.jsonl")),
    "evaluate.max_ppl": 100,
    "evaluate.max_ppl_ratio": 1.1,
    "evaluate.max_kl": 0.1,
    "evaluate.min_top1": 0.9,
    "evaluate.min_tool_accuracy": 0.5,
    "evaluate.tolerance": 0.1,
    "bench.requests": 3,
    "bench.concurrency": "[2]",
}


def _fingerprints(overrides: list[str], home: Path) -> dict[str, str | None]:
    store, composed = Store(home), compose(overrides)
    DigestCache(home).hash_files(make_plan(composed, store).unhashed)
    return {stage.name: stage.fingerprint for stage in make_plan(composed, store).stages}


@pytest.mark.parametrize("key", OTHER)
def test_the_stages_a_key_is_said_to_change_are_those_whose_fingerprints_move(
    key: str, tmp_path: Path
) -> None:
    base = [*BASE, *READ_BY.get(key, ())]
    before = _fingerprints(base, tmp_path)
    after = _fingerprints([*base, f"{key}={OTHER[key]}"], tmp_path)
    moved = tuple(name for name in before if after.get(name, before[name]) != before[name])
    assert moved == stages_changed(key)


def test_a_text_of_ones_own_changes_what_calibration_feeds(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("some words\n" * 100)
    before = _fingerprints(BASE, tmp_path)
    after = _fingerprints([*BASE, f"calibration.data={text}"], tmp_path)
    assert tuple(name for name in before if after[name] != before[name]) == stages_changed(
        "calibration.data"
    )


def test_the_words_for_it() -> None:
    assert effect("quant.bits") == "quantize, convert, evaluate"
    assert effect("quant.device") == "prune, calibrate, quantize, convert, evaluate"
    assert effect("quant.activation_memory") == "memory and disk of the stages"
    assert effect("calibration.statistics_samples") == "calibrate, quantize, convert, evaluate"
    assert effect("calibration.seed") == "prune, calibrate, quantize, convert, evaluate"
    assert effect("model.revision") == (
        "resolve, prune, calibrate, quantize, convert, baseline, evaluate"
    )
    assert effect("kv.bits") == "launch, evaluate"
    assert effect("backend.threads") == "launch only"
    assert effect("evaluate.tasks.arc") == "evaluate"
    assert effect("evaluate.window") == "baseline, evaluate"
    assert effect("evaluate.min_task_accuracy.arc") == "the gate"
    assert effect("evaluate.tolerance") == "verify only"
    assert effect("bench.requests") == "bench only"
    assert effect("device.count") == "plan only"
    assert effect("model.hub_token") == "how the checkpoint is fetched"
    assert all(effect(key) for key in keys.table())
