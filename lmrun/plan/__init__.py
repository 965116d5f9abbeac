"""From a run config to a Plan: what will run, what it costs, whether it fits.

``lmrun.plan`` is this package and a function of the Python API: ``lmrun.plan("+recipe=x")`` gives
a `Plan`. Importing a submodule puts the package into ``lmrun.plan``, whatever stood there, so a
function of that name would vanish at some import; a package that can be called cannot. Type
checkers are told of the function alone (`lmrun.api.plan`).
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmrun.plan.plan import Plan


class _Callable(ModuleType):
    def __call__(self, *overrides: str) -> "Plan":
        """See `lmrun.api.plan`."""
        made: Plan = import_module("lmrun.api").plan(*overrides)
        return made


sys.modules[__name__].__class__ = _Callable
