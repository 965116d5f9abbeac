"""Where the shipped YAML lies, and the line that says what a file is."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def shipped(name: str) -> Path:
    """The folder `configs` or `recipes` that came with lmrun.

    A wheel carries a copy inside the package; a checkout reads its top-level folders, so an edit
    shows at once.
    """
    inside = _PACKAGE / "_data" / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


def option_file(config_path: str) -> Path:
    """File of a shipped option such as ``quant/awq_w4_g128``."""
    return shipped("configs") / f"{config_path}.yaml"


def options(group: str) -> list[str]:
    """Names of the shipped options of a group, sorted; `Places.options` knows the user's too."""
    return sorted(path.stem for path in (shipped("configs") / group).glob("*.yaml"))


def headline(path: Path) -> str:
    """The first comment line of a YAML file, which says what it is; "" when there is none.

    Of a file that cannot be read, that.
    """
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            first = next((line.strip() for line in lines if line.strip()), "")
    except OSError as error:
        return f"(cannot be read: {error.strerror})"
    return first.lstrip("# ") if first.startswith("#") else ""
