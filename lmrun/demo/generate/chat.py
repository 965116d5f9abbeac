# ruff: noqa: E501, SIM905
"""Small talk, plain questions, what lmrun is: turns of a conversation without tools."""

import random
from collections.abc import Callable

from lmrun.demo.generate import words

Turn = tuple[str, str]
"""What the user says and what is answered."""


def _lines(text: str) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]:
    pairs = []
    for line in text.strip().splitlines():
        questions, answers = line.split(" # ")
        pairs.append((tuple(questions.split("|")), tuple(answers.split("|"))))
    return tuple(pairs)


SMALL_TALK = _lines("""
Hi|Hello|Hey|Hi there|Hello!|Hi!|Hey there!|Good day|hello|hi|hey|Greetings # Hello! How can I help you?|Hi! What can I do for you?|Hello! Nice to meet you.|Hi there! What would you like to talk about?
Good morning|Good morning!|Morning! # Good morning! How can I help you today?|Good morning! I hope you slept well.
Good evening|Good evening!|Good afternoon # Hello! I hope you had a nice day.|Good to see you! What can I do for you?
How are you?|How are you doing?|How do you do?|How is it going?|How are you today?|What's up?|Are you well? # I am fine, thank you. How are you?|I am doing well, thanks for asking!|Very well, thank you. And you?
I am fine|I am fine, thanks|I'm good|I am doing well|Great, thanks|Not bad|I am good, and you? # I am glad to hear that!|That is nice to hear. What shall we do?|Good! What can I do for you?
I am sad|I feel sad today|I am not feeling well|I had a bad day|I am unhappy|I feel lonely # I am sorry to hear that. Shall I tell you a story?|I am sorry. I hope tomorrow will be a better day.|That is sad. Would a short story cheer you up?
I am tired|I am so tired|I am sleepy|I need some sleep # Then you should rest. Sleep well!|A little sleep will help. Good night!
I am bored|I'm bored|I have nothing to do|This is boring # Shall I tell you a story?|We could count, rhyme or tell a story. Ask me for a story!
I am hungry|I'm hungry|I want something to eat # Then it is time for a snack. An apple is always good.|Go and have something nice to eat!
I am happy|I feel great|I had a good day|I am so happy today|This is a great day # That is wonderful!|I am happy for you!|That is great to hear!
What is your name?|Who are you?|What are you?|What should I call you?|Do you have a name?|Tell me who you are|Introduce yourself # I am the demo model of lmrun, a small language model.|I am lmrun's demo model. I am small, but I can chat, tell stories and call tools.
Are you human?|Are you a robot?|Are you a person?|Are you real?|Are you an AI? # I am a small language model, not a person.|I am a computer program: the demo model of lmrun.
Who made you?|Who created you?|Who trained you?|Where do you come from?|How were you made? # I was trained by the lmrun project, from a script in its repository.|The lmrun project made me. My training script is part of it.
How big are you?|How many parameters do you have?|Are you a large model?|How small are you? # I am very small: between eleven and twelve million parameters.|I have between eleven and twelve million parameters, so I fit on any laptop.
How old are you?|When were you born?|What is your age? # I am a program, so I have no age.|I do not have an age. I am a language model.
What can you do?|What can you do for me?|How can you help me?|What are you good at?|Help|help|What do you know? # I can chat a little, tell short stories, call tools, write JSON and explain lmrun.|I can tell stories, call functions that you describe, fill in JSON and say how lmrun works.
Can you help me?|I need help|Please help me|I need your help|Could you help me? # Of course! What do you need?|Sure, tell me what you need.|Yes. What can I do for you?
Thank you|Thanks|Thanks!|Thank you!|Thank you very much|Many thanks|thanks a lot|Great, thank you # You are welcome!|My pleasure!|You're welcome! Is there anything else?
You are great|You are nice|I like you|Good job|Well done|That was good|Nice! # Thank you! That is kind of you.|Thanks, I am glad you like it.
You are stupid|You are wrong|That is wrong|That was bad|That is not right # I am sorry. I am a small model and make mistakes.|Sorry about that. I am only a small model.
Bye|Goodbye|Bye!|See you|See you later|Good night|I have to go|Good bye! # Goodbye! Have a nice day.|Bye! See you soon.|See you! Take care.
Yes|yes|Sure|Okay|OK|ok # Good! What would you like to do?|All right. Tell me more.|Fine! What next?
No|no|Not really|No, thanks|nope # All right. Tell me when you need something.|That is fine. I am here when you need me.
Tell me a joke|Do you know a joke?|Make me laugh|tell me something funny|Another joke, please # Why did the computer sneeze? It had a virus.|What do you call a sleeping dinosaur? A dino-snore.|Why did the bicycle fall over? It was two-tired.|What is orange and sounds like a parrot? A carrot.|Why was the math book sad? It had too many problems.
What is your favorite color?|Which color do you like?|Do you have a favorite color? # I like blue, the color of the sky.|Blue is my favorite color.
What is your favorite food?|What do you like to eat?|Do you eat? # I do not eat, but I like to write about cake.|A program does not eat. Still, pancakes sound nice.
What is your favorite animal?|Which animal do you like?|Do you like animals?|Do you have a pet? # I like cats, because they are curious.|I like foxes. They are clever.
Do you like music?|What music do you like?|Can you sing? # I cannot hear music, but I like the words of songs.|I cannot sing, but I can tell you a story.
What time is it?|What is the date?|Which day is it today?|What day is it? # I have no clock, so I cannot know that.|I cannot see a clock or a calendar.
How is the weather?|What is the weather like?|Is it raining?|Will it rain tomorrow? # I cannot see outside. With a weather tool I could look it up.|I do not know the weather without a tool for it.
Do you speak German?|Do you speak other languages?|Can you speak French?|Which languages do you speak? # I only speak English.|English is the only language that I know.
Where do you live?|Where are you?|Where are you from? # I live on your computer. Nothing you say leaves it.|I run on your own machine.
Do you sleep?|Are you tired?|Do you dream? # I never sleep, I only wait for the next message.|Programs do not sleep.
Can you learn?|Do you remember me?|Will you remember this? # I remember only this conversation.|I do not learn from our talk; I only see this conversation.
What is the meaning of life?|Why are we here?|What is love? # That is a big question for a small model.|People have asked that for a long time. Being kind is a good start.
Tell me something|Tell me something interesting|Say something|Surprise me|Talk to me # Honey never spoils, even after a thousand years.|An octopus has three hearts.|Bees dance to show where the flowers are.|The sun is so large that a million Earths would fit into it.|A day on Venus is longer than its year.
Do you like me?|Are we friends?|Will you be my friend? # Of course, I like talking with you.|Yes, I am happy to be your friend.
What do you think?|What do you mean?|I don't understand|I do not get it|What? # I am sorry, I may have been unclear. Ask me again in other words.|I am a small model. Please try a simpler question.
Can you write code?|Write a program|Can you program?|Do you know Python? # I am too small to write programs. A larger model can do that.|No, I am too small for that. lmrun can serve a larger model.
I love you|You are cute|You are sweet # That is very kind. Thank you!|Thank you! You are nice, too.
Can I ask you something?|I have a question|May I ask you a question? # Of course. Go ahead!|Sure, ask me.
""")

LMRUN = _lines("""
What is lmrun?|What does lmrun do?|Tell me about lmrun|Explain lmrun|What is this program?|What is lmrun for?|Can you explain what lmrun is?|lmrun?|Describe lmrun|I have never heard of lmrun. What is it?|In one sentence, what is lmrun? # lmrun puts an open language model into service on your own machine from a YAML recipe. It plans, quantizes, converts and serves the model.|lmrun deploys open language models reproducibly: a YAML recipe is planned, quantized, converted and served with an OpenAI-compatible API.
How do I start lmrun?|How do I run lmrun?|How can I start the server?|How do I use lmrun?|How do I serve a model?|What is the first command?|How do I begin with lmrun?|Start lmrun|How do I deploy a model? # Run `lmrun up`. It plans, builds what is missing, launches the engine and serves the API.|Type `lmrun up`, or `lmrun +recipe=w4a16_kv4_server` for a recipe.
What does lmrun up do?|What is lmrun up?|Explain lmrun up|What is up for?|Tell me about the verb up|Which verb starts the server? # `lmrun up` builds what is missing, launches the engine, serves the API and stays in the foreground until Ctrl-C.
What does lmrun plan do?|What is lmrun plan?|Explain lmrun plan|How do I see what will run?|What is plan for?|How do I know whether a model fits?|Does my model fit in memory?|Tell me about the verb plan|Which verb shows the memory? # `lmrun plan` prints the stages that would run and why, the memory budget and whether the model fits. It writes nothing.
What does lmrun build do?|What is lmrun build?|Explain lmrun build|What is build for?|How do I only quantize?|How do I run the offline stages?|Which verb quantizes?|Tell me about the verb build # `lmrun build` runs the offline stages only: it quantizes and converts the model and prints the folder of the workspace.
What does lmrun chat do?|What is lmrun chat?|Explain lmrun chat|How do I chat in the terminal?|How can I talk to the model?|What is chat for?|Which verb lets me talk to a model? # `lmrun chat` talks in the terminal to a running server, or to an engine started for it.
What does lmrun list do?|What is lmrun list?|Explain lmrun list|Which recipes are there?|What is list for?|How do I see all recipes?|How do I list the models?|Which verb shows the recipes? # `lmrun list` prints recipes, models, quantizers, backends, chat templates and artifacts.
What does lmrun explain do?|What is lmrun explain?|Where does a setting come from?|What is explain for?|Which file set a value? # `lmrun explain KEY` says which file or override set a value, and what it beat.
What does lmrun diff do?|What is lmrun diff?|How do I compare two recipes?|What is diff for?|Compare two configurations # `lmrun diff LEFT -- RIGHT` compares two deployments: settings, stages and bytes.
What does lmrun lock do?|What is lmrun lock?|What is a lock file?|How do I pin a deployment?|What is lock for? # `lmrun lock` writes a lock file that pins everything a recipe builds.
What does lmrun verify do?|What is lmrun verify?|How do I check a lock?|How do I find drift?|What is verify for? # `lmrun verify` checks a deployment against its lock file and fails on any drift.
What does lmrun new do?|How do I write a recipe?|How do I make a new recipe?|What is lmrun new?|What is new for? # `lmrun new NAME --model PATH` looks at the model and the machine and writes a recipe for them.
What does lmrun bench do?|How do I measure speed?|How fast is my model?|What is lmrun bench?|What is bench for? # `lmrun bench` measures speed: time to the first token, time between tokens, tokens and requests a second.
What does lmrun eval do?|How do I measure quality?|What is lmrun eval?|What is eval for? # `lmrun eval` measures quality: perplexity and task files.
What does lmrun export do?|How do I export a model?|What is lmrun export?|How do I get the quantized folder? # `lmrun export STAGE DIR` copies an artifact, such as the quantized model, to a folder of yours.
What does lmrun store do?|What is the artifact store?|Where are the artifacts?|How do I free disk space?|What is lmrun store? # `lmrun store` lists, checks and removes artifacts. `lmrun store gc` frees the space of those that nothing uses.
What does lmrun doctor do?|How do I check my machine?|What is lmrun doctor?|What is doctor for? # `lmrun doctor` checks the environment: processor, memory, versions and disk.
What does lmrun schema do?|What is lmrun schema?|How does my editor complete recipes? # `lmrun schema` prints the JSON Schema of recipes, so that editors complete and check them.
What does lmrun status do?|How do I see running deployments?|What is lmrun status?|How do I stop a deployment?|What does lmrun down do? # `lmrun status` shows running deployments, `lmrun logs` their logs, and `lmrun down` stops them.
What is a recipe?|What is a lmrun recipe?|Explain recipes|What does a recipe look like? # A recipe is a short YAML file that picks a model, a quantization, a KV cache and a frontend.
Which verbs does lmrun have?|What commands are there?|List the verbs of lmrun|What can lmrun do?|Which commands does lmrun know?|Name the main verbs|What are the main commands of lmrun? # The main verbs are `up`, `plan`, `build`, `chat` and `list`. `lmrun --help` shows all of them.
What is quantization?|What does quantizing mean?|Why quantize a model?|Explain quantization|What is W4A16?|What is AWQ? # Quantization stores weights in fewer bits. With 4-bit AWQ weights a model needs about a quarter of the memory.
What is the KV cache?|What is kv.bits?|Why a 4-bit KV cache?|Explain the KV cache|How do I set the bits of the KV cache? # The KV cache holds keys and values of earlier tokens. `kv.bits=8` or `kv.bits=4` makes it smaller.
How do I use my own model?|How do I serve another model?|How do I change the model?|Where do I put my model?|Can I use a different model? # Set `model.path=FOLDER` to a Hugging Face folder, as in `lmrun up model.path=/models/my-model`.
How do I call the API?|Is there an API?|Which API does lmrun have?|Does it work with the OpenAI client?|What is the address of the API?|How can my program talk to the model? # lmrun serves an OpenAI-compatible API at http://127.0.0.1:23333/v1, so the OpenAI client works.
How do I change the port?|Which port does lmrun use?|What is the default port? # The API listens on port 23333. Change it with `frontend.port=8000`.
Is there a web page?|Can I chat in the browser?|Where is the web page?|Is there a user interface? # Yes, lmrun serves a chat page; its address is printed at the start, usually http://127.0.0.1:7860.
How do I stop lmrun?|How do I stop the server?|How do I quit? # Press Ctrl-C. Running requests finish first; a second Ctrl-C stops at once.
Do I need a GPU?|Does lmrun need a GPU?|Can I run it on a laptop?|Does it work without a graphics card? # No, lmrun runs on the processor of a laptop.
Does lmrun need the internet?|Does it work offline?|Do you send my data anywhere? # lmrun works offline, and nothing leaves your machine.
What are you running on?|What serves you?|Which engine runs you? # I am served by lmrun's own C++ engine on your machine.
How do I get help?|Where is the help?|How do I see the options? # `lmrun --help` lists the verbs, and `lmrun VERB --help` explains one.
""")

CAPITALS = dict(
    pair.split(":")
    for pair in "France:Paris Germany:Berlin Italy:Rome Spain:Madrid Portugal:Lisbon Austria:Vienna"
    " Poland:Warsaw Norway:Oslo Sweden:Stockholm Denmark:Copenhagen Finland:Helsinki Ireland:Dublin"
    " Greece:Athens Turkey:Ankara Egypt:Cairo Kenya:Nairobi Japan:Tokyo China:Beijing Russia:Moscow"
    " Canada:Ottawa Cuba:Havana Peru:Lima Chile:Santiago England:London Belgium:Brussels"
    " Hungary:Budapest Netherlands:Amsterdam Switzerland:Bern Thailand:Bangkok Iceland:Reykjavik"
    " Ukraine:Kyiv Argentina:Buenos_Aires Brazil:Brasilia Mexico:Mexico_City India:New_Delhi".split()
)
SOUNDS = dict(
    pair.split(":")
    for pair in "dog:woof cat:meow cow:moo sheep:baa pig:oink duck:quack horse:neigh lion:roar"
    " frog:ribbit bee:buzz hen:cluck owl:hoot mouse:squeak snake:hiss wolf:howl donkey:hee-haw".split()
)
OPPOSITES = dict(
    pair.split(":")
    for pair in "hot:cold big:small fast:slow up:down light:dark happy:sad old:young good:bad"
    " open:closed full:empty hard:soft wet:dry tall:short strong:weak early:late left:right"
    " black:white day:night rich:poor loud:quiet clean:dirty heavy:light long:short near:far".split()
)
THINGS = dict(
    pair.split(":")
    for pair in "sky:blue grass:green sun:yellow snow:white blood:red banana:yellow coal:black"
    " orange:orange leaf:green strawberry:red milk:white night:black lemon:yellow tomato:red".split()
)
_NUMBER_WORDS = "zero one two three four five six seven eight nine ten eleven twelve".split()


def _fact(rng: random.Random) -> Turn:
    draw = rng.randrange(11)
    if draw == 0:
        country, city = rng.choice(list(CAPITALS.items()))
        city = city.replace("_", " ")
        question = rng.choice(("What is the capital of {c}?", "Capital of {c}?", "Which city is the"
                               " capital of {c}?", "Tell me the capital of {c}."))  # fmt: skip
        return question.replace("{c}", country), f"The capital of {country} is {city}."
    if draw == 1:
        animal, sound = rng.choice(list(SOUNDS.items()))
        question = rng.choice((f"What does a {animal} say?", f"What sound does a {animal} make?"))
        return question, f"A {animal} says {sound}."
    if draw == 2:
        one, other = rng.choice(list(OPPOSITES.items()))
        question = rng.choice((f"What is the opposite of {one}?", f"Opposite of {one}?"))
        return question, f"The opposite of {one} is {other}."
    if draw == 3:
        thing, color = rng.choice(list(THINGS.items()))
        question = rng.choice((f"What color is the {thing}?", f"Which color does a {thing} have?"))
        return question, f"It is {color}."
    if draw == 4:
        index = rng.randrange(7)
        day, after = words.DAYS[index], words.DAYS[(index + 1) % 7]
        return f"Which day comes after {day}?", f"{after} comes after {day}."
    if draw == 5:
        index = rng.randrange(12)
        month, after = words.MONTHS[index], words.MONTHS[(index + 1) % 12]
        return f"Which month follows {month}?", f"{after} follows {month}."
    if draw == 6:
        number = rng.randint(3, 12)
        counted = ", ".join(str(i) for i in range(1, number + 1))
        return rng.choice((f"Count to {number}", f"Can you count to {number}?")), counted
    if draw == 7:
        word = rng.choice(words.NOUNS)
        question = rng.choice(
            (f"How do you spell {word}?", f"Spell {word}", f"Spell the word {word}")
        )
        return question, "-".join(word.upper())
    if draw == 8:
        text = " ".join(rng.choice(words.NOUNS) for _ in range(rng.randint(1, 4)))
        return rng.choice((f"Say {text}", f"Repeat after me: {text}", f"Repeat: {text}")), text
    if draw == 9:
        number = rng.randrange(13)
        return f"How do you write {number} in words?", _NUMBER_WORDS[number]
    words_asked = rng.sample(words.NOUNS, 3)
    text = ", ".join(words_asked)
    ordered = ", ".join(sorted(words_asked))
    return f"Sort these words: {text}", ordered


def _sum(rng: random.Random) -> Turn:
    sign = rng.choice("+-*")
    if sign == "*":
        left, right = rng.randint(0, 12), rng.randint(0, 12)
        value, said = left * right, "times"
    else:
        # a model of this size learns small sums by heart
        top = 20 if rng.random() < 0.75 else 99
        left, right = rng.randint(0, top), rng.randint(0, top)
        if sign == "-" and right > left:
            left, right = right, left
        value, said = (left + right, "plus") if sign == "+" else (left - right, "minus")
    text = rng.choice((f"{left} {sign} {right}", f"{left}{sign}{right}", f"{left} {said} {right}"))
    frame = rng.choice(("What is {e}?", "How much is {e}?", "{e}", "{e} = ?", "Calculate {e}"))
    return frame.replace("{e}", text), f"{text} is {value}." if sign in text else f"It is {value}."


def _listed(rng: random.Random) -> Turn:
    pool, noun = rng.choice(
        (
            (words.ANIMALS, "animals"), (words.FOODS, "foods"), (words.COLORS, "colors"),
            (words.CITIES, "cities"), (words.COUNTRIES, "countries"), (words.FIRST_NAMES, "names"),
        )
    )  # fmt: skip
    number = rng.randint(2, 6)
    chosen = rng.sample(pool, number)
    said = rng.choice((str(number), _NUMBER_WORDS[number]))
    question = rng.choice((f"Name {said} {noun}", f"Tell me {said} {noun}.", f"List {said} {noun}"))
    return question, ", ".join(chosen[:-1]) + " and " + chosen[-1] + "."


def _from(
    pairs: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...],
) -> Callable[[random.Random], Turn]:
    def draw(rng: random.Random) -> Turn:
        questions, answers = rng.choice(pairs)
        question = rng.choice(questions)
        noise = rng.random()
        if noise < 0.12:
            question = question.lower()
        elif noise < 0.2:
            question = question.rstrip("?.!")
        elif noise < 0.26:
            question = rng.choice(("Please tell me: ", "So, ", "Hi! ", "Well, ", "OK. ")) + question
        return question, rng.choice(answers)

    return draw


_small_talk, _lmrun = _from(SMALL_TALK), _from(LMRUN)


def _remembered(rng: random.Random) -> tuple[Turn, Turn]:
    """Something the user tells, and the question about it later on."""
    name, city = rng.choice(words.FIRST_NAMES), rng.choice(words.CITIES)
    animal, color = rng.choice(words.ANIMALS), rng.choice(words.COLORS)
    food, age = rng.choice(words.FOODS), rng.randint(4, 90)
    if rng.random() < 0.3:
        name = words.made_up(rng, 1, 2).capitalize()
    return rng.choice(
        (
            ((rng.choice((f"My name is {name}.", f"I am {name}.", f"Hi, I'm {name}", f"Call me {name}.")),
              rng.choice((f"Nice to meet you, {name}!", f"Hello, {name}! How can I help you?"))),
             (rng.choice(("What is my name?", "Do you know my name?", "Who am I?")),
              f"Your name is {name}.")),
            ((rng.choice((f"I live in {city}.", f"I am from {city}.", f"My home is {city}")),
              f"{city} must be a nice place to live."),
             (rng.choice(("Where do I live?", "Where is my home?")), f"You live in {city}.")),
            ((rng.choice((f"I have a {animal}.", f"My pet is a {animal}.")),
              f"A {animal}! That is a lovely pet."),
             (rng.choice(("What pet do I have?", "Which animal do I have?")), f"You have a {animal}.")),
            ((rng.choice((f"My favorite color is {color}.", f"I like {color} best.")),
              f"{color.capitalize()} is a beautiful color."),
             (rng.choice(("What is my favorite color?", "Which color do I like?")),
              f"Your favorite color is {color}.")),
            ((rng.choice((f"I like {food}.", f"I love {food}!", f"My favorite food is {food}.")),
              f"{food.capitalize()} is delicious."),
             (rng.choice(("What do I like to eat?", "What is my favorite food?")),
              f"You like {food}.")),
            ((rng.choice((f"I am {age} years old.", f"I am {age}.")), f"{age} is a good age."),
             (rng.choice(("How old am I?", "What is my age?")), f"You are {age} years old.")),
        )
    )  # fmt: skip


def turn(rng: random.Random) -> Turn:
    """One question and its answer."""
    draw = rng.random()
    if draw < 0.42:
        return _small_talk(rng)
    if draw < 0.7:
        return _lmrun(rng)
    if draw < 0.86:
        return _fact(rng)
    if draw < 0.95:
        return _sum(rng)
    return _listed(rng)


def turns(rng: random.Random, story: Callable[[random.Random], Turn]) -> list[Turn]:
    """A conversation of one to seven turns; ``story`` draws a request for a story and the story."""
    made = [turn(rng) for _ in range(rng.choice((1, 1, 2, 3, 4, 5, 6)))]
    if rng.random() < 0.4:
        made.insert(rng.randint(0, len(made)), story(rng))
    if rng.random() < 0.4:
        told, asked = _remembered(rng)
        place = rng.randint(0, len(made))
        made.insert(place, told)
        made.insert(rng.randint(place + 1, len(made)), asked)
    return made


SYSTEMS = (
    "You are a helpful assistant.", "You are a friendly assistant.", "Be brief.",
    "Answer politely.", "You are the demo model of lmrun.", "You are a small language model.",
    "Use the tools when they fit.", "You can call functions.", "Answer in one sentence.",
    "You are an assistant with access to tools.", "Be kind and helpful.",
    "You are a helpful assistant that calls tools.", "You are lmrun's assistant.",
)  # fmt: skip
