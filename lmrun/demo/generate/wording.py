"""Frames of requests and free names, for training and for the test."""

import random
from collections.abc import Callable, Collection

from lmrun.demo.generate import slots, variety
from lmrun.demo.generate.lists import Lists
from lmrun.demo.generate.words import Vocabulary


class Wording:
    """Lists and a vocabulary; with ``is_varied`` also wordings put together from parts."""

    def __init__(
        self,
        lists: Lists,
        vocabulary: Vocabulary,
        taken: Collection[str] = frozenset(),
        *,
        is_varied: bool = False,
    ) -> None:
        self.lists = lists
        self.vocabulary = vocabulary
        self.taken = taken
        self.is_varied = is_varied

    def frame(self, rng: random.Random, sort: str) -> str:
        """A frame of ``request``, ``two_step`` or ``expression``, listed or put together."""
        if self.is_varied and rng.random() < 0.75:
            if sort == "request":
                return variety.request_frame(rng, self.vocabulary)
            if sort == "two_step":
                return variety.two_step_frame(rng, self.vocabulary)
            return variety.expression_frame(rng, self.vocabulary)
        if sort == "request":
            return slots.pick(rng, self.lists.request_frames)
        if sort == "two_step":
            return slots.pick(rng, self.lists.two_step_frames)
        return slots.pick(rng, self.lists.expression_frames)

    def free(self, draw: Callable[[], str]) -> str:
        """A name that is not taken."""
        while (name := draw()) in self.taken:
            pass
        return name
