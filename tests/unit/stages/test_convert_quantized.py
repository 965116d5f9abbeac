"""Quantized folders of every tool become workspaces that hold the same weights."""

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_torch
from safetensors.torch import save_file as save_torch

from lmrun.artifacts.store import Store
from lmrun.errors import PlanError, StageError
from lmrun.models.checkpoint import Checkpoint
from lmrun.models.code_format import CodeFormat, Packing
from lmrun.models.spec import LinearSpec
from lmrun.quant import layout, packing
from lmrun.quant.formats import registry
from lmrun.quant.stored import stored_quant
from lmrun.stages.convert import convert
from unit.stages.projects import Project
from unit.stages.quantized_folders import write_quantized
from unit.stages.workspaces import read_workspace, unpacked

Write = Callable[..., Path]


@pytest.fixture(scope="module")
def made_by_others(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quantized")
    with tarfile.open(test_data / "quantized" / "checkpoints.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


FORMS = [
    CodeFormat("awq", Packing.awq, 4, 32, False),
    CodeFormat("gptq", Packing.gptq, 4, 32, False, zeros_less_one=True),
    CodeFormat("gptq", Packing.gptq, 4, 0, True),
    CodeFormat("gptq", Packing.gptq, 8, 16, False),
    CodeFormat("gptq", Packing.gptq, 4, 16, False, act_order=True),
    CodeFormat("gptq", Packing.gptq, 8, 32, True, zeros_less_one=True, act_order=True),
    CodeFormat("compressed-tensors", Packing.pack_quantized, 4, 32, False),
    CodeFormat("compressed-tensors", Packing.pack_quantized, 4, 8, True, act_order=True),
    CodeFormat("compressed-tensors", Packing.pack_quantized, 8, 0, False),
    CodeFormat("compressed-tensors", Packing.int_quantized, 8, 0, True, 8),
    CodeFormat("compressed-tensors", Packing.int_quantized, 8, 32, False),
    CodeFormat("auto-round", Packing.gptq, 4, 32, True, zeros_less_one=True),
    CodeFormat("smooth_quant", Packing.smooth_quant, 8, 0, True, 8),
]
IDS = [f"{one.method}-{one.packing}-{one.bits}-{one.group_size}-{one.act_order}" for one in FORMS]
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"},
}


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("form", FORMS, ids=IDS)
def test_a_workspace_holds_the_weights_of_the_codes(
    write_checkpoint: Write, tmp_path: Path, form: CodeFormat, family: str
) -> None:
    folder = write_checkpoint(**FAMILIES[family])
    expected = write_quantized(folder, form, kept=("layers.1.mlp.down_proj",))
    checkpoint = Checkpoint.open(folder)
    assert checkpoint.code_format == form
    (tmp_path / "workspace").mkdir()
    convert(checkpoint, tmp_path / "workspace", "0" * 64)
    found = unpacked(tmp_path / "workspace", checkpoint.spec)
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert np.array_equal(found[name], values), name
    quant = stored_quant(checkpoint)
    assert quant.skip == {"layers.1.mlp.down_proj"}
    predicted = list(layout.workspace_tensors(checkpoint.spec, checkpoint.weight_dtype, quant))
    dtypes, arrays = read_workspace(tmp_path / "workspace")
    assert [(t.name, t.dtype, t.shape) for t in predicted] == [
        (name, dtypes[name], array.shape)
        for name, array in arrays.items()
        if not name.startswith("__pad__.")
    ]
    document = json.loads((tmp_path / "workspace" / "model.json").read_text())
    assert document["weights"] == {
        "method": form.method,
        "bits": form.bits,
        "group_size": form.group_size,
        "symmetric": form.is_symmetric,
        "activation_bits": form.activation_bits,
    }


PLANNED = {
    "u4 g32": CodeFormat("auto-round", Packing.gptq, 4, 32, True, zeros_less_one=True),
    "u4 g16": CodeFormat("gptq", Packing.gptq, 4, 16, False, act_order=True),
    "u8 rows": CodeFormat("compressed-tensors", Packing.pack_quantized, 8, 0, True),
    "i8 rows a8": CodeFormat("compressed-tensors", Packing.int_quantized, 8, 0, True, 8),
}


@pytest.mark.parametrize("scheme", sorted(PLANNED))
def test_the_plan_prices_the_workspace_of_a_quantized_folder(
    write_checkpoint: Write, tmp_path: Path, scheme: str
) -> None:
    folder = write_checkpoint("quantized")
    write_quantized(folder, PLANNED[scheme])
    project = Project(str(folder), tmp_path / "no.txt", Store(tmp_path / "home"))
    plan = project.plan("quant=none")
    assert [stage.name for stage in plan.stages] == ["resolve", "convert"]
    assert scheme in {row.scheme for row in plan.budget.weights}
    size = (project.build("quant=none") / "rank-0.safetensors").stat().st_size
    assert plan.budget.weights_bytes <= size <= plan.budget.weights_bytes + (2 << 20)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_scales_that_float16_does_not_hold_stay_as_they_are(
    write_checkpoint: Write, tmp_path: Path, dtype: str
) -> None:
    folder = write_checkpoint()
    form = CodeFormat("compressed-tensors", Packing.pack_quantized, 4, 32, True)
    write_quantized(folder, form)
    path = folder / "model.safetensors"
    tensors = load_torch(path)
    for name in list(tensors):
        if name.endswith("weight_scale"):
            scales = tensors[name].float() * 1e-7
            tensors[name] = scales.to(getattr(torch, dtype))
    save_torch(tensors, path)
    checkpoint = Checkpoint.open(folder)
    (tmp_path / "workspace").mkdir()
    convert(checkpoint, tmp_path / "workspace", "0" * 64)
    dtypes, arrays = read_workspace(tmp_path / "workspace")
    name = "layers.0.feed_forward.w2.0.scales"
    assert dtypes[name] == "F32"
    stored = tensors["model.layers.0.mlp.down_proj.weight_scale"].float().numpy()
    assert np.array_equal(packing.unpack_groups(arrays[name], len(stored)), stored)


def _gptq(*, act_order: bool) -> CodeFormat:
    return CodeFormat("gptq", Packing.gptq, 4, 16, False, act_order=act_order)


def _changed(folder: Path, name: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    save_file({**tensors, name: change(tensors[name])}, path)


def _failure(folder: Path, tmp_path: Path) -> str:
    (tmp_path / "workspace").mkdir()
    with pytest.raises(StageError) as caught:
        convert(Checkpoint.open(folder), tmp_path / "workspace", "0" * 64)
    return str(caught.value)


def test_an_order_that_the_config_denies_is_refused(
    write_checkpoint: Write, tmp_path: Path
) -> None:
    folder = write_checkpoint()
    write_quantized(folder, _gptq(act_order=True))
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"]["desc_act"] = False
    (folder / "config.json").write_text(json.dumps(config))
    assert _failure(folder, tmp_path) == (
        "model.layers.0.self_attn.q_proj.g_idx: expected consecutive groups, as desc_act false"
        " says, got others. Is config.json that of these weights? If so, set desc_act to true in"
        " it."
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda index: np.where(index == 1, 0, index).astype(np.int32),
        lambda index: np.where(index == 1, 7, index).astype(np.int32),
        lambda index: np.where(index == 1, -1, index).astype(np.int32),
    ],
    ids=["one group twice as large", "a group too many", "a negative group"],
)
def test_groups_of_unequal_sizes_are_refused(
    write_checkpoint: Write, tmp_path: Path, change: Callable[[NDArray[Any]], NDArray[Any]]
) -> None:
    folder = write_checkpoint()
    write_quantized(folder, _gptq(act_order=True))
    _changed(folder, "model.layers.1.mlp.down_proj.g_idx", change)
    assert _failure(folder, tmp_path) == (
        "model.layers.1.mlp.down_proj.g_idx: expected 6 groups of 16 input features each, got"
        " others. The checkpoint is damaged: copy it again."
    )


def test_orders_that_share_a_tile_must_be_one(write_checkpoint: Write, tmp_path: Path) -> None:
    """Heads of 8 features end in the middle of a tile of 16."""
    folder = write_checkpoint(head_dim=8, num_key_value_heads=1, intermediate_size=32)
    form = CodeFormat("gptq", Packing.gptq, 4, 16, False, act_order=True)
    expected = write_quantized(folder, form)
    assert _failure(folder, tmp_path) == (
        "layers.0.attention.w_qkv.0: its linears order their input features differently"
        " (desc_act), and their output features are no multiples of 16: such a matrix is not built"
        " yet."
    )
    path = folder / "model.safetensors"
    tensors = load_file(path)
    for index in range(3):  # one order for all three is another matter
        prefix = f"model.layers.{index}.self_attn"
        shared = tensors[f"{prefix}.q_proj.g_idx"]
        for role in ("k_proj", "v_proj"):
            tensors[f"{prefix}.{role}.g_idx"] = shared
    save_file(tensors, path)
    checkpoint = Checkpoint.open(folder)
    (tmp_path / "second").mkdir()
    convert(checkpoint, tmp_path / "second", "0" * 64)
    _, arrays = read_workspace(tmp_path / "second")
    assert arrays["layers.0.attention.w_qkv.0.order"].shape == (1, 64)
    assert arrays["layers.0.feed_forward.w13.0.order"].shape == (2, 64)
    found = unpacked(tmp_path / "second", checkpoint.spec)
    name = "model.layers.0.self_attn.q_proj.weight"
    assert np.array_equal(found[name], expected[name])


def test_a_bias_of_zeros_that_the_model_lacks_is_dropped(
    write_checkpoint: Write, tmp_path: Path
) -> None:
    """Some tools store one for every quantized linear."""
    folder = write_checkpoint()
    write_quantized(folder, _gptq(act_order=False))
    path, name = folder / "model.safetensors", "model.layers.0.self_attn.o_proj.bias"
    save_file({**load_file(path), name: np.zeros(64, np.float16)}, path)
    (tmp_path / "first").mkdir()
    convert(Checkpoint.open(folder), tmp_path / "first", "0" * 64)
    _changed(folder, name, lambda bias: bias + np.float16(0.5))
    assert _failure(folder, tmp_path) == (
        f"{name}: expected zeros, got others: LlamaForCausalLM has no bias there. Is config.json"
        " that of these weights?"
    )


def test_a_scale_that_is_no_number_is_named(write_checkpoint: Write, tmp_path: Path) -> None:
    folder = write_checkpoint()
    write_quantized(folder, _gptq(act_order=False))
    name = "model.layers.1.mlp.up_proj.scales"
    _changed(folder, name, lambda scales: scales * np.float16("inf"))
    assert _failure(folder, tmp_path) == (
        f"{folder / 'model.safetensors'}: {name}: expected finite numbers, got NaN or infinity."
        " The checkpoint is damaged: copy it again."
    )


def test_a_matrix_of_the_engine_is_quantized_as_a_whole(write_checkpoint: Write) -> None:
    folder = write_checkpoint()
    write_quantized(folder, _gptq(act_order=False), kept=("layers.1.self_attn.k_proj",))
    with pytest.raises(PlanError) as caught:
        stored_quant(Checkpoint.open(folder))
    assert str(caught.value) == (
        f"{folder}: layers.1.self_attn.k_proj is kept and layers.1.self_attn.q_proj is not; the"
        " engine holds both in one matrix. Keep all of layers.1.self_attn.q_proj,"
        " layers.1.self_attn.k_proj, layers.1.self_attn.v_proj, or none."
    )


def test_groups_that_the_engine_does_not_take_are_refused(write_checkpoint: Write) -> None:
    folder = write_checkpoint()
    form = CodeFormat("compressed-tensors", Packing.pack_quantized, 4, 4, True)
    write_quantized(folder, form)
    with pytest.raises(PlanError) as caught:
        stored_quant(Checkpoint.open(folder))
    assert str(caught.value) == (
        f"{folder}: groups of 4 (layers.0.self_attn.q_proj) are not built yet. Supported:"
        " multiples of 8."
    )


def test_zero_points_that_wrapped_round_are_read(made_by_others: Path) -> None:
    """A linear of GPTQModel whose words of zero points borrowed, with its 16-bit weights."""
    tensors = load_file(made_by_others / "gptq-v1-wrapped-zeros-linear" / "linear.safetensors")
    form = CodeFormat("gptq", Packing.gptq, 4, 128, False, zeros_less_one=True, act_order=True)
    linear = LinearSpec("x", 0, "gate_proj", 384, 512, False)
    codes = registry.read(lambda name: tensors[name.removeprefix("model.x.")], linear, form)
    assert (codes.zeros == 0).any()
    found = codes.dequantize().astype(np.float16)
    assert np.array_equal(found, tensors["dequantized"])
