# ruff: noqa: E501, SIM905
"""What training tasks are worded with. Nothing of `heldout` may stand here; a test compares."""

from dataclasses import replace

from lmrun.demo.generate import heldout, slots, words
from lmrun.demo.generate.lists import TrainingLists, operation
from lmrun.demo.generate.templates import Domain, read
from lmrun.demo.generate.training_everyday import EVERYDAY, OTHERS
from lmrun.demo.generate.training_home import HOME
from lmrun.demo.generate.training_more import MORE
from lmrun.demo.generate.training_numbers import NUMBERS
from lmrun.demo.generate.training_office import OFFICE
from lmrun.demo.generate.training_science import SCIENCE

_TEXTS = (EVERYDAY, OTHERS, MORE, NUMBERS, HOME, OFFICE, SCIENCE)


def _free(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Those that the test does not use."""
    taken = heldout.wordings()
    return tuple(text for text in texts if heldout.bare(text) not in taken)


def _domains() -> tuple[Domain, ...]:
    """All functions written by hand, without names and wordings that are the test's."""
    names = heldout.names()
    found = []
    for domain in (domain for text in _TEXTS for domain in read(text)):
        slots_left = [
            replace(
                slot,
                names=tuple(name for name in slot.names if name not in names),
                description="".join(_free((slot.description,))),
            )
            for slot in domain.slots
        ]
        left = replace(
            domain,
            names=tuple(name for name in domain.names if name not in names),
            descriptions=_free(domain.descriptions),
            slots=tuple(slots_left),
            requests=_free(domain.requests),
        )
        if left.names and left.requests and all(slot.names for slot in left.slots):
            found.append(left)
    return tuple(found)


LISTS = TrainingLists(
    verb_groups=tuple(tuple(group) for group in words.VERB_GROUPS),
    wordings={name: kind.wording for name, kind in slots.KINDS.items()},
    flags=slots.FLAGS,
    enums=slots.ENUMS,
    description_frames=(
        "{Verb} {the} {object}",
        "{Verb} {the} {object}.",
        "{Verbs} {the} {object}",
        "{Verbs} {the} {object}.",
        "Use this to {verb} {the} {object}.",
        "Tool to {verb} {the} {object}",
        "A function that {verbs} {the} {object}.",
        "This tool {verbs} {the} {object}.",
        "Lets you {verb} {the} {object}",
        "{Verb} {the} {object} of the user.",
        "{Verbs} {the} {object} for the user",
        "{Verb} {the} {object} and return the result.",
        "Given the details, {verbs} {the} {object}.",
        "Helper to {verb} {the} {object}.",
        "API call to {verb} {the} {object}.",
    ),
    request_frames=(
        "{C}.", "{C}", "{c}", "{C}!", "Please {c}.", "please {c}", "{C}, please.", "Can you {c}?",
        "Could you {c}?", "Could you please {c}?", "Can you {c} for me?", "I need you to {c}.",
        "I want to {c}.", "I'd like to {c}.", "I would like you to {c}.", "Help me {c}.",
        "Would you {c}?", "Would you please {c}?", "I have to {c}.", "Let's {c}.", "Now {c}.",
        "Hi, {c}.", "Hello! Can you {c}?", "Hey, could you {c}?", "It is time to {c}.",
        "Your job is to {c}.", "Time to {c}.", "I want you to {c}.", "Quickly {c}.",
        "I am in a hurry, {c}.", "First thing today: {c}.", "You should {c}.", "Are you able to {c}?",
        "Thanks! Next, {c}.", "How about you {c}?", "It would be nice if you could {c}.",
        "Use a tool to {c}.", "My boss wants me to {c}.", "We need to {c}.", "Someone has to {c}.",
    ),
    two_step_frames=(
        "{C} and then {d}.", "{C}, then {d}.", "First {c}, then {d}.", "{C}. Then {d}.",
        "Please {c} and {d}.", "{C}, and after that {d}.", "Can you {c} and then {d}?",
        "I need you to {c} and afterwards {d}.", "{C}. After that, {d}.", "Could you {c} and {d}?",
        "Please {c}. Next, {d}.", "I want to {c} and then {d}.", "{C}; {d} when that is done.",
        "Start with this: {c}. When you have it, {d}.", "please {c} then {d}",
        "Hi! Would you {c} and then {d}?", "{C} and, once done, {d}.",
    ),
    domains=_domains(),
    operations=(
        operation(
            "+",
            "plus sum_two total_of addition sum_numbers get_sum calc_plus sumUp plus_numbers"
            " math.plus addition_of int_sum total sum_of_two sum",
            "Returns the sum of two values|Sum of both inputs|Addition of two values|Total of two"
            " figures|Adds one value to another|Plus operation|Sums up both operands"
            "|Finds the total of both arguments|Calculates a plus operation|Result of an addition"
            "|Adds the second value to the first|Adds up both values",
            "the sum of {0} and {1}|{0} plus {1}|the total of {0} and {1}|{0} and {1} together"
            "|{1} added to {0}|{0} increased by {1}",
        ),
        operation(
            "-",
            "minus difference_of take_away reduce_by get_difference calc_minus minus_numbers"
            " subtraction_of math.minus difference less_by int_minus",
            "Returns the difference of two values|Takes the second value from the first"
            "|Subtraction of two values|Minus operation|First value less the second"
            "|Difference of both inputs|Result of a subtraction|How much remains after taking away",
            "the difference of {0} and {1}|{0} minus {1}|{0} less {1}|{1} taken from {0}"
            "|{0} reduced by {1}|{0} subtract {1}|what is left when {1} is subtracted from {0}",
        ),
        operation(
            "*",
            "times product_of multiplication get_product calc_times times_numbers math.times"
            " product scale_by multiplied int_product product_two",
            "Returns the product of two values|Product of both inputs|Multiplication of two values"
            "|Times operation|First value times the second|Result of a multiplication"
            "|Multiplies one value by another|Multiplies both operands|Finds the product"
            " of both arguments",
            "the product of {0} and {1}|{0} times {1}|{0} multiplied by {1}|{0} lots of {1}",
        ),
        operation(
            "/",
            "divided_by quotient_of division get_quotient ratio_of over math.over calc_ratio"
            " quotient int_quotient split_by",
            "Returns the quotient of two values|First value divided by the second|Division of two"
            " values|Ratio of both inputs|Result of a division|Divides one value by another",
            "the quotient of {0} and {1}|{0} divided by {1}|{0} over {1}|the ratio of {0} to {1}",
        ),
        operation(
            "**",
            "raise_to to_the_power exponent_of get_power exponentiation math.raise",
            "Raises the first value to the second|Exponentiation of two values|Value to the power"
            " of another|Result of raising one value to another",
            "{0} to the power of {1}|{0} raised to {1}|the {1}th power of {0}",
        ),
        operation(
            "%",
            "remainder_of rest_after_division get_remainder math.rest remainder_two",
            "Remainder of a division|What is left after dividing|Rest when the first value is"
            " divided by the second",
            "the remainder of {0} divided by {1}|{0} modulo {1}|the rest of {0} divided by {1}",
        ),
    ),
    operand_names=(
        ("x", "y"), ("p", "q"), ("first", "second"), ("left", "right"), ("n1", "n2"),
        ("num1", "num2"), ("value1", "value2"), ("u", "v"), ("number_one", "number_two"),
        ("op1", "op2"), ("m", "n"), ("first_value", "second_value"), ("i", "j"), ("x1", "x2"),
        ("val_one", "val_two"), ("s", "t"), ("input1", "input2"), ("one", "two"),
    ),
    operand_descriptions=(
        ("first value", "second value"), ("left operand", "right operand"), ("one value", "another"
        " value"), ("the first", "the second"), ("a value", "a value"), ("value one", "value two"),
        ("number on the left", "number on the right"), ("start value", "value to use on it"),
    ),
    expression_frames=(
        "What is {e}?", "Work out {e}.", "Calculate {e}.", "Evaluate {e}", "How much is {e}?",
        "{e}", "{e} = ?", "What do I get for {e}?", "Please calculate {e}", "What's {e}?",
        "Can you work out {e}?", "I need the result of {e}.", "Solve {e}.", "calculate {e}",
        "Hi, what is {e}?", "Use the tools for {e}.", "please evaluate {e}", "What does {e} give?",
        "My homework says {e}. What is it?", "Do the math: {e}", "Result of {e}?",
        "Could you calculate {e} for me?", "{e}, please.", "Find {e}.", "Determine {e}.",
    ),
    lookups=tuple(
        "email_address:email phone_number:phone account_code:code customer_code:code home_town:city"
        " birthday:date age:age birth_year:year ticker_symbol:symbol shop_link:url file_path:path"
        " favorite_color:color mother_tongue:language body_weight:weight body_height:height"
        " number_of_friends:count salary:money pet_name:word nickname:word order_code:code"
        " tracking_code:code boss:person best_friend:person doctor:person teacher:person"
        " arrival_city:goal starting_time:time due_date:date shipping_price:money country:country"
        " favorite_food:food score:whole points:whole number_of_children:people"
        " brightness:level discount:percent travel_time:minutes postal_link:url".split()
    ),
    lookup_frames=(
        "find the {a} of {v}", "get the {a} of {v}", "look up the {a} of {v}", "fetch the {a} of {v}",
        "find out the {a} of {v}", "get {v}'s {a}", "look up {v}'s {a}", "check the {a} of {v}",
        "ask for the {a} of {v}", "read the {a} of {v}",
    ),
    lookup_descriptions=(
        "{a} of a {o}", "Finds the {a} of a {o}", "Returns the {a} of a {o}", "Looks up the {a} of"
        " the {o}", "Tells the {a} of some {o}", "The {a} belonging to a {o}.", "Get a {o}'s {a}.",
    ),
    lookup_names=(
        "get_{a}", "{a}_of", "find_{a}", "lookup_{a}", "{o}_{a}", "fetch_{a}", "{a}_of_{o}",
        "get_{o}_{a}", "read_{a}", "{a}_lookup",
    ),
    references=("that {a}", "it", "this {a}", "the {a} you found", "that", "the {a}"),
    generic_phrases=(
        "with {w} {v}", "with a {w} of {v}", "{w} {v}", "{w}: {v}", "{w} = {v}", "using {v} as {w}",
        "where {w} is {v}", "with the {w} set to {v}", "for the {w} {v}", "at {w} {v}",
        "with {v} as the {w}", "and {w} {v}", "of {w} {v}", "{w}={v}",
    ),
    generic_descriptions=(
        "the {w}", "{w} to use", "value of the {w}", "which {w}", "{W}", "{w} of the {o}", "The {w}.",
        "{W} for the {o}", "sets the {w}", "what {w} it has",
    ),
    enum_phrases=(
        "with {v} {w}", "{w} {v}", "in {v} {w}", "{w}: {v}", "with {w} {v}", "{w} = {v}", "as {v}",
        "{v} {w}", "using the {v} {w}",
    ),
    flag_on=(
        "with {w}", "with {w} on", "{w}: yes", "{w}=true", "and make it {w}", "{w} enabled",
        "{w} please", "switch {w} on",
    ),
    flag_off=(
        "without {w}", "with {w} off", "{w}: no", "{w}=false", "but not {w}", "{w} disabled",
        "no {w}", "switch {w} off",
    ),
)  # fmt: skip
