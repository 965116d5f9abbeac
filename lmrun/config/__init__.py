"""From YAML and overrides to a validated run config.

`compose` is loaded when it is first asked for: it brings Hydra and pydantic (0.2 s), which the
processes that only need the dataclasses do without.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lmrun.config.composed import Composed, ConfigFile, Origin, RecipeOrigin, Setting
from lmrun.config.resolved import flat, resolved
from lmrun.config.schema import RunConfig

if TYPE_CHECKING:
    from lmrun.config.composition import compose

__all__ = [
    "Composed",
    "ConfigFile",
    "Origin",
    "RecipeOrigin",
    "RunConfig",
    "Setting",
    "compose",
    "flat",
    "resolved",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the protocol of module attributes
    if name == "compose":
        return import_module("lmrun.config.composition").compose
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
