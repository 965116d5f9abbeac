"""Documents of the training mixture, from a seed."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmrun.demo.format import BEGIN, END, Segment, segments
from lmrun.demo.generate import chat, heldout, json_tasks, stories, tool_tasks, training_lists
from lmrun.demo.generate.functions import Builder
from lmrun.demo.generate.task_parts import conversation
from lmrun.demo.generate.words import Vocabulary

SHARES: Mapping[str, float] = {
    "one step": 0.22,
    "two steps": 0.21,
    "no tool": 0.07,
    "rounds": 0.3,
    "talk with tools": 0.03,
    "chat": 0.09,
    "story": 0.02,
    "public story": 0.003,
    "passage": 0.002,
    "article": 0.008,
    "json": 0.05,
    "long": 0.005,
}
"""Part of the documents each sort has."""


@dataclass(frozen=True)
class Texts:
    """Public texts; empty where they are not at hand. ``stories`` is TinyStories, ``articles``
    WikiText-2, and ``plays`` Shakespeare, of which only the words are used."""

    stories: str = ""
    plays: str = ""
    articles: str = ""


class Mixture:
    """Draws training documents. Equal for equal texts and equal state of the generator."""

    def __init__(self, texts: Texts, pieces: Sequence[str] = ()) -> None:
        """``pieces``: of a tokenizer, for words that nobody has seen."""
        given = (texts.stories, texts.plays, texts.articles)
        self.vocabulary = Vocabulary(given, pieces, stories.sayings(texts.stories))
        self.tasks = tool_tasks.Tasks(
            Builder(training_lists.LISTS, self.vocabulary, heldout.names())
        )
        self._articles = stories.paragraphs(texts.articles)
        self._public = stories.PublicStories(texts.stories) if texts.stories else None
        self._sorts = list(SHARES)
        self._weights = list(SHARES.values())

    def document(self, rng: random.Random, sort: str = "") -> list[Segment]:
        """One document; its first segment begins with the token that begins a text."""
        sort = sort or rng.choices(self._sorts, self._weights)[0]
        if sort == "article" and self._articles:
            return [(BEGIN, False), (rng.choice(self._articles) + END, True)]
        if sort == "passage" and self._public is not None:
            return [(BEGIN, False), (self._public.passage(rng) + END, True)]
        messages: list[dict[str, Any]] = []
        tools: list[dict[str, Any]] = []
        if rng.random() < 0.25:
            messages.append({"role": "system", "content": rng.choice(chat.SYSTEMS)})
        if sort == "one step":
            task = self.tasks.one_step(rng)
        elif sort == "two steps":
            task = self.tasks.two_steps(rng)
        elif sort == "no tool":
            task = self.tasks.no_tool(rng)
        else:
            messages += self._talk(rng, sort, tools)
            return segments(messages, tools)
        made, tools = conversation(rng, [task], task.tools)
        messages += made
        if rng.random() < 0.15:
            messages += _turn(*chat.turn(rng))
        return segments(messages, tools)

    def _story(self, rng: random.Random) -> chat.Turn:
        if self._public is not None and rng.random() < 0.3:
            return self._public.story(rng)
        return stories.grammar_story(rng)

    def _talk(
        self, rng: random.Random, sort: str, tools: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []
        if sort == "rounds":
            found, tasks = self.tasks.rounds(rng)
            tools += found
            for task in tasks:
                messages += conversation(rng, [task], found)[0]
                if rng.random() < 0.08:
                    messages += _turn(*chat.turn(rng))
            return messages
        if sort == "talk with tools":
            tools += self.tasks.one_step(rng).tools
            for _ in range(rng.choice((1, 1, 2, 3))):
                messages += _turn(*chat.turn(rng))
            return messages
        if sort == "json":
            for _ in range(rng.choice((1, 1, 1, 2))):
                made_turn = json_tasks.turn if rng.random() < 0.8 else json_tasks.person
                messages += _turn(*made_turn(rng, self.vocabulary))
            return messages
        if sort == "story":
            return _turn(*stories.grammar_story(rng))
        if sort == "public story" and self._public is not None:
            return _turn(*self._public.story(rng))
        for _ in range(rng.randint(2, 4) if sort == "long" else 1):
            for asked, answered in chat.turns(rng, self._story):
                messages += _turn(asked, answered)
        return messages


def _turn(asked: str, answered: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
