"""Telling a verb's flags, its own words and its overrides apart."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from lmrun.errors import UsageError


def split(
    argv: Sequence[str], known: Mapping[str, bool | None]
) -> tuple[dict[str, str], list[str]]:
    """Take the flags out of `argv`, wherever they stand; the rest keeps its order.

    `known` maps a flag (`--json`) to whether it takes a value (`--url X` or `--url=X`), None where
    it may (`--locked` or `--locked=X`). In the result a flag without a value maps to "". Raises
    `UsageError` on an unknown flag, a missing or unwanted value, and a flag given twice.
    """
    flags: dict[str, str] = {}
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        if not word.startswith("-"):
            rest.append(word)
            continue
        name, has_value, value = word.partition("=")
        if name not in known:
            raise UsageError(_unknown(name, known))
        if name in flags:
            raise UsageError(f"{name}: expected once, got twice. Give it one time.")
        takes_value = known[name]
        if takes_value is None and has_value and not value:
            raise UsageError(f"{name}=: expected a value after the sign, got none.")
        if not takes_value:
            if has_value and takes_value is False:
                raise UsageError(f"{name}: takes no value, got {value!r}. Write {name} alone.")
        elif not has_value:
            following = next(words, None)
            if following is None or _is_flag(following):
                raise UsageError(f"{name}: expected a value, got none. Write {name} VALUE.")
            value = following
        flags[name] = value
    return flags, rest


def parted(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The bare words, which are the verb's own, and the overrides; both keep their order."""
    bare = [word for word in words if not is_override(word)]
    return bare, [word for word in words if is_override(word)]


def is_override(word: str) -> bool:
    """Whether a word is a setting: `key=value`, `+recipe=x`, `~key`; a path may hold a `=` too."""
    return word.startswith(("+", "~")) or ("=" in word and not word.startswith((".", "/")))


def _is_flag(word: str) -> bool:
    """True for `--json` and `-q`; a negative number is a value, and so is `-`, which is stdout."""
    return word.startswith("-") and word != "-" and not word[1:2].isdigit() and word[1:2] != "."


def _unknown(name: str, known: Mapping[str, bool | None]) -> str:
    near = get_close_matches(name, known, 1)
    if near:
        return f"{name}: no such flag. Did you mean {near[0]}?"
    legal = f"Flags here: {', '.join(sorted(known))}." if known else "This verb has no flags."
    return f"{name}: no such flag. {legal}"
