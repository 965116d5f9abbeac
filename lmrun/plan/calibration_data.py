"""Which text calibrate and prune look at."""

from pathlib import Path

from lmrun.config.schema import RunConfig
from lmrun.errors import PlanError

SAMPLE_TEXT = "builtin:sample"
_HUB = "hub:"


def calibration_text(run: RunConfig) -> Path | None:
    """The text file, or None for the built-in sample."""
    value = run.calibration.data
    if value == SAMPLE_TEXT:
        return None
    if value.startswith(_HUB):
        raise PlanError(f"calibration.data={value}: not built yet; files and {SAMPLE_TEXT} are.")
    # it brings NumPy, which the built-in text does without
    from lmrun.models import documents  # noqa: PLC0415

    path = Path(value).expanduser().absolute()
    if documents.suffix_of(path) is None:
        *others, last = documents.SUFFIXES
        raise PlanError(
            f"calibration.data={value}: expected a file that ends in {', '.join(others)} or {last},"
            f" or {SAMPLE_TEXT}."
        )
    documents.check_readable(path, f"calibration.data={value}")
    if not path.is_file():
        raise PlanError(
            f"calibration.data={value}: no such file ({path})."
            f" Name a .txt or .jsonl file, or use {SAMPLE_TEXT}."
        )
    return path


def holds_chats(path: Path) -> bool:
    """Whether the file has chats, which the model's chat template makes text of."""
    from lmrun.models import documents  # noqa: PLC0415 - see above

    return documents.holds_chats(path)
