"""Kinds of values of functions written by hand, for training and, from other lists, the test."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lmrun.demo.generate import heldout_values, slots, values, words
from lmrun.demo.generate.values import Sampled, Sampler, same
from lmrun.demo.generate.words import Vocabulary


@dataclass(frozen=True)
class Sampling:
    """The JSON type of a kind, and its values in training and in the test."""

    type: str
    training: Sampler
    test: Sampler

    def sample(self, rng: random.Random, vocabulary: Vocabulary) -> Sampled:
        """A value and how a request says it."""
        return (self.test if vocabulary.held_out else self.training)(rng, vocabulary)


def _text(draw: Callable[[random.Random, Vocabulary], str]) -> Sampler:
    return lambda rng, vocabulary: same(draw(rng, vocabulary))


def _file(*endings: str) -> Sampler:
    def draw(rng: random.Random, vocabulary: Vocabulary) -> str:
        stem = vocabulary.phrase(rng, False).replace(" ", rng.choice("_-"))
        if rng.random() < 0.4:
            stem = rng.choice((stem.upper(), stem.capitalize(), f"{stem}{rng.randrange(1000)}"))
        folder = f"{vocabulary.word(rng)}/" if rng.random() < 0.25 else ""
        return f"{folder}{stem}.{rng.choice(endings)}"

    return _text(draw)


def _flight(rng: random.Random, vocabulary: Vocabulary) -> str:
    del vocabulary
    return words.letters(rng, 2).upper() + rng.choice(("", " ")) + str(rng.randrange(10, 9999))


def _company(rng: random.Random, vocabulary: Vocabulary) -> str:
    name = " ".join(vocabulary.name(rng) for _ in range(rng.randint(1, 2)))
    return name + rng.choice(("", "", "", " Inc", " Ltd", " Group", " Bank", " & Sons", " Foods"))


def _server(rng: random.Random, vocabulary: Vocabulary) -> str:
    joint = rng.choice(("-", "-", "_", ".", ""))
    parts = [vocabulary.word(rng) for _ in range(rng.randint(1, 2))]
    if rng.random() < 0.5:
        parts.append(str(rng.randrange(1, 100)))
    return joint.join(parts)


def _domain(rng: random.Random, vocabulary: Vocabulary) -> str:
    ending = rng.choice(("com", "org", "net", "io", "dev", "de", "co.uk", "edu"))
    host = f"{rng.choice(('www', 'api', 'mail', 'shop'))}." if rng.random() < 0.25 else ""
    return host + vocabulary.phrase(rng, False).replace(" ", rng.choice(("-", ""))) + "." + ending


def _branch(rng: random.Random, vocabulary: Vocabulary) -> str:
    if rng.random() < 0.3:
        return rng.choice(("main", "master", "develop", "stable", "next"))
    word = vocabulary.phrase(rng, False).replace(" ", "-")
    prefix = rng.choice(("", "", "feature/", "fix/", "hotfix/", "release-", "bug-"))
    return prefix + word + rng.choice(("", "", str(rng.randrange(100))))


def _ip(rng: random.Random, vocabulary: Vocabulary) -> str:
    del vocabulary
    return ".".join(str(rng.randrange(256)) for _ in range(4))


def _doctor(rng: random.Random, vocabulary: Vocabulary) -> str:
    title = rng.choice(("Dr. ", "Doctor ", "Prof. ", "Dr "))
    return title + str(values.first_name(rng, vocabulary)[0]).split()[-1]


def _training() -> dict[str, tuple[str, Sampler]]:
    found = {
        name: (kind.schema["type"], kind.sample)
        for name, kind in slots.KINDS.items()
        if kind.schema["type"] != "array"
    }
    arrays = {name: ("array", slots.KINDS[name].sample) for name in ("numbers", "names", "tags")}
    texts: dict[str, Sampler] = {
        "picture": _file("png", "jpg", "jpeg", "gif", "svg"),
        "sound": _file("wav", "mp3", "ogg", "flac"),
        "film": _file("mp4", "mov", "avi", "mkv"),
        "pdf": _file("pdf"),
        "flight": _text(_flight),
        "company": _text(_company),
        "server": _text(_server),
        "domain": _text(_domain),
        "branch": _text(_branch),
        "ip": _text(_ip),
        "doctor": _text(_doctor),
    }
    return {**found, **arrays, **{name: ("string", sampler) for name, sampler in texts.items()}}


def _samplings() -> Mapping[str, Sampling]:
    test = heldout_values.SAMPLERS
    return {
        name: Sampling(kind, sampler, test.get(name, sampler))
        for name, (kind, sampler) in _training().items()
    }


SAMPLERS: Mapping[str, Sampling] = _samplings()
