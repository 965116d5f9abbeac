# ruff: noqa: E501, SIM905
"""Functions that compute something from measures, as textbooks ask for it, about anything at all."""

import random
from typing import TYPE_CHECKING, Any

from lmrun.demo.generate import values, variety
from lmrun.demo.generate.actions import Action, Parameter
from lmrun.demo.generate.naming import spoken, style_name
from lmrun.demo.generate.values import Sampled, Sampler
from lmrun.demo.generate.words import Vocabulary

if TYPE_CHECKING:
    from lmrun.demo.generate.functions import Builder

_UNITS = """m|meters cm|centimeters km|kilometers kg|kilograms g|grams s|seconds h|hours N|newtons
Pa|pascals J|joules W|watts V|volts A|amperes K|kelvin mol|moles Hz|hertz m/s|meters-per-second
km/h|kilometers-per-hour m/s^2|meters-per-second-squared % |percent $|dollars USD|dollars units|units
ft|feet lb|pounds mi|miles L|liters degrees|degrees T|tesla C|coulombs ohm|ohms years|years""".split(
    "\n"
)
UNITS = tuple(pair.partition("|") for line in _UNITS for pair in line.split() if "|" in pair)
_MEASURES = """mass speed velocity weight length width depth thickness density pressure temperature
charge current voltage resistance power energy force time duration distance radius diameter angle
amount concentration volume area frequency wavelength amplitude acceleration friction coefficient
rate price cost revenue interest capacity humidity altitude population sample probability mean
deviation slope intercept index yield age load strain stress torque flow charge dose ratio""".split()
_KINDS_OF = """initial final total average mean maximum minimum relative specific net gross inner outer
upper lower first second third annual monthly current effective critical nominal absolute""".split()
_COMPUTE = """calculate compute find determine estimate work-out derive evaluate""".split()
_OPEN = (
    "{v} the {q} of {o}{with_}", "What is the {q} of {o}{with_}?", "{v} {q} for {o}{with_}",
    "How large is the {q} of {o}{with_}?", "I need the {q} of {o}{with_}", "Given {o}{with_}, what is the {q}?",
    "{v} the {q}{with_}", "What {q} does {o} have{with_}?", "Can you {v} the {q} of {o}{with_}?",
    "For {o}{with_}, {v} the {q}", "Help me {v} the {q} of {o}{with_}.",
)  # fmt: skip
_GIVEN = (
    "a {p} of {x}", "a {p} of {x}", "{p} {x}", "{p} of {x}", "the {p} {x}", "{p} = {x}", "{x} as the {p}",
    "{x} {p}", "an {p} of {x}", "{p} equal to {x}", "{p} being {x}", "{p}: {x}",
)  # fmt: skip


def _number(low: int, high: int, *, whole: bool) -> Sampler:
    def sample(rng: random.Random, vocabulary: Vocabulary) -> Sampled:
        del vocabulary
        top = rng.choice((low + 9, low + 99, high))
        if whole or rng.random() < 0.6:
            return values.same(rng.randint(low, top))
        value = round(rng.uniform(low, top), rng.choice((1, 1, 2, 3)))
        return value, str(value)

    return sample


def formula(rng: random.Random, builder: "Builder") -> Action:
    """A function of some measures."""
    vocabulary = builder.vocabulary
    count = rng.choices((1, 2, 3, 4), (15, 40, 33, 12))[0]

    def measure() -> str:
        if rng.random() < 0.3:
            return vocabulary.words(rng, 1, 2)
        if rng.random() < 0.35:
            return f"{rng.choice(_KINDS_OF)} {rng.choice(_MEASURES)}"
        return rng.choice(_MEASURES)

    target, thing = measure(), vocabulary.noun(rng)
    if rng.random() < 0.5:
        target = f"{vocabulary.word(rng)} {target}"
    measured: list[str] = []
    while len(measured) < count:
        one = measure()
        if one not in measured and one != target:
            measured.append(one)
    pairs: list[tuple[Parameter, dict[str, Any]]] = []
    phrases: list[str] = []
    for one in measured:
        short, _, long = rng.choice(UNITS)
        name = style_name(rng, one.split())
        schema: dict[str, Any] = {"type": rng.choice(("integer", "number"))}
        if rng.random() < 0.85:
            unit = long.replace("-", " ") if rng.random() < 0.6 else short
            said = (
                f"The {one} of the {thing}",
                f"The {one}",
                one.capitalize(),
                f"{one} of {thing}",
            )
            end = rng.choice((f" in {unit}", f" in {unit}.", ".", "", f" ({unit})"))
            schema["description"] = variety.other_than_the_tests(
                rng.choice(said) + end, rng, vocabulary
            )
        parameter = Parameter(
            name, "", _number(1, 999, whole=schema["type"] == "integer"), ("{0}",)
        )
        if name in builder.taken or any(name == other.name for other, _ in pairs):
            return formula(rng, builder)
        pairs.append((parameter, schema))
        index = len(phrases)
        value = (
            rng.choice(
                ("{%d}", "{%d}", "{%d} " + long.replace("-", " "), "{%d} " + short, "{%d}" + short)
            )
            % index
        )
        phrases.append(rng.choice(_GIVEN).replace("{p}", one).replace("{x}", value))
    requests = []
    for _ in range(2):
        order = rng.sample(phrases, len(phrases)) if rng.random() < 0.4 else list(phrases)
        joined = (
            order[0]
            if len(order) == 1
            else ", ".join(order[:-1]) + rng.choice((" and ", ", ", ", and ")) + order[-1]
        )
        text = rng.choice(_OPEN)
        text = text.replace(
            "{with_}",
            rng.choice((" with ", " with ", " given ", " for ", " that has ", " using ", ", with "))
            + joined,
        )
        article = rng.choice(("a ", "the ", "my ", "one "))
        text = text.replace("{v}", rng.choice(_COMPUTE).replace("-", " ")).replace("{q}", target)
        requests.append(text.replace("{o}", article + thing))
    properties = {parameter.name: schema for parameter, schema in pairs}
    required = list(properties)
    for _ in range(rng.choices((0, 1, 2), (55, 35, 10))[0]):
        name = builder.free(lambda: style_name(rng, measure().split()))
        if name not in properties:
            unused: dict[str, Any] = {
                "type": rng.choice(("string", "number", "integer", "boolean"))
            }
            if rng.random() < 0.9:
                unused["description"] = f"{spoken(name).capitalize()}" + variety.default(
                    rng, vocabulary
                )
            properties[name] = unused
    parts = rng.choice(
        (
            ["calculate", *target.split()],
            target.split(),
            ["compute", *target.split()],
            [*thing.split(), *target.split()],
            [vocabulary.word(rng), "calculate", *target.split()],
        )
    )
    verb = rng.choice(
        ("Calculate", "Compute", "Find", "Determine", "Calculates", "Computes", "Returns")
    )
    described = rng.choice(
        (
            f"{verb} the {target} of a {thing}",
            f"{verb} the {target}",
            f"{target.capitalize()} of the {thing}",
            f"{verb} the {target} of a {thing} given its {' and '.join(measured)}.",
        )
    )
    function = {
        "name": builder.free(
            lambda: style_name(rng, parts) + ("" if rng.random() < 0.9 else str(rng.randrange(10)))
        ),
        "description": described,
        "parameters": {"type": "object", "properties": properties, "required": required},
    }
    return Action(
        function,
        tuple(parameter for parameter, _ in pairs),
        "",
        tuple(requests),
        f"the {target}",
        "number",
    )
