"""What composition hands to the rest of lmrun."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
class Setting:
    """One value given to one key; of several settings of a key the last wins."""

    key: str
    """Dotted."""
    value: Any
    """As written: an interpolation is not resolved."""
    origin: Origin


@dataclass(frozen=True)
class Choice:
    """An option chosen for a group; of several choices of a group the last wins."""

    group: str
    option: str
    origin: Origin


@dataclass(frozen=True)
class ConfigFile:
    """A YAML file that took part."""

    kind: str
    """`defaults` (`configs/config.yaml`), `option` or `recipe`."""
    name: str
    """`config`, `GROUP/OPTION`, or the recipe's name."""
    path: Path
    digest: str
    """SHA-256 of the file's bytes, in hex."""


@dataclass(frozen=True)
class Interpolation:
    """A winning value that was written as a reference, such as ``${oc.env:PORT}``."""

    key: str
    text: str
    """As written: the reference, never what it stands for."""
    environment: tuple[str, ...]
    """Names of the environment variables in it, sorted."""


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
    """Dotted key of every leaf of `run`, and of each entry of a mapping (`evaluate.tasks.arc`) →
    where its value was set."""
    recipes: tuple[RecipeOrigin, ...] = ()
    """Every recipe that took part, in the order of merging; inherited ones come first."""
    files: tuple[ConfigFile, ...] = ()
    """Every file that took part, in the order of merging: the defaults, options, recipes."""
    chain: Mapping[str, tuple[Setting, ...]] = field(default_factory=dict)
    """Dotted key of every leaf → every value it was given, in the order of merging: the schema's
    default first, the winner last. Entries of a mapping are keys too and have no default; the
    mapping itself is shown whole, as it was after each file."""
    choices: Mapping[str, tuple[Choice, ...]] = field(default_factory=dict)
    """Group → every option chosen for it: that of `configs/config.yaml` first, the winner last."""
    interpolations: tuple[Interpolation, ...] = ()
    """In the order of the schema."""
