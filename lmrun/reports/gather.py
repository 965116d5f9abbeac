"""Reading a report's parts from the artifacts of a plan."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from lmrun.artifacts.store import Artifact, Store
from lmrun.errors import ArtifactError, PlanError
from lmrun.plan.kv_layers import CALIBRATION_FILE, kept_layers
from lmrun.plan.plan import Plan
from lmrun.quant import kv
from lmrun.reports.report import Layer, Pruning, Quantization, Report, Sizes

REPORT_FILE = "report.json"
"""Of the artifact of quantize."""
SHOWN_STAGES = ("prune", "calibrate", "quantize", "convert", "baseline", "evaluate")
_DTYPE_BYTES = {"F32": 4, "F16": 2, "BF16": 2}


def gather(plan: Plan, kv_config: Any, store: Store) -> Report:  # noqa: ANN401 - KvConfig
    """What the store has on a plan. `PlanError` where none of its stages was ever run;
    `ArtifactError` for a damaged report."""
    artifacts = dict(_artifacts(plan, store))
    if not artifacts:
        raise PlanError(
            "report: nothing of this deployment is in the store. Run it first: `lmrun build` with"
            " the same settings; with evaluate=quick its quality is measured too."
        )
    found = _document(artifacts["quantize"]) if "quantize" in artifacts else None
    metrics = artifacts["quantize"].manifest.fields.metrics if "quantize" in artifacts else {}
    calibrate = artifacts.get("calibrate")
    prune = artifacts.get("prune")
    pruned = {} if prune is None else prune.manifest.fields.metrics
    kept = kept_layers(kv_config, None if calibrate is None else calibrate.path)
    return Report(
        model=plan.served_name,
        recipe=plan.recipe,
        num_layers=plan.spec.num_layers,
        sizes=_sizes(plan, found),
        pruning=None if prune is None else _pruning(pruned),
        quantization=None if found is None else _quantization(found, metrics),
        calibration=None if calibrate is None else _calibration(calibrate),
        layers=tuple(_layers(plan, found, metrics, calibrate, pruned)),
        quality=plan.quality,
        kept_kv_layers=tuple(kept or ()),
        seconds={name: one.manifest.fields.seconds for name, one in artifacts.items()},
        fallbacks=tuple(
            f"{name}: {words}"
            for name, one in artifacts.items()
            for words in one.manifest.fields.metrics.get("fallbacks", ())
        ),
        missing=tuple(_missing(plan, artifacts)),
    )


def _artifacts(plan: Plan, store: Store) -> Iterator[tuple[str, Artifact]]:
    for name in SHOWN_STAGES:
        stage = plan.stage(name)
        if stage is not None and stage.fingerprint is not None:
            artifact = store.find(name, stage.fingerprint)
            if artifact is not None:
                yield name, artifact


def _missing(plan: Plan, artifacts: Mapping[str, Artifact]) -> Iterator[str]:
    for name in SHOWN_STAGES:
        if plan.stage(name) is not None and name not in artifacts:
            yield f"{name} has not run: `lmrun build` with the same settings runs it"
    if plan.stage("evaluate") is None:
        yield "quality is not measured: the recipe asks for no evaluation (evaluate=quick does)"


def _document(artifact: Artifact) -> dict[str, Any]:
    """The report of quantize; the store has checked the file's stamp."""
    path = artifact.path / REPORT_FILE
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: expected a report, got {error}. Build again.") from error
    return found


def _pruning(metrics: Mapping[str, Any]) -> Pruning:
    return Pruning(
        method=metrics["method"],
        pattern=metrics["pattern"],
        sparsity=metrics["sparsity"],
        error_of=metrics["error_of"],
        engine=metrics["engine"],
        seconds_by_layer=tuple(metrics["seconds_by_layer"]),
        peak_rss_bytes=metrics.get("peak_rss_bytes"),
    )


def _quantization(found: Mapping[str, Any], metrics: Mapping[str, Any]) -> Quantization:
    return Quantization(
        method=found["method"],
        bits=found["bits"],
        group_size=found["group_size"],
        symmetric=found["symmetric"],
        activation_bits=found["activation_bits"],
        format=found["format"],
        settings=found["settings"],
        skipped=tuple(found["skipped"]),
        tokens=found["tokens"],
        mean_output_error=found["mean_relative_output_error"],
        peak_rss_bytes=metrics.get("peak_rss_bytes"),
    )


def _calibration(artifact: Artifact) -> dict[str, Any]:
    metrics = artifact.manifest.fields.metrics
    return {
        "tokens": metrics.get("tokens"),
        "statistics_tokens": metrics.get("statistics_tokens"),
        **dict(metrics.get("data") or {}),
    }


def _layers(
    plan: Plan,
    found: Mapping[str, Any] | None,
    metrics: Mapping[str, Any],
    calibrate: Artifact | None,
    pruned: Mapping[str, Any],
) -> Iterator[Layer]:
    errors = None if calibrate is None else kv.read_errors(calibrate.path / CALIBRATION_FILE)
    rows = [] if found is None else found["layers"]
    seconds = metrics.get("seconds_by_layer") or []
    for index in range(plan.spec.num_layers):
        yield Layer(
            linears=rows[index] if index < len(rows) else {},
            seconds=seconds[index] if index < len(seconds) else None,
            kv=None
            if errors is None
            else {str(bits): asdict(of_layers[index]) for bits, of_layers in errors.items()},
            pruned=pruned["layers"][index] if pruned else {},
        )


def _sizes(plan: Plan, found: Mapping[str, Any] | None) -> Sizes:
    # of a quantized model the plan's type is that of the result
    linears = sum(one.in_features * one.out_features for one in plan.spec.linears)
    width = _DTYPE_BYTES[plan.weight_dtype] if found is None else found["float_bytes"] // linears
    return Sizes(
        float_linears=None if found is None else found["float_bytes"],
        quantized_linears=None if found is None else found["quantized_bytes"],
        float_weights=plan.spec.num_parameters() * width,
        weights=plan.budget.weights_bytes,
        kv_bytes_per_token=plan.budget.kv_bytes_per_token,
    )
