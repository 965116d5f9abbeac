"""The errors lmrun raises on purpose. Anything else is a bug and shows its traceback.

Message form: ``where: what was expected, got what. What to do, or what is legal.``
"""

from enum import IntEnum


class ExitStatus(IntEnum):
    """Exit statuses of the command line."""

    OK = 0
    BUG = 1
    USAGE = 2
    CONFIG = 3
    REFUSED = 4
    STAGE_FAILED = 5
    GATE_FAILED = 6
    DRIFT = 7
    DIFFERENCE = 8
    SWEEP_PARTLY_FAILED = 10
    INTERRUPTED = 130


class LmrunError(Exception):
    """Base of every error meant for the user; ``status`` is the command's exit status."""

    status = ExitStatus.STAGE_FAILED


class UsageError(LmrunError):
    """The command line itself is wrong (unknown verb or flag)."""

    status = ExitStatus.USAGE


class ConfigError(LmrunError):
    """A key, value, option or recipe that is not legal for any model."""

    status = ExitStatus.CONFIG


class PlanError(LmrunError):
    """Legal, but refused for this model or machine, or not built yet."""

    status = ExitStatus.REFUSED


class GateError(LmrunError):
    """A figure of the evaluation is not within the bound that the recipe sets."""

    status = ExitStatus.GATE_FAILED


class DriftError(LmrunError):
    """Something is no longer what the lock file says."""

    status = ExitStatus.DRIFT


class ArtifactError(LmrunError):
    """A file that is missing, damaged or not of the declared format."""


class StageError(LmrunError):
    """A stage or the launch failed."""


class RequestError(LmrunError):
    """A request that the engine or the server refuses (HTTP 400)."""


class EngineError(LmrunError):
    """The engine died, hung or refused a setting."""
