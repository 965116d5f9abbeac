"""Names as programmers write them, and words as sentences need them."""

import random
from collections.abc import Sequence

from lmrun.demo.generate import words


def third_person(verb: str) -> str:
    """send → sends, put on → puts on."""
    first, _, rest = verb.partition(" ")
    if first.endswith(("s", "sh", "ch", "x", "z", "o")):
        first += "es"
    elif first.endswith("y") and first[-2:-1] not in "aeiou":
        first = first[:-1] + "ies"
    else:
        first += "s"
    return f"{first} {rest}" if rest else first


def article(noun: str) -> str:
    """a or an."""
    return "an" if noun[0] in "aeiou" else "a"


def _camel(parts: Sequence[str]) -> str:
    return parts[0] + "".join(part.capitalize() for part in parts[1:])


def style_name(rng: random.Random, parts: Sequence[str]) -> str:
    """Words joined as programmers do."""
    draw = rng.random()
    if draw < 0.62 or len(parts) == 1:
        return "_".join(parts)
    if draw < 0.8:
        return _camel(parts)
    if draw < 0.86:
        return "".join(part.capitalize() for part in parts)
    if draw < 0.91:
        return "-".join(parts)
    if draw < 0.96:
        return parts[0] + "." + "_".join(parts[1:])
    return "".join(parts)


def function_name(rng: random.Random, verb: str, noun: str) -> str:
    parts = [*verb.split(), *noun.split()]
    draw = rng.random()
    if draw < 0.12:
        parts = [*noun.split(), *verb.split()]
    elif draw < 0.18:
        parts.append(rng.choice(("tool", "api", "service", "v2", "helper", "function", "now")))
    elif draw < 0.22:
        parts.insert(0, rng.choice(("do", "run", "my", "api", "tool", "user")))
    elif draw < 0.27:
        parts = [words.made_up(rng, 1, 3)]
        if rng.random() < 0.4:
            parts.append(str(rng.randrange(100)))
    return style_name(rng, parts)


def spoken(name: str) -> str:
    """snake_case, camelCase and others as words in lower case."""
    parts = "".join(f" {char.lower()}" if char.isupper() else char for char in name)
    for char in "_-.":
        parts = parts.replace(char, " ")
    return " ".join(parts.split())
