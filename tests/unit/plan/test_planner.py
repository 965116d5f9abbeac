import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lmrun.artifacts.store import Store
from lmrun.config import compose
from lmrun.errors import PlanError
from lmrun.plan.plan import ModelKind, Plan
from lmrun.plan.planner import make_plan
from lmrun.quant.layout import WeightQuant, file_bytes

Bench = Any  # the fixture's class lives in conftest.py
OPTION = "lmrun:configs/quant/awq_w4_g128.yaml"


def actions(plan: Plan) -> dict[str, str]:
    return {stage.name: stage.action.value for stage in plan.stages}


def reasons(plan: Plan) -> dict[str, str]:
    return {stage.name: stage.why for stage in plan.stages}


def refusal(bench: Bench, *overrides: str) -> str:
    with pytest.raises(PlanError) as caught:
        bench.plan(*overrides)
    return str(caught.value)


def test_nothing_is_known_before_the_inputs_are_hashed(bench: Bench) -> None:
    plan = bench.plan(hashed=False)
    assert actions(plan) == {
        "resolve": "run",
        "calibrate": "unknown",
        "quantize": "unknown",
        "convert": "unknown",
    }
    size = sum(path.stat().st_size for path in plan.unhashed)
    assert [path.name for path in plan.unhashed] == ["config.json", "model.safetensors", "text.txt"]
    words = (
        f"not yet hashed, {size / 2**10:.0f} KiB, under 1 s:"
        " config.json, model.safetensors, text.txt"
    )
    assert reasons(plan) == dict.fromkeys(actions(plan), words)
    assert plan.workspace is None
    assert plan.engine.workspace == ""
    assert not bench.store.home.exists()


def test_only_the_file_that_changed_is_to_be_hashed(bench: Bench) -> None:
    bench.plan()
    (bench.checkpoint / "config.json").touch()
    plan = bench.plan(hashed=False)
    assert [path.name for path in plan.unhashed] == ["config.json"]
    assert reasons(plan)["resolve"].endswith(": config.json")
    os.utime(bench.text, ns=(1, 1))
    (bench.checkpoint / "generation_config.json").write_text("{}")
    (bench.checkpoint / "tokenizer_config.json").write_text("{}")
    assert reasons(bench.plan(hashed=False))["resolve"].endswith(
        ": config.json, generation_config.json, tokenizer_config.json, 1 more"
    )


def test_the_whole_plan_is_known_before_anything_is_built(bench: Bench) -> None:
    plan = bench.plan()
    assert reasons(plan) == {
        "resolve": "digests known",
        "calibrate": "no entry yet",
        "quantize": "no entry yet",
        "convert": "no entry yet",
    }
    assert plan.stages[3].inputs["quantize"] == plan.stages[2].fingerprint
    assert plan.workspace == bench.store.folder("convert", plan.stages[3].fingerprint)
    assert plan.engine.workspace == str(plan.workspace)


def test_a_second_run_builds_nothing(bench: Bench) -> None:
    bench.pretend_to_build(bench.plan())
    plan = bench.plan()
    assert set(actions(plan).values()) == {"cached"}
    assert plan.missing == ()


@pytest.mark.parametrize(
    "override",
    [
        "kv.bits=4",
        "kv.block_size=32",
        "kv.memory=64MiB",
        "backend.context_length=128",
        "backend.threads=1",
        "backend.max_num_seqs=4",
        "frontend.port=8000",
        "model.served_name=other",
    ],
)
def test_what_the_engine_alone_reads_runs_nothing_again(bench: Bench, override: str) -> None:
    bench.pretend_to_build(bench.plan())
    assert set(actions(bench.plan(override)).values()) == {"cached"}


def test_another_group_size_runs_quantize_and_convert_again(bench: Bench) -> None:
    bench.pretend_to_build(bench.plan())
    assert reasons(bench.plan("quant.group_size=64")) == {
        "resolve": "digests known",
        "calibrate": "cached",
        "quantize": "quant.group_size 128 → 64",
        "convert": "quantize changed",
    }


def test_other_calibration_runs_all_but_resolve_again(bench: Bench) -> None:
    bench.pretend_to_build(bench.plan())
    assert reasons(bench.plan("calibration.samples=64")) == {
        "resolve": "digests known",
        "calibrate": "calibration.samples 128 → 64",
        "quantize": "calibrate changed",
        "convert": "quantize changed",
    }


def test_another_text_counts_by_its_content_not_its_name(bench: Bench) -> None:
    bench.pretend_to_build(bench.plan())
    copy = bench.text.with_name("copy.txt")
    shutil.copy(bench.text, copy)
    assert set(actions(bench.plan(f"calibration.data={copy}")).values()) == {"cached"}
    copy.write_text("Another text.\n")
    assert reasons(bench.plan(f"calibration.data={copy}"))["calibrate"] == (
        f"the calibration text changed (now {copy})"
    )


def test_a_copied_checkpoint_is_the_same_checkpoint(bench: Bench, tmp_path: Path) -> None:
    bench.pretend_to_build(bench.plan())
    copy = tmp_path / "elsewhere"
    shutil.copytree(bench.checkpoint, copy)
    (copy / "README.md").write_text("no part of the model")
    assert set(actions(bench.plan(f"model.path={copy}")).values()) == {"cached"}
    with (copy / "model.safetensors").open("r+b") as opened:
        opened.seek(-1, os.SEEK_END)
        opened.write(b"\x01")
    assert reasons(bench.plan(f"model.path={copy}"))["convert"] == (
        "the checkpoint changed: model.safetensors, quantize changed"
    )


def test_a_machine_of_another_class_computes_again_and_says_why(bench: Bench) -> None:
    bench.pretend_to_build(bench.plan())
    other = replace(bench, machine=replace(bench.machine, cores=4, isa="avx2"))
    found = reasons(other.plan())
    assert found["calibrate"] == "numeric class: isa avx512 → avx2"
    assert found["convert"] == "quantize changed"
    assert other.plan("quant=none").stages[-1].numeric_class is None


def test_a_damaged_artifact_is_run_again_and_the_file_is_named(bench: Bench) -> None:
    plan = bench.plan()
    bench.pretend_to_build(plan)
    assert plan.workspace is not None
    (plan.workspace / "data").write_bytes(b"x" * 99)
    found = bench.plan()
    assert actions(found)["convert"] == "run"
    assert reasons(found)["convert"] == "damaged: data: expected 100 bytes, got 99"
    bench.pretend_to_build(found)
    assert set(actions(bench.plan()).values()) == {"cached"}


def test_a_damaged_artifact_is_run_again_even_if_nothing_reads_it(bench: Bench) -> None:
    plan = bench.plan()
    bench.pretend_to_build(plan)
    (bench.store.folder("quantize", plan.stages[2].fingerprint) / "data").unlink()
    found = bench.plan()
    assert actions(found) == {
        "resolve": "cached",
        "calibrate": "cached",
        "quantize": "run",
        "convert": "cached",
    }
    assert [stage.name for stage in found.missing] == ["quantize"]


def test_what_nothing_reads_any_more_is_not_built(bench: Bench) -> None:
    plan = bench.plan()
    bench.pretend_to_build(plan)
    shutil.rmtree(bench.store.folder("calibrate", plan.stages[1].fingerprint))
    shutil.rmtree(bench.store.folder("quantize", plan.stages[2].fingerprint))
    assert reasons(bench.plan()) == {
        "resolve": "digests known",
        "calibrate": "not needed: quantize is cached",
        "quantize": "not needed: convert is cached",
        "convert": "cached",
    }
    assert plan.workspace is not None
    shutil.rmtree(plan.workspace)
    assert actions(bench.plan()) == {
        "resolve": "cached",
        "calibrate": "run",
        "quantize": "run",
        "convert": "run",
    }


def test_each_recipe_has_the_stages_it_needs(bench: Bench) -> None:
    assert list(actions(bench.plan("quant=none"))) == ["resolve", "convert"]
    assert list(actions(bench.plan("quant=rtn"))) == ["resolve", "quantize", "convert"]
    assert bench.plan("quant=rtn").calibration_text is None
    assert bench.plan().calibration_text == bench.text


def test_the_weights_are_counted_to_the_byte(bench: Bench) -> None:
    plan = bench.plan()
    assert plan.budget.weights_bytes == file_bytes(plan.spec, "F16", WeightQuant("awq", 128))


def test_launch_settings_are_complete(bench: Bench) -> None:
    engine = bench.plan("kv.bits=4", "backend.isa=generic", "backend.max_num_seqs=3").engine
    assert (engine.isa, engine.threads, engine.kv_bits, engine.block_size) == ("generic", 2, 4, 64)
    assert (engine.context_length, engine.num_blocks, engine.max_num_seqs) == (256, 3 * 4, 3)
    assert bench.plan("backend.threads=7").engine.threads == 7


def test_the_model_is_served_under_its_folders_name(bench: Bench) -> None:
    assert bench.plan().served_name == "tiny"
    assert bench.plan("model.served_name=chat").served_name == "chat"


def test_a_longer_context_than_the_models_is_refused(bench: Bench) -> None:
    assert refusal(bench, "backend.context_length=257") == (
        "backend.context_length=257 (command line): must be at most 256, the context of tiny."
        " Longer ones are not built yet."
    )


def test_a_group_size_that_does_not_divide_names_the_layer_and_what_does(
    bench: Bench, write_checkpoint: Callable[..., Path]
) -> None:
    folder = write_checkpoint("odd", intermediate_size=192)
    assert refusal(bench, f"model.path={folder}") == (
        f"quant.group_size=128 ({OPTION}:4): must divide 192 (in_features of"
        " layers.0.mlp.down_proj). Use 32 or 64."
    )
    skipped = "quant.skip=[layers.0.mlp.down_proj,layers.1.mlp.down_proj]"
    assert bench.plan(f"model.path={folder}", skipped).stages[2].config["quant.skip"]


def test_a_size_that_no_group_divides_is_refused_with_the_layer(
    bench: Bench, write_checkpoint: Callable[..., Path]
) -> None:
    folder = write_checkpoint("stories", hidden_size=64, intermediate_size=172)
    assert refusal(bench, f"model.path={folder}") == (
        f"quant.group_size=128 ({OPTION}:4): must divide 172 (in_features of"
        " layers.0.mlp.down_proj). None of 32, 64 and 128 does. Use quant.method=none, or"
        " put it in quant.skip."
    )
    assert bench.plan(f"model.path={folder}", "quant=none").weight_dtype == "F16"


def test_stories260k_is_refused_as_published(bench: Bench, test_data: Path) -> None:
    text = refusal(bench, f"model.path={test_data / 'models' / 'stories260k'}")
    assert text == (
        f"quant.group_size=128 ({OPTION}:4): must divide 172 (in_features of"
        " layers.0.mlp.down_proj). None of 32, 64 and 128 does. Use quant.method=none, or"
        " put it in quant.skip."
    )


def test_output_features_that_fill_no_word_are_refused(
    bench: Bench, write_checkpoint: Callable[..., Path]
) -> None:
    folder = write_checkpoint("odd", hidden_size=128, intermediate_size=132)
    skipped = "quant.skip=[layers.0.mlp.down_proj,layers.1.mlp.down_proj]"
    assert refusal(bench, f"model.path={folder}", skipped) == (
        "quant.format=auto (default): 8 must divide 132 (out_features of layers.0.mlp.gate_proj),"
        " whose codes awq stores in words. Use quant.format=compressed_tensors, or put it in"
        " quant.skip."
    )


def test_linears_of_one_matrix_are_skipped_together(bench: Bench) -> None:
    assert refusal(bench, "quant.skip=[layers.1.self_attn.k_proj]") == (
        "quant.skip (command line): layers.1.self_attn.k_proj is kept and layers.1.self_attn.q_proj"
        " is not; the engine holds both in one matrix. Keep all of layers.1.self_attn.q_proj,"
        " layers.1.self_attn.k_proj, layers.1.self_attn.v_proj, or none."
    )
    assert refusal(bench, "quant.skip=[lm_head]") == (
        "quant.skip (command line): no linear lm_head in this model. Names look like"
        " layers.0.mlp.down_proj, with layers 0 to 1."
    )


def test_a_missing_text_is_refused(bench: Bench, tmp_path: Path) -> None:
    assert refusal(bench, "calibration.data=/no/text.txt") == (
        "calibration.data=/no/text.txt (command line): no such file (/no/text.txt)."
        " Name a .txt or .jsonl file, or use builtin:sample."
    )
    assert refusal(bench, "calibration.data=text.csv") == (
        "calibration.data=text.csv (command line): expected a file that ends in .txt,"
        " .jsonl, .json, .jsonl.gz, .json.gz or .parquet, or builtin:sample."
    )
    assert bench.plan("calibration.data=/no/text.txt", "quant=rtn").stages


def test_a_built_in_model_needs_no_hashing(bench: Bench) -> None:
    composed = compose(["model=random_llama", "quant=awq_w4_g128"])
    plan = make_plan(composed, bench.store, bench.machine)
    assert plan.model_kind is ModelKind.builtin
    assert plan.checkpoint is None
    assert actions(plan)["resolve"] == "run"
    assert plan.served_name == "random-llama"
    assert plan.notes == (
        "builtin:random-llama: random weights, 2.5 million parameters; for trying lmrun out."
        " What it writes is nonsense.",
    )
    bench.pretend_to_build(plan)
    again = make_plan(composed, bench.store, bench.machine)
    assert set(actions(again).values()) == {"cached"}
    assert again.checkpoint == bench.store.folder("resolve", again.stages[0].fingerprint or "")


def test_a_quantized_checkpoint_skips_calibrate_and_quantize(
    bench: Bench, test_data: Path, tmp_path: Path
) -> None:
    shutil.unpack_archive(test_data / "quantized" / "checkpoints.tar.xz", tmp_path, filter="data")
    folder = next(tmp_path.rglob("awq-gemm-autoawq-ts"))
    plan = bench.plan(f"model.path={folder}")
    assert plan.model_kind is ModelKind.quantized
    assert list(actions(plan)) == ["resolve", "convert"]
    assert plan.notes == (
        "the weights stay as the folder has them (awq, groups of 64); the quant group is not used",
    )
    assert bench.plan(f"model.path={folder}", "quant=awq_w4_g64").notes == ()


def test_offline_stages_that_no_disk_holds_are_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    text = refusal(bench)
    assert text.startswith("plan: the stages write ")
    assert text.endswith(
        f" below {bench.store.home}, 1000 B are free."
        " Free some, or name another folder by LMRUN_HOME."
    )


def test_offline_stages_that_no_memory_holds_are_refused(bench: Bench) -> None:
    small = replace(bench, machine=replace(bench.machine, memory_bytes=300 * 2**20))
    assert refusal(small).startswith("plan: calibrate needs about ")
    assert "device has 300 MiB. Lower quant.activation_memory" in refusal(small)


def test_no_model_at_all_is_refused(bench: Bench) -> None:
    assert refusal(bench, "model.path=null") == (
        "model.path (command line): expected a folder or builtin:NAME, got nothing."
        " Use model.path=FOLDER, model.hub_id=ORG/NAME or an option that `lmrun list models` shows."
    )


def test_a_plan_creates_nothing(bench: Bench, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    bench.plan(hashed=False)
    make_plan(compose([]), Store(tmp_path / "other"), bench.machine)
    assert sorted(tmp_path.rglob("*")) == before


def test_sequences_longer_than_the_context_are_said_where_a_text_is_read(bench: Bench) -> None:
    told = (
        "calibration.seq_len=257: more than the context of this model, 256 tokens; the model was"
        " not made for the positions behind"
    )
    assert told in bench.plan("calibration.seq_len=257", hashed=False).notes
    assert not [
        note
        for overrides in (("calibration.seq_len=256",), ("calibration.seq_len=257", "quant=rtn"))
        for note in bench.plan(*overrides, hashed=False).notes
        if "more than the context" in note
    ]
