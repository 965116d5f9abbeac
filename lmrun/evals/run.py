"""The two entries of the stages: the baseline's scores, and a deployment's quality.

    baseline_scores(baseline_llm, evaluation, folder)
    quality = evaluate(llm, evaluation, baseline=folder)

Both go through `LLM`, so figures include weight bits, KV bits and activation bits. The same engine
build on the same instruction set gives the same figures to the last bit, whatever the batching.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lmrun.engine.llm import LLM
from lmrun.evals.report import Quality


@dataclass(frozen=True)
class Evaluation:
    """What is measured. Paths are of files on this machine: `builtin_data.path` finds our own."""

    data: Path | None = None
    """Text of perplexity, KL and top-1: a .txt file, or a .jsonl file with a field `text`."""
    window: int = 256
    max_tokens: int = 65535
    kl_tokens: int = 4096
    """Needs a baseline; 0: no KL and no top-1."""
    tasks: Mapping[str, Path] = field(default_factory=dict)
    task_limit: int | None = None
    """First so many items of each task file and of the tools file."""
    tools: Path | None = None


def baseline_scores(llm: LLM, evaluation: Evaluation, folder: Path) -> None:
    """Score ``evaluation.data`` and write the result into ``folder``, which exists.

    ``llm`` is the unquantized model with KV 16. Reads ``data``, ``window``, ``max_tokens`` and
    ``kl_tokens`` alone. Whole rows are written as they come: memory holds one window's.
    """
    raise NotImplementedError


def evaluate(
    llm: LLM, evaluation: Evaluation, *, baseline: Path | None, details: Path | None = None
) -> Quality:
    """All figures that ``evaluation`` asks for.

    ``baseline`` is a folder of `baseline_scores` over the same data; None leaves out what needs
    one, and ``notes`` says so. ``details`` is a folder that gets the answer to every item of a
    task or tools file (`tasks.NAME.jsonl`, `tools.jsonl`).

    `ArtifactError` for a file that is not of its format, or a baseline of other data; `PlanError`
    where the model cannot be asked (tools without a template for them, a text too short);
    `StageError` where a score is no finite number.
    """
    raise NotImplementedError
