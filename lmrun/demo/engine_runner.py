"""Completions of the demo model through lmrun's own engine."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lmrun.demo.scoring import MAX_TOKENS
from lmrun.engine.llm import LLM, settings_for
from lmrun.engine.messages import SamplingParams


class EngineRunner:
    """The same through lmrun's own engine."""

    def __init__(self, workspace: Path, kv_bits: int) -> None:
        self.llm = LLM(settings_for(workspace, kv_bits=kv_bits, threads=1))

    def encode(self, text: str) -> list[int]:
        """Token ids."""
        return self.llm.tokenizer.encode(text, add_special_tokens=False)

    def complete(self, prompts: Sequence[str], max_tokens: int = MAX_TOKENS) -> list[str]:
        """Each prompt's continuation up to the end of the turn."""
        greedy = SamplingParams(temperature=0.0, max_tokens=max_tokens)
        outputs = self.llm.generate([self.encode(text) for text in prompts], greedy)
        return [
            self.llm.tokenizer.decode([i for i in output.token_ids if i != 1], False)
            for output in outputs
        ]

    def log_likelihood(self, windows: Sequence[Sequence[int]]) -> float:
        """Sum over all tokens after the first of each window."""
        return float(sum(np.sum(scores) for scores in self.llm.score(windows)))
