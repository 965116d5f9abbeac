"""``lmrun --version``: lmrun, and the engine that was built with it."""

import sys
from importlib import import_module

import lmrun
from lmrun.errors import ExitStatus


def run(argv: list[str]) -> ExitStatus:
    """Print the versions; an engine that is missing is said, not raised."""
    del argv
    sys.stdout.write(f"lmrun {lmrun.__version__}\n{_engine()}\n")
    return ExitStatus.OK


def _engine() -> str:
    try:
        engine = import_module("lmrun._engine")
    except ImportError:
        return "engine: not built; `pip install .` in a checkout builds it"
    info = engine.build_info()
    usable = " ".join(engine.supported_isas())
    return (
        f"engine {info['version']} ({info['compiler']}), compiled for {info['isas']},"
        f" this machine runs {usable}"
    )
