"""`lmrun sweep`: what the sweeps on this machine found."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from lmrun import env
from lmrun.artifacts.store import Store
from lmrun.cli import files, flags
from lmrun.cli.output import as_json
from lmrun.config.recipe_file import FOLDER, RecipeFile
from lmrun.config.suggest import did_you_mean
from lmrun.errors import ExitStatus, LmrunError, StageError, UsageError
from lmrun.plan.sizes import show_bytes
from lmrun.sweep import export, listing, table
from lmrun.sweep.choose import Chosen, check_expression, choose
from lmrun.sweep.conclusion import Conclusion, conclude

SHOW: dict[str, bool | None] = {
    "--csv": True,
    "--json": False,
    "--html": True,
    "--choose": True,
    "--write-recipe": True,
    "--force": False,
}
"""Flags of `lmrun sweep show`, and of a sweep itself: whether each takes a value."""
_STDOUT = "-"


def run(argv: list[str]) -> ExitStatus:
    """Do what the first word says, with the sweeps below $LMRUN_HOME."""
    pairs = zip(["", *argv], argv, strict=False)
    words = (word for before, word in pairs if not SHOW.get(before) and not word.startswith("-"))
    name = next(words, None)
    if name is None:
        raise UsageError(f"sweep: expected a command, got none. Commands: {', '.join(COMMANDS)}.")
    if name not in COMMANDS:
        raise UsageError(
            f"sweep {name}: no such command.{did_you_mean(name, COMMANDS)}"
            f" Commands: {', '.join(COMMANDS)}."
        )
    argv.remove(name)
    return COMMANDS[name](argv, env.home())


def _ls(argv: list[str], home: Path) -> ExitStatus:
    given, words = flags.split(argv, {"--json": False})
    if words:
        raise UsageError(f"sweep ls: expected flags alone, got {words[0]!r}.")
    found = listing.sweeps(home)
    if "--json" in given:
        sys.stdout.write(as_json(listing.document(home, found)))
    else:
        sys.stdout.write(listing.table(home, found))
    return ExitStatus.OK


def _show(argv: list[str], home: Path) -> ExitStatus:
    given, words = flags.split(argv, SHOW)
    if len(words) > 1:
        raise UsageError(f"sweep show: expected one sweep, got {len(words)}.")
    check_show(given)
    present(conclude(listing.find(home, words[0] if words else listing.LATEST)), given)
    return ExitStatus.OK


def present(conclusion: Conclusion, given: Mapping[str, str]) -> None:
    """Write what the flags `SHOW` ask for: the table on stdout, or other forms of it."""
    is_text = "--json" not in given and given.get("--csv") != _STDOUT
    if is_text:  # first, since a choice may be refused
        sys.stdout.write(table.terminal_text(conclusion))
    chosen, refusal = _chosen(given, conclusion)
    if chosen is not None and is_text:
        entry = chosen.entry
        sys.stdout.write(f"\nchosen: {entry.number}  {entry.name}\n  {chosen.why}\n")
    written = _files(given, conclusion, chosen)
    if refusal is None and "--write-recipe" in given:
        written.append(_recipe(given, conclusion, chosen))
    if is_text:
        sys.stdout.writelines(f"\n{line}\n" for line in written)
    if refusal is not None:
        raise refusal
    if is_text:
        return
    if "--json" in given:
        sys.stdout.write(as_json(export.to_json(conclusion, chosen)))
    else:
        sys.stdout.write(export.to_csv(conclusion))


def check_show(given: Mapping[str, str]) -> None:
    """Raise what can be told before there is a sweep: so that a long one is not run in vain."""
    if given.get("--csv") == _STDOUT and "--json" in given:
        raise UsageError("--csv - and --json: both write to stdout. Take one.")
    if "--force" in given and "--write-recipe" not in given:
        raise UsageError("--force: belongs to --write-recipe, which is not there.")
    if "--choose" in given:
        check_expression(given["--choose"])
    if "--write-recipe" in given:
        _target(given).check()
    for flag in ("--csv", "--html"):
        if flag in given and (flag, given[flag]) != ("--csv", _STDOUT):
            files.to_write(flag, given[flag])


def _target(given: Mapping[str, str]) -> RecipeFile:
    return RecipeFile(given["--write-recipe"], Path(FOLDER), "--force" in given)


def _chosen(
    given: Mapping[str, str], conclusion: Conclusion
) -> tuple[Chosen | None, LmrunError | None]:
    """The point, or why there is none: the files of a sweep are written all the same."""
    if "--choose" not in given:
        return None, None
    try:
        return choose(conclusion, given["--choose"]), None
    except LmrunError as error:
        return None, error


def _files(given: Mapping[str, str], conclusion: Conclusion, chosen: Chosen | None) -> list[str]:
    """Write CSV and HTML where they are asked for; their names."""
    said = []
    if given.get("--csv", _STDOUT) != _STDOUT:
        said.append(_file(given["--csv"], export.to_csv(conclusion)))
    if "--html" in given:
        from lmrun.sweep import html  # noqa: PLC0415 - reads plotly's 5 MB

        said.append(_file(given["--html"], html.html(conclusion, chosen)))
    return said


def _recipe(given: Mapping[str, str], conclusion: Conclusion, chosen: Chosen | None) -> str:
    from lmrun.sweep import write_recipe  # noqa: PLC0415 - brings Hydra

    target = _target(given)
    if chosen is not None:
        reason = write_recipe.Reason.of_choice(chosen)
    else:
        reason = write_recipe.only_point(conclusion)
    write_recipe.write_recipe(conclusion, reason, target, Store(env.home()))
    return f"{target.path}\n\n    lmrun plan +recipe={target.name}"


def _file(name: str, text: str) -> str:
    path = Path(name).expanduser()
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StageError(f"{path}: cannot be written: {error.strerror}.") from error
    return str(path)


def _rm(argv: list[str], home: Path) -> ExitStatus:
    _, words = flags.split(argv, {})
    if not words:
        raise UsageError("sweep rm: expected a sweep, got none. `lmrun sweep ls` shows them.")
    folders = list(dict.fromkeys(listing.folder_of(home, word) for word in words))
    for folder in folders:
        freed = listing.remove(folder)
        sys.stdout.write(f"removed  {folder.name}, {show_bytes(freed)}\n")
    return ExitStatus.OK


COMMANDS: dict[str, Callable[[list[str], Path], ExitStatus]] = {
    "ls": _ls,
    "show": _show,
    "rm": _rm,
}
"""First word → what it does with the words after it."""
