"""Functions written by hand with their words exchanged for others, the same word everywhere.

The sentences stay, their words go: what is left to learn is to compare the request with the tools.
"""

import random
import re
from collections.abc import Collection
from dataclasses import replace

from lmrun.demo.generate.templates import STOP_WORDS, Domain, stem, stems
from lmrun.demo.generate.words import Vocabulary

_PIECE = re.compile(r"\{\d\}|[A-Za-z]+")
_CAMEL = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


class _Exchange:
    """Words of one family become words of another family, endings kept."""

    def __init__(
        self, rng: random.Random, vocabulary: Vocabulary, share: float, said: Collection[str]
    ) -> None:
        """``said``: stems of the request; others tell by their sense and mostly stay."""
        self.rng, self.vocabulary, self.share, self.said = rng, vocabulary, share, said
        self.known: dict[str, tuple[str, str] | None] = {}

    def word(self, word: str) -> str:
        lower = word.lower()
        if len(lower) < 3 or lower in STOP_WORDS:
            return word
        key = stem(lower)
        if key not in self.known:
            share = self.share if key in self.said else 0.12 * self.share
            chosen = self.rng.random() < share
            self.known[key] = (lower, self.vocabulary.word(self.rng)) if chosen else None
        found = self.known[key]
        if found is None:
            return word
        first, other = found
        common = 0
        while common < min(len(first), len(lower)) and first[common] == lower[common]:
            common += 1
        # "translate" is said "brogn": "translation" becomes "brognion"
        new = other + lower[common:]
        return new.capitalize() if word[0].isupper() else new

    def text(self, text: str) -> str:
        return _PIECE.sub(lambda found: self._part(found[0]), text)

    def _part(self, part: str) -> str:
        if part[0] == "{":
            return part
        if part.isupper() or part.islower() or part[1:].islower():
            return self.word(part)
        return _CAMEL.sub(lambda found: self.word(found[0]), part)


def disguised(rng: random.Random, domain: Domain, vocabulary: Vocabulary) -> Domain:
    """The same function about something else."""
    request = rng.choice(domain.requests)
    share = rng.choice((0.2, 0.4, 0.7, 1.0))
    exchange = _Exchange(rng, vocabulary, share, stems(request, ()))
    if rng.random() < 0.5:
        description = (
            (exchange.text(rng.choice(domain.descriptions)),) if domain.descriptions else ()
        )
        names = (exchange.text(rng.choice(domain.names)),)
    else:
        names = (exchange.text(rng.choice(domain.names)),)
        description = (
            (exchange.text(rng.choice(domain.descriptions)),) if domain.descriptions else ()
        )
    slots = []
    for slot in domain.slots:
        choices = slot.choices
        if slot.kind == "enum" and rng.random() < 0.6:
            choices = tuple(vocabulary.word(rng) for _ in choices)
        slots.append(
            replace(
                slot,
                names=(exchange.text(rng.choice(slot.names)),),
                description=exchange.text(slot.description),
                choices=choices,
            )
        )
    return replace(
        domain,
        names=names,
        descriptions=description,
        slots=tuple(slots),
        requests=(exchange.text(request),),
        result=exchange.text(domain.result),
    )
