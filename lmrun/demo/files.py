"""The checkpoint folder of the demo model: written by training, read for evaluation."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from lmrun.demo.format import BEGIN, END, PAD
from lmrun.demo.model import DemoModel, Shape

MAX_SHARD_BYTES = 15 * 2**20
GENERATION = {
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
    "do_sample": True,
    "temperature": 0.7,
    "top_p": 0.9,
    "max_new_tokens": 400,
}
TOKENIZER = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": BEGIN,
    "eos_token": END,
    "pad_token": PAD,
    "model_max_length": 2048,
    "clean_up_tokenization_spaces": False,
}


def save(model: DemoModel, folder: Path) -> None:
    """Weights in bf16, in files under `MAX_SHARD_BYTES`, and the JSON files beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    shards: list[dict[str, torch.Tensor]] = [{}]
    size = total = 0
    for name, tensor in model.state_dict().items():
        stored = tensor.detach().to("cpu", torch.bfloat16).contiguous()
        if size + stored.nbytes > MAX_SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1][name] = stored
        size += stored.nbytes
        total += stored.nbytes
    weight_map: dict[str, str] = {}
    for index, shard in enumerate(shards):
        file = f"model-{index + 1:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(shard, file))
    index_json = {"metadata": {"total_size": total}, "weight_map": weight_map}
    write_json(folder / "model.safetensors.index.json", index_json)
    write_json(folder / "config.json", model.shape.config())
    write_json(folder / "generation_config.json", GENERATION)
    write_json(folder / "tokenizer_config.json", TOKENIZER)


def load(folder: Path) -> DemoModel:
    """The model of a folder, in fp32."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    shape = Shape(**{name: config[name] for name in Shape.__dataclass_fields__})
    model = DemoModel(shape)
    tensors: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("model-*.safetensors")):
        tensors.update(load_file(path))
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return model


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401 - any JSON value
    """Indented JSON and a newline."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
