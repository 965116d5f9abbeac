"""What turns text into ids and back, checked before anything is built."""

from pathlib import Path

from lmrun.errors import ArtifactError, PlanError
from lmrun.models import chat_template
from lmrun.models.tokenizer import Tokenizer


def check_text_files(folder: Path, template: str) -> None:
    """Refuse now the tokenizer or chat template that would fail after the build.

    ``template`` is `model.chat_template`. Raises `PlanError` for the model's files, `ConfigError`
    for the template.
    """
    try:
        Tokenizer.from_folder(folder)
    except ArtifactError as error:
        raise PlanError(str(error)) from error
    chat_template.load(template, folder)
