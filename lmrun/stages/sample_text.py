"""`builtin:sample`: calibration text made by a small grammar of our own, always the same.

Stands in where the user names no text. Plain English sentences of common words; a text of the
model's own domain calibrates better.
"""

from collections.abc import Iterator

import numpy as np

SEED = 20261121


def _cut(words: str, by: str = " ") -> tuple[str, ...]:
    return tuple(words.split(by))


_NAMES = _cut("Anna Ben Clara David Elena Frank Grace Henry Ida Jonas Karla Leo Mia Nils Olga Paul")
_PEOPLE = _cut("teacher farmer doctor sailor baker engineer painter child neighbour driver")
_THINGS = _cut(
    "house river letter garden engine window book market bridge table lamp road boat machine"
    " picture song number answer question city forest field kitchen stone cloud clock"
)
_QUALITIES = _cut(
    "small old green heavy quiet bright broken simple strange warm long careful new empty"
    " deep clean sharp early famous gentle"
)
_PAST = _cut(
    "found opened carried followed described measured repaired watched painted moved counted"
    " remembered lost cleaned built crossed left reached"
)
_TIMES = _cut(
    "In the morning,|After the rain,|Every winter,|Last year,|At noon,|Before dinner,"
    "|On the second day,|Later,|By then,|Once,",
    "|",
)
_PLACES = _cut(
    "near the station|behind the school|at the end of the street|in the old town|by the sea"
    "|under the bridge|on the hill|in a far country|between two mountains|at home",
    "|",
)
_REASONS = _cut(
    "because it was late|so that nobody would worry|although the work was hard"
    "|while the others waited|and everyone was glad|but nothing changed"
    "|since the price had doubled|until the light was gone",
    "|",
)
_ENDS = ".....?!"


def paragraphs() -> Iterator[str]:
    """Paragraphs without end, each closed by a line break."""
    rng = np.random.Generator(np.random.PCG64(SEED))
    while True:
        count = int(rng.integers(3, 8))
        yield " ".join(_sentence(rng) for _ in range(count)) + "\n"


def _sentence(rng: np.random.Generator) -> str:
    def pick(words: tuple[str, ...]) -> str:
        return words[int(rng.integers(len(words)))]

    subject = pick(_NAMES) if rng.random() < 0.5 else f"the {pick(_QUALITIES)} {pick(_PEOPLE)}"
    words = [subject, pick(_PAST), "the", pick(_QUALITIES), pick(_THINGS)]
    kind = int(rng.integers(5))
    if kind == 0:
        words.insert(0, pick(_TIMES))
    elif kind == 1:
        words.append(pick(_PLACES))
    elif kind == 2:
        words.append(pick(_REASONS))
    elif kind == 3:
        words += ["and", str(int(rng.integers(2, 400))), f"{pick(_THINGS)}s", pick(_PLACES)]
    else:
        words[-1] += ","
        words += ["said", pick(_NAMES)]
    sentence = " ".join(words)
    return sentence[0].upper() + sentence[1:] + _ENDS[int(rng.integers(len(_ENDS)))]


def text(num_characters: int) -> str:
    """The first paragraphs that together have at least this many characters."""
    parts, length = [], 0
    for paragraph in paragraphs():
        parts.append(paragraph)
        length += len(paragraph)
        if length >= num_characters:
            break
    return "".join(parts)
