"""The lock file: everything that a deployment depends on, pinned. YAML, one value a line, sorted.

`Lock` is the document; `lmrun.deploy.locking` gathers it and `lmrun.plan.drift` compares two.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lmrun import json_schema
from lmrun.artifacts.files import write_text
from lmrun.artifacts.manifest import check
from lmrun.errors import ArtifactError, ConfigError, UsageError
from lmrun.json_schema import DIGEST, TEXT, TEXT_OR_NULL, TEXTS, mapping, or_null, record
from lmrun.plan import plain_yaml

SCHEMA_VERSION = 1
UNKNOWN = "0" * 64
"""Stands for a fingerprint while an input is not hashed."""
FOLDER = "locks"
SUFFIX = ".lock.yaml"
MAX_BYTES = 16 << 20
HEADER = "# Written by `lmrun lock`, checked by `lmrun verify`. Do not edit: lock again.\n"

_DIGESTS, _TEXTS = mapping(DIGEST), mapping(TEXT)
SCHEMA = json_schema.document(
    "lmrun lock",
    SCHEMA_VERSION,
    {"evaluation": _DIGESTS},
    recipe=TEXT_OR_NULL,
    overrides=TEXTS,
    config=mapping({"type": "object"}),
    interpolations=_TEXTS,
    sources=_DIGESTS,
    model=record(
        name=TEXT,
        kind={"enum": ["builtin", "checkpoint", "quantized", "workspace"]},
        files=_DIGESTS,
        chat_template=or_null(DIGEST),
    ),
    calibration=or_null(record(data=TEXT, sha256=DIGEST)),
    stages={
        **mapping(
            record(
                code_version={"type": "integer", "minimum": 1},
                fingerprint=DIGEST,
                numeric_class={"type": ["object", "null"]},
                files=_DIGESTS,
            )
        ),
        "propertyNames": {"pattern": "^[a-z_]+$"},
    },
    engine=_TEXTS,
    packages=_TEXTS,
    quality={"type": "object"},
)
"""JSON Schema of the file; checked on every write and read."""


@dataclass(frozen=True)
class LockedModel:
    """The model that was locked."""

    name: str
    """`builtin:NAME`, the path as the config has it, or `HUB_ID@COMMIT`."""
    kind: str
    """A `ModelKind`."""
    files: Mapping[str, str]
    """Name in the model's folder → SHA-256: weights, config, tokenizer, the folder's template."""
    chat_template: str | None
    """SHA-256 of the file that `model.chat_template` names; None for `auto` and names."""


@dataclass(frozen=True)
class LockedText:
    """The calibration text; a lock has one where the deployment calibrates."""

    data: str
    """`calibration.data`."""
    sha256: str


@dataclass(frozen=True)
class LockedStage:
    """An offline stage and what it built."""

    code_version: int
    fingerprint: str
    numeric_class: Mapping[str, Any] | None
    """Of the machine that built it; None for a stage that computes nothing."""
    files: Mapping[str, str]
    """File of the artifact → SHA-256; empty where the stage makes no artifact."""


def rounded(figure: float) -> float:
    """A figure as the file has it: nine digits."""
    return float(f"{figure:.9g}")


@dataclass(frozen=True)
class Lock:
    """A lock file, checked."""

    recipe: str | None
    overrides: tuple[str, ...]
    """What `lmrun lock` was given; `lmrun verify FILE` composes them again."""
    config: Mapping[str, Mapping[str, Any]]
    """Group → key → value: the resolved run config; secrets as references."""
    interpolations: Mapping[str, str]
    """Dotted key → the text that resolved to its value in `config`."""
    sources: Mapping[str, str]
    """`recipes/NAME.yaml` and `configs/GROUP/OPTION.yaml` that took part → SHA-256."""
    model: LockedModel
    calibration: LockedText | None
    stages: Mapping[str, LockedStage]
    """By name; the order of a build is that of `stage_specs.STAGES`."""
    engine: Mapping[str, str]
    """`build` (digest of sources, compiler and flags), `compiler`, `version`."""
    packages: Mapping[str, str]
    """Package → version, and `python` with its minor version."""
    quality: Mapping[str, Any] = field(default_factory=dict)
    """`figures` by name (`lmrun.plan.gate`), and `gates`, key of a bound → `passed` or `failed`;
    empty where nothing is evaluated."""
    evaluation: Mapping[str, str] = field(default_factory=dict)
    """Text, task files and others that the evaluation reads → SHA-256; left out of the file where
    nothing is evaluated."""

    @property
    def figures(self) -> dict[str, float]:
        """The figures of the evaluation that was locked."""
        found = self.quality.get("figures", {})
        return {name: value for name, value in found.items() if isinstance(value, int | float)}

    def to_json(self) -> dict[str, Any]:
        """The document."""
        document = asdict(self)
        document["overrides"] = list(self.overrides)
        if not self.evaluation:
            del document["evaluation"]
        return {"schema_version": SCHEMA_VERSION, **document}

    def to_yaml(self) -> str:
        """The file's text: equal locks have equal texts."""
        document = self.to_json()
        check(document, SCHEMA, "lock")
        text: str = yaml.safe_dump(
            document, allow_unicode=True, default_flow_style=False, sort_keys=True, width=1 << 20
        )
        return HEADER + text

    @classmethod
    def from_json(cls, document: Any, where: str) -> "Lock":  # noqa: ANN401 - not yet checked
        """Check a document; ``where`` begins the error message."""
        try:
            check(document, SCHEMA, where)
        except ArtifactError as error:
            raise ConfigError(f"{error}. Write it anew with `lmrun lock`.") from error
        fields = {key: value for key, value in document.items() if key != "schema_version"}
        text = fields["calibration"]
        fields |= {
            "overrides": tuple(fields["overrides"]),
            "model": LockedModel(**fields["model"]),
            "calibration": None if text is None else LockedText(**text),
            "stages": {name: LockedStage(**stage) for name, stage in fields["stages"].items()},
        }
        return cls(**fields)


def is_lock_file(word: str) -> bool:
    """Whether a word of the command line names a lock file."""
    return word.endswith(SUFFIX) and "=" not in word


def default_path(recipe: str | None, where: str, advice: str) -> Path:
    """`locks/RECIPE.lock.yaml` below the working directory.

    Without a recipe a `UsageError`: ``where`` begins it and ``advice`` says how to name a file.
    """
    if recipe is None:
        raise UsageError(
            f"{where}: expected a recipe, after which the lock file is named, got none."
            f" {advice}, or give +recipe=NAME."
        )
    return Path(FOLDER) / f"{recipe}{SUFFIX}"


def read(path: Path) -> Lock:
    """Read a lock file. `UsageError` where there is none, `ConfigError` for a damaged one."""
    try:
        with path.open(encoding="utf-8") as opened:
            text = opened.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise UsageError(
            f"{path}: no such lock file. Write it with `lmrun lock` and the same overrides."
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected a lock file, got no UTF-8 text.") from error
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{path}: expected a lock file of at most 16 MiB, got more.")
    document = plain_yaml.load(text, str(path))
    if not isinstance(document, dict):
        got = "an empty file" if document is None else "no `key: value` lines"
        raise ConfigError(
            f"{path}: expected a lock file, got {got}. Write it anew with `lmrun lock`."
        )
    return Lock.from_json(document, str(path))


def write(path: Path, lock: Lock) -> None:
    """Write a lock file, the whole of it or nothing; its folder is created."""
    text = lock.to_yaml()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except OSError as error:
        raise ArtifactError(
            f"{path}: cannot be written ({error.strerror or os.strerror(error.errno or 0)})."
            " Name another file: --output FILE."
        ) from error
