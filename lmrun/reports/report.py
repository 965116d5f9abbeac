"""`Report`: what prune, calibrate, quantize and evaluate left in the store about a deployment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lmrun.json_schema import (
    BOOLEAN,
    COUNT,
    TEXT,
    TEXT_OR_NULL,
    TEXTS,
    Schema,
    document,
    mapping,
    or_null,
    record,
)
from lmrun.quant.kv import BITS, PARTS

SCHEMA_VERSION = 1
ROLES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Linears of a layer, in the order they are shown in."""


@dataclass(frozen=True)
class Layer:
    """One decoder layer."""

    linears: Mapping[str, Mapping[str, Any]]
    """Role → what `report.json` of quantize says of it; empty where nothing was quantized."""
    seconds: Mapping[str, float] | None
    """Of `observe`, `quantize` and `pack`; None where nothing was quantized."""
    kv: Mapping[str, Mapping[str, float]] | None
    """Bits → expected relative squared error of `kv.PARTS`; None where calibrate did not run."""
    pruned: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Role → `zeros` (share), `relative_error`, `damping`; empty where nothing was pruned."""


@dataclass(frozen=True)
class Pruning:
    """What prune did."""

    method: str
    pattern: str
    sparsity: float
    """Share of the linears' weights that are zero."""
    error_of: str
    """What the relative errors are of."""
    engine: str
    """What the engine gains."""
    seconds_by_layer: tuple[float, ...]
    peak_rss_bytes: int | None


@dataclass(frozen=True)
class Quantization:
    """What quantize did."""

    method: str
    bits: int
    group_size: int
    symmetric: bool
    activation_bits: int
    format: str
    settings: Mapping[str, Any]
    """The keys of `quant` that the method reads."""
    skipped: tuple[str, ...]
    tokens: int
    """Of the calibration text that it looked at; 0: none."""
    mean_output_error: Mapping[str, float] | None
    """Role → mean over the layers; None without a text."""
    peak_rss_bytes: int | None


@dataclass(frozen=True)
class Sizes:
    """Bytes."""

    float_linears: int | None
    """Of the linears before, in the checkpoint's type; None where nothing was quantized."""
    quantized_linears: int | None
    """Of what stands in their place in the quantized checkpoint."""
    float_weights: int
    """Of all weights before, in the checkpoint's type."""
    weights: int
    """Of all weights in the engine's workspace."""
    kv_bytes_per_token: int


@dataclass(frozen=True)
class Report:
    """Everything; what is not in the store is None, and ``missing`` says so."""

    model: str
    recipe: str | None
    num_layers: int
    sizes: Sizes
    pruning: Pruning | None = None
    quantization: Quantization | None = None
    calibration: Mapping[str, Any] | None = None
    """`metrics.data` of calibrate, and its `tokens`."""
    layers: tuple[Layer, ...] = ()
    quality: Mapping[str, Any] | None = None
    """The quality report of the deployment (`lmrun schema quality`)."""
    kept_kv_layers: tuple[int, ...] = ()
    """Layers whose KV cache `kv.keep` or `kv.keep_layers` keeps at more bits."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Of each stage, when it ran."""
    fallbacks: tuple[str, ...] = ()
    """What a stage did otherwise than asked."""
    missing: tuple[str, ...] = ()

    @property
    def before_after(self) -> Mapping[str, tuple[float | None, float | None]]:
        """Figure → before (float) and after."""
        found = self.quality or {}
        baseline = found.get("baseline") or {}
        return {
            "perplexity": (baseline.get("perplexity"), found.get("perplexity")),
            "weight_bytes": (self.sizes.float_weights, self.sizes.weights),
        }

    def roles(self) -> list[str]:
        """Roles that were quantized in some layer, in order."""
        return _in_order({role for layer in self.layers for role in layer.linears})

    def pruned_roles(self) -> list[str]:
        """Roles that were pruned, in order."""
        return _in_order({role for layer in self.layers for role in layer.pruned})

    def has_kv(self) -> bool:
        """Whether the errors of the KV cache are known."""
        return any(layer.kv for layer in self.layers)


def _in_order(roles: set[str]) -> list[str]:
    return [*(role for role in ROLES if role in roles), *sorted(roles.difference(ROLES))]


def to_document(report: Report) -> dict[str, Any]:
    """The JSON form, which fits `SCHEMA`."""
    quantization, sizes = report.quantization, report.sizes
    return {
        "schema_version": SCHEMA_VERSION,
        "model": report.model,
        "recipe": report.recipe,
        "num_layers": report.num_layers,
        "pruning": None
        if report.pruning is None
        else {**vars(report.pruning), "seconds_by_layer": list(report.pruning.seconds_by_layer)},
        "quantization": None
        if quantization is None
        else {
            **vars(quantization),
            "settings": dict(quantization.settings),
            "skipped": list(quantization.skipped),
        },
        "calibration": None if report.calibration is None else dict(report.calibration),
        "layers": [
            {
                "linears": {role: dict(row) for role, row in layer.linears.items()},
                "seconds": layer.seconds,
                "kv": layer.kv,
                "pruned": {role: dict(row) for role, row in layer.pruned.items()},
            }
            for layer in report.layers
        ],
        "sizes": vars(sizes),
        "before_after": {
            name: {"before": before, "after": after}
            for name, (before, after) in report.before_after.items()
        },
        "quality": report.quality,
        "kept_kv_layers": list(report.kept_kv_layers),
        "seconds": dict(report.seconds),
        "fallbacks": list(report.fallbacks),
        "missing": list(report.missing),
    }


_NUMBER: Schema = {"type": "number"}
_NUMBER_OR_NULL = or_null(_NUMBER)
_BYTES_OR_NULL = or_null(COUNT)
_BEFORE_AFTER = record(before=_NUMBER_OR_NULL, after=_NUMBER_OR_NULL)
SCHEMA: Schema = document(
    "lmrun report",
    SCHEMA_VERSION,
    model=TEXT,
    recipe=TEXT_OR_NULL,
    num_layers=COUNT,
    pruning=or_null(
        record(
            method=TEXT,
            pattern=TEXT,
            sparsity=_NUMBER,
            error_of=TEXT,
            engine=TEXT,
            seconds_by_layer={"type": "array", "items": _NUMBER},
            peak_rss_bytes=_BYTES_OR_NULL,
        )
    ),
    quantization=or_null(
        record(
            method=TEXT,
            bits=COUNT,
            group_size=COUNT,
            symmetric=BOOLEAN,
            activation_bits=COUNT,
            format=TEXT,
            settings={"type": "object"},
            skipped=TEXTS,
            tokens=COUNT,
            mean_output_error=or_null(mapping(_NUMBER)),
            peak_rss_bytes=_BYTES_OR_NULL,
        )
    ),
    calibration=or_null({"type": "object"}),
    layers={
        "type": "array",
        "items": record(
            linears=mapping({"type": "object"}),
            seconds=or_null(mapping(_NUMBER)),
            kv=or_null(
                record(**{str(bits): record(**dict.fromkeys(PARTS, _NUMBER)) for bits in BITS})
            ),
            pruned=mapping(record(zeros=_NUMBER, relative_error=_NUMBER, damping=_NUMBER_OR_NULL)),
        ),
    },
    sizes=record(
        float_linears=_BYTES_OR_NULL,
        quantized_linears=_BYTES_OR_NULL,
        float_weights=COUNT,
        weights=COUNT,
        kv_bytes_per_token=COUNT,
    ),
    before_after=record(perplexity=_BEFORE_AFTER, weight_bytes=_BEFORE_AFTER),
    quality=or_null({"type": "object", "description": "the quality report"}),
    kept_kv_layers={"type": "array", "items": COUNT},
    seconds=mapping(_NUMBER),
    fallbacks=TEXTS,
    missing=TEXTS,
)
