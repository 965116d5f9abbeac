"""Data for evaluations that ships with lmrun: `evaluate.data=builtin:stories` and the like."""

from pathlib import Path

from lmrun.errors import ConfigError
from lmrun.models.builtin import PREFIX

_FOLDER = Path(__file__).parents[1] / "evals" / "data"
TEXTS = {"stories": _FOLDER / "stories.txt"}
"""Names that `evaluate.data` may have behind `builtin:`."""
TOOLS = {"tools": _FOLDER / "tools.jsonl"}
"""Names that `evaluate.tools` may have behind `builtin:`."""


def path(value: str, known: dict[str, Path], key: str) -> Path:
    """The file that a key names: one of ``known`` behind `builtin:`, else the path itself.

    `ConfigError` for a built-in name that is not there; whether a path exists is not looked at.
    """
    if not value.startswith(PREFIX):
        return Path(value).expanduser()
    name = value.removeprefix(PREFIX)
    if name not in known:
        legal = ", ".join(PREFIX + one for one in known)
        raise ConfigError(f"{key}={value}: no such built-in data. Use {legal} or a file.")
    return known[name]


def shown(file: Path) -> str:
    """How reports name a file: `builtin:NAME`, or its name without folders."""
    for name, known in {**TEXTS, **TOOLS}.items():
        if file == known:
            return PREFIX + name
    return file.name


def companion(file: Path) -> Path | None:
    """The file beside a task or tools file that belongs to it, where there is one: an input of
    whatever reads the other.

    ``FILE.labels`` or ``FILE-labels.lst`` (PIQA's answers), ``possible_answer/NAME`` (accepted
    calls in the Berkeley layout).
    """
    candidates = (
        file.with_suffix(".labels"),
        file.with_name(f"{file.stem}-labels.lst"),
        file.parent / "possible_answer" / file.name,
    )
    return next((one for one in candidates if one != file and one.is_file()), None)
