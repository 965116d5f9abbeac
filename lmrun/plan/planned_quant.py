"""How this deployment will store the weights: the quant group, checked against the model."""

from dataclasses import replace

from lmrun.config.schema import PruneMethod, QuantConfig, QuantMethod, RunConfig
from lmrun.errors import ConfigError, PlanError
from lmrun.models.spec import ModelSpec
from lmrun.quant import combinations
from lmrun.quant.layout import WeightQuant

AWQ_COLUMNS = 8
"""Codes in a word of an AWQ folder: it divides the output features."""


def check_settings(run: RunConfig) -> None:
    """Raise `ConfigError`, with every reason, for settings that go together for no model."""
    found = combinations.config_refusals(run)
    if found:
        raise ConfigError("\n".join(one.text for one in found))


def planned_quant(run: RunConfig, spec: ModelSpec) -> WeightQuant:
    """As the recipe asks; `PlanError` where that cannot be done to this model."""
    found = combinations.model_refusals(run, spec)
    if found:
        raise PlanError("\n".join(one.text for one in found))
    return _stored(run.quant, spec)


def check_settled(run: RunConfig, spec: ModelSpec, what: str) -> None:
    """Refuse what only a float model can do, of one that ``what`` says is quantized already."""
    found = [one.text for one in combinations.layer_refusals(run.kv, spec)]
    if run.prune.method is not PruneMethod.none:
        found.append(
            f"prune.method={run.prune.method}: the model is {what} already. Prune the float"
            " checkpoint that it was made from."
        )
    if run.kv.keep:
        found.append(
            f"kv.keep={run.kv.keep}: the model is {what} already, and errors of layers are found on"
            " its float checkpoint. Name layers by kv.keep_layers."
        )
    if found:
        raise PlanError("\n".join(found))


def _stored(quant: QuantConfig, spec: ModelSpec) -> WeightQuant:
    if quant.method is QuantMethod.none:
        return WeightQuant("none")
    return WeightQuant(
        quant.method.value,
        group_size=quant.group_size,
        skip=combinations.skipped(quant.skip, spec),
        bits=quant.bits,
        is_symmetric=quant.symmetric,
        activation_bits=quant.activation_bits,
    )


def served_spec(run: RunConfig, spec: ModelSpec) -> ModelSpec:
    """The model as it is written: a rotation folds the last norm into the head, which a tied
    embedding cannot follow, so that the head becomes a matrix of its own."""
    return replace(spec, tie_word_embeddings=False) if run.quant.rotate else spec


def divides(spec: ModelSpec, group_size: int) -> bool:
    """Whether every linear can become AWQ codes with this group size."""
    return not any(
        item.in_features % group_size or item.out_features % AWQ_COLUMNS for item in spec.layer(0)
    )
