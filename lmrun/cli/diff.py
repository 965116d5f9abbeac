"""`lmrun diff`: what differs between two deployments, and what follows from it. Writes nothing."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from lmrun import env
from lmrun.artifacts.store import Store
from lmrun.cli import flags, summary
from lmrun.cli.output import as_json
from lmrun.config import compose
from lmrun.config.footprint import footprint
from lmrun.config.names import recipe_names
from lmrun.config.places import Places, existing
from lmrun.config.revisions import Repository
from lmrun.errors import ConfigError, ExitStatus, LmrunError, UsageError
from lmrun.plan.compare import compare
from lmrun.plan.compare_text import report_markdown, report_text
from lmrun.plan.comparison import Comparison, Report, Side
from lmrun.plan.lock import default_path, is_lock_file
from lmrun.plan.sides import from_lock, from_overrides

FLAGS = {"--since": True, "--json": False, "--markdown": False, "--exit-code": False}
GIT = "git:"
BETWEEN = "--"


def run(argv: list[str]) -> ExitStatus:
    """Compare the two sides in ``argv``, one side with its lock, or every recipe `--since` REV."""
    given, sides = _split(argv)
    if "--json" in given and "--markdown" in given:
        raise UsageError("--json, --markdown: expected one of them, got both.")
    store = Store(env.home())
    if "--since" in given:
        report = _since(given["--since"], sides, store)
    else:
        report = Report((compare(*_sides(sides, store)),))
    if "--json" in given:
        sys.stdout.write(as_json(report.to_json()))
    else:
        text = report_markdown(report) if "--markdown" in given else report_text(report)
        sys.stdout.write(text + "\n")
    summary.append(report_markdown(report))
    if "--exit-code" in given and report.is_different:
        return ExitStatus.DIFFERENCE
    return ExitStatus.OK


def _split(argv: Sequence[str]) -> tuple[dict[str, str], list[list[str]]]:
    """The flags, and the words of one side or two."""
    given: dict[str, str] = {}
    sides: list[list[str]] = []
    words = list(argv)
    while BETWEEN in words:
        index = words.index(BETWEEN)
        sides.append(words[:index])
        words = words[index + 1 :]
    sides.append(words)
    if len(sides) > 2:
        raise UsageError(f"diff: expected one {BETWEEN} between two sides, got {len(sides) - 1}.")
    for index, side in enumerate(sides):
        found, sides[index] = flags.split(side, FLAGS)
        for name in found:
            if name in given:
                raise UsageError(f"{name}: expected once, got twice. Give it one time.")
        given |= found
    return given, sides


def _sides(sides: Sequence[list[str]], store: Store) -> tuple[Side, Side]:
    if len(sides) == 2:
        old, new = _side(sides[0], store), _side(sides[1], store)
        if not old.config and not new.config and new.refusal is not None:
            raise ConfigError(new.refusal)
        return old, new
    words = sides[0]
    if not words:
        raise UsageError(
            "diff: expected a side, such as +recipe=NAME, or two with -- between them, got none."
        )
    if _is_lock(words):
        old, lock = from_lock(Path(words[0]), store)
        return old, from_overrides(lock.overrides, store)
    new = _side(words, store)
    recipe = compose(words[1:] if words[0].startswith(GIT) else words).recipe
    path = default_path(
        recipe.name if recipe else None,
        "diff",
        "Give the other side: lmrun diff LEFT... -- RIGHT...",
    )
    return from_lock(path, store)[0], new


def _side(words: list[str], store: Store) -> Side:
    """A lock file, a git revision with overrides, or overrides."""
    if _is_lock(words):
        return from_lock(Path(words[0]), store)[0]
    if words and words[0].startswith(GIT):
        revision, overrides = words[0].removeprefix(GIT), words[1:]
        if not revision:
            raise UsageError("git: expected a revision, got nothing. Write git:REV, as git:HEAD~1.")
        _check_overrides(overrides)
        with Repository.of(Path.cwd()).places(revision) as places:
            return from_overrides(overrides, store, places, words[0])
    _check_overrides(words)
    return from_overrides(words, store)


def _is_lock(words: Sequence[str]) -> bool:
    if not any(is_lock_file(word) for word in words):
        return False
    if len(words) > 1:
        raise UsageError(
            f"{next(word for word in words if is_lock_file(word))}: a lock file is a side alone."
            " Put -- between the sides."
        )
    return True


def _check_overrides(words: Sequence[str]) -> None:
    for word in words:
        if word.startswith(GIT):
            raise UsageError(f"{word}: expected as the first word of a side. Put it there.")


def _since(revision: str, sides: Sequence[list[str]], store: Store) -> Report:
    """Every recipe of the repository whose files, inherited and shared ones too, have changed."""
    if len(sides) > 1:
        raise UsageError("--since: compares each recipe with itself; expected no -- and one side.")
    overrides = sides[0]
    if any(word.startswith(GIT) or is_lock_file(word) for word in overrides):
        raise UsageError("--since: expected overrides, got a side of another kind.")
    if any(word.lstrip("+").startswith("recipe=") for word in overrides):
        raise UsageError("--since: looks at every recipe. Leave recipe= out.")
    repository = Repository.of(Path.cwd())
    now = Places.at(Path.cwd().resolve())
    with ExitStack() as stack:
        then = stack.enter_context(repository.places(revision))
        before = recipe_names(existing(*_inside(then.recipe_folders, then.base)))
        after = recipe_names(existing(*_inside(now.recipe_folders, repository.top)))
        found = [
            comparison
            for name in sorted({*before, *after})
            if (
                comparison := _touched(
                    [f"+recipe={name}", *overrides],
                    then if name in before else None,
                    now if name in after else None,
                    store,
                )
            )
            is not None
        ]
    return Report(tuple(found), since=revision)


def _inside(folders: Sequence[Path], top: Path) -> list[Path]:
    return [folder for folder in folders if folder.is_relative_to(top)]


def _touched(
    words: list[str], then: Places | None, now: Places | None, store: Store
) -> Comparison | None:
    """The comparison of one recipe; None where no file of it has changed."""
    if then and now and _files(words, then) == _files(words, now) is not None:
        return None
    old = from_overrides(words, store, then, f"{GIT}{then.label[:-1]}") if then else None
    new = from_overrides(words, store, now) if now else None
    name = words[0].partition("=")[2]
    return compare(old, new, name)


def _files(words: list[str], places: Places) -> dict[str, str] | None:
    """None where the files cannot be told, since something in them is refused."""
    try:
        return footprint(words, places)
    except LmrunError:
        return None
