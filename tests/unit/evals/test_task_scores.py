"""Accuracy on task files: likelihoods as lm-eval takes them, and answers written greedily."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from lmrun.engine.llm import LLM
from lmrun.engine.messages import SamplingParams
from lmrun.errors import PlanError
from lmrun.evals.report import TaskScore
from lmrun.evals.run import Evaluation, evaluate
from lmrun.evals.task_files import read_task
from lmrun.evals.task_scores import encode_pair, is_right, special_prefix
from lmrun.models.tokenizer import Tokenizer
from unit.evals.conftest import Workspaces
from unit.evals.engines import engine

ITEMS: list[dict[str, Any]] = [
    {"prompt": "Once upon a time", "choices": ["there was a cat.", "zzz"], "answer": 0},
    {"prompt": "The end ", "choices": ["is near", "was", "of the very long story"], "answer": 2},
    {"prompt": "A\n", "choices": ["ä", "öööö", "xy"], "answer": 1},
]


def write(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def score(llm: LLM, path: Path, details: Path | None = None, limit: int | None = None) -> TaskScore:
    asked = Evaluation(tasks={"t": path}, task_limit=limit)
    return evaluate(llm, asked, baseline=None, details=details).tasks["t"]


def lm_eval_pair(tokenizer: Any, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """What lm-eval 0.4.13 does, by transformers' tokenizer with special tokens."""
    n_spaces = len(context) - len(context.rstrip())
    if n_spaces > 0:
        continuation = context[-n_spaces:] + continuation
        context = context[:-n_spaces]
    whole = tokenizer(context + continuation, add_special_tokens=True).input_ids
    start = tokenizer(context, add_special_tokens=True).input_ids
    return start, whole[len(start) :]


def logprob_of(llm: LLM, context: Sequence[int], continuation: Sequence[int]) -> float:
    """log p of the continuation from the engine's logits."""
    ids = [*context, *continuation]
    logits = llm.logits(ids).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    rows = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    first = len(context) - 1
    return float(sum(rows[first + i, token] for i, token in enumerate(continuation)))


PAIRS = (
    ("Question: Why?\nAnswer:", " because"),
    ("Ends with a space ", "word"),
    ("Ends with many   \n ", "word"),
    ("No space", "at all"),
    ("One", " two three, four."),
)


@pytest.mark.parametrize("name", ["stories3m", "tinystories-656k", "stories260k"])
def test_a_pair_is_cut_where_lm_eval_cuts_it(test_data: Path, name: str) -> None:
    folder = test_data / "models" / name
    theirs, ours = AutoTokenizer.from_pretrained(folder), Tokenizer.from_folder(folder)
    for context, continuation in PAIRS:
        start, rest = lm_eval_pair(theirs, context, continuation)
        ids, num_context = encode_pair(ours, context, continuation)
        assert (ids[:num_context], ids[num_context:]) == (start, rest), (context, continuation)


def test_bos_stands_before_a_pair_where_the_tokenizer_puts_one(
    random_llm: LLM, test_data: Path
) -> None:
    assert special_prefix(random_llm.tokenizer) == [1]
    ids, num_context = encode_pair(random_llm.tokenizer, "ab ", "c")
    assert random_llm.tokenizer.decode(ids[num_context:]) == " c"
    assert (ids[0], num_context, len(ids)) == (1, 3, 5)


def check_choices(llm: LLM, tokenizer: Any, path: Path, details: Path) -> TaskScore:
    """Every likelihood and choice, against the logits and lm-eval's rule."""
    found = score(llm, path, details)
    right: dict[str, list[bool]] = {"chosen": [], "chosen_norm": [], "chosen_bytes": []}
    answers = [json.loads(line) for line in (details / "tasks.t.jsonl").read_text().splitlines()]
    items = read_task(path).items
    for item, answer in zip(items, answers, strict=True):
        logprobs = [
            logprob_of(llm, *lm_eval_pair(tokenizer, item.prompt, f" {choice}"))
            for choice in item.choices
        ]
        assert answer["logprobs"] == pytest.approx(logprobs, abs=1e-3)
        lengths = np.array([len(choice) for choice in item.choices])
        sizes = np.array([len(choice.encode()) for choice in item.choices])
        chosen = {
            "chosen": int(np.argmax(logprobs)),
            "chosen_norm": int(np.argmax(logprobs / lengths)),
            "chosen_bytes": int(np.argmax(logprobs / sizes)),
        }
        assert {key: answer[key] for key in chosen} == chosen
        for key, value in chosen.items():
            right[key].append(value == item.answer)
    assert found.accuracy == pytest.approx(np.mean(right["chosen"]))
    assert found.accuracy_norm == pytest.approx(np.mean(right["chosen_norm"]))
    assert found.accuracy_bytes == pytest.approx(np.mean(right["chosen_bytes"]))
    assert found.accuracy_standard_error == pytest.approx(
        np.std(right["chosen"], ddof=1) / np.sqrt(len(items))
    )
    return found


def test_choices_of_the_random_model(
    random_llm: LLM, random_checkpoint: Path, tmp_path: Path
) -> None:
    path = write(tmp_path / "t.jsonl", ITEMS)
    tokenizer = AutoTokenizer.from_pretrained(random_checkpoint)
    found = check_choices(random_llm, tokenizer, path, tmp_path)
    assert (found.kind, found.format, found.items) == ("choices", "choices", 3)


def test_arc_of_a_trained_model(test_data: Path, trained: Workspaces, tmp_path: Path) -> None:
    lines = (test_data / "eval" / "ARC-Challenge-Dev.jsonl").read_text().splitlines()[:12]
    path = tmp_path / "arc.jsonl"
    path.write_text("\n".join(lines) + "\n")
    tokenizer = AutoTokenizer.from_pretrained(test_data / "models" / "stories3m")
    found = check_choices(engine(trained("stories3m")), tokenizer, path, tmp_path)
    assert (found.format, found.items) == ("arc", 12)


def test_no_bit_of_a_likelihood_depends_on_the_batch(
    random_llm: LLM, random_workspace: Path, tmp_path: Path
) -> None:
    path = write(tmp_path / "t.jsonl", ITEMS * 5)
    found = []
    for index, llm in enumerate(
        (
            random_llm,
            random_llm,  # contexts that the cache has from before
            engine(random_workspace, max_num_seqs=2, max_batch_tokens=20),
            engine(random_workspace, prefix_caching=False),
        )
    ):
        details = tmp_path / str(index)
        details.mkdir()
        found.append((score(llm, path, details), (details / "tasks.t.jsonl").read_bytes()))
    assert found == [found[0]] * 4


def test_a_long_prompt_loses_its_start_and_the_report_says_so(
    random_llm: LLM, random_workspace: Path, tmp_path: Path
) -> None:
    long = {"prompt": "x" * 100 + "Once upon", "choices": ["a time", "b"], "answer": 0}
    path = write(tmp_path / "t.jsonl", [long, ITEMS[0]])
    llm = engine(random_workspace, context_length=40)
    quality = evaluate(llm, Evaluation(tasks={"t": path}), baseline=None, details=tmp_path)
    assert quality.notes == (
        "task t: prompts that do not fit into the context of 40 tokens lost their start: 1 of 2"
        " items",
    )
    answer = json.loads((tmp_path / "tasks.t.jsonl").read_text().splitlines()[0])
    ids, num_context = encode_pair(llm.tokenizer, long["prompt"], " a time")
    kept, rest = ids[:num_context][-(40 - len(ids) + num_context) :], ids[num_context:]
    assert answer["logprobs"][0] == pytest.approx(logprob_of(random_llm, kept, rest), abs=1e-3)


def test_a_choice_longer_than_the_context_is_refused(
    random_workspace: Path, tmp_path: Path
) -> None:
    long = {"prompt": "x", "choices": ["short", "y" * 50], "answer": 0}
    path = write(tmp_path / "t.jsonl", [ITEMS[0], long])
    with pytest.raises(PlanError) as caught:
        score(engine(random_workspace, context_length=40), path)
    assert str(caught.value) == (
        "task t: item 1, choice 1: expected a choice that fits into the context of 40 tokens, got"
        " one of 51. Raise backend.context_length, or leave the item out."
    )


def greedy(llm: LLM, prompt: str, stop: Sequence[str]) -> str:
    params = SamplingParams(temperature=0, max_tokens=256)
    return llm.generate([prompt], params, stop=stop)[0].text


def test_exact_answers_are_what_the_model_writes_up_to_a_stop(
    random_llm: LLM, random_workspace: Path, tmp_path: Path
) -> None:
    prompts = [f"{i} + {i} =" for i in range(20)]
    stops = [["e"] if i % 7 == 3 else ["\n"] for i in range(20)]
    texts = [greedy(random_llm, p, s) for p, s in zip(prompts, stops, strict=True)]
    rows = [
        {"prompt": prompt, "answer": text if i % 2 else "42", "stop": stop}
        for i, (prompt, text, stop) in enumerate(zip(prompts, texts, stops, strict=True))
        if text.strip()
    ]
    path = write(tmp_path / "t.jsonl", rows)
    found = score(random_llm, path, tmp_path)
    answers = [json.loads(line) for line in (tmp_path / "tasks.t.jsonl").read_text().splitlines()]
    assert [answer["completion"] for answer in answers] == [text for text in texts if text.strip()]
    expected = [row["answer"] != "42" for row in rows]
    assert [answer["is_right"] for answer in answers] == expected
    assert found.accuracy == pytest.approx(np.mean(expected))
    assert found.kind == "exact"
    assert found.accuracy_norm is None
    again = score(engine(random_workspace, max_num_seqs=2, max_batch_tokens=30), path)
    assert again == found


def test_a_long_prompt_of_an_exact_answer_leaves_room_for_it(
    random_workspace: Path, tmp_path: Path
) -> None:
    path = write(tmp_path / "t.jsonl", [{"prompt": "x" * 100, "answer": "y"}])
    llm = engine(random_workspace, context_length=40)
    quality = evaluate(llm, Evaluation(tasks={"t": path}), baseline=None)
    assert quality.notes == (
        "task t: prompts that do not fit into the context of 40 tokens lost their start: 1 of 1"
        " items",
    )


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        (" She makes 9 * 2 = $18 every day.", True),  # the last number
        ("#### 18", True),
        ("$18.", True),
        (" 18.0", False),  # compared as text
        (" 18 and then 19", False),
        (" none at all", False),
        ("1,8", True),  # commas are taken out
        ("18 ...", False),  # lm-eval's pattern takes three points for a number
    ],
)
def test_gsm8k_takes_the_last_number_as_flexible_extract_does(
    completion: str, expected: bool
) -> None:
    assert is_right("gsm8k", completion, "Two and sixteen, 99.\n#### 18") is expected


def test_gsm8k_is_written_by_the_model(
    test_data: Path, trained: Workspaces, tmp_path: Path
) -> None:
    llm = engine(trained("stories3m"))
    found = score(llm, test_data / "eval" / "gsm8k.test.head300.jsonl", tmp_path, limit=3)
    assert (found.kind, found.format, found.items) == ("exact", "gsm8k", 3)
    first = json.loads((tmp_path / "tasks.t.jsonl").read_text().splitlines()[0])
    item = read_task(test_data / "eval" / "gsm8k.test.head300.jsonl").items[0]
    assert first["completion"] == greedy(llm, item.prompt, ["Question:", "</s>", "<|im_end|>"])


def test_what_was_asked_stands_in_the_report(random_llm: LLM, tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", ITEMS)
    found = score(random_llm, path, limit=2)
    assert found.items == 2
    assert found.prompt == "the prompt, then each choice behind one space"
    assert replace(found, items=3) != score(random_llm, path)
