import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lmrun.errors import PlanError
from lmrun.models.checkpoint import Checkpoint, find_model, is_workspace
from lmrun.models.code_format import Packing
from lmrun.models.registry import spec_from_config

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 16,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
    "torch_dtype": "float16",
}
WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "README.md").write_text("not part of the model")
    shapes = spec_from_config(CONFIG, "c").float_tensors()
    save_file({n: np.zeros(s, np.float16) for n, s in shapes.items()}, folder / WEIGHTS)
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(PlanError) as caught:
        Checkpoint.open(folder)
    return str(caught.value)


def change(folder: Path, **tensors: np.ndarray[Any, Any] | None) -> None:
    """Replace (or, for None, drop) tensors; `__` in a name stands for a dot."""
    held: dict[str, Any] = load_file(folder / WEIGHTS)
    for key, value in tensors.items():
        held.pop(key.replace("__", "."), None)
        if value is not None:
            held[key.replace("__", ".")] = value
    save_file(held, folder / WEIGHTS)


def test_a_folder_is_indexed_from_its_headers(folder: Path) -> None:
    checkpoint = Checkpoint.open(folder)
    entry = checkpoint.tensors["model.layers.0.mlp.down_proj.weight"]
    assert (entry.dtype, entry.shape, entry.num_bytes) == ("F16", (32, 64), 4096)
    assert checkpoint.weight_dtype == "F16"
    assert [file.name for file in checkpoint.files] == ["config.json", WEIGHTS, "tokenizer.json"]


def test_offsets_point_at_the_bytes_of_the_tensor(folder: Path) -> None:
    weight = np.arange(32 * 64, dtype=np.float16).reshape(32, 64)
    change(folder, model__layers__0__mlp__down_proj__weight=weight)
    entry = Checkpoint.open(folder).tensors["model.layers.0.mlp.down_proj.weight"]
    raw = entry.file.read_bytes()[entry.offset : entry.offset + entry.num_bytes]
    np.testing.assert_array_equal(np.frombuffer(raw, np.float16).reshape(32, 64), weight)


def test_a_tied_matrix_may_be_stored_under_either_name(folder: Path) -> None:
    matrix = np.zeros((16, 32), np.float16)
    assert Checkpoint.open(folder).embedding_name == "model.embed_tokens.weight"
    change(folder, lm_head__weight=matrix)
    assert Checkpoint.open(folder).embedding_name == "model.embed_tokens.weight"
    change(folder, model__embed_tokens__weight=None)
    assert Checkpoint.open(folder).embedding_name == "lm_head.weight"
    change(folder, lm_head__weight=None)
    assert refusal(folder) == (
        f"{folder}: expected tensor lm_head.weight (1 missing), got none of that name."
        " Is config.json that of these weights?"
    )


def test_shards_are_read_through_their_index(folder: Path) -> None:
    held = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    weight_map = {}
    for number, name in enumerate(sorted(held)):
        shard = f"model-{number % 2 + 1}.safetensors"
        weight_map[name] = shard
    for shard in sorted(set(weight_map.values())):
        save_file({n: held[n] for n in held if weight_map[n] == shard}, folder / shard)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    checkpoint = Checkpoint.open(folder)
    assert set(checkpoint.tensors) == set(held)
    assert index in checkpoint.files
    assert folder / "model-2.safetensors" in checkpoint.files
    (folder / "model-2.safetensors").unlink()
    assert refusal(folder) == (
        f"{index}: expected the shard model-2.safetensors beside it, got no such file."
    )
    index.write_text(json.dumps({"weight_map": {"a": "../model-1.safetensors"}}))
    assert "expected the shard ../model-1.safetensors beside it" in refusal(folder)


def test_pickles_alone_are_refused_with_the_way_to_convert(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    assert refusal(folder) == (
        f"{folder}: expected model.safetensors, got only pytorch_model.bin. Those are pickle files,"
        " which lmrun does not read: loading one can run code. Where you trust it, convert it:"
        ' python -c "import sys; from transformers import AutoModelForCausalLM as M;'
        " M.from_pretrained(sys.argv[1], dtype='auto').save_pretrained(sys.argv[2])\""
        f" {folder} NEW_FOLDER (and copy the tokenizer files)."
    )
    (folder / "pytorch_model.bin").unlink()
    assert refusal(folder) == (
        f"{folder}: expected model.safetensors or model.safetensors.index.json, got neither."
    )


def test_a_truncated_file_is_named_with_both_sizes(folder: Path) -> None:
    raw = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(raw[:-10])
    assert refusal(folder) == (
        f"{folder / WEIGHTS}: expected {len(raw)} bytes by its header, got {len(raw) - 10}."
        " The file is truncated or damaged: copy it again."
    )


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff" * 8,
        (2).to_bytes(8, "little") + b"[]",
        (2).to_bytes(8, "little") + b"{",
        (12).to_bytes(8, "little") + b'{"a": "b"}  ',
        (70).to_bytes(8, "little")
        + b'{"a": {"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]}}    ',
        (70).to_bytes(8, "little")
        + b'{"a": {"dtype": "Q4", "shape": [1], "data_offsets": [0, 4]}}'.ljust(70),
        (70).to_bytes(8, "little")
        + b'{"a": {"dtype": "F32", "shape": [1e999], "data_offsets": [0, 4]}}'.ljust(70),
        (200_000).to_bytes(8, "little") + b"[" * 200_000,
    ],
)
def test_a_header_that_lies_is_refused(folder: Path, raw: bytes) -> None:
    (folder / WEIGHTS).write_bytes(raw)
    assert f"{folder / WEIGHTS}: expected a safetensors file" in refusal(folder)


def test_overlapping_tensors_are_refused(folder: Path) -> None:
    fields = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}
    header = json.dumps({"a": fields, "b": fields}).encode()
    raw = len(header).to_bytes(8, "little") + header + bytes(4)
    (folder / WEIGHTS).write_bytes(raw)
    assert "a gap or an overlap before tensor b" in refusal(folder)


def test_a_foreign_tensor_and_a_wrong_shape_are_refused(folder: Path) -> None:
    change(folder, model__layers__0__self_attn__rotary_emb__inv_freq=np.zeros(4, np.float32))
    Checkpoint.open(folder)  # a buffer of old checkpoints
    change(folder, model__layers__0__self_attn__o_proj__bias=np.zeros(32, np.float16))
    assert refusal(folder) == (
        f"{folder}: LlamaForCausalLM has no place for tensor"
        " model.layers.0.self_attn.o_proj.bias (1 such). Is config.json that of these weights?"
    )
    change(
        folder,
        model__layers__0__self_attn__o_proj__bias=None,
        model__norm__weight=np.zeros(31, np.float16),
    )
    assert refusal(folder) == (
        f"{folder / WEIGHTS}: model.norm.weight: expected F32 or F16 or BF16 [32], got F16 [31]."
    )


def test_matrices_of_several_types_are_refused(folder: Path) -> None:
    change(folder, model__norm__weight=np.zeros(32, np.float32))
    assert Checkpoint.open(folder).weight_dtype == "F16"  # norms are converted anyway
    change(folder, model__layers__0__mlp__down_proj__weight=np.zeros((32, 64), np.float32))
    with pytest.raises(PlanError) as caught:
        _ = Checkpoint.open(folder).weight_dtype
    assert str(caught.value) == (
        f"{folder}: expected one dtype for all matrices, got F16 (model.embed_tokens.weight),"
        " F32 (model.layers.0.mlp.down_proj.weight). Mixed types are not built yet:"
        " save the checkpoint in one type."
    )


FORMATS = {
    "autoround-sym-ts": ("auto-round", Packing.gptq, 4, 64, True, "F32"),
    "awq-gemm-autoawq-ts": ("awq", Packing.awq, 4, 64, False, "F32"),
    "awq-gemm-gptqmodel-ts": ("awq", Packing.awq, 4, 64, False, "F16"),
    "ct-int-w8a8-ts": ("compressed-tensors", Packing.int_quantized, 8, 0, True, "F32"),
    "ct-pack-w4a16-asym-ts": ("compressed-tensors", Packing.pack_quantized, 4, 64, False, "F32"),
    "ct-pack-w4a16-sym-ts": ("compressed-tensors", Packing.pack_quantized, 4, 64, True, "F32"),
    "gptq-v1-descact-asym-ts": ("gptq", Packing.gptq, 4, 64, False, "F32"),
    "gptq-v1-noact-asym-ts": ("gptq", Packing.gptq, 4, 64, False, "F32"),
    "gptq-v2-descact-asym-ts": ("gptq", Packing.gptq, 4, 64, False, "F32"),
}


def test_folders_written_by_other_tools_are_recognized(test_data: Path, tmp_path: Path) -> None:
    with tarfile.open(test_data / "quantized" / "checkpoints.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    for name, expected in FORMATS.items():
        checkpoint = Checkpoint.open(next(tmp_path.rglob(name)))
        form = checkpoint.code_format
        assert form is not None
        found = (form.method, form.packing, form.bits, form.group_size, form.is_symmetric)
        assert (*found, checkpoint.weight_dtype) == expected
        assert form.act_order == ("descact" in name)
        assert all(checkpoint.is_quantized(linear) for linear in checkpoint.spec.linears)


def quantized(folder: Path, **more: np.ndarray[Any, Any] | None) -> None:
    """Makes `down_proj` of the tiny model one of GPTQ codes; ``more`` replaces its tensors."""
    tensors: dict[str, np.ndarray[Any, Any] | None] = {
        "weight": None,
        "qweight": np.zeros((8, 32), np.int32),
        "qzeros": np.zeros((2, 4), np.int32),
        "scales": np.zeros((2, 32), np.float16),
        **more,
    }
    change(folder, **{f"model__layers__0__mlp__down_proj__{k}": v for k, v in tensors.items()})
    fields = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False}
    (folder / "config.json").write_text(json.dumps({**CONFIG, "quantization_config": fields}))


def test_the_tensors_tell_which_linears_are_quantized(folder: Path) -> None:
    quantized(folder, g_idx=np.zeros(64, np.int32), bias=np.zeros(32, np.float16))
    checkpoint = Checkpoint.open(folder)
    packed = [one for one in checkpoint.spec.linears if checkpoint.is_quantized(one)]
    assert [one.role for one in packed] == ["down_proj"]
    assert checkpoint.needless_bias(packed[0]) == "model.layers.0.mlp.down_proj.bias"


@pytest.mark.parametrize(
    ("tensors", "text"),
    [
        (
            {"qweight": np.zeros((8, 31), np.int32)},
            "{file}: {name}.qweight: expected I32 [8, 32], got I32 [8, 31].",
        ),
        (
            {"scales": np.zeros((2, 32), np.int32)},
            "{file}: {name}.scales: expected F32 or F16 or BF16 [2, 32], got I32 [2, 32].",
        ),
        (
            {"qzeros": None},
            "{folder}: expected tensor {name}.qzeros (1 missing), got none of that name."
            " Is config.json that of these weights?",
        ),
        (
            {"g_scale": np.zeros(4, np.float16)},
            "{folder}: LlamaForCausalLM has no place for tensor {name}.g_scale (1 such)."
            " Is config.json that of these weights?",
        ),
    ],
)
def test_tensors_of_codes_that_do_not_fit_are_refused(
    folder: Path, tensors: dict[str, Any], text: str
) -> None:
    quantized(folder, **tensors)
    name = "model.layers.0.mlp.down_proj"
    assert refusal(folder) == text.format(file=folder / WEIGHTS, folder=folder, name=name)


def test_codes_that_config_json_says_nothing_of_are_refused(folder: Path) -> None:
    quantized(folder)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "quantize_config.json").write_text(json.dumps({"bits": 4}))
    assert refusal(folder) == (
        f"{folder}: model.layers.0.mlp.down_proj.qweight holds codes, and config.json has no"
        " quantization_config. Copy into it what quantize_config.json or quant_config.json says,"
        " with quant_method."
    )


def test_groups_that_do_not_divide_a_linear_are_refused(folder: Path) -> None:
    quantized(folder)
    fields = {"quant_method": "gptq", "bits": 4, "group_size": 48}
    (folder / "config.json").write_text(json.dumps({**CONFIG, "quantization_config": fields}))
    assert refusal(folder) == (
        f"{folder}: group_size 48: must divide 64 (in_features of layers.0.mlp.down_proj)."
    )


def test_sizes_that_words_do_not_divide_are_refused(folder: Path) -> None:
    config = {**CONFIG, "intermediate_size": 44}
    shapes = spec_from_config(config, "c").float_tensors()
    held = {name: np.zeros(shape, np.float16) for name, shape in shapes.items()}
    del held["model.layers.0.mlp.up_proj.weight"]
    held["model.layers.0.mlp.up_proj.qweight"] = np.zeros((32, 5), np.int32)
    save_file(held, folder / WEIGHTS)
    fields = {"quant_method": "awq", "bits": 4, "group_size": 32}
    config["quantization_config"] = fields
    (folder / "config.json").write_text(json.dumps(config))
    assert "up_proj.qzeros (2 missing)" in refusal(folder)
    held["model.layers.0.mlp.up_proj.qzeros"] = np.zeros((1, 5), np.int32)
    held["model.layers.0.mlp.up_proj.scales"] = np.zeros((1, 44), np.float16)
    save_file(held, folder / WEIGHTS)
    assert refusal(folder) == (
        f"{folder}: awq with 4 bits: 8 must divide the sizes of layers.0.mlp.up_proj, [44, 32]."
    )


def test_published_checkpoints_are_read(test_data: Path) -> None:
    found = {}
    for name in ("stories3m", "tinystories-656k", "stories260k"):
        checkpoint = Checkpoint.open(test_data / "models" / name)
        spec = checkpoint.spec
        found[name] = (spec.num_parameters(), checkpoint.weight_dtype, checkpoint.embedding_name)
        assert spec.tie_word_embeddings
    assert found == {
        "stories3m": (3_148_224, "F16", "model.embed_tokens.weight"),
        "tinystories-656k": (656_000, "F32", "lm_head.weight"),
        "stories260k": (260_032, "F32", "model.embed_tokens.weight"),
    }


def test_a_bare_name_is_searched_in_the_model_folders(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    with pytest.raises(PlanError) as caught:
        find_model("model")
    assert str(caught.value) == (
        f"model.path=model: no such folder. Searched {work}/model. $LMRUN_MODELS is not set."
    )
    monkeypatch.setenv("LMRUN_MODELS", f"{tmp_path}/none:{tmp_path}")
    assert find_model("model") == folder
    with pytest.raises(PlanError) as caught:
        find_model("other")
    assert str(caught.value) == (
        f"model.path=other: no such folder. Searched {work}/other, {tmp_path}/none/other,"
        f" {tmp_path}/other."
    )
    shutil.copytree(folder, work / "model")
    assert find_model("model") == work / "model"


def test_a_path_that_is_no_folder_is_told_from_one_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").touch()
    with pytest.raises(PlanError) as caught:
        find_model(f"{tmp_path}/model.gguf")
    assert str(caught.value) == (
        f"model.path={tmp_path}/model.gguf: expected a folder, got a file. Name the folder that it"
        " lies in."
    )
    with pytest.raises(PlanError, match="no such folder"):
        find_model("x" * 5000)


def test_a_workspace_is_told_from_a_checkpoint(folder: Path) -> None:
    assert not is_workspace(folder)
    (folder / "model.json").write_text('{"format": "lmrun-workspace"}')
    assert is_workspace(folder)


def test_a_config_of_many_levels_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text('{"x": ' + "[" * 100_000)
    assert f"{folder / 'config.json'}: " in refusal(folder)
