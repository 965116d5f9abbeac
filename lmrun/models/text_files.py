"""What turns text into ids and back, checked before anything is built."""

from pathlib import Path

from lmrun.errors import ArtifactError, PlanError
from lmrun.models import chat_template
from lmrun.models.tokenizer import Tokenizer


def check_text_files(folder: Path | None, template: str) -> None:
    """Refuse now the tokenizer or chat template that would fail after the build.

    ``folder`` is None while the model's files are not here: whoever brings them checks them. A
    ``template`` (`model.chat_template`) of the user's own is checked then, too. Raises `PlanError`
    for the model's files, `ConfigError` for the template.
    """
    if folder is None:
        if template != "auto":
            chat_template.load(template, Path())
        return
    try:
        Tokenizer.from_folder(folder)
    except ArtifactError as error:
        raise PlanError(str(error)) from error
    chat_template.load(template, folder)
