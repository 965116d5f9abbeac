# ruff: noqa: E501, SIM905
"""Wordings put together from parts, for training: so many that only reading the prompt helps.

A result that is among the test's wordings is drawn again (`Wordings.free`).
"""

import random
import re
from collections.abc import Callable

from lmrun.demo.generate import heldout, words
from lmrun.demo.generate.words import Vocabulary

_OPENERS = (
    "", "", "", "", "", "please ", "can you ", "could you ", "could you please ", "I need you to ",
    "I want to ", "I'd like to ", "I would like you to ", "help me ", "would you ", "let's ", "now ",
    "hi, ", "hello! can you ", "hey, could you ", "it is time to ", "your job is to ", "quickly ",
    "time to ", "I want you to ", "you should ", "are you able to ", "thanks! next, ", "we need to ",
    "how about you ", "it would be nice if you could ", "use a tool to ", "my boss wants me to ",
    "someone has to ", "I must ", "I am supposed to ", "try to ", "I hope you can ", "do ", "just ",
    "I forgot to ", "remember to ", "make sure to ", "is there a way to ", "what I want is to ",
    "so, ", "ok, ", "well, ", "today I want to ", "my plan is to ", "the task: ", "next: ", "first, ",
    "tell the system to ", "ask the tool to ", "I'd be happy if you could ", "see if you can ",
    "your turn: ", "again: ", "finally, ", "one more thing: ", "before I leave, ", "let us ",
    "for my project, ", "since it is late, ", "the customer asked to ", "I was told to ",
    "there is a request to ", "we have been asked to ", "let me ", "allow me to ", "may I ",
    "would it be okay to ", "do you think you can ", "I wonder whether you can ", "do me one thing: ",
    "good evening, ", "dear assistant, ", "assistant, ", "be quick and ", "take a moment to ",
    "go and ", "be nice and ", "hurry up and ", "come on and ", "be good and ", "sit down and ",
    "do it and ", "do us a favor and ", "be a dear and ", "be careful and ", "be so good and ",
    "try and ", "stay calm and ", "wake up and ", "be friendly and ", "please go on and ",
    "I beg you to ", "my first wish is to ", "last on the list: ", "kindly do this: ", "if you like, ",
    "would it help to ", "I was hoping you could ", "might you ", "in order to finish, ",
)  # fmt: skip
_CLOSERS = (
    "", "", "", "", "", "", "", " please", ", please", " for me", " now", ", thanks", " today",
    " at once", " if possible", " when you can", ", would you", " for my team", ", will you",
    " before lunch", " again", " this time", ", it is important", " without delay", ", okay",
    " as fast as you can", " as well as you can", " as quickly as possible", " before I forget",
    " if you do not mind", " whenever it suits you", " in a moment", " on my behalf", " just once",
    " if that is all right", " without asking back", " like last time", " the usual way", " first of all",
    " until I say stop", " so that I can go home", " because I asked", " before it is too late",
    " while I wait", " instead of me", " as a favor", " as always", " as agreed", " as we said", " at last",
)  # fmt: skip
_ENDS = (".", ".", ".", "", "", "!", "?")
_LEADS = (
    "what is ", "what's ", "work out ", "calculate ", "evaluate ", "how much is ", "", "", "",
    "find ", "determine ", "solve ", "please calculate ", "I need ", "what do I get for ",
    "can you work out ", "do the math: ", "what does this give: ", "I want the result of ",
    "could you calculate ", "my homework says ", "the result of ", "show me ", "how many is ",
    "figure out ", "I wonder what is ", "tell us ", "say what ", "quick, ", "what comes out of ",
    "can you do ", "is it hard to do ", "help me with ", "what number is ", "I am stuck at ",
    "use the tools for ", "give the value of ", "it says ", "next one: ", "the question is ",
    "would you calculate ", "please solve ", "what would you get for ", "what might ", "let me see ",
    "I want to know ", "do you know ", "what will be ", "the value of ", "please find out ",
)  # fmt: skip
_TAILS = (
    "", "", "", "", "", " for me", " please", ", please", " =", " = ?", " is", " be", " equals what",
    " in the end", " exactly", ", thanks", " now", " come to", " make",
)  # fmt: skip
CONNECTORS = (
    " and then ", ", then ", ". Then ", " and ", ", and after that ", " and afterwards ",
    ". After that, ", ". Next, ", "; then ", ", and once that is done, ", ". When you have it, ",
    " then ", ". Finally, ", ", followed by this: ", " and, when done, ", ". Second, ", ", after which ",
    " before you ", ". With that, ", " and use it to ", ". Also ", ", and also ", "; afterwards ",
    " and next ", ". Now ", ". Later ", ", and with the result ", ". Having done this, ", " & ",
)  # fmt: skip
_STARTS = (
    "", "", "", "", "first ", "first, ", "please ", "can you ", "could you ", "I need you to ", "hi! ",
    "I want to ", "start with this: ", "two tasks: ", "do this: ", "step one: ", "would you ",
    "my plan: ", "here is what I need: ", "at first ", "let's ", "help me: ", "you should ",
    "two requests: ", "there are two steps: ", "initially, ",
)  # fmt: skip
_REFERENCES = (
    "that {a}", "it", "this {a}", "the {a} you found", "that", "the {a}", "the {a} from before",
    "its result", "the result", "the found {a}", "what you get", "the {a} you get", "this",
    "exactly that {a}", "the same {a}", "the value", "the {a} it returns", "the answer", "that value",
    "the {a} that was found", "the {a} in question", "what you found", "the new {a}",
)  # fmt: skip
_BEFORE = (
    "with", "with a", "with the", "using", "using the", "where", "for the", "at", "and", "of", "set",
    "", "", "in", "by", "on", "as to the", "under", "regarding the", "concerning", "plus", "also",
    "the", "its", "that has", "which has", "when", "if", "while", "including", "featuring", "via",
    "being", "counting", "let", "make", "choose", "take", "use", "put", "pick", "assume", "note the",
    "add the", "the right", "my", "our", "your",
)  # fmt: skip
_MIDDLE = (
    " ", " ", " of ", " is ", ": ", " = ", "=", " set to ", " to ", " being ", " equal to ", " as ",
    " at ", " must be ", " will be ", " was ", " like ", " named ", " exactly ", " - ", " equals ",
    " ought to be ", " shall be ", " has to be ", " needs to be ", " may be ", " could be ",
    " would be ", " is going to be ", " can be ", " might be ", " becomes ", " stays ", " reads ",
)  # fmt: skip
_AFTER = (
    "{v} as {w}", "{v} as the {w}", "{v} for {w}", "{v} {w}", "{v} is the {w}", "{v} ({w})",
    "{v} being the {w}", "use {v} for the {w}", "with {v} as its {w}", "using {v} as {w}",
    "set {v} as {w}", "{v} in {w}", "{v} of {w}",
)  # fmt: skip
_PREPOSITIONS = (
    "within", "inside", "through", "during", "until", "against", "under", "over", "behind", "beside",
    "starting from", "made of", "as of", "down to", "past", "after", "before", "next to", "along",
    "despite", "except", "like", "near", "off", "onto", "per", "since", "than", "throughout", "upon",
    "because of", "instead of", "according to", "with respect to", "in view of", "thanks to",
    "with", "for", "at", "in", "on", "by", "to", "from", "about", "using", "namely", "i.e.",
)  # fmt: skip
_DESCRIBED = (
    "{d}", "{d}", "{d}", "{d}", "{d}.", "{d}.", "This function does: {d}", "{d} Fast and simple.",
    "Tool. {d}.", "{d} (beta)", "{d}. Use it when the user asks for it.", "{d}, as requested",
    "{d}. Returns JSON.", "{d} and returns the outcome", "Purpose: {d}", "{d}. Needs all inputs.",
    "{d} for the user", "{d}. Version 2.", "Does this: {d}", "{d} [{w}]", "{w}: {d}", "{d} - {w}",
    "{d}. No {w} needed.", "Part of the {w} suite. {d}.", "{d} in the {w} system",
)  # fmt: skip

_HELD_OUT = heldout.wordings()


def free(draw: Callable[[], str]) -> str:
    """A wording that the test does not use."""
    while True:
        text = draw()
        if heldout.bare(text) not in _HELD_OUT:
            return text


def other_than_the_tests(text: str, rng: random.Random, vocabulary: Vocabulary) -> str:
    """The text, or with a word more where the test has the same."""
    while heldout.bare(text) in _HELD_OUT:
        text = f"{text.rstrip('.')} {vocabulary.word(rng)}"
    return text


_ADVERBS = """quickly soon slowly gladly carefully really simply actually somehow later tonight today
tomorrow immediately eventually perhaps surely honestly briefly quietly already anyway again early
kindly maybe possibly promptly properly""".split()
_CLAUSES = (
    "as {v} as {w} can", "as {v} as possible", "before the {w} {x}", "because the {w} is {a}",
    "so that the {w} can {x}", "since I {x} the {w}", "if the {w} is {a}", "while the {w} is {a}",
    "when my {w} {x}", "for the sake of the {w}", "in the name of the {w}", "with all due {w}",
    "until the {w} is {a}", "after the {w}", "in no {w}", "without any {w}", "like a {a} {w}",
    "and I mean {v}", "for once", "the {a} way", "to make the {w} {a}", "as the {w} wants",
    "thanks to the {w}", "whatever the {w} says", "and that {v}", "that is all for {v}", "or the {w} will {x}",
    "which would make me {a}", "and be {a} about it", "that is my {a} {w}", "no {w}, no {w}",
    "it would make the {w} {a}", "that would be {a}", "the {w} said so", "I am {a}", "I have no {w}",
)  # fmt: skip
_SENTENCES = (
    "I had a long day.", "It is urgent.", "I am new here.", "My {w} is {a}.", "The {w} looks {a}.",
    "I was at the {w} before.", "You helped me with the {w} last time.", "I know little about the {w}.",
    "Nobody else can do it.", "It will not take long.", "The {a} {w} is {a}.", "We talked about {w}.",
    "I need it for the {w}.", "There is no hurry.", "I would do it myself.", "Somebody told me about you.",
    "My {w} cannot do that.", "This is my first try.", "You are good at this.", "I hope it works.",
    "{W} and {W} are here.", "What a {a} {w}!", "Oh {w}!", "Hello {W}!", "{W}.", "Good {w}!", "No {w} today.",
    "I {x} the {w} every {w}.", "They {x} {v}.", "We are {a}.", "Is this {a}?", "You know me, {W}.",
    "The {w} of the {w} is {a}.", "I thank you {v}.", "Sorry for the {w}.", "Where was I? Ah, {w}.",
    "I asked {W} already.", "It is {a} here.", "This has to do with {w}.", "Dear {W},", "{W}, my friend,",
)  # fmt: skip


def beside(rng: random.Random, text: str, vocabulary: Vocabulary) -> str:
    """A clause or sentence that has nothing to do with the matter, its words put in."""

    def put(found: re.Match[str]) -> str:
        letter = found[1]
        if letter == "W":
            return vocabulary.name(rng)
        if letter == "a":
            return rng.choice(words.ADJECTIVES) if rng.random() < 0.6 else vocabulary.word(rng)
        if letter == "v":
            return rng.choice(_ADVERBS) if rng.random() < 0.7 else vocabulary.word(rng)
        return vocabulary.word(rng)

    return _BESIDE.sub(put, text)


_BESIDE = re.compile(r"\{([wWavx])\}")


def remark(rng: random.Random, vocabulary: Vocabulary) -> str:
    """A sentence beside the point."""
    return beside(rng, rng.choice(_SENTENCES), vocabulary)


def _closer(rng: random.Random, vocabulary: Vocabulary) -> str:
    if rng.random() < 0.72:
        return rng.choice(_CLOSERS)
    joint = rng.choice((" ", " ", ", "))
    return joint + beside(rng, rng.choice(_CLAUSES), vocabulary)


def _opener(rng: random.Random, vocabulary: Vocabulary) -> str:
    draw = rng.random()
    if draw < 0.85:
        return rng.choice(_OPENERS)
    if draw < 0.93:
        return beside(rng, rng.choice(("{v}, ", "dear {W}, ", "{w}: ", "well, {W}, ", "{W}, ", "{v} ",
                                       "oh {w}, ", "my {w}, ", "for {W}, ", "{W} says: ")), vocabulary)  # fmt: skip
    return beside(rng, rng.choice(_CLAUSES), vocabulary) + ", "


def request_frame(rng: random.Random, vocabulary: Vocabulary) -> str:
    """With ``{c}`` or ``{C}``."""

    def draw() -> str:
        opener = _opener(rng, vocabulary)
        text = opener + ("{c}" if opener or rng.random() < 0.3 else "{C}")
        return _capital(rng, text + _closer(rng, vocabulary)) + rng.choice(_ENDS)

    return free(draw)


def expression_frame(rng: random.Random, vocabulary: Vocabulary) -> str:
    """With ``{e}``."""

    def draw() -> str:
        tail = rng.choice(_TAILS) if rng.random() < 0.8 else _closer(rng, vocabulary)
        lead = rng.choice(_LEADS)
        if rng.random() < 0.1:
            lead = remark(rng, vocabulary) + " " + lead
        return _capital(rng, lead + "{e}" + tail) + rng.choice(_ENDS)

    return free(draw)


def two_step_frame(rng: random.Random, vocabulary: Vocabulary) -> str:
    """With ``{c}`` or ``{C}`` and ``{d}``."""

    def draw() -> str:
        start = rng.choice(_STARTS)
        text = start + ("{c}" if start else "{C}") + rng.choice(CONNECTORS) + "{d}"
        return _capital(rng, text + _closer(rng, vocabulary)) + rng.choice(_ENDS)

    return free(draw)


def _capital(rng: random.Random, text: str) -> str:
    return text[:1].upper() + text[1:] if rng.random() < 0.75 else text


_LOOKUPS = (
    "{verb} the {a} of {v}", "{verb} the {a} of {v}", "{verb} {v}'s {a}", "{verb} what {a} {v} has",
    "{verb} which {a} belongs to {v}", "{verb} the {a} that {v} has", "{verb} the {a} for {v}",
    "{verb} what {v}'s {a} is", "{verb} me the {a} of {v}",
)  # fmt: skip
_FINDING = (
    "find", "get", "look up", "fetch", "find out", "check", "ask for", "read", "give", "say", "show",
    "figure out", "discover", "locate", "obtain", "learn", "search for", "request", "query", "display",
    "list", "pull", "grab", "report", "name", "need", "want", "know",
)  # fmt: skip


def lookup_request(rng: random.Random, vocabulary: Vocabulary) -> str:
    """A clause that looks something up, with ``{a}`` and ``{v}``."""

    def draw() -> str:
        verb = vocabulary.word(rng) if rng.random() < 0.12 else rng.choice(_FINDING)
        return rng.choice(_LOOKUPS).replace("{verb}", verb)

    return free(draw)


def reference(rng: random.Random) -> str:
    """With ``{a}`` perhaps."""
    return free(lambda: rng.choice(_REFERENCES))


def named_phrase(rng: random.Random) -> str:
    """How a request gives a parameter by its name: ``{w}`` and ``{v}``."""

    def draw() -> str:
        if rng.random() < 0.3:
            return rng.choice(_AFTER)
        before = rng.choice(_BEFORE)
        return f"{before} {{w}}{rng.choice(_MIDDLE)}{{v}}".strip()

    return free(draw)


def loose_phrase(rng: random.Random) -> str:
    """A value behind some preposition."""
    return free(lambda: rng.choice(_PREPOSITIONS) + " {v}")


def description(rng: random.Random, text: str, vocabulary: Vocabulary) -> str:
    """A description said a little differently."""

    def draw() -> str:
        said = text
        parts = said.split()
        if len(parts) > 4 and rng.random() < 0.25:
            del parts[rng.randrange(1, len(parts))]
            said = " ".join(parts)
        if rng.random() < 0.2:
            said = said[0].lower() + said[1:]
        frame = rng.choice(_DESCRIBED)
        return frame.replace("{d}", said).replace("{w}", vocabulary.word(rng))

    return free(draw)


_DEFAULTS = (
    " (optional)", ". Default is {w}.", " (defaults to {w} if not specified)", ". Optional.",
    " (optional parameter, default is '{w}')", ", {w} by default", ". If not given, {w} is used",
    ". Defaults to {n}", " (default: {n})", ". Optional, default {n}.", ". May be left out", " Default: True.",
    ". Default is '{w}'", ". Options are '{w}' and '{w}', default is '{w}'.",
)  # fmt: skip


def default(rng: random.Random, vocabulary: Vocabulary) -> str:
    """What a description says about a parameter that is left out."""
    text = rng.choice(_DEFAULTS).replace("{n}", str(rng.randrange(101)))
    return beside(rng, text, vocabulary)


_FLAGS_ON = (
    "being {w}", "and {w}", "which is {w}", "it is {w}", "as {w}", "marked {w}", "it must be {w}",
    "make sure it is {w}", "it has to be {w}", "in {w} form", "keep it {w}", "so it is {w}", "{w}",
    "because it is {w}", "the {w} one", "set {w}", "set {w} to true", "{w} is true", "yes to {w}",
    "I want it {w}", "turn {w} on", "turn on {w}", "as it is {w}", "and it is {w}", "which has {w}",
)  # fmt: skip
_FLAGS_OFF = (
    "not {w}", "and not {w}", "which is not {w}", "it is not {w}", "as not {w}", "never {w}",
    "it must not be {w}", "make sure it is not {w}", "it cannot be {w}", "not in {w} form", "so it is"
    " not {w}", "because it is not {w}", "set {w} to false", "{w} is false", "no to {w}", "leave {w}"
    " off", "turn {w} off", "turn off {w}", "as it is not {w}", "and it is not {w}", "which has no {w}",
)  # fmt: skip


def flag_phrases(rng: random.Random) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Some ways to say that a flag is on, and as many that it is off, with ``{w}``."""
    return tuple(rng.sample(_FLAGS_ON, 8)), tuple(rng.sample(_FLAGS_OFF, 8))


def name_parts(rng: random.Random, text: str, vocabulary: Vocabulary) -> list[str]:
    """Words for a function's name: some of its description, or any at all."""
    if text and rng.random() < 0.5:
        content = [word for word in text.lower().split() if word.isalpha() and len(word) > 2]
        if len(content) > 1:
            count = min(len(content), rng.randint(1, 3))
            start = rng.randrange(len(content) - count + 1)
            return content[start : start + count]
    draw = rng.random()
    if draw < 0.35:
        return [words.made_up(rng, 1, 3)]
    if draw < 0.6:
        return [vocabulary.word(rng), vocabulary.word(rng)]
    if draw < 0.8:
        return [vocabulary.word(rng)]
    if draw < 0.9:
        return [vocabulary.word(rng), words.made_up(rng, 1, 1)]
    return [vocabulary.word(rng) for _ in range(3)]
