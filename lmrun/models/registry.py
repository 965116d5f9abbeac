"""The architectures lmrun knows: `config.json` in, `ModelSpec` out. No torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmrun.errors import PlanError
from lmrun.models.builtin import BuiltinModel
from lmrun.models.spec import ModelSpec, RopeSpec

CONFIG_FILE = "config.json"
GENERATION_FILE = "generation_config.json"
ROPE_KINDS = ("default", "linear", "llama3")
DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


@dataclass(frozen=True)
class Architecture:
    """How the config.json of a family of decoders is read."""

    name: str
    model_type: str
    qkv_bias: bool
    qk_norm: bool
    kv_heads_default_to_heads: bool = False
    has_sliding_window: bool = False
    """Reads `sliding_window` (and `use_sliding_window`, where present)."""
    fixed: tuple[str, ...] = ()
    """Flags of config.json that must be false: what they switch on is not built yet."""
    is_served: bool = True
    """False for one that is known from its config.json alone: it can be priced, not run."""


_ENTRIES = (
    Architecture(
        name="LlamaForCausalLM",
        model_type="llama",
        qkv_bias=False,
        qk_norm=False,
        kv_heads_default_to_heads=True,
        fixed=("attention_bias", "mlp_bias"),
    ),
    Architecture(
        name="MistralForCausalLM",
        model_type="mistral",
        qkv_bias=False,
        qk_norm=False,
        has_sliding_window=True,
    ),
    Architecture(
        name="Qwen2ForCausalLM",
        model_type="qwen2",
        qkv_bias=True,
        qk_norm=False,
        has_sliding_window=True,
    ),
    Architecture(
        name="Qwen3ForCausalLM",
        model_type="qwen3",
        qkv_bias=False,
        qk_norm=True,
        has_sliding_window=True,
        fixed=("attention_bias",),
    ),
    Architecture(
        # One tensor holds q, k and v (`wqkv`), and w1, w3, w2 are gate, up and down.
        name="InternLM2ForCausalLM",
        model_type="internlm2",
        qkv_bias=False,
        qk_norm=False,
        kv_heads_default_to_heads=True,
        fixed=("bias",),
        is_served=False,
    ),
)
MAX_LAYERS = 4096
"""A damaged config.json must not ask for lists of a billion linears."""
ARCHITECTURES: dict[str, Architecture] = {entry.name: entry for entry in _ENTRIES}
"""The closed registry."""
SERVED: tuple[str, ...] = tuple(entry.name for entry in _ENTRIES if entry.is_served)


def read_spec(path: Path) -> ModelSpec:
    """The spec of a Hugging Face folder, from config.json and generation_config.json alone.

    Raises `PlanError` where the model is not one lmrun serves, naming the supported ones.
    """
    return _read_spec(path, only_served=True)


def read_known_spec(path: Path) -> ModelSpec:
    """`read_spec`, also for an architecture that is known and not served."""
    return _read_spec(path, only_served=False)


def _read_spec(path: Path, *, only_served: bool) -> ModelSpec:
    config = read_json(path / CONFIG_FILE)
    generation = path / GENERATION_FILE
    return spec_from_config(
        config,
        str(path / CONFIG_FILE),
        read_json(generation) if generation.exists() else {},
        only_served=only_served,
    )


def not_served(where: str, architecture: str) -> str:
    """The refusal of an architecture."""
    return f"{where}: architecture {architecture} is not built yet. Supported: {', '.join(SERVED)}."


def builtin_spec(model: BuiltinModel) -> ModelSpec:
    """The spec of a built-in model."""
    return spec_from_config(model.config, f"builtin:{model.name}")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; `PlanError` when the file is missing or holds something else."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PlanError(
            f"{path}: no such file. model.path names a Hugging Face folder or an lmrun workspace."
        ) from None
    except OSError as error:
        raise PlanError(f"{path}: cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise PlanError(f"{path}: expected JSON, got {error}.") from error
    if not isinstance(document, dict):
        raise PlanError(f"{path}: expected a JSON object, got {type(document).__name__}.")
    return document


def spec_from_config(
    config: Mapping[str, Any],
    where: str,
    generation: Mapping[str, Any] | None = None,
    *,
    only_served: bool = True,
) -> ModelSpec:
    """The spec of a config.json already read; ``where`` begins the error messages.

    ``only_served`` refuses an architecture that is known and not served.
    """
    entry = _architecture(config, where)
    if only_served and not entry.is_served:
        raise PlanError(not_served(where, entry.name))
    reader = _Reader(config, where)
    reader.must_be("hidden_act", "silu")
    for flag in entry.fixed:
        reader.must_be(flag, False)
    num_heads = reader.count("num_attention_heads")
    kv_default = num_heads if entry.kv_heads_default_to_heads else None
    num_kv_heads = reader.count("num_key_value_heads", kv_default)
    if num_heads % num_kv_heads:
        raise reader.error("num_key_value_heads", f"a divisor of {num_heads}", num_kv_heads)
    hidden = reader.count("hidden_size")
    if config.get("head_dim") is None and hidden % num_heads:
        raise reader.error("hidden_size", f"a multiple of {num_heads} heads", hidden)
    head_dim = reader.count("head_dim", hidden // num_heads)
    if head_dim % 8:
        raise reader.error("head_dim", "a multiple of 8", head_dim)
    context_length = reader.count("max_position_embeddings")
    window = _sliding_window(config, entry, reader)
    generation = generation or {}
    bos = _token_ids(config, generation, "bos_token_id", where)
    return ModelSpec(
        architecture=entry.name,
        model_type=entry.model_type,
        hidden_size=hidden,
        intermediate_size=reader.count("intermediate_size"),
        num_layers=reader.count("num_hidden_layers", most=MAX_LAYERS),
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        vocab_size=reader.count("vocab_size"),
        context_length=context_length if window is None else min(context_length, window),
        rms_norm_eps=reader.positive("rms_norm_eps", 1e-6),
        tie_word_embeddings=reader.flag("tie_word_embeddings"),
        qkv_bias=entry.qkv_bias,
        qk_norm=entry.qk_norm,
        rope=_rope(config, reader, context_length, is_served=entry.is_served),
        dtype=_dtype(config, reader),
        bos_token_id=bos[0] if bos else None,
        eos_token_ids=tuple(_token_ids(config, generation, "eos_token_id", where)),
    )


class _Reader:
    """Typed access to config.json; each failure names the file and the key."""

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        self._config = config
        self._where = where

    def error(self, key: str, expected: str, got: object) -> PlanError:
        """The refusal of a value; None means that the key is missing."""
        shown = "nothing" if got is None else repr(got)
        return PlanError(f"{self._where}: {key}: expected {expected}, got {shown}.")

    def count(self, key: str, default: int | None = None, most: int | None = None) -> int:
        """A positive integer, not above ``most``."""
        value = self._config.get(key)
        if value is None:
            value = default
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.error(key, "a positive integer", value)
        if most is not None and value > most:
            raise self.error(key, f"at most {most}", value)
        return value

    def positive(
        self, key: str, default: float | None, source: Mapping[str, Any] | None = None
    ) -> float:
        """A positive number."""
        value = (self._config if source is None else source).get(key)
        if value is None:
            value = default
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise self.error(key, "a positive number", value)
        return float(value)

    def flag(self, key: str) -> bool:
        """A boolean, false where absent."""
        value = self._config.get(key, False)
        if not isinstance(value, bool):
            raise self.error(key, "true or false", value)
        return value

    def must_be(self, key: str, only: object) -> None:
        """Refuses a feature that the engine does not have."""
        value = self._config.get(key, only)
        if value != only:
            built = json.dumps(only).strip('"')
            raise PlanError(
                f"{self._where}: {key}={value} is not built yet. Supported: {key}={built}."
            )


def _architecture(config: Mapping[str, Any], where: str) -> Architecture:
    names = config.get("architectures")
    supported = ", ".join(SERVED)
    if isinstance(names, list) and names:
        name = str(names[0])
    else:
        by_type = {entry.model_type: entry.name for entry in _ENTRIES}
        model_type = config.get("model_type")
        if model_type is None:
            raise PlanError(
                f"{where}: architectures: expected a list, got nothing. Supported: {supported}."
            )
        name = by_type.get(str(model_type), str(model_type))
    if name not in ARCHITECTURES:
        raise PlanError(not_served(where, name))
    return ARCHITECTURES[name]


def _sliding_window(config: Mapping[str, Any], entry: Architecture, reader: _Reader) -> int | None:
    if not entry.has_sliding_window or config.get("sliding_window") is None:
        return None
    if entry.model_type.startswith("qwen") and not config.get("use_sliding_window", False):
        return None
    return reader.count("sliding_window")


def _rope(
    config: Mapping[str, Any], reader: _Reader, context_length: int, *, is_served: bool
) -> RopeSpec:
    """From `rope_parameters` (transformers 5) or `rope_theta` with `rope_scaling`."""
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(scaling, dict):
        raise reader.error("rope_scaling", "an object", scaling)
    kind = str(scaling.get("rope_type", scaling.get("type", "default")))
    if kind not in ROPE_KINDS and not is_served:
        return RopeSpec(kind, reader.positive("rope_theta", 10000.0))  # costs nothing
    if kind not in ROPE_KINDS:
        raise PlanError(
            f"{reader.error('rope_scaling', ', '.join(ROPE_KINDS), kind)}"
            " Other kinds of RoPE scaling are not built yet."
        )
    if scaling.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0)) != 1.0:
        raise PlanError(
            f"{reader.error('partial_rotary_factor', '1', 'another value')}"
            " Rotating a part of a head is not built yet."
        )
    theta = reader.positive("rope_theta", 10000.0, {**config, **scaling})
    if kind == "default":
        return RopeSpec(kind, theta)
    factor = reader.positive("factor", None, scaling)
    if kind == "linear":
        return RopeSpec(kind, theta, factor)
    original = scaling.get("original_max_position_embeddings", context_length)
    return RopeSpec(
        kind,
        theta,
        factor,
        low_freq_factor=reader.positive("low_freq_factor", None, scaling),
        high_freq_factor=reader.positive("high_freq_factor", None, scaling),
        original_max_position_embeddings=int(original),
    )


def _dtype(config: Mapping[str, Any], reader: _Reader) -> str:
    name = config.get("dtype") or config.get("torch_dtype") or "float32"
    if name not in DTYPES:
        raise reader.error("dtype", " or ".join(DTYPES), name)
    return DTYPES[name]


def _token_ids(
    config: Mapping[str, Any], generation: Mapping[str, Any], key: str, where: str
) -> list[int]:
    value = generation.get(key)
    if value is None:
        value = config.get(key)
    if value is None:
        return []
    ids = value if isinstance(value, list) else [value]
    if not all(isinstance(item, int) and not isinstance(item, bool) and item >= 0 for item in ids):
        raise PlanError(f"{where}: {key}: expected token ids, got {value!r}.")
    return list(ids)
