"""The environment variables lmrun reads; there are no others.

``LMRUN_HOME``         folder of the artifact store (default: the platform's user data folder)
``LMRUN_MODELS``       folders, separated by ``os.pathsep``, searched for ``model.path=NAME``
``LMRUN_RECIPE_PATH``  folders, separated by ``os.pathsep``, searched for recipes first
``LMRUN_LOG``          log level: debug, info, warning, error
``LMRUN_TEST_DATA``    real checkpoints and texts, read by the tests alone

Of other people's conventions it honours ``NO_COLOR`` (rich does), ``GITHUB_STEP_SUMMARY`` (a file
that gets a Markdown summary), and, to find the files of a shell, ``SHELL``, ``ZDOTDIR`` and
``XDG_DATA_HOME``.
"""

import os
from pathlib import Path

import platformdirs

from lmrun.errors import ConfigError

LOG_LEVELS = ("debug", "info", "warning", "error")


def home() -> Path:
    """Folder of the artifact store; not created here."""
    value = os.environ.get("LMRUN_HOME")
    if value is None:
        return Path(platformdirs.user_data_dir("lmrun", appauthor=False))
    if not value:
        raise ConfigError("LMRUN_HOME: expected a folder, got an empty value. Unset it.")
    return Path(value).expanduser().resolve()


def _folders(name: str) -> tuple[Path, ...]:
    return tuple(
        Path(part).expanduser().resolve()
        for part in os.environ.get(name, "").split(os.pathsep)
        if part
    )


def model_folders() -> tuple[Path, ...]:
    """Folders searched, in order, for a ``model.path`` that is a bare name."""
    return _folders("LMRUN_MODELS")


def recipe_folders() -> tuple[Path, ...]:
    """Folders searched for recipes before ``./recipes`` and the shipped ones."""
    return _folders("LMRUN_RECIPE_PATH")


def log_level() -> str:
    """One of `LOG_LEVELS`; raises `ConfigError` on any other value."""
    value = os.environ.get("LMRUN_LOG", "info")
    if value not in LOG_LEVELS:
        raise ConfigError(f"LMRUN_LOG: expected one of {', '.join(LOG_LEVELS)}, got {value!r}.")
    return value


def step_summary() -> Path | None:
    """File of the job summary that a GitHub Actions runner names."""
    value = os.environ.get("GITHUB_STEP_SUMMARY")
    return Path(value) if value else None
