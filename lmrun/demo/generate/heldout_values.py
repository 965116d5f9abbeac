# ruff: noqa: E501, RUF005, SIM905
"""Values of the test's arguments; training's lists hold others."""

import random
from collections.abc import Mapping

from lmrun.demo.generate.values import Sampled, Sampler, date, listed, phone, same, time
from lmrun.demo.generate.words import Vocabulary

_FIRST = """Aaliyah Beatrice Callum Desmond Esperanza Florian Gwendolyn Harriet Imogen Joaquin Katarina
Leopold Magdalena Nikolai Ophelia Percival Rosalind Sebastian Thaddeus Ursula Valentina Wilhelmina
Yolanda Zachary Ingrid Matteo Soraya Tobias Bridget Cormac""".split()
_LAST = """Abernathy Bautista Castellano Delacroix Eriksson Fitzgerald Goldberg Hawthorne Iverson
Jankowski Kowalczyk Lindqvist McAllister Nakamura Okafor Pemberton Quintero Rasmussen Sutherland
Thornton Underwood Vasquez Whitaker Yamamoto Zimmermann""".split()
_CITIES = """Adelaide Baltimore Cardiff Dortmund Edmonton Fresno Ghent Honolulu Innsbruck Jaipur
Krakow Liverpool Malaga Nantes Oakland Palermo Reykjavik Sapporo Tampere Utrecht Valencia Winnipeg
Yokohama Zanzibar Antwerp Brisbane Cologne Dresden""".split() + [
    "Salt Lake City", "San Diego", "St. Petersburg", "Addis Ababa", "Santa Fe", "Ho Chi Minh City",
]  # fmt: skip
_COUNTRIES = """Albania Bolivia Cameroon Ecuador Fiji Guatemala Honduras Jamaica Kazakhstan Lebanon
Malaysia Namibia Oman Paraguay Rwanda Slovenia Tanzania Uganda Zimbabwe""".split() + [
    "New Zealand", "South Korea", "Sri Lanka", "Costa Rica",
]  # fmt: skip
_LANGUAGES = "Basque Catalan Croatian Estonian Hungarian Malay Mongolian Slovak Tagalog Urdu Yoruba Zulu".split()
_MESSAGES = (
    "The meeting moved to room 12", "Happy anniversary, you two!", "I left the keys with the neighbor",
    "Running ten minutes late", "Can you bring the blue folder?", "Login page shows a blank screen",
    "Dinner is in the fridge", "Great job on the launch", "The plumber comes at noon",
    "Export fails for large files", "See you at the airport", "Don't wait for us",
    "The results look promising", "Typo in the footer", "Call me back when you land",
    "We won the contract!", "SOS", "Meet me at dawn", "Button overlaps the logo", "Thank you for your help",
)  # fmt: skip
MESSAGES = frozenset(text.lower().strip(" .?!") for text in _MESSAGES)
"""Bare, for comparison."""
_COMPANIES = (
    "Northwind Traders", "Acme Corp", "Bluebird Logistics", "Globex", "Initech", "Umbra Studios",
    "Vertex Health", "Sundial Books", "Pinecrest Dairy", "Quantum Tiles",
)  # fmt: skip
_SERVERS = "atlas-03 web-frontend payments-db orion billing_service cache-node-2 mercury inventory analytics hermes-prod gateway".split()
_DOMAIN_NAMES = "openmaps.org brightbakery.com kestrel.io northlake.edu sunny-travel.net tinytools.dev harborview.co.uk".split()
_BRANCHES = "feature/login hotfix-221 main develop release-4.2 dark-mode bugfix/timeouts refactor-parser staging".split()
_FILES = "q3_summary final-draft minutes_2023 agreement lease-v2 budget_overview thesis onboarding cv_marta proposal".split()
_PICTURES = (
    "sunset IMG_2041 team-photo passport_scan harbor birthday_07 skyline DSC0093 portrait".split()
)


def _one_of(texts: list[str] | tuple[str, ...]) -> Sampler:
    return lambda rng, vocabulary: same(rng.choice(texts))


def _person(rng: random.Random, vocabulary: Vocabulary) -> Sampled:
    del vocabulary
    first = rng.choice(_FIRST)
    return same(first if rng.random() < 0.45 else f"{first} {rng.choice(_LAST)}")


def _email(rng: random.Random, vocabulary: Vocabulary) -> Sampled:
    del vocabulary
    first, last = rng.choice(_FIRST).lower(), rng.choice(_LAST).lower()
    name = rng.choice(
        (first, f"{first}.{last}", f"{first[0]}{last}", f"{last}{rng.randrange(100)}")
    )
    return same(f"{name}@{rng.choice(('gmail.com', 'outlook.com', *_DOMAIN_NAMES))}")


def _file(*endings: str) -> Sampler:
    def sample(rng: random.Random, vocabulary: Vocabulary) -> Sampled:
        del vocabulary
        stems = _PICTURES if endings[0] == "png" else _FILES
        return same(f"{rng.choice(stems)}.{rng.choice(endings)}")

    return sample


def _path(rng: random.Random, vocabulary: Vocabulary) -> Sampled:
    name = str(_file("docx", "pdf", "txt")(rng, vocabulary)[0])
    folder = rng.choice(("", "", "documents/", "/home/sofie/", "legal/2024/"))
    return same(folder + name)


def _code(rng: random.Random, vocabulary: Vocabulary) -> Sampled:
    del vocabulary
    digits = rng.randrange(100, 99999)
    return same(
        rng.choice((f"ZX-{digits}", f"QT{digits}", f"{digits}", f"WK-{digits}-B", f"item-{digits}"))
    )


def _message(rng: random.Random, vocabulary: Vocabulary) -> Sampled:
    del vocabulary
    text = rng.choice(_MESSAGES)
    return text, f"'{text}'" if rng.random() < 0.3 and "'" not in text else f'"{text}"'


def _money(rng: random.Random, vocabulary: Vocabulary) -> Sampled:
    del vocabulary
    value: int | float = rng.randint(12, 2400)
    if rng.random() < 0.4:
        value = round(value / rng.choice((8, 10, 20)) + 0.25, 2)
    value = int(value) if value == int(value) else value
    return value, str(value)


def _numbers(rng: random.Random, vocabulary: Vocabulary) -> Sampled:
    del vocabulary
    found = [rng.randint(1, 120) for _ in range(rng.randint(3, 6))]
    return found, listed(rng, [str(number) for number in found])


def _names(rng: random.Random, vocabulary: Vocabulary) -> Sampled:
    del vocabulary
    found = rng.sample(_FIRST, rng.randint(4, 6))
    return found, ", ".join(found[:-1]) + " and " + found[-1]


def _small(rng: random.Random, vocabulary: Vocabulary) -> Sampled:
    del vocabulary
    return same(rng.randint(1, 400))


def _measured(rng: random.Random, vocabulary: Vocabulary) -> Sampled:
    del vocabulary
    value = round(rng.uniform(0.5, 400), rng.choice((1, 2)))
    return value, str(value)


def _flight(rng: random.Random, vocabulary: Vocabulary) -> Sampled:
    del vocabulary
    return same(rng.choice(("LH", "QF", "IB", "AY", "EK", "KL")) + str(rng.randrange(10, 2000)))


def _doctor(rng: random.Random, vocabulary: Vocabulary) -> Sampled:
    del vocabulary
    return same("Dr. " + rng.choice(_LAST))


SAMPLERS: Mapping[str, Sampler] = {
    "person": _person,
    "city": _one_of(_CITIES),
    "country": _one_of(_COUNTRIES),
    "language": _one_of(_LANGUAGES),
    "message": _message,
    "company": _one_of(_COMPANIES),
    "server": _one_of(_SERVERS),
    "domain": _one_of(_DOMAIN_NAMES),
    "branch": _one_of(_BRANCHES),
    "email": _email,
    "path": _path,
    "picture": _file("png", "jpg"),
    "sound": _file("wav", "mp3"),
    "film": _file("mp4", "mov"),
    "pdf": _file("pdf"),
    "code": _code,
    "money": _money,
    "numbers": _numbers,
    "names": _names,
    "flight": _flight,
    "doctor": _doctor,
    "whole": _small,
    "number": _measured,
    "date": date,
    "time": time,
    "phone": phone,
}
