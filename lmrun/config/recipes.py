"""Finding recipes, and checking their defaults lists before Hydra sees them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lmrun.config import keys
from lmrun.config.composed import COMMAND_LINE, Origin
from lmrun.config.documents import Document, read
from lmrun.config.names import is_name, recipe_names
from lmrun.config.places import Places
from lmrun.config.suggest import did_you_mean
from lmrun.errors import ConfigError

GROUP = "recipe"
_SUFFIX = ".yaml"


def find(name: str, folders: Sequence[Path]) -> Path | None:
    """The first folder's file of that name; a name with a dot or a slash is no recipe."""
    if not is_name(name):
        return None
    candidates = (folder / f"{name}{_SUFFIX}" for folder in folders)
    return next((path for path in candidates if path.is_file()), None)


def shadowed(path: Path, places: Places) -> Path | None:
    """The shipped recipe that this file of the same name hides."""
    shipped = places.shipped_recipes / path.name
    return shipped if shipped.is_file() and shipped != path.resolve() else None


@dataclass
class _Walk:
    places: Places
    done: dict[str, Document]
    open_names: list[str]


def walk(named: Sequence[str], places: Places) -> dict[str, Document]:
    """The named recipes and those they inherit, read and checked, in the order of merging.

    Raises `ConfigError` on an unknown name, a circle, a recipe that would be merged twice, and a
    defaults list that names no such option.
    """
    walked = _Walk(places, {}, [])
    for name in named:
        _visit(name, Origin(COMMAND_LINE), walked)
    return walked.done


def _visit(name: str, where: Origin, walked: _Walk) -> None:
    path = find(name, walked.places.recipe_folders)
    if path is None:
        raise ConfigError(_missing(name, where, walked))
    if name in walked.open_names:
        circle = " → ".join([*walked.open_names, name])
        raise ConfigError(f"recipe={name} ({where}): inherits itself: {circle}.")
    if name in walked.done:
        raise ConfigError(
            f"recipe={name} ({where}): taken part already; merging it again would undo what came"
            " between. Name it once."
        )
    document = read(path, "", walked.places)
    walked.open_names.append(name)
    for index, item in enumerate(document.defaults):
        origin = document.origin("defaults", str(index))
        if item == "_self_":
            walked.done[name] = document
        elif isinstance(item, str):
            _visit(item, origin, walked)
        else:
            _check_override(item, origin, walked.places)
    _check_order(document)
    walked.open_names.pop()
    walked.done.setdefault(name, document)


def _missing(name: str, where: Origin, walked: _Walk) -> str:
    known = recipe_names(walked.places.recipe_folders)
    if not is_name(name):
        bare = Path(name).stem
        advice = f"Write recipe={bare}." if bare in known else f"Recipes: {', '.join(known)}."
        return (
            f"recipe={name} ({where}): expected the name of a recipe, without folder and suffix."
            f" {advice}"
        )
    searched = ", ".join(map(walked.places.show, walked.places.recipe_folders))
    return (
        f"recipe={name} ({where}): no such recipe.{did_you_mean(name, known)}"
        f" Recipes: {', '.join(known)}. Searched: {searched}."
    )


def _check_override(item: object, origin: Origin, places: Places) -> None:
    form = "`override /GROUP: OPTION`, the name of a recipe, or `_self_`"
    if not isinstance(item, dict) or len(item) != 1:
        raise ConfigError(f"defaults ({origin}): expected {form}.")
    key, option = next(iter(item.items()))
    words = str(key).split()
    group = words[-1].lstrip("/") if words else ""
    if words[:-1] != ["override"] or not words[-1].startswith("/"):
        advice = f" Write `override /{group}: {option}`." if group in keys.groups() else ""
        raise ConfigError(f"defaults: {key} ({origin}): expected {form}.{advice}")
    check_option(group, option, origin, places)


def check_option(group: str, option: object, where: object, places: Places) -> None:
    """Refuse a group or an option that there is none of."""
    if group not in keys.groups():
        raise ConfigError(
            f"{group}={option} ({where}): no such group.{did_you_mean(group, keys.groups())}"
            f" Groups: {', '.join(keys.groups())}."
        )
    legal = places.options(group)
    if option not in legal:
        raise ConfigError(
            f"{group}={option} ({where}): no such option.{did_you_mean(str(option), legal)}"
            f" Options of {group}: {', '.join(legal)}."
        )


def _check_order(document: Document) -> None:
    seen_override = False
    for index, item in enumerate(document.defaults):
        if isinstance(item, dict):
            seen_override = True
        elif seen_override and item != "_self_":
            origin = document.origin("defaults", str(index))
            raise ConfigError(
                f"defaults: {item} ({origin}): expected before the `override` lines. Move it up."
            )
