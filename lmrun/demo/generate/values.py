"""Values of arguments: what JSON holds and how a user says it."""

import random
from collections.abc import Callable
from typing import Any

from lmrun.demo.generate import words
from lmrun.demo.generate.words import Vocabulary

Sampled = tuple[Any, str]
"""The JSON value and the words of the request that stand for it."""
Sampler = Callable[[random.Random, Vocabulary], Sampled]

_DOMAINS = [
    "com",
    "org",
    "net",
    "io",
    "edu",
    "dev",
    "example.com",
    "mail.org",
    "corp.net",
    "test.io",
    "web.de",
    "uni.edu",
]
_EXTENSIONS = [
    "txt",
    "csv",
    "json",
    "pdf",
    "png",
    "jpg",
    "md",
    "html",
    "xml",
    "log",
    "py",
    "yaml",
    "zip",
    "mp3",
    "wav",
    "docx",
]


def same(value: str | int) -> Sampled:
    """A value that the request writes as JSON would, quotes apart."""
    return value, str(value)


def integer(rng: random.Random, vocabulary: Vocabulary) -> Sampled:
    """A whole number of one to seven digits, at times negative."""
    del vocabulary
    value = rng.randrange(10 ** rng.choice((1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 6, 7)))
    return same(-value if rng.random() < 0.06 else value)


def small(low: int, high: int) -> Sampler:
    """A whole number between two."""
    return lambda rng, vocabulary: same(rng.randint(low, high))


def number(rng: random.Random, vocabulary: Vocabulary) -> Sampled:
    """A decimal number, or a whole one where decimals are allowed."""
    if rng.random() < 0.35:
        return integer(rng, vocabulary)
    digits = rng.randint(1, 3)
    whole = rng.randrange(10 ** rng.choice((1, 1, 2, 2, 3, 4)))
    text = f"{whole}.{rng.randrange(10**digits):0{digits}d}"
    if rng.random() < 0.06:
        text = "-" + text
    return float(text), repr(float(text))


def first_name(rng: random.Random, vocabulary: Vocabulary) -> Sampled:
    """A person, by first name, full name, or a name nobody has."""
    del vocabulary
    draw = rng.random()
    if draw < 0.45:
        return same(rng.choice(words.FIRST_NAMES))
    if draw < 0.75:
        return same(f"{rng.choice(words.FIRST_NAMES)} {rng.choice(words.LAST_NAMES)}")
    if draw < 0.9:
        return same(words.made_up(rng).capitalize())
    return same(f"{words.made_up(rng, 1, 2).capitalize()} {words.made_up(rng, 1, 3).capitalize()}")


def place(names: list[str]) -> Sampler:
    """One of some places, or one that is on no map."""

    def sample(rng: random.Random, vocabulary: Vocabulary) -> Sampled:
        del vocabulary
        if rng.random() < 0.7:
            return same(rng.choice(names))
        return same(words.made_up(rng, 2, 3).capitalize())

    return sample


def date(rng: random.Random, vocabulary: Vocabulary) -> Sampled:
    """A day in one of several notations."""
    del vocabulary
    year, month, day = rng.randint(1950, 2035), rng.randint(1, 12), rng.randint(1, 28)
    draw = rng.random()
    if draw < 0.55:
        return same(f"{year}-{month:02d}-{day:02d}")
    if draw < 0.7:
        return same(f"{words.MONTHS[month - 1]} {day}")
    if draw < 0.8:
        return same(rng.choice(words.DAYS))
    if draw < 0.9:
        return same(f"{day:02d}.{month:02d}.{year}")
    return same(f"{month:02d}/{day:02d}/{year}")


def time(rng: random.Random, vocabulary: Vocabulary) -> Sampled:
    """A time of day."""
    del vocabulary
    hour, minute = rng.randint(0, 23), rng.randrange(0, 60, 5)
    draw = rng.random()
    if draw < 0.65:
        return same(f"{hour:02d}:{minute:02d}")
    if draw < 0.8:
        return same(f"{hour % 12 + 1} {rng.choice(('am', 'pm'))}")
    return same(f"{hour % 12 + 1}:{minute:02d} {rng.choice(('am', 'pm'))}")


def email(rng: random.Random, vocabulary: Vocabulary) -> Sampled:
    """An address such as lena.berg@mail.org."""
    name = rng.choice((rng.choice(words.FIRST_NAMES).lower(), words.made_up(rng)))
    if rng.random() < 0.4:
        name += rng.choice("._-") + rng.choice(words.LAST_NAMES).lower()
    elif rng.random() < 0.2:
        name += str(rng.randrange(1000))
    domain = rng.choice(_DOMAINS)
    if "." not in domain:
        domain = f"{rng.choice((vocabulary.word(rng), words.made_up(rng)))}.{domain}"
    return same(f"{name}@{domain}")


def phone(rng: random.Random, vocabulary: Vocabulary) -> Sampled:
    """A telephone number."""
    del vocabulary
    digits = "".join(rng.choice("0123456789") for _ in range(10))
    layouts = (
        f"+{digits}",
        f"{digits[:3]}-{digits[3:6]}-{digits[6:]}",
        f"555-{digits[:4]}",
        digits,
        f"+{digits[:2]} {digits[2:5]} {digits[5:]}",
    )
    return same(rng.choice(layouts))


def url(rng: random.Random, vocabulary: Vocabulary) -> Sampled:
    """A web address."""
    path = "/".join(vocabulary.word(rng) for _ in range(rng.randint(0, 2)))
    host = f"{vocabulary.word(rng)}.{rng.choice(_DOMAINS[:6])}"
    return same(f"http{rng.choice(('', 's'))}://{host}{'/' + path if path else ''}")


def path(rng: random.Random, vocabulary: Vocabulary) -> Sampled:
    """A file, with or without folders."""
    name = rng.choice("_-").join(vocabulary.word(rng) for _ in range(rng.randint(1, 2)))
    if rng.random() < 0.2:
        name += str(rng.randrange(100))
    name += "." + rng.choice(_EXTENSIONS)
    draw = rng.random()
    if draw < 0.5:
        return same(name)
    folders = "/".join(vocabulary.word(rng) for _ in range(rng.randint(1, 2)))
    return same(f"{'/' if draw < 0.75 else ''}{folders}/{name}")


def _quoted(rng: random.Random, text: str) -> Sampled:
    draw = rng.random()
    if draw < 0.5:
        return text, f'"{text}"'
    return text, f"'{text}'" if draw < 0.75 and "'" not in text else text


def title(rng: random.Random, vocabulary: Vocabulary) -> Sampled:
    """A name of a thing, mostly in quotes: "The Silver Lamp"."""
    text = vocabulary.words(rng, 1, 4)
    draw = rng.random()
    if draw < 0.6:
        text = text.title()
    elif draw < 0.75:
        text = text.capitalize()
    return _quoted(rng, text)


def sentence(rng: random.Random, vocabulary: Vocabulary) -> Sampled:
    """A short message, in quotes or after a colon."""
    noun, other = vocabulary.noun(rng), vocabulary.word(rng)
    name, when = rng.choice(words.FIRST_NAMES), rng.choice((date, time))(rng, vocabulary)[1]
    text = rng.choice(
        (
            f"The {noun} is ready",
            f"I will be {rng.randint(5, 50)} minutes late",
            f"Please bring the {noun}",
            f"Do not forget the {noun}",
            f"See you at {when}",
            f"Happy birthday, {name}!",
            f"Thanks for the {noun}!",
            f"Can we talk about the {noun}?",
            f"{name} needs the {noun} by {when}",
            f"the {noun} looks {rng.choice(words.ADJECTIVES)} today",
            f"Meeting about {noun} and {other}",
            f"water the {noun}",
            f"call {name}",
            f"{noun} is {rng.choice(words.ADJECTIVES)}, {noun} is {rng.choice(words.ADJECTIVES)}",
            f"{vocabulary.words(rng, 2, 6)}.",
            vocabulary.words(rng, 2, 7),
        )
    )
    if vocabulary.sayings and rng.random() < 0.6:
        text = vocabulary.saying(rng)
    draw = rng.random()
    if draw < 0.06 and text[-1] not in ".!?,":
        return text, text
    return (text, f'"{text}"') if draw < 0.6 or "'" in text else (text, f"'{text}'")


def topic(rng: random.Random, vocabulary: Vocabulary) -> Sampled:
    """Words to look for, without quotes more often than with."""
    text = vocabulary.noun(rng) if rng.random() < 0.5 else vocabulary.words(rng, 1, 3)
    return _quoted(rng, text) if rng.random() < 0.4 else same(text)


def code(rng: random.Random, vocabulary: Vocabulary) -> Sampled:
    """An identifier such as AB-1234, user_17 or 83421."""
    letters = "".join(rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(rng.randint(1, 3)))
    digits = str(rng.randrange(10 ** rng.randint(1, 6)))
    layouts = (
        f"{letters}-{digits}",
        letters + digits,
        f"{rng.choice(words.NOUNS)}_{digits}",
        f"{rng.choice(words.NOUNS)}-{digits}",
        f"{words.made_up(rng, 1, 2)}{digits}",
        f"#{digits}",
    )
    return same(rng.choice(layouts))


def symbol(rng: random.Random, vocabulary: Vocabulary) -> Sampled:
    """Two to five capital letters."""
    del vocabulary
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return same("".join(rng.choice(letters) for _ in range(rng.randint(2, 5))))


def one_of(choices: list[str]) -> Sampler:
    """A word of a list."""
    return lambda rng, vocabulary: same(rng.choice(choices))


def word(rng: random.Random, vocabulary: Vocabulary) -> Sampled:
    """One word, in quotes or not."""
    text = vocabulary.word(rng)
    return _quoted(rng, text) if rng.random() < 0.5 else same(text)


def noun(rng: random.Random, vocabulary: Vocabulary) -> Sampled:
    """A thing."""
    return same(vocabulary.noun(rng))


def listed(rng: random.Random, texts: list[str]) -> str:
    """Some texts in a row."""
    draw = rng.random()
    if draw < 0.4 or len(texts) < 2:
        return ", ".join(texts)
    if draw < 0.8:
        return ", ".join(texts[:-1]) + " and " + texts[-1]
    return "[" + ", ".join(texts) + "]"


def numbers(rng: random.Random, vocabulary: Vocabulary) -> Sampled:
    """A list of numbers."""
    sampler = integer if rng.random() < 0.8 else number
    sampled = [sampler(rng, vocabulary) for _ in range(rng.randint(2, 6))]
    return [value for value, _ in sampled], listed(rng, [text for _, text in sampled])


def several(sampler: Sampler) -> Sampler:
    """A list of texts."""

    def sample(rng: random.Random, vocabulary: Vocabulary) -> Sampled:
        texts = [sampler(rng, vocabulary)[0] for _ in range(rng.randint(2, 4))]
        return texts, listed(rng, texts)

    return sample
