"""What could stand where the cursor is on a line that begins with ``lmrun``.

Without Hydra, OmegaConf and pydantic: a shell waits for the answer at each press of Tab. Hydra's
own completion takes twice as long and knows neither verbs nor flags.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from lmrun import env
from lmrun.cli import help as texts
from lmrun.cli import reporting
from lmrun.cli.main import TAKE_A_VALUE, VERBS
from lmrun.config import keys
from lmrun.config.names import recipe_names
from lmrun.config.places import Places
from lmrun.models import builtin

FLAG_VALUES: dict[str, Sequence[str]] = {
    "--cfg": ("job",),
    "-c": ("job",),
    "--log-format": ("text", "json"),
    "--verify": ("full",),
}
"""Flags whose value is one of a few words; that of the others is a file or a text."""

ARGUMENTS: dict[str, Sequence[str]] = {
    "list": (
        "recipes",
        "models",
        "quantizers",
        "backends",
        "chat-templates",
        "devices",
        "artifacts",
        "templates",
    ),
    "completion": ("bash", "zsh", "install", "uninstall"),
    "bench": ("startup",),
    "store": ("ls", "verify", "gc", "rm", "export", "import", "key"),
    "export": ("prune", "quantize", "convert"),
    "sweep": ("ls", "show", "rm"),
}
"""Verb → the words that can follow it."""

_WITHOUT_OVERRIDES = (
    "list",
    "sweep",
    "completion",
    "schema",
    "doctor",
    "new",
    "status",
    "logs",
    "down",
)
_RECIPE = ("recipe", "+recipe")
_HELP = ("--help", "-h")


def candidates(line: str) -> list[str]:
    """Whole words that go on with the last word of `line`, which ends at the cursor.

    One that ends in ``=`` or ``.`` wants more. An empty list where a file name or a text of the
    user's own belongs.
    """
    before, word = _split(line)
    previous = before[-1] if before else ""
    verb = _verb(before)
    if _takes_a_value(previous):
        return _starting(word, FLAG_VALUES.get(previous, ()))
    flag, is_attached, _ = word.partition("=")
    if word.startswith("-"):
        if is_attached:
            return _starting(word, (f"{flag}={value}" for value in FLAG_VALUES.get(flag, ())))
        return _starting(word, _flags(verb or "up"))
    found = list(_arguments(verb)) if verb is not None else []
    if verb is None and "=" not in word:
        found += VERBS
    if verb not in _WITHOUT_OVERRIDES:
        found += _overrides(word)
    return _starting(word, found)


def _split(line: str) -> tuple[list[str], str]:
    """The words before the last one, without the command itself, and the last one."""
    words = line.split()
    word = words.pop() if words and not line[-1].isspace() else ""
    return words[1:], word.lstrip("'\"")


def _verb(words: Sequence[str]) -> str | None:
    before = ""
    for word in words:
        if word in VERBS and not _takes_a_value(before):
            return word
        before = word
    return None


def _takes_a_value(flag: str) -> bool:
    return flag in TAKE_A_VALUE or reporting.FLAGS.get(flag, False)


def _starting(word: str, found: Iterable[str]) -> list[str]:
    return [candidate for candidate in dict.fromkeys(found) if candidate.startswith(word)]


def _flags(verb: str) -> list[str]:
    """As the help of the verb names them, and those of every verb."""
    named = re.findall(r"(?<![\w-])--?[a-z][a-z-]*", texts.VERBS[verb])
    return sorted({*named, *reporting.FLAGS, *_HELP})


def _arguments(verb: str) -> Sequence[str]:
    if verb == "schema":
        from lmrun.cli.schema import SCHEMAS  # noqa: PLC0415 - needed by this verb alone

        return list(SCHEMAS)
    if verb == "sweep":
        return [*ARGUMENTS[verb], "latest", *_sweep_ids()]
    if verb == "explain":
        return list(keys.table())
    return ARGUMENTS.get(verb, ())


def _sweep_ids() -> list[str]:
    folder = env.home() / "sweeps"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def _overrides(word: str) -> list[str]:
    name, has_value, value = word.partition("=")
    if has_value:
        return [f"{name}={choice}" for choice in _values(name, value)]
    places = Places.at(Path.cwd())
    with_options = [group for group in keys.groups() if places.options(group)]
    group, has_dot, _ = word.partition(".")
    if has_dot:
        names = [f"{group}.{leaf}" for leaf in keys.groups().get(group, ())]
        return [f"{name}{'.' if name in keys.mappings() else '='}" for name in names]
    recipes = [
        f"{name}=" for name in _RECIPE if name[0] == word[:1] or (name[0] == "+" and not word)
    ]
    return [*recipes, *(f"{name}=" for name in with_options), *(f"{g}." for g in keys.groups())]


def _values(name: str, value: str) -> Iterable[str]:
    """Legal values of a group, a key or the recipe."""
    places = Places.at(Path.cwd())
    if name in _RECIPE:
        opened, _, _ = value.rpartition(",") if "," in value else (value[:1], "", "")
        prefix = "" if value[:1] != "[" else f"{opened}," if "," in value else "["
        return [f"{prefix}{recipe}" for recipe in recipe_names(places.recipe_folders)]
    if name in keys.groups():
        return list(places.options(name))
    key = keys.table().get(name)
    if key is None:
        return ()
    if key.kind is bool:
        return ("true", "false")
    if name == "model.path":
        return [*(f"{builtin.PREFIX}{model}" for model in builtin.MODELS), *_model_names()]
    if name == "model.chat_template":
        from lmrun.models.chat_template import NAMED_TEMPLATES  # noqa: PLC0415 - brings Jinja

        return ("auto", *sorted(NAMED_TEMPLATES))
    return [str(choice) for choice in key.choices or ()]


def _model_names() -> list[str]:
    """Folders of $LMRUN_MODELS."""
    return sorted(
        path.name
        for folder in env.model_folders()
        if folder.is_dir()
        for path in folder.iterdir()
        if path.is_dir()
    )
