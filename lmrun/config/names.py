"""What may be the name of a recipe or an option, and which recipes there are.

Without OmegaConf: shells that complete ask here.
"""

from collections.abc import Sequence
from pathlib import Path


def is_name(name: str) -> bool:
    """False for what could reach outside the folder or be read as a file name."""
    return bool(name) and not set(name) & set("./\\")


def recipe_names(folders: Sequence[Path]) -> list[str]:
    """All recipes that can be named, sorted."""
    files = (path for folder in folders for path in folder.glob("*.yaml") if path.is_file())
    return sorted({path.stem for path in files if is_name(path.stem)})
