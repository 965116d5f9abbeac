"""Logging to stderr; data goes to stdout."""

import logging
import sys

from lmrun import env

_ROOT = "lmrun"


def get(name: str) -> logging.Logger:
    """Logger of a module; pass ``__name__``."""
    return logging.getLogger(name)


def setup(level: str | None = None) -> None:
    """Send lmrun's log to stderr, once a process. Called by the entry points only."""
    logger = logging.getLogger(_ROOT)
    logger.setLevel((level or env.log_level()).upper())
    logger.propagate = False
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger.addHandler(handler)
