"""lmrun: deploy open LLMs reproducibly.

``lmrun.compose``, ``lmrun.plan``, ``lmrun.up`` and ``lmrun.LLM`` mirror the command line; see
`lmrun.api`. They are loaded when they are first asked for, so that ``import lmrun`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmrun.api import LLM, Deployment, SamplingParams, compose, plan, up

__version__ = "0.1.0"
__all__ = ["LLM", "Deployment", "SamplingParams", "__version__", "compose", "plan", "up"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the protocol of module attributes
    if name == "plan":  # the package, which can be called
        return import_module("lmrun.plan")
    if name in __all__:
        return getattr(import_module("lmrun.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
