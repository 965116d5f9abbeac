"""What the test's tool tasks are worded with. Nothing of it stands in `training_lists`."""

from lmrun.demo.generate.heldout_domains import EVERYDAY
from lmrun.demo.generate.heldout_work import WORK
from lmrun.demo.generate.lists import Lists, operation
from lmrun.demo.generate.templates import read

LISTS = Lists(
    domains=read(EVERYDAY) + read(WORK),
    request_frames=(
        "{C}", "{C}", "{C}", "Kindly {c}", "Go ahead and {c}", "{C} right away",
        "{C} as soon as you can", "Good morning! {C}", "Thanks for your help. {C}",
        "Do me a favor: {c}", "{C}, that would be great", "Assistant, {c}",
    ),
    two_step_frames=(
        "Kindly {c} and then {d}.", "To begin with, {c}. Afterwards, {d}.", "{C}, next {d}.",
        "Go ahead and {c}; then {d}.", "Two things: {c}, then {d}.",
        "Do me a favor: {c} and after that {d}.",
    ),
    references=("the {a} that comes back", "the retrieved {a}", "the resulting {a}"),
    operations=(
        operation(
            "+",
            "add add_numbers adder add_two",
            "Add two numbers|Compute the sum of two numbers|Calculate the sum of two integers"
            "|Adds two numbers together",
            "the result of adding {0} and {1}|{0} summed with {1}|{0} and {1} added up",
        ),
        operation(
            "-",
            "sub subtract subtract_numbers",
            "Subtract one number from another|Compute the difference of two numbers"
            "|Subtracts the second number from the first",
            "the result of subtracting {1} from {0}|{0} with {1} subtracted",
        ),
        operation(
            "*",
            "mul multiply multiply_numbers mult",
            "Multiply two numbers|Calculate the product of two numbers"
            "|Compute the product of two numbers|Multiplies two numbers",
            "the result of multiplying {0} and {1}|{0} multiplied with {1}",
        ),
        operation(
            "/",
            "div divide divide_numbers",
            "Divide one number by another|Compute the quotient of two numbers"
            "|Divides the first number by the second",
            "the result of dividing {0} by {1}|{0} split by {1}",
        ),
    ),
    operand_names=(
        ("a", "b"), ("num_a", "num_b"), ("lhs", "rhs"), ("first_number", "second_number"),
        ("operand1", "operand2"),
    ),
    operand_descriptions=(
        ("A number", "A number"), ("the first number", "the second number"),
        ("First operand", "Second operand"), ("number a", "number b"),
    ),
    expression_frames=(
        "Compute {e}", "Compute {e}.", "Give me the value of {e}.", "What would {e} be?",
        "Tell me {e}.", "Could you figure out {e}?", "I would like to know {e}.",
        "Let me know what {e} is.",
    ),
)  # fmt: skip


CHAINS = {
    first: tuple(second.split())
    for first, second in (
        line.split(": ")
        for line in """
contact_email: send_mail_note
employee_phone: leave_voicemail
birthplace_of: city_guide air_quality_index pollen_level hiking_trails job_openings fuel_price
order_by_customer: archive_order
pizza_order: archive_order
order_toner: archive_order
team_leader: employee_phone contact_email praise_worker send_flowers assign_desk badge_access
domain_owner: contact_email employee_phone birthplace_of
verify_signature: contact_email praise_worker employee_phone
babysitter_request: employee_phone send_flowers praise_worker
baby_names: send_flowers
crossword_helper: morse_code
horoscope: send_mail_note leave_voicemail
quiz_question: send_mail_note morse_code leave_voicemail
chess_opening: send_mail_note
lyrics_search: send_mail_note
roll_dice: prime_check roman_numeral
flip_coin: prime_check roman_numeral
snow_depth: roman_numeral
calories_burned: prime_check roman_numeral
solar_output: prime_check
ssl_expiry: moon_phase meeting_minutes
meeting_minutes: verify_signature
backup_database: verify_signature
""".strip().splitlines()
    )
}
"""Functions whose result another one takes."""


def names() -> frozenset[str]:
    """Names of functions and parameters that training may not draw."""
    found: set[str] = set()
    for domain in LISTS.domains:
        found.update(domain.names)
        for slot in domain.slots:
            found.update(slot.names)
    for item in LISTS.operations:
        found.update(item.names)
    for pair in LISTS.operand_names:
        found.update(pair)
    return frozenset(found)


def bare(text: str) -> str:
    """A wording without case and the signs at its ends, for comparison."""
    return text.lower().strip(" .?!")


def wordings() -> frozenset[str]:
    """Descriptions and phrasings, bare, that training may not use."""
    lists = LISTS
    found = {*lists.request_frames, *lists.two_step_frames, *lists.expression_frames}
    found |= set(lists.references) | {text for pair in lists.operand_descriptions for text in pair}
    for item in lists.operations:
        found.update(item.descriptions, item.phrases)
    for domain in lists.domains:
        found.update(domain.descriptions, domain.requests)
        found.update(slot.description for slot in domain.slots)
    return frozenset(bare(text) for text in found) - {"", "{c}"}
