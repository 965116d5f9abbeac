"""A run has one model: a path, or a model of the hub."""

from collections.abc import Mapping

from lmrun.config.composed import Choice, Origin, Setting
from lmrun.config.places import Places
from lmrun.config.schema import RunConfig
from lmrun.config.values import shown
from lmrun.errors import ConfigError

PATH, HUB_ID = "model.path", "model.hub_id"
_NEED_A_HUB_ID = ("model.revision", "model.hub_token")


def give_way(
    chain: dict[str, tuple[Setting, ...]],
    choices: Mapping[str, tuple[Choice, ...]],
    places: Places,
) -> None:
    """Take back the path of the default model, which nobody asked for, where a hub id is given."""
    hub_id, path = chain[HUB_ID][-1], chain[PATH][-1]
    chosen = choices["model"]
    default = places.option_file("model", chosen[0].option)
    is_default = len(chosen) == 1 and path.origin.path == default
    if hub_id.value is not None and is_default:
        chain[PATH] += (Setting(PATH, None, hub_id.origin),)


def check_one(run: RunConfig, origins: Mapping[str, Origin]) -> None:
    """Refuse two models, and settings of the hub where no model comes from it."""
    model = run.model
    if model.path is not None and model.hub_id is not None:
        raise ConfigError(
            f"{PATH}={shown(model.path)} ({origins[PATH]}) and {HUB_ID}={model.hub_id}"
            f" ({origins[HUB_ID]}): expected one of them."
            f" Write {PATH}=null or {HUB_ID}=null as well."
        )
    for name in _NEED_A_HUB_ID:
        value = getattr(model, name.partition(".")[2])
        if model.hub_id is None and value is not None:
            raise ConfigError(
                f"{name}={shown(value)} ({origins[name]}): belongs to a model of the hub, and"
                f" {HUB_ID} is not set. Write {HUB_ID}=ORG/NAME as well, or take it out."
            )
