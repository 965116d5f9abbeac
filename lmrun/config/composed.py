"""What composition hands to the rest of lmrun."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lmrun.config.schema import RunConfig

COMMAND_LINE = "command line"
SCHEMA_DEFAULT = "default"


@dataclass(frozen=True)
class Origin:
    """Where a value was set.

    Exactly one of three: a line of a file (`path` and `line`), the command line, or the default
    of `schema.py`.
    """

    source: str
    """The file as messages show it, `COMMAND_LINE`, or `SCHEMA_DEFAULT`."""
    path: Path | None = None
    line: int | None = None
    """Counted from 1."""

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


@dataclass(frozen=True)
class RecipeOrigin:
    """The recipe file that won, and the shipped one of the same name that it hides."""

    name: str
    path: Path
    digest: str
    """SHA-256 of the file's bytes, in hex."""
    shadows: Path | None = None


@dataclass(frozen=True)
class Composed:
    """A validated run config and where it came from."""

    run: RunConfig
    """Plain dataclasses; every interpolation is resolved except `frontend.api_keys`, which are
    references for `lmrun.config.secrets.resolve`."""
    recipe: RecipeOrigin | None
    """The last recipe named on the command line."""
    overrides: tuple[str, ...]
    """As given; a literal secret never gets this far."""
    origins: Mapping[str, Origin]
    """Dotted key of every leaf of `run` → where its value was set."""
    recipes: tuple[RecipeOrigin, ...] = ()
    """Every recipe that took part, in the order of merging; inherited ones come first."""
