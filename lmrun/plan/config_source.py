"""Models that can be priced from config.json and not run: no weights, or not served."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmrun.models.checkpoint import INDEX_FILE, PICKLE_SUFFIXES, SINGLE_FILE
from lmrun.models.quantization_config import code_format
from lmrun.models.registry import (
    CONFIG_FILE,
    SERVED,
    not_served,
    read_json,
    read_known_spec,
    spec_from_config,
)
from lmrun.models.spec import ModelSpec
from lmrun.quant.layout import WeightQuant


@dataclass(frozen=True)
class ConfigOnly:
    """A model of which config.json alone counts."""

    spec: ModelSpec
    stored: WeightQuant | None
    """How `quantization_config` says that the linears are stored; None where they are floats."""
    refusals: tuple[str, ...]


def config_only(folder: Path) -> ConfigOnly | None:
    """The model of a folder that can be priced alone; None for one with weights that is served.

    Raises `PlanError` for an architecture that is not known.
    """
    if not (folder / CONFIG_FILE).is_file():
        return None
    config = read_json(folder / CONFIG_FILE)
    spec = read_known_spec(folder)
    refusals = []
    if spec.architecture not in SERVED:
        refusals.append(not_served(str(folder / CONFIG_FILE), spec.architecture))
    if not _has_weights(folder):
        refusals.append(
            f"{folder}: expected {SINGLE_FILE} or {INDEX_FILE}, got neither: the weights are"
            " missing. The plan is made from config.json alone."
        )
    if not refusals:
        return None
    return ConfigOnly(spec, _stored(config, folder), tuple(refusals))


def not_served_only(
    config: Mapping[str, Any], generation: Mapping[str, Any], folder: Path, where: str
) -> ConfigOnly | None:
    """The same for a config.json read elsewhere; None for an architecture that is served.

    ``folder`` is where the file would lie, ``where`` begins the refusal.
    """
    spec = spec_from_config(config, where, generation, only_served=False)
    if spec.architecture in SERVED:
        return None
    return ConfigOnly(spec, _stored(config, folder), (not_served(where, spec.architecture),))


def _has_weights(folder: Path) -> bool:
    """Of any kind: pickle files are refused elsewhere, with what to do about them."""
    if (folder / SINGLE_FILE).is_file() or (folder / INDEX_FILE).is_file():
        return True
    return any(path.suffix in PICKLE_SUFFIXES for path in folder.iterdir())


def _stored(config: Mapping[str, Any], folder: Path) -> WeightQuant | None:
    """As its own tools would store all linears; scales in float16."""
    form = code_format(config, str(folder / CONFIG_FILE))
    if form is None:
        return None
    return WeightQuant(
        form.method,
        form.group_size,
        bits=form.bits,
        is_symmetric=form.is_symmetric,
        activation_bits=form.activation_bits,
        has_order=form.act_order and form.group_size > 0,
    )
