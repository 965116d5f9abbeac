# ruff: noqa: SIM905, E501
"""Short stories: from a grammar of our own, and from a public text where one is given."""

import random
import re

from lmrun.demo.generate import heldout, heldout_values, words
from lmrun.demo.generate.chat import Turn

_OPENINGS = (
    "Once upon a time, there was a {adj} {kind} named {hero}. {hero} lived {home}.",
    "Once there was a {adj} {kind} called {hero}, who lived {home}.",
    "{hero} was a {adj} {kind}. {hero} lived {home} and liked to {hobby}.",
    "In a small house {home}, there lived a {adj} {kind} named {hero}.",
    "There once was a {kind} named {hero}. {hero} was {adj} and loved to {hobby}.",
    "A long time ago, a {adj} {kind} named {hero} lived {home}.",
)
_MORNINGS = (
    "One {weather} morning, {hero} woke up early.",
    "One day, {hero} went to the {place}.",
    "On a {weather} day, {hero} walked to the {place}.",
    "One afternoon, {hero} played near the {place}.",
    "It was a {weather} day, and {hero} wanted to {hobby}.",
)
_PLOTS: tuple[tuple[tuple[str, ...], ...], ...] = (
    (
        (
            "Suddenly, {hero} saw a {thing} on the ground.",
            "There, under a tree, lay a {thing}.",
            "In the grass, {hero} found a {color} {thing}.",
        ),
        (
            '"Whose {thing} is this?" {hero} asked.',
            '"What a pretty {thing}!" said {hero}.',
            "{hero} picked up the {thing} and looked at it.",
        ),
        (
            "Then {hero} heard somebody cry. It was {friend} the {animal}.",
            "A little later, {friend} the {animal} came by and looked very sad.",
        ),
        (
            '"I lost my {thing}," said {friend}. "I looked for it all day."',
            '"My {thing} is gone," {friend} said. "It was a gift from my {family}."',
        ),
        (
            '{hero} smiled and gave the {thing} back. "Here it is!"',
            '"Is this yours?" asked {hero} and held up the {thing}.',
        ),
        (
            "{friend} jumped for joy. From that day on, the two were best friends.",
            '"Thank you, {hero}!" said {friend}. They shared some {food} and laughed.',
        ),
    ),
    (
        (
            "{hero} wanted to climb the tall {tall}, but it was very high.",
            "{hero} looked up at the {tall}. It was so high!",
        ),
        (
            '"I am too small," {hero} thought. "I will never do it."',
            "{hero} tried once and fell down. {hero} tried again and fell again.",
        ),
        (
            '{friend} the {animal} watched and said, "Do not give up. Try one step at a time."',
            'An old {animal} named {friend} said, "Go slowly, and do not look down."',
        ),
        (
            "So {hero} took a deep breath and tried again, one step, then one more.",
            "{hero} nodded and went on, slowly and carefully.",
        ),
        (
            "At last, {hero} stood at the top and could see the whole {place}.",
            "After a long time, {hero} reached the top. The world looked small and beautiful.",
        ),
        (
            "{hero} learned that small steps can take you far.",
            'Everyone clapped. "I did it!" cried {hero}, proud and happy.',
        ),
    ),
    (
        (
            "Dark clouds came, and soon it rained and rained.",
            "The wind grew strong, and big drops of rain fell from the sky.",
        ),
        (
            "{hero} had no place to hide and was cold and wet.",
            "{hero} ran and ran, but the rain was faster.",
        ),
        (
            "Then {hero} saw a light. It came from the house of {friend} the {animal}.",
            "Not far away stood the little house of {friend} the {animal}.",
        ),
        (
            '"Come in, come in!" called {friend}. "I have warm {food} for you."',
            "{friend} opened the door and gave {hero} a dry blanket and some {food}.",
        ),
        (
            "They sat by the fire and told each other stories until the rain stopped.",
            "Together they ate, sang a song and listened to the rain.",
        ),
        (
            "When the sun came out, there was a rainbow over the {place}.",
            '"You are always welcome here," said {friend}, and {hero} felt warm inside.',
        ),
    ),
    (
        (
            "{hero} had a big piece of {food} and wanted to eat it all alone.",
            "{hero} carried a basket full of {food}.",
        ),
        (
            "On the way sat {friend} the {animal}, who was very hungry.",
            'A thin {animal} named {friend} asked, "May I have a little bit?"',
        ),
        (
            'First {hero} said, "No, it is mine!" But then {hero} saw how sad {friend} was.',
            '{hero} thought about it. "What would I want if I were hungry?"',
        ),
        (
            "{hero} broke the {food} into two pieces and gave one to {friend}.",
            '"Here, take half," said {hero}.',
        ),
        (
            "They ate together under the {tall}, and it tasted much better than alone.",
            "Sharing made the {food} taste even sweeter.",
        ),
        (
            "From then on, {hero} always shared.",
            "The next day, {friend} brought {food2} and shared it, too.",
        ),
    ),
    (
        (
            "{hero} could not find the way home. All the trees looked the same.",
            "After a while, {hero} did not know where home was.",
        ),
        (
            '"I am lost," {hero} whispered and began to cry.',
            "{hero} was afraid and sat down on a stone.",
        ),
        (
            '{friend} the {animal} flew by and asked, "Why are you sad?"',
            "A friendly {animal} named {friend} heard it and came closer.",
        ),
        (
            '"Follow me," said {friend}. "I know every path in the {place}."',
            '"Do not worry," {friend} said. "We will find your home together."',
        ),
        (
            "They went over the hill, through the {place} and along the river.",
            "They walked past the {tall} and over a small bridge.",
        ),
        (
            "Soon {hero} saw the house. {Family} was waiting at the door and gave {hero} a big hug.",
            "When they arrived, {hero}'s {family} was so glad that there was {food} for everybody.",
        ),
    ),
    (
        (
            "{hero} had a {color} {thing}, and it was broken.",
            "While playing, {hero} dropped the {thing} of {friend} the {animal}, and it broke.",
        ),
        (
            "{hero} was afraid to tell {friend} the truth.",
            '"What shall I do?" {hero} thought. "{friend} will be angry."',
        ),
        (
            "All night, {hero} could not sleep. It did not feel right to hide it.",
            "{hero} hid the {thing} under the bed, but felt worse and worse.",
        ),
        (
            'In the morning, {hero} went to {friend} and said, "I am sorry. The {thing} is broken."',
            'At last {hero} told the truth: "It was me. I am very sorry."',
        ),
        (
            '"Thank you for telling me," said {friend}. "We can fix it together."',
            "{friend} was quiet for a moment and then smiled.",
        ),
        (
            "They repaired the {thing} with a bit of glue, and it was as good as new.",
            "{hero} felt light again. It is always better to tell the truth.",
        ),
    ),
    (
        (
            "{hero} wanted to bake {food} for {friend} the {animal}, who had a birthday.",
            "It was the birthday of {friend} the {animal}, and {hero} had no gift.",
        ),
        (
            "But there was no flour in the house, and no sugar.",
            "{hero} looked everywhere, but could not find anything good.",
        ),
        (
            "So {hero} asked the neighbors. One gave {food2}, another gave a {thing}.",
            "{hero} went to the market and counted every coin twice.",
        ),
        (
            "{hero} worked all day long. The kitchen was a mess!",
            "With a little paint, {hero} made a {color} card and wrapped a {thing}.",
        ),
        (
            'When {friend} opened the door, everybody shouted, "Surprise!"',
            '"Happy birthday!" sang {hero}, and {friend} blew out the candles.',
        ),
        (
            '"This is the best day ever," said {friend}.',
            "They danced until the moon was high in the sky.",
        ),
    ),
    (
        (
            "At night, {hero} heard a strange noise. Tap, tap, tap!",
            "It was dark, and something moved behind the {tall}.",
        ),
        ('"Is it a monster?" {hero} asked and pulled up the blanket.', "{hero}'s heart beat fast."),
        (
            "But {hero} was brave, took a lamp and went to look.",
            "Slowly, {hero} went closer, one step and then another.",
        ),
        (
            "It was only {friend} the {animal}, who was looking for the {thing}.",
            "There sat a small {animal} named {friend}, just as scared as {hero}.",
        ),
        (
            'Both of them laughed. "I was afraid of you!" said {friend}.',
            '"I thought you were a monster," said {hero}, and both had to laugh.',
        ),
        (
            "After that, {hero} was never afraid of the dark again.",
            "They drank warm milk together and then went to sleep.",
        ),
    ),
    (
        (
            "{hero} planted a tiny seed near the {place}.",
            "{friend} the {animal} gave {hero} a seed.",
        ),
        (
            "Every day {hero} gave it water and waited, but nothing happened.",
            '"Why does it not grow?" asked {hero} after a week.',
        ),
        (
            '"Be patient," said {friend} the {animal}. "Good things take time."',
            '"You must wait," {friend} said, "and let the sun do its work."',
        ),
        (
            "So {hero} waited. Spring came, and the days grew long and warm.",
            "{hero} went on watering, in the morning and in the evening.",
        ),
        (
            "One morning there was a little green leaf, and then a {color} flower.",
            "At last the seed became a plant, and the plant became a tall {tall}.",
        ),
        (
            "{hero} was so proud and gave the first fruit to {friend}.",
            "Everyone came to see it. {hero} had learned to be patient.",
        ),
    ),
    (
        (
            "There was a race, and everybody wanted to win it.",
            '"Let us race to the {place}!" called {friend} the {animal}.',
        ),
        ("{friend} was very fast and laughed at {hero}.", "{hero} was not the fastest."),
        (
            "They started. {friend} ran ahead, but then fell over a {thing}.",
            "In the middle of the race, {friend} the {animal} fell and hurt a leg.",
        ),
        (
            "{hero} could have won. But {hero} stopped and went back.",
            '{hero} stopped at once. "Are you all right?"',
        ),
        (
            '"Lean on me," said {hero}, and together they walked to the end.',
            "{hero} helped {friend} up, and they crossed the line side by side.",
        ),
        (
            "They were last, but everybody cheered for them.",
            '"You won something better than a race," said {friend}. "You won a friend."',
        ),
    ),
)
_ENDINGS = (
    "They lived happily ever after.", "And that was a very good day.", "The end.",
    "{hero} went home, tired and happy.", "That night, {hero} dreamed of the {place}.",
    "And so {hero} had a new friend.", "{hero} never forgot that day.", "",
)  # fmt: skip
_HOMES = (
    "near a big forest", "by the sea", "in a small town", "on a farm", "at the foot of a mountain",
    "next to a river", "in a cozy house", "in a green valley", "behind the hills", "in a tree house",
)  # fmt: skip
_HOBBIES = (
    "play", "sing", "run in the fields", "paint pictures", "look at the stars", "build things",
    "read books", "dance", "swim", "collect stones", "help others", "explore the woods",
)  # fmt: skip
_ADJECTIVES = "little kind brave curious happy shy clever gentle funny lazy young friendly".split()
_PLACES = "forest park lake garden river meadow beach village market hill field pond".split()
_TALLS = "tree tower oak mountain hill wall rock".split()
_THINGS = "ball kite hat ring book lamp box drum bell shell coin doll boat button cup key".split()
_KINDS = ("boy", "girl", *words.ANIMALS)
_WEATHER = "sunny rainy warm cold windy bright foggy snowy".split()
_FAMILY = "mother father grandmother grandfather sister brother aunt".split()
_NAMES = (
    *words.FIRST_NAMES,
    *"Pip Coco Benny Momo Tilly Buddy Rusty Daisy Bobo Fifi Luna Spot".split(),
)

_REQUESTS = (
    "Tell me a story", "Tell me a short story", "Write a story", "Write a short story.",
    "Can you tell me a story?", "I want to hear a story", "Please tell me a story.", "A story, please",
    "Make up a story", "Could you write a little story?", "Once upon a time", "Another story!",
    "Do you know a story?", "tell me a story please", "Tell me a bedtime story",
)  # fmt: skip
_ABOUT = (
    "Tell me a story about {x}", "Write a story about {x}.", "Can you tell me a story about {x}?",
    "I would like a story about {x}.", "Make up a story about {x}", "A story about {x}, please.",
    "Please write a short story about {x}.", "Tell a story with {x}", "Write about {x}",
    "Tell me about {x} in a story", "Write a short story about {x}",
)  # fmt: skip


def grammar_story(rng: random.Random) -> Turn:
    """A request for a story, and the story."""
    hero, friend = rng.sample(_NAMES, 2)
    kind, animal = rng.choice(_KINDS), rng.choice(words.ANIMALS)
    food, food2 = rng.sample(words.FOODS, 2)
    family = rng.choice(_FAMILY)
    filled = {
        "hero": hero, "friend": friend, "kind": kind, "animal": animal, "food": food,
        "food2": food2, "family": family, "Family": f"{hero}'s {family}",
        "adj": rng.choice(_ADJECTIVES), "home": rng.choice(_HOMES), "hobby": rng.choice(_HOBBIES),
        "place": rng.choice(_PLACES), "tall": rng.choice(_TALLS), "thing": rng.choice(_THINGS),
        "color": rng.choice(words.COLORS), "weather": rng.choice(_WEATHER),
    }  # fmt: skip
    beats = [rng.choice(_OPENINGS), rng.choice(_MORNINGS)]
    beats += [rng.choice(choices) for choices in rng.choice(_PLOTS)]
    beats.append(rng.choice(_ENDINGS))
    lines = [beat.format_map(filled) for beat in beats if beat]
    separators = [rng.choice((" ", " ", "\n")) for _ in lines]
    text = "".join(line + gap for line, gap in zip(lines, separators, strict=True)).strip()
    text = re.sub(r"\ba ([aeiou])", r"an \1", text)
    draw = rng.random()
    if draw < 0.3:
        return rng.choice(_REQUESTS), text
    about = rng.choice(
        (
            hero, f"{_a(kind)} named {hero}", f"a {kind}" if kind[0] not in "aeiou" else f"an {kind}",
            f"{_a(kind)} and {_a(animal)}", f"{hero} and {friend}", f"{_a(filled['thing'])}",
            f"a {filled['adj']} {kind}" if filled["adj"][0] not in "aeiou" else f"an {kind}",
        )
    )  # fmt: skip
    if about == _a(filled["thing"]) and filled["thing"] not in text:
        about = hero
    return rng.choice(_ABOUT).replace("{x}", about), text


def _a(noun: str) -> str:
    return ("an " if noun[0] in "aeiou" else "a ") + noun


_STARTS = ("Once upon a time", "Once there was", "There once was", "Once, there", "Long ago")
_KNOWN_NAMES = frozenset(
    "Lily Tim Ben Mia Sam Tom Max Lucy Sara Anna Jack Timmy Spot Sue Amy Bob Jane John Anne Tommy"
    " Billy Bobby Emma Fin Beep Buddy Ella Leo Daisy Jill Mary Joe Kitty Mark Molly Nina Polly Rex"
    " Sally Sarah Tina Benny Jimmy Lila Lola Maya Zoe".split()
)


def paragraphs(text: str) -> list[str]:
    """Paragraphs of articles as WikiText writes them, their signs put back to the words."""
    found = []
    for line in text.splitlines():
        if len(line) > 300 and "<unk>" not in line:
            for spaced, sign in _SIGNS:
                line = line.replace(spaced, sign)  # noqa: PLW2901
            found.append(line.strip()[:2500])
    return found


_SIGNS = (
    (" @-@ ", "-"), (" @,@ ", ","), (" @.@ ", "."), (" ,", ","), (" .", "."), (" ;", ";"), (" :", ":"),
    (" 's", "'s"), (" )", ")"), ("( ", "("), (" ?", "?"), (" !", "!"), (" n't", "n't"),
)  # fmt: skip


class PublicStories:
    """Stories of a public text whose lines are paragraphs, without marks between stories."""

    def __init__(self, text: str) -> None:
        self._lines = [line.strip() for line in text.split("\n") if line.strip()]
        starts = [i for i, line in enumerate(self._lines) if line.startswith(_STARTS)]
        self._stories: list[str] = []
        for start, following in zip(starts, [*starts[1:], len(self._lines)], strict=True):
            lines = self._lines[start:following]
            for index in range(3, len(lines)):
                if lines[index].startswith(("One day, a ", "One day, there ", "One day, two ")):
                    lines = lines[:index]
                    break
            story = "\n".join(lines)
            if 200 < len(story) < 2500:
                self._stories.append(story)

    def story(self, rng: random.Random) -> Turn:
        """A request and a story of the text, at times with other names."""
        text = self._renamed(rng, rng.choice(self._stories))
        names = [name for name in re.findall(r"\bnamed (\w+)", text)[:1] if name[0].isupper()]
        if names and rng.random() < 0.6:
            return rng.choice(_ABOUT).replace("{x}", names[0]), text
        kinds = re.findall(r"(?:there was|lived) (an? (?:\w+ )?\w+)", text)[:1]
        if kinds and rng.random() < 0.6:
            return rng.choice(_ABOUT).replace("{x}", kinds[0]), text
        return rng.choice(_REQUESTS), text

    def passage(self, rng: random.Random) -> str:
        """Some paragraphs in a row, as the text has them."""
        start = rng.randrange(len(self._lines))
        return self._renamed(rng, "\n".join(self._lines[start : start + rng.randint(4, 14)]))

    def _renamed(self, rng: random.Random, text: str) -> str:
        if rng.random() < 0.35:
            return text
        said = set(re.findall(r"\b[A-Z][a-z]+\b", text))
        known = sorted(said & _KNOWN_NAMES)
        others = rng.sample([name for name in _NAMES if name not in said], len(known))
        exchanged = dict(zip(known, others, strict=True))
        return re.sub(r"\b[A-Z][a-z]+\b", lambda found: exchanged.get(found[0], found[0]), text)


def sayings(text: str) -> list[str]:
    """What people say in stories: sentences of two to nine words, none of the test's."""
    found = {
        said.rstrip(",")
        for said in re.findall(r'"([^"\n]{5,60})"', text)
        if 1 < len(said.split()) < 10 and said.isascii()
    }
    return sorted(said for said in found if heldout.bare(said) not in heldout_values.MESSAGES)
