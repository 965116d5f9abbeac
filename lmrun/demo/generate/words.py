# ruff: noqa: E501, SIM905, RUF005
"""Pools of words, and words that nobody has seen before."""

import random
from collections.abc import Sequence

NOUNS = """account album alarm amount anchor animal answer apartment apple archive area armchair
article artist attic auction author avatar axis backpack backup badge bag balance ball balloon band
bank banner barn barrel basket battery beacon beam bed bell bench bicycle bill bin bird blanket
block blog board boat bolt book booking border bottle bowl box branch brand bread bridge broom
browser brush bucket budget buffer bug building bus button cabin cabinet cable cache cake calendar
camera campaign canal candle canvas captain car carpet cart carton case castle catalog category
cell certificate chain chair channel chapter chart chat chest chimney chord circle circuit city
class client clock cloud club cluster coat code coin collar collection color column comet comment
commit company compass component computer concert condition connection console contact container
contract cookie copy corner counter country coupon course court cover crane crate crew crop crystal
cup cupboard curtain cushion customer cycle dam dashboard database dataset deck deposit desert desk
detail device dialog diary dish disk display dock document dog domain door draft drawer dress drill
drink driver drone drum duck echo edge editor egg element elevator email emblem employee engine
entry envelope episode error event exam exhibit expense export fabric factory fan farm feature fee
feed fence ferry field figure file film filter finger fire fish flag flame flight floor flower
folder font forest fork form fountain frame freezer friend fruit funnel furnace gadget gallery game
garage garden gate gauge gear ghost gift glacier glass globe glove goal goat grain graph grid group
guard guest guide guitar hall hammer handle harbor hat heater hedge helmet hill hinge hive hook
horse hospital hotel house icon igloo image inbox index ink insect invoice island item jacket jar
jewel job journal journey jug keyboard kettle key kit kitchen kite knot label ladder lake lamp
lantern laptop laser lawn layer leaf league ledger lens lesson letter library license lid light
limit link list loan lobby locker log lottery machine magnet mailbox manual map margin mask mast
match matrix meadow meal medal member memo menu message meter microscope mill mine mirror mission
model module monitor moon motor mountain mouse movie museum note notebook notice oar object oven
order orbit organ outlet owl owner package page paint palace panel paper parcel park part passage
passport password patch path patient pattern payment peak pen pencil permit phone photo piano
picture pier pillow pilot pin pipe pipeline planet plank plant plate player playlist plot plug
pocket podcast poem point policy poll pond pool portal post poster pot potion powder prize probe
process product profile program project prompt proposal pump puppet puzzle query queue quilt quiz
quote raft rail ramp range rank receipt recipe record recording reef refund region register remark
reminder rent report request reservation resource response review reward ribbon ring river road
robot rocket roof room rope rota route router row rug rule sail salad sale sample sandbox satellite
saw scarf scene scheme school score screen screw script seal season seat section seed sensor series
server session shadow shed sheet shelf shell ship shipment shirt shoe shop shovel siren sketch
skill slide slot snippet socket soil song sound soup source spark speaker spring square stadium
stage stair stamp star station statue stock stone store story stove stream street string studio
subject suit suitcase survey switch symbol tab table tablet tag tank tap target task tax team
telescope template tent terminal theater thread thumbnail ticket tide tile timer toast token tool
torch tour tower town toy track tractor trail train trap tray treasure tree trench trip trophy truck
tunnel turbine tutorial unit update upload user vacation valley valve van vase vault vehicle vendor
version vessel video village violin visitor voice voucher wagon wall wallet warehouse watch water
wave well wheel whistle widget window wing wire word worker workflow workshop wrench yard zone
""".split()

ADJECTIVES = """active amber ancient annual autumn basic big blue bold brave brief bright broken
brown calm central cheap clean clear clever cold cool copper crimson current custom daily damp dark
deep default digital distant double dry dusty early eastern easy electric empty extra fair famous
fancy fast final fine firm first flat foreign free fresh front full gentle giant global golden
grand gray great green happy hard heavy hidden high hollow huge idle inner iron known large last
late light little local long lost loud low lucky main major marble mean mild minor misty modern
monthly narrow native near new next noble noisy northern novel odd official old open orange outer
pale paper plain polite poor pretty primary private proper proud public pure purple quick quiet
random rapid rare raw ready recent red regular remote rich right robust round royal rough rusty safe
salty scarlet secret shared sharp shiny short silent silver simple slow small smart smooth soft
solid southern special spicy stable steep still strange strong sunny super sweet swift tall tame
temporary thick thin tidy tiny total tough trusted turquoise upper urgent useful valid violet vivid
warm weekly western wet white whole wide wild winter wise wooden yearly yellow young
""".split()

# what a request may call an action, one group a line; the first two name functions too
VERB_GROUPS = [
    line.split(" / ")
    for line in """send / deliver / dispatch / transmit
create / make / build / generate / produce
delete / remove / erase / get rid of
update / change / modify / edit / adjust
get / fetch / retrieve / give me / pull up
find / locate / look for / track down
search / look through / browse
list / enumerate / show all
open / launch / bring up
close / shut / shut down
start / begin / kick off / initiate
stop / halt / end / terminate
pause / suspend / hold
resume / continue / carry on with
book / reserve / secure
cancel / call off / drop
order / buy / purchase
sell / trade / offer
rent / lease / hire
pay / settle / pay for
check / inspect / examine / look at
verify / validate / confirm
count / tally / number
measure / gauge / take the measure of
estimate / approximate / guess
compare / contrast / match up
sort / arrange / put in order
filter / sift / narrow down
merge / join / combine / unite
split / divide up / separate / break up
copy / duplicate / clone
move / shift / transfer / relocate
rename / retitle / relabel
rotate / turn / spin
resize / scale / change the size of
crop / trim / cut
paint / color / tint
draw / sketch / plot
print / output / put on paper
scan / digitize / read in
read / recite / read out
write / compose / draft / pen
translate / interpret / render
summarize / condense / sum up
explain / describe / clarify
rate / grade / score
rank / order by rank / prioritize
assign / allocate / give
share / publish / make public
hide / conceal / mask
show / display / present / let me see
play / put on / perform
record / tape / capture
mute / silence / quiet
upload / push / put online
download / save / pull
install / set up / deploy
uninstall / take off / clear away
connect / link / attach / hook up
disconnect / unlink / detach
lock / bolt / secure
unlock / unbolt / release
enable / activate / turn on / switch on
disable / deactivate / turn off / switch off
heat / warm / warm up
cool / chill / cool down
clean / wash / tidy
repair / fix / mend
water / irrigate / give water to
feed / nourish / give food to
invite / ask over / send an invitation to
call / ring / phone / give a call to
notify / alert / inform / let know
remind / nudge / jog the memory of
subscribe / sign up / enroll
unsubscribe / opt out / leave
follow / track / monitor / keep an eye on
block / ban / bar
approve / accept / sign off
reject / decline / turn down
submit / hand in / file
archive / store away / put away
restore / recover / bring back
reset / reinitialize / set back
refresh / reload / renew
encrypt / encode / cipher
decrypt / decode / decipher
compress / zip / shrink
extract / unpack / pull out
import / load / bring in
export / dump / write out
convert / transform / turn into
simulate / emulate / model
predict / forecast / foresee
recommend / suggest / propose
analyze / study / evaluate
collect / gather / pick up
pack / wrap / box up
ship / mail / post
drive / steer / pilot
park / stow / dock
mark / flag / tag
""".strip().splitlines()
]

FIRST_NAMES = """Ada Alan Alice Amir Amy Ana Anna Arthur Ben Bella Bruno Carla Carlos Cecilia Chen
Clara Daniel David Diana Dmitri Elena Eli Emil Emma Eric Eva Farah Felix Fiona Frank George Gina
Grace Hana Hannah Hugo Ian Ida Igor Iris Ivan Jack Jade James Jane Javier Jonas Julia Kai Karen Kate
Kenji Kira Lars Laura Lea Leo Lena Lily Lin Linda Lucas Lucy Luis Mara Marco Maria Mark Martha Max
Mei Mia Milo Mina Mohammed Nadia Nadine Nate Nina Noah Nora Olga Oliver Omar Oscar Otto Paul Petra
Priya Quinn Rachel Raj Rosa Ruby Ruth Sam Sara Simon Sofia Stella Sven Tara Theo Tim Tom Tina Uma
Vera Victor Walter Wendy Xavier Yara Yuki Zoe Zara""".split()
LAST_NAMES = """Adams Ahmed Baker Becker Bell Berg Brown Carter Chavez Clark Cohen Cooper Costa Cruz
Davis Diaz Dubois Evans Fischer Foster Garcia Gomez Gray Gupta Hall Hansen Harris Hughes Ito Jensen
Johnson Jones Kim King Klein Kumar Larsen Lee Lewis Li Lopez Martin Meyer Miller Moore Mori Murphy
Nguyen Novak Olsen Park Patel Perez Petrov Price Reed Rossi Roy Ruiz Sato Schmidt Scott Shah Silva
Singh Smith Stone Tanaka Taylor Turner Usman Vogel Wagner Walker Wang Ward Weber White Wilson Wong
Wood Wright Yang Young Zhang""".split()
CITIES = """Accra Amsterdam Athens Atlanta Auckland Bangkok Barcelona Beijing Bergen Berlin Bogota
Boston Brussels Budapest Cairo Chicago Copenhagen Dakar Dallas Delhi Denver Dublin Edinburgh
Florence Geneva Hamburg Hanoi Havana Helsinki Houston Istanbul Jakarta Kyoto Lagos Leeds Lima Lisbon
London Lyon Madrid Manila Marseille Melbourne Miami Milan Montreal Moscow Mumbai Munich Nairobi
Naples Osaka Oslo Ottawa Paris Perth Prague Quito Riga Rome Rotterdam Santiago Seattle Seoul Seville
Shanghai Singapore Sofia Stockholm Sydney Tallinn Tokyo Toronto Tunis Turin Venice Vienna Vilnius
Warsaw Wellington Zagreb Zurich""".split() + [
    "New York", "Los Angeles", "San Francisco", "Buenos Aires", "Cape Town", "Rio de Janeiro",
    "Hong Kong", "Mexico City", "Tel Aviv", "Kuala Lumpur", "New Delhi", "Las Vegas",
]  # fmt: skip
COUNTRIES = """Argentina Australia Austria Belgium Brazil Canada Chile China Colombia Croatia Cuba
Denmark Egypt Estonia Finland France Germany Ghana Greece Hungary Iceland India Indonesia Ireland
Israel Italy Japan Kenya Latvia Mexico Morocco Nepal Netherlands Nigeria Norway Peru Poland Portugal
Romania Russia Senegal Serbia Spain Sweden Switzerland Thailand Tunisia Turkey Ukraine Uruguay
Vietnam Zambia""".split()
LANGUAGES = """English French German Spanish Italian Portuguese Dutch Swedish Danish Norwegian
Finnish Polish Czech Russian Greek Turkish Arabic Hebrew Hindi Bengali Chinese Japanese Korean Thai
Vietnamese Swahili Latin Welsh Irish Icelandic""".split()
COLORS = """red green blue yellow orange purple pink brown black white gray cyan magenta turquoise
violet indigo gold silver beige teal maroon olive navy crimson lime""".split()
CURRENCIES = "USD EUR GBP JPY CHF CAD AUD CNY INR BRL SEK NOK DKK PLN MXN KRW ZAR TRY".split()
MONTHS = """January February March April May June July August September October November
December""".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
ANIMALS = """ant bear beaver bee bird bunny butterfly cat chick cow crab crow deer dog dolphin donkey
dragon duck eagle elephant fish fox frog giraffe goat goose hamster hedgehog hen horse kitten koala
lamb lion lizard mole monkey mouse otter owl panda parrot penguin pig pony puppy rabbit rat seal
sheep snail spider squirrel swan tiger turtle whale wolf worm zebra""".split()
FOODS = """apple bagel banana bread burger burrito cake carrot cheese chicken chocolate coffee cookie
curry dumplings egg falafel grapes honey juice lasagna lemonade mango milk muffin noodles nuts omelet
orange pancakes pasta pear pie pizza plum popcorn ramen rice salad sandwich soup steak strawberry
sushi taco tea toast tofu tomato waffle yogurt""".split()

_ONSETS = (
    "b br c ch cl d dr f fl g gl gr h j k kl kr l m n p pl pr qu r s sh sk sl st t th tr v w x z"
)
_NUCLEI = "a e i o u ai ea ee ia io oa oo ou y"
_CODAS = " n r s t l m k x nd rk st rn lm sh th ck"
_ONSET_LIST, _NUCLEUS_LIST, _CODA_LIST = _ONSETS.split(), _NUCLEI.split(), _CODAS.split(" ")


def made_up(rng: random.Random, low: int = 1, high: int = 3) -> str:
    """A word of some syllables that no list holds, in lower case."""
    return "".join(
        rng.choice(_ONSET_LIST) + rng.choice(_NUCLEUS_LIST) + rng.choice(_CODA_LIST)
        for _ in range(rng.randint(low, high))
    )


def letters(rng: random.Random, count: int) -> str:
    """Letters without sense."""
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(count))


HELD_OUT_NOUNS = """abacus acorn almanac anvil apricot aquarium artichoke axle banjo bonnet bracelet
brooch cello chandelier chisel cradle crayon cymbal dagger daisy domino easel eggplant eyebrow
falcon fiddle flute freckle gazebo gondola gramophone grapefruit hammock harpsichord hazelnut
hourglass icicle iris jigsaw kayak kimono ladle lavender lighthouse llama locket marigold marmalade
minaret mitten moccasin monocle nectarine oboe ocarina orchid origami ostrich overcoat pancake
parachute parsley peacock pendulum periscope pinwheel plankton pretzel quill radish raspberry
rhubarb saddle sandal saxophone scooter sextant sickle sundial syringe tambourine tapestry teapot
thimble trombone trumpet tulip turnip typewriter ukulele unicorn vineyard walnut walrus wardrobe
windmill wreath xylophone yacht zeppelin zipper""".split()
"""Words of the test's JSON; no list of training holds them."""
_HELD_OUT = frozenset(HELD_OUT_NOUNS)


class Vocabulary:
    """Words to draw from: the lists of this file, those of public texts and, put together from
    the pieces of a tokenizer, words that nobody has seen, so that each piece is copied at times.

    ``sayings``: short sentences of public texts. ``held_out``: the test's, which takes its values from lists of its own.
    """

    def __init__(
        self,
        texts: Sequence[str] = (),
        pieces: Sequence[str] = (),
        sayings: Sequence[str] = (),
        *,
        held_out: bool = False,
    ) -> None:
        self.held_out = held_out
        self.sayings = sayings
        seen: dict[str, None] = {}
        names: dict[str, None] = {}
        for text in texts:
            for word in text.split():
                bare = word.strip(".,;:!?'\"()[]-_*&$=")
                if bare.lower() in _HELD_OUT:
                    continue
                if bare.isalpha() and bare.isascii() and 2 < len(bare) < 14:
                    seen[bare.lower()] = None
                    if bare[0].isupper() and bare[1:].islower():
                        names[bare] = None
        self.rare = sorted(seen) or NOUNS + ADJECTIVES
        self.names = sorted(names) or FIRST_NAMES
        self.pieces = [piece for piece in pieces if piece.isalpha() and piece.isascii()]

    def odd(self, rng: random.Random) -> str:
        """A word that no list holds."""
        draw = rng.random()
        if self.pieces and draw < 0.6:
            count = rng.choice((1, 2, 2, 3))
            text = "".join(self.pieces[int(rng.random() * len(self.pieces))] for _ in range(count))
            return text if rng.random() < 0.1 else text.lower()
        return made_up(rng) if draw < 0.85 else letters(rng, rng.randint(2, 8))

    def saying(self, rng: random.Random) -> str:
        """A short sentence that somebody may say, at times with other words in it."""
        text = self.sayings[int(rng.random() * len(self.sayings))]
        draw = rng.random()
        if draw < 0.5:
            parts = text.split()
            for index in range(len(parts)):
                if rng.random() < 0.3 and parts[index].isalpha():
                    new = self.word(rng)
                    parts[index] = new.capitalize() if parts[index][0].isupper() else new
            text = " ".join(parts)
        return text

    def word(self, rng: random.Random) -> str:
        """A word in lower case: a noun, an adjective, a word of the texts, or an odd one."""
        draw = rng.random()
        if self.held_out:
            return rng.choice(HELD_OUT_NOUNS) if draw < 0.85 else made_up(rng)
        if draw < 0.2:
            return NOUNS[int(rng.random() * len(NOUNS))]
        if draw < 0.25:
            return ADJECTIVES[int(rng.random() * len(ADJECTIVES))]
        if draw < 0.7:
            return self.rare[int(rng.random() * len(self.rare))]
        return self.odd(rng).lower()

    def name(self, rng: random.Random) -> str:
        """A word with a capital."""
        if rng.random() < 0.55:
            return self.names[int(rng.random() * len(self.names))]
        return self.word(rng).capitalize()

    def noun(self, rng: random.Random) -> str:
        """What a function works on: mostly a noun, at times two words or an odd one."""
        draw = rng.random()
        if self.held_out:
            second = f" {rng.choice(HELD_OUT_NOUNS)}" if draw < 0.25 else ""
            return rng.choice(HELD_OUT_NOUNS) + second
        if draw < 0.35:
            return rng.choice(NOUNS)
        if draw < 0.5:
            return f"{rng.choice(NOUNS)} {rng.choice(NOUNS)}"
        if draw < 0.6:
            return f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}"
        if draw < 0.7:
            return f"{self.word(rng)} {self.word(rng)}"
        return self.word(rng)

    def words(self, rng: random.Random, low: int, high: int) -> str:
        """Some words with a space between."""
        return " ".join(self.word(rng) for _ in range(rng.randint(low, high)))

    def phrase(self, rng: random.Random, is_name: bool | None = None) -> str:
        """One to four words in some style of writing; with capitals where it is a name."""
        if is_name is None:
            is_name = rng.random() < 0.4
        count = rng.choices((1, 2, 3, 4), (34, 40, 18, 8))[0]
        if is_name:
            text = " ".join(self.name(rng) for _ in range(count))
            draw = rng.random()
            if draw < 0.08 and count > 1:
                text += rng.choice((" of ", " and ", " the ", "'s ", " in ", " & ")) + self.name(
                    rng
                )
            elif draw < 0.14:
                text += f" {rng.randrange(1, 10 ** rng.randint(1, 4))}"
            elif draw < 0.22:
                # as makers name their models: HP M404, Galaxy S9, ThinkPad X1
                code = letters(rng, rng.randint(1, 2)).upper() + str(rng.randrange(1000))
                first = letters(rng, rng.randint(2, 3)).upper() if draw < 0.17 else text
                text = f"{first} {code}"
            elif draw < 0.26:
                title = rng.choice(
                    ("Dr.", "St.", "Mt.", "Mr.", "Mrs.", "No.", "Prof.", "The", "El")
                )
                text = f"{title} {text}"
            elif draw < 0.29:
                text = text.upper()
            elif draw < 0.32:
                text = text.replace(" ", "-")
            return text
        text = " ".join(self.word(rng) for _ in range(count))
        draw = rng.random()
        if draw < 0.06 and count > 1:
            text = text.replace(
                " ", rng.choice((" of ", " and ", " in ", " for ", " with ", " to ")), 1
            )
        elif draw < 0.1:
            text = text.replace(" ", rng.choice("-_."))
        return text
