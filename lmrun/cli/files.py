"""Files that flags name: what cannot be written is refused before anything runs."""

from pathlib import Path

from lmrun.config import Composed
from lmrun.errors import UsageError
from lmrun.plan import gate


def to_write(flag: str, name: str) -> Path:
    """The file that ``flag`` names, in a folder that is there; raises `UsageError`."""
    path = Path(name).expanduser()
    if name == "-":
        raise UsageError(f"{flag} -: expected a file; stdout has other data.")
    if not path.parent.is_dir():
        raise UsageError(f"{flag} {name}: {path.parent} is no folder. Make it, or name another.")
    if path.is_dir():
        raise UsageError(f"{flag} {name}: is a folder. Name a file.")
    return path


def of_results(name: str | None, composed: Composed) -> Path | None:
    """The file that `--junit` names; `UsageError` where nothing is evaluated, too."""
    if name is None:
        return None
    if not gate.is_asked(composed.run.evaluate):
        raise UsageError(
            "--junit: holds what the quality gate found, and nothing is evaluated here. Choose"
            " evaluate=quick, and a bound such as evaluate.max_ppl_ratio=1.05."
        )
    return to_write("--junit", name)
