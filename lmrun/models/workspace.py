"""Reads `model.json` of an engine workspace back into a spec."""

from dataclasses import dataclass
from pathlib import Path

from lmrun.errors import PlanError
from lmrun.models.checkpoint import WORKSPACE_FILE, WORKSPACE_FORMAT
from lmrun.models.registry import read_json
from lmrun.models.safetensors_header import read_header
from lmrun.models.spec import ModelSpec, RopeSpec

SCHEMA_VERSIONS = (1, 2)
"""Versions that the engine reads."""
RANK_FILE = "rank-0.safetensors"


@dataclass(frozen=True)
class WorkspaceInfo:
    """A workspace folder, from its model.json and the header of its tensors."""

    spec: ModelSpec
    """``rope`` is a placeholder: the workspace holds the frequencies themselves."""
    method: str
    bits: int
    group_size: int
    activation_bits: int
    """8 where the inputs of linears are quantized too, else 16."""
    is_symmetric: bool
    scale_dtype: str
    """Of the scales of groups: `F16` or `F32`."""
    num_bytes: int
    """Size of the mapped file."""
    weight_dtype: str
    tensor_names: frozenset[str]


def read_workspace(path: Path) -> WorkspaceInfo:
    """Raises `PlanError` for another version or layout, a missing field or a truncated file."""
    where = path / WORKSPACE_FILE
    model = read_json(where)
    for key, only in (
        ("format", WORKSPACE_FORMAT),
        ("layout", "cpu-tile16"),
        ("tp", 1),
    ):
        if model.get(key) != only:
            raise PlanError(f"{where}: {key}: expected {only}, got {model.get(key)}. Rebuild it.")
    if (version := model.get("schema_version")) not in SCHEMA_VERSIONS:
        raise PlanError(f"{where}: schema_version: expected 1 or 2, got {version}. Rebuild it.")
    tensors = read_header(path / RANK_FILE)
    try:
        weights = model["weights"]
        embedding = tensors["tok_embeddings.weight"]
        spec = ModelSpec(
            architecture=str(model["architecture"]),
            model_type="",
            hidden_size=int(model["hidden_size"]),
            intermediate_size=int(model["intermediate_size"]),
            num_layers=int(model["num_layers"]),
            num_heads=int(model["num_heads"]),
            num_kv_heads=int(model["num_kv_heads"]),
            head_dim=int(model["head_dim"]),
            vocab_size=int(model["vocab_size"]),
            context_length=int(model["context_length"]),
            rms_norm_eps=float(model["rms_norm_eps"]),
            tie_word_embeddings=bool(model["tie_word_embeddings"]),
            qkv_bias=bool(model["qkv_bias"]),
            qk_norm=bool(model["qk_norm"]),
            rope=RopeSpec("default", 10000.0),
            dtype=embedding.dtype,
            bos_token_id=model["bos_token_id"],
            eos_token_ids=tuple(int(token) for token in model["eos_token_ids"]),
        )
        return WorkspaceInfo(
            spec=spec,
            method=str(weights["method"]),
            bits=int(weights["bits"]),
            group_size=int(weights["group_size"]),
            activation_bits=int(weights.get("activation_bits", 16)),
            is_symmetric=bool(weights.get("symmetric", False)),
            scale_dtype=next(
                (entry.dtype for name, entry in tensors.items() if name.endswith(".scales")), "F16"
            ),
            num_bytes=(path / RANK_FILE).stat().st_size,
            weight_dtype=embedding.dtype,
            tensor_names=frozenset(tensors),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise PlanError(f"{where}: expected a complete workspace, got no legal {error}.") from error
