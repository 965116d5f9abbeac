"""`--write-recipe NAME`: a point of a sweep as a recipe, with the figures that speak for it."""

import dataclasses
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from lmrun import __version__
from lmrun.artifacts.store import Store
from lmrun.config import Composed, command_line, compose, recipe_schema
from lmrun.config.command_line import CommandLine
from lmrun.config.places import Places
from lmrun.config.recipe_file import RecipeFile
from lmrun.config.resolved import flat
from lmrun.errors import ConfigError, PlanError, StageError
from lmrun.plan.planner import make_plan
from lmrun.plan.sizes import things
from lmrun.sweep.choose import Chosen
from lmrun.sweep.conclusion import Conclusion, Entry
from lmrun.sweep.listing import command_text
from lmrun.sweep.machines import machine_text, measured_on
from lmrun.sweep.planning import point_id
from lmrun.sweep.rows import Row
from lmrun.sweep.table import shower

_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NO_BREAK = "\0"
"""Stands for a blank where no line ends."""
_NO_TEXT = frozenset(("null", "true", "false", "yes", "no", "on", "off", "y", "n"))
"""Words that YAML reads as something else."""


@dataclass(frozen=True)
class Reason:
    """Why a point was taken."""

    entry: Entry
    expression: str | None
    """Of `--choose`; None: it is the one point of the front."""
    why: str
    """One sentence."""

    @classmethod
    def of_choice(cls, chosen: Chosen) -> "Reason":
        """That of an expression."""
        return cls(chosen.entry, str(chosen.goal), chosen.why)


def only_point(conclusion: Conclusion) -> Reason:
    """The one point of the Pareto front; raises `PlanError` where there is none or a choice."""
    front = conclusion.pareto
    if len(front) == 1:
        names = ", ".join(figure.name for figure in conclusion.front)
        return Reason(front[0], None, f"No other point is on the Pareto front of {names}.")
    if not front:
        raise PlanError(
            "--write-recipe: no point of this sweep is on the Pareto front. `lmrun sweep show` says"
            " what each lacks."
        )
    named = "; ".join(f"{entry.number} ({entry.name})" for entry in front)
    raise PlanError(
        f"--write-recipe: {things(len(front), 'point')} are on the Pareto front: {named}. Pick one"
        " with --choose, as in --choose 'max tokens_per_s where ppl_ratio < 1.02'."
    )


def write_recipe(conclusion: Conclusion, reason: Reason, target: RecipeFile, store: Store) -> None:
    """Write the recipe, which composes to the settings that were measured, and to no others.

    The point's own recipes and options are looked for as in the working directory. Raises
    `UsageError` for a name that cannot be taken, `PlanError` where the point's overrides no longer
    mean what was measured, since a file that they name has changed.
    """
    target.check()
    places = Places.at(Path.cwd())
    wanted = _composed(conclusion, reason.entry.rows[0], store, places)
    text = recipe_text(conclusion, reason, places)
    _check_same(wanted, text, target, places)
    target.write(text)


def recipe_text(conclusion: Conclusion, reason: Reason, places: Places) -> str:
    """A YAML document that ends with a newline."""
    line = command_line.read(reason.entry.rows[0].point.overrides, places)
    comments = list(_comments(conclusion, reason))
    lines = [comments[0], recipe_schema.MODELINE, *comments[1:]]
    lines += [*_defaults(line), *_settings(line)]
    return "\n".join(lines) + "\n"


def _comments(conclusion: Conclusion, reason: Reason) -> Iterator[str]:
    entry, sweep = reason.entry, conclusion.sweep
    yield f"# {entry.name}, chosen from the {things(len(sweep.rows), 'point')} of a sweep."
    if reason.expression is not None:
        yield f"#   {reason.expression}"
    yield from _wrapped(reason.why)
    yield from _wrapped(f"Its figures: {_figures(conclusion, entry)}.")
    if len(entry.rows) > 1:
        yield from _wrapped(
            f"Means of {len(entry.rows)} seeds (± sample standard deviation); this is the first."
        )
    on, when = machine_text(entry.rows), measured_on(entry.rows[0]) or sweep.created[:10]
    yield from _wrapped(f"Measured on {when}{f' on {on}' if on else ''}.")
    today = datetime.now(UTC).date().isoformat()
    yield from _wrapped(
        f"Written by lmrun {__version__} on {today}; all points: `lmrun sweep show {sweep.id}`."
    )


def _figures(conclusion: Conclusion, entry: Entry) -> str:
    parts = []
    for figure in conclusion.figures:
        value = entry.values.get(figure.name)
        if value is not None:
            unit = f" {figure.unit}" if figure.unit and figure.unit != "1/s" else ""
            part = f"{figure.title} {shower(figure, [value])(value)}{unit}"
            parts.append(part.replace(" ", _NO_BREAK))
    return ", ".join(parts)


def _wrapped(text: str, width: int = 98) -> Iterator[str]:
    line = "#"
    for word in text.split(" "):
        if len(line) + 1 + len(word) > width and line != "#":
            yield line
            line = "#"
        line = f"{line} {word.replace(_NO_BREAK, ' ')}"
    yield line


def _defaults(line: CommandLine) -> Iterator[str]:
    options = dict(line.options)
    if line.recipes or options:
        yield "defaults:"
    for name in line.recipes:
        yield f"  - {yaml_text(name)}"
    for group, option in options.items():
        yield f"  - override /{group}: {yaml_text(option)}"


def _settings(line: CommandLine) -> Iterator[str]:
    tree: dict[str, Any] = {}
    for key, value in line.values:
        *above, leaf = key.split(".")
        branch = tree
        for part in above:
            found = branch.setdefault(part, {})
            branch = found if isinstance(found, dict) else branch
        branch[leaf] = value
    yield from _branch(tree, "")


def _branch(tree: Mapping[str, Any], indent: str) -> Iterator[str]:
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield f"{indent}{name}:"
            yield from _branch(value, indent + "  ")
        else:
            yield f"{indent}{name}: {yaml_text(value)}"


def yaml_text(value: Any) -> str:  # noqa: ANN401 - any value of a key
    """A value as YAML 1.1 and 1.2 both read it back."""
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, float):
        text = format(Decimal(repr(value)), "f")
        return text if "." in text else f"{text}.0"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(yaml_text, value))}]"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{json.dumps(key)}: {yaml_text(item)}" for key, item in value.items())
        return f"{{{inner}}}"
    if isinstance(value, str) and _BARE.fullmatch(value) and value.lower() not in _NO_TEXT:
        return value
    return json.dumps(value, ensure_ascii=False)


def _composed(conclusion: Conclusion, row: Row, store: Store, places: Places) -> Composed:
    """The point's settings, which are those that were measured."""
    try:
        composed = compose(row.point.overrides, places=places)
        now = point_id(composed.run, make_plan(composed, store), conclusion.sweep.verb)
    except (ConfigError, PlanError) as error:
        raise PlanError(
            f"--write-recipe: point {row.point.index + 1} is not legal any more: {error}"
        ) from error
    if now != row.point.id:
        raise PlanError(
            f"--write-recipe: the overrides of point {row.point.index + 1} mean other settings than"
            " were measured: a recipe or an option that they name has changed, or lmrun has. Run"
            f" the sweep again: {command_text(conclusion.sweep)}"
        )
    return composed


def _check_same(wanted: Composed, text: str, target: RecipeFile, places: Places) -> None:
    """Compose the text too, and compare every key."""
    with tempfile.TemporaryDirectory(prefix="lmrun-") as scratch:
        (Path(scratch) / target.path.name).write_text(text, encoding="utf-8")
        folders = (Path(scratch), *places.recipe_folders)
        with_it = dataclasses.replace(places, recipe_folders=folders)
        found = compose([f"+recipe={target.name}"], places=with_it)
    left, right = flat(wanted.run), flat(found.run)
    differing = [key for key in left if left[key] != right[key]]
    if differing:
        raise StageError(
            f"--write-recipe: {differing[0]}: expected {left[differing[0]]!r} as in the point, got"
            f" {right[differing[0]]!r} from the recipe. Nothing was written."
        )
