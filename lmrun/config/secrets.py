"""Secrets are references until the moment they are used."""

import os
import re

from lmrun.errors import ConfigError

REFERENCE = re.compile(r"\$\{oc\.env:([A-Za-z_][A-Za-z0-9_]*)\}")


def is_reference(text: str) -> bool:
    """True for ``${oc.env:NAME}`` and nothing around it; a default would be a literal secret."""
    return REFERENCE.fullmatch(text) is not None


def resolve(reference: str) -> str:
    """The secret that ``${oc.env:NAME}`` stands for, read from the environment now.

    Raises `ConfigError`, naming the variable only, when it is unset or empty, and when the
    argument is no reference.
    """
    match = REFERENCE.fullmatch(reference)
    if match is None:
        raise ConfigError("secret: expected a reference such as ${oc.env:NAME}, got another text.")
    value = os.environ.get(match[1])
    if not value:
        raise ConfigError(
            f"{reference}: the environment variable {match[1]} is not set. Set it, or take the"
            " reference out."
        )
    return value
