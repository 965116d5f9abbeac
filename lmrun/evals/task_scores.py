"""Accuracy on a task file: choices by likelihood as lm-eval scores them, exact answers greedily.

Facts of lm-eval are of version 0.4.13: `TemplateLM._encode_pair`, the `multiple_choice` branch of
`ConfigurableTask.process_results`, `TemplateAPI.batch_loglikelihood_requests`, `tasks/gsm8k`.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from lmrun.engine.llm import LLM
from lmrun.engine.messages import SamplingParams
from lmrun.errors import EngineError, PlanError
from lmrun.evals import statistics
from lmrun.evals.report import TaskScore
from lmrun.evals.scoring import not_finite, scored
from lmrun.evals.task_files import Choices, Exact, Task
from lmrun.models.tokenizer import Tokenizer
from lmrun.progress import progress_bar

MAX_TOKENS = 256
"""Of a generated answer; half the context where that is less."""
BATCH = 16
"""Prompts handed to the engine together; changes no token."""
DELIMITER = " "
"""Between a prompt and a choice."""

_GSM8K_NUMBER = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
_GSM8K_IGNORED = (r",", r"\$", r"(?s).*#### ", r"\.$")
"""Taken out of both sides before they are compared."""


def score_task(
    llm: LLM, name: str, task: Task, details: Path | None
) -> tuple[TaskScore, list[str]]:
    """Accuracies of one task, and what a reader of them must know."""
    score = _score_choices if task.is_choices else _score_exact
    return score(llm, name, task, details)


def special_prefix(tokenizer: Tokenizer) -> list[int]:
    """What the tokenizer puts in front of a text: BOS, or nothing."""
    plain = tokenizer.encode("a", add_special_tokens=False)
    marked = tokenizer.encode("a")
    starts = (i for i in range(len(marked)) if marked[i : i + len(plain)] == plain)
    return marked[: next(starts, 0)]


def encode_pair(tokenizer: Tokenizer, context: str, continuation: str) -> tuple[list[int], int]:
    """Token ids of both, and how many of them are the context's.

    As `_encode_pair`: spaces at the end of the context go to the continuation; the continuation is
    what the tokens of the whole text have beyond as many as those of the context alone, and stands
    behind the latter even where a token of the whole would join the two.
    """
    prefix = special_prefix(tokenizer)
    start = prefix + tokenizer.encode(context.rstrip(), add_special_tokens=False)
    whole = prefix + tokenizer.encode(context + continuation, add_special_tokens=False)
    return start + whole[len(start) :], len(start)


@dataclass(frozen=True)
class _Pair:
    ids: list[int]
    num_context: int
    is_cut: bool


def _pair(llm: LLM, item: Choices, choice: str, where: str, longest: int) -> _Pair:
    ids, num_context = encode_pair(llm.tokenizer, item.prompt, DELIMITER + choice)
    excess = max(0, len(ids) - longest)
    if num_context - excess < 1:
        raise PlanError(
            f"{where}: expected a choice that fits into the context of {longest} tokens, got one"
            f" of {len(ids) - num_context}. Raise backend.context_length, or leave the item out."
        )
    return _Pair(ids[excess:], num_context - excess, excess > 0)


def _sums(
    llm: LLM, name: str, items: Sequence[Choices], pairs: Mapping[tuple[int, int], _Pair]
) -> list[list[float]]:
    """Log-probabilities of each item's choices; ``pairs`` are by the numbers of item and choice."""
    # Where tokens join over the boundary nothing may be left of a choice: lm-eval's sum is then 0.
    sums = [[0.0] * len(item.choices) for item in items]
    places = [place for place, pair in pairs.items() if pair.num_context < len(pair.ids)]

    def place_name(index: int) -> str:
        return f"task {name}: item {places[index][0]}, choice {places[index][1]}"

    found = scored(
        llm,
        (pairs[place].ids for place in places),
        place_name,
        first=(pairs[place].num_context - 1 for place in places),
    )
    with progress_bar(f"task {name}", len(places), unit="choices") as advance:
        for (i, j), scores in zip(places, found, strict=True):
            sums[i][j] = float(sum(scores.logprobs.astype(np.float64).tolist()))
            advance(1)
    return sums


def _score_choices(
    llm: LLM, name: str, task: Task, details: Path | None
) -> tuple[TaskScore, list[str]]:
    longest = _context_length(llm)
    items = [item for item in task.items if isinstance(item, Choices)]
    pairs = {
        (i, j): _pair(llm, item, choice, f"task {name}: item {i}, choice {j}", longest)
        for i, item in enumerate(items)
        for j, choice in enumerate(item.choices)
    }
    sums = _sums(llm, name, items, pairs)
    right: list[list[float]] = []
    answers: list[dict[str, Any]] = []
    for index, (item, logprobs) in enumerate(zip(items, sums, strict=True)):
        lengths = [float(len(choice)) for choice in item.choices]
        sizes = [float(len(choice.encode())) for choice in item.choices]
        chosen = [
            int(np.argmax(np.array(logprobs) / np.array(divisor)))
            for divisor in ([1.0] * len(lengths), lengths, sizes)
        ]
        right.append([float(one == item.answer) for one in chosen])
        answers.append(
            {
                "item": index,
                "answer": item.answer,
                "chosen": chosen[0],
                "chosen_norm": chosen[1],
                "chosen_bytes": chosen[2],
                "logprobs": logprobs,
            }
        )
    _write(details, answers)
    plain, norm, size = np.array(right).T
    score = TaskScore(
        kind="choices",
        format=task.format,
        prompt=task.prompt,
        digest=task.digest,
        items=len(items),
        accuracy=statistics.mean(plain),
        accuracy_standard_error=statistics.standard_error(plain),
        accuracy_norm=statistics.mean(norm),
        accuracy_norm_standard_error=statistics.standard_error(norm),
        accuracy_bytes=statistics.mean(size),
        accuracy_bytes_standard_error=statistics.standard_error(size),
    )
    cut_items = {i for (i, _), pair in pairs.items() if pair.is_cut}
    return score, _cut_note(name, [i in cut_items for i in range(len(items))], longest)


def _score_exact(
    llm: LLM, name: str, task: Task, details: Path | None
) -> tuple[TaskScore, list[str]]:
    longest = _context_length(llm)
    max_tokens = min(MAX_TOKENS, longest // 2)
    items = [item for item in task.items if isinstance(item, Exact)]
    prompts = [llm.tokenizer.encode(item.prompt) for item in items]
    is_cut = [len(ids) > longest - max_tokens for ids in prompts]
    prompts = [ids[-(longest - max_tokens) :] for ids in prompts]
    params = SamplingParams(temperature=0, max_tokens=max_tokens)
    texts: list[str] = []
    with progress_bar(f"task {name}", len(items), unit="items") as advance:
        for start, end in _batches(items):
            try:
                outputs = llm.generate(prompts[start:end], params, stop=items[start].stop)
            except EngineError as error:
                raise not_finite(f"task {name}: items {start} to {end - 1}", error) from error
            texts += [output.text for output in outputs]
            advance(end - start)
    right = [
        float(is_right(task.format, text, item.answer))
        for text, item in zip(texts, items, strict=True)
    ]
    _write(
        details,
        [
            {"item": index, "answer": item.answer, "completion": text, "is_right": bool(value)}
            for index, (item, text, value) in enumerate(zip(items, texts, right, strict=True))
        ],
    )
    score = TaskScore(
        kind="exact",
        format=task.format,
        prompt=task.prompt,
        digest=task.digest,
        items=len(items),
        accuracy=statistics.mean(right),
        accuracy_standard_error=statistics.standard_error(right),
    )
    return score, _cut_note(name, is_cut, longest)


def is_right(task_format: str, completion: str, answer: str) -> bool:
    """Whether a completion gives the answer: for GSM8K as lm-eval's `flexible-extract`, otherwise
    the same text but for whitespace around it."""
    if task_format != "gsm8k":
        return completion.strip() == answer.strip()
    found = _GSM8K_NUMBER.findall(completion)
    number = next((group for group in found[-1] if group), "") if found else "[invalid]"
    return _bare(number.strip()) == _bare(answer)


def _bare(text: str) -> str:
    for pattern in _GSM8K_IGNORED:
        text = re.sub(pattern, "", text)
    return text.lower()


def _batches(items: Sequence[Exact]) -> Iterator[tuple[int, int]]:
    """Neighbours with the same stop texts, at most `BATCH` of them: first, and behind the last."""
    start = 0
    for _, group in groupby(items, key=lambda item: item.stop):
        end = start + len(list(group))
        for first in range(start, end, BATCH):
            yield first, min(first + BATCH, end)
        start = end


def _context_length(llm: LLM) -> int:
    return int(llm.effective_config()["context_length"])


def _cut_note(name: str, is_cut: Sequence[bool], longest: int) -> list[str]:
    if not any(is_cut):
        return []
    return [
        f"task {name}: prompts that do not fit into the context of {longest} tokens lost their"
        f" start: {sum(is_cut)} of {len(is_cut)} items"
    ]


def _write(path: Path | None, answers: Sequence[dict[str, Any]]) -> None:
    if path is not None:
        text = "".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in answers)
        path.write_text(text, encoding="utf-8")
