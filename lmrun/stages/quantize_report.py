"""`report.json` of quantize: what was done to each linear, and how far its output moved.

Equal inputs give equal bytes, so no time and no memory stands in it: those are in the manifest,
`metrics.seconds_by_layer` and `metrics.peak_rss_bytes`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lmrun.json_schema import (
    BOOLEAN,
    COUNT,
    TEXT,
    TEXTS,
    Schema,
    document,
    mapping,
    or_null,
    record,
)
from lmrun.quant.weight import QuantizedWeight, Scheme

SCHEMA_VERSION = 1
FILE_NAME = "report.json"
OUTLIER_RATIO = 6.0
"""An input feature counts as an outlier where its root mean square is over this times the median
one."""
ERROR_ROWS = 256
"""Output features, evenly spread, that the output error of a linear is measured on."""
DIGITS = 6

NUMBER: Schema = {"type": "number"}
_SPREAD = record(min=NUMBER, median=NUMBER, max=NUMBER)
_ROW = record(
    relative_output_error=or_null(NUMBER),
    relative_weight_error=NUMBER,
    clipped_share=NUMBER,
    channel_scales=or_null(_SPREAD),
    alpha=or_null(NUMBER),
    damping=or_null(NUMBER),
    outlier_inputs=or_null(COUNT),
)
SCHEMA: Schema = document(
    "report.json of the quantize stage",
    SCHEMA_VERSION,
    method=TEXT,
    bits=COUNT,
    group_size=COUNT,
    symmetric=BOOLEAN,
    activation_bits=COUNT,
    format=TEXT,
    settings={"type": "object"},
    tokens=COUNT,
    skipped=TEXTS,
    layers={"type": "array", "items": mapping(_ROW)},
    mean_relative_output_error=or_null(mapping(NUMBER)),
    float_bytes=COUNT,
    quantized_bytes=COUNT,
)
"""`layers`: one object a layer, role → its linear. Errors are squared norms over squared norms: of
the outputs on the calibration text (null where a method looks at no text), and of the weights.
`clipped_share`: weights more than half a step outside the range of their codes. `channel_scales`:
what the input's channels were scaled by (null: nothing was). `float_bytes`: of the linears in the
checkpoint; `quantized_bytes`: of what stands in their place."""


@dataclass(frozen=True)
class RowFacts:
    """What a row needs beside the weights."""

    moment: Tensor | None = None
    """float32 [K, K] of the linear's input, in the scale of ``weight``."""
    channel_scales: Tensor | None = None
    alpha: float | None = None
    damping: float | None = None


def role_row(weight: Tensor, codes: QuantizedWeight, facts: RowFacts) -> dict[str, Any]:
    """One linear: float32 weights [N, K] with scales folded in, and their codes."""
    step = -(-len(weight) // ERROR_ROWS)
    some = weight[::step]
    difference = QuantizedWeight(
        codes.codes[::step], codes.scales[::step], codes.zeros[::step], codes.bits
    ).dequantize()
    difference.sub_(some)
    moment = facts.moment
    error = None
    outliers = None
    if moment is not None:
        energy = _energy(some, moment)
        error = _energy(difference, moment) / energy if energy > 0 else 0.0
        outliers = _num_outliers(moment.diagonal().clamp(min=0).sqrt())
    squares = float(some.square().sum().double()) or 1.0
    return {
        "relative_output_error": _shown(error),
        "relative_weight_error": _shown(float(difference.square().sum().double()) / squares),
        "clipped_share": _shown(_clipped_share(some, codes, step)),
        "channel_scales": _spread(facts.channel_scales),
        "alpha": _shown(facts.alpha),
        "damping": _shown(facts.damping),
        "outlier_inputs": outliers,
    }


def report_document(
    scheme: Scheme,
    rows: Sequence[Mapping[str, Mapping[str, Any]]],
    fields: Mapping[str, Any],
) -> dict[str, Any]:
    """The whole report; ``rows`` by layer, ``fields`` the rest of `SCHEMA`."""
    return {
        "schema_version": SCHEMA_VERSION,
        "bits": scheme.bits,
        "group_size": scheme.group_size,
        "symmetric": scheme.symmetric,
        **fields,
        "layers": [dict(row) for row in rows],
        "mean_relative_output_error": mean_errors(rows),
    }


def mean_errors(rows: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, float] | None:
    """Role → mean of its relative output error over the layers; None without a text."""
    found: dict[str, list[float]] = {}
    for row in rows:
        for role, one in row.items():
            if one["relative_output_error"] is not None:
                found.setdefault(role, []).append(one["relative_output_error"])
    if not found:
        return None
    return {role: _round(math.fsum(all_) / len(all_)) for role, all_ in sorted(found.items())}


def _energy(matrix: Tensor, moment: Tensor) -> float:
    return float((matrix @ moment).mul_(matrix).sum().double())


def _num_outliers(magnitudes: Tensor) -> int:
    return int((magnitudes > OUTLIER_RATIO * magnitudes.median()).sum())


def _clipped_share(weight: Tensor, codes: QuantizedWeight, step: int) -> float:
    scales, zeros = codes.scales[::step].float(), codes.zeros[::step].float()
    top = (1 << codes.bits) - 1
    low = (-zeros - 0.5) * scales
    high = (top - zeros + 0.5) * scales
    grouped = weight.view(*scales.shape, -1)
    slack = scales * 1e-3
    outside = (grouped < (low - slack)[:, :, None]) | (grouped > (high + slack)[:, :, None])
    return float(outside.float().mean())


def _spread(scales: Tensor | None) -> dict[str, float] | None:
    if scales is None:
        return None
    values = scales.float().flatten()
    return {
        "min": _round(float(values.min())),
        "median": _round(float(values.median())),
        "max": _round(float(torch.max(values))),
    }


def _shown(value: float | None) -> float | None:
    return None if value is None else _round(value)


def _round(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
