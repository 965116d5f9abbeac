"""Which text calibrate and prune look at."""

from pathlib import Path

from lmrun.config.schema import RunConfig
from lmrun.errors import PlanError
from lmrun.models.hub_files import DatasetFile

SAMPLE_TEXT = "builtin:sample"
_HUB = "hub:"


def calibration_dataset(run: RunConfig) -> DatasetFile | None:
    """The file of a dataset on the hub that `calibration.data` names; None for other texts."""
    if not run.calibration.data.startswith(_HUB):
        return None
    # huggingface_hub is imported where a text comes from the hub alone
    from lmrun.models import hub_dataset  # noqa: PLC0415

    return hub_dataset.find(run.calibration.data, run.model.hub_token, run.model.hub_offline)


def note(run: RunConfig, context_length: int) -> tuple[str, ...]:
    """That the sequences are longer than the model was made for; for runs that look at a text."""
    length = run.calibration.seq_len
    if length <= context_length:
        return ()
    return (
        f"calibration.seq_len={length}: more than the context of this model, {context_length}"
        " tokens; the model was not made for the positions behind",
    )


def calibration_text(run: RunConfig) -> Path | None:
    """The local text file, or None for the built-in sample."""
    value = run.calibration.data
    if value == SAMPLE_TEXT:
        return None
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


def holds_chats(path: Path, field: str | None) -> bool:
    """Whether the file has chats, which the model's chat template makes text of."""
    from lmrun.models import documents  # noqa: PLC0415 - see above

    return documents.holds_chats(path, field)
