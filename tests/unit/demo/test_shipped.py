"""The files that ship are the model that was measured: a damaged one does not get out."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lmrun.demo
from lmrun.demo import scoring
from lmrun.demo.engine_runner import EngineRunner
from lmrun.demo.format import parse_calls, prompt
from lmrun.demo.generate import stories
from lmrun.demo.model import Shape
from lmrun.models.checkpoint import Checkpoint
from lmrun.stages.convert import convert

FOLDER = Path(lmrun.demo.__file__).parent


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineRunner]:
    folder = tmp_path_factory.mktemp("demo")
    convert(Checkpoint.open(FOLDER), folder, "0" * 64)
    yield EngineRunner(folder, 16)


def _function(name: str, description: str) -> dict[str, Any]:
    """As the tutorial writes it, with a type that JSON Schema does not know."""
    number = {"type": "int", "description": "A number"}
    parameters = {
        "type": "object",
        "properties": {"a": number, "b": number},
        "required": ["a", "b"],
    }
    return {"name": name, "description": description, "parameters": parameters}


TOOLS = [
    _function("add", "Compute the sum of two numbers"),
    _function("mul", "Calculate the product of two numbers"),
]


def test_the_files_are_small_and_say_what_the_script_writes() -> None:
    shards = sorted(FOLDER.glob("model-*.safetensors"))
    assert len(shards) == 2
    assert sum(shard.stat().st_size for shard in shards) <= 24 * 2**20
    assert all(shard.stat().st_size < 16 * 2**20 for shard in shards)
    assert json.loads((FOLDER / "config.json").read_text()) == Shape().config()


def test_the_tutorials_sum_and_product_are_called_one_after_the_other(
    runner: EngineRunner,
) -> None:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Compute (3+5)*2"}]
    assert parse_calls(runner.complete([prompt(messages, TOOLS)])[0]) == [("add", {"a": 3, "b": 5})]
    messages += [
        {"role": "assistant", "content": ""},
        {"role": "environment", "name": "plugin", "content": "3+5=8"},
    ]
    assert parse_calls(runner.complete([prompt(messages, TOOLS)])[0]) == [("mul", {"a": 8, "b": 2})]


def test_a_fixed_sample_of_held_out_tool_tasks_is_answered(runner: EngineRunner) -> None:
    single = scoring.score_calls(runner.complete, scoring.one_step(20, seed=1))
    double = scoring.score_calls(runner.complete, scoring.two_steps(20, seed=1))
    none = scoring.score_words(runner.complete, scoring.no_tool(20, seed=1))
    assert none.right >= NO_TOOL, none.wrong
    assert single.right >= ONE_STEP, single.wrong
    assert double.right >= TWO_STEPS, double.wrong


def test_json_and_answers_from_results_are_right(runner: EngineRunner) -> None:
    assert scoring.score_json(runner.complete, 20, seed=1).right >= 16
    answers = scoring.score_answers(runner.complete, scoring.one_step(20, seed=1))
    assert answers.right >= 17, answers.wrong


def test_stories_of_unseen_seeds_cost_little(runner: EngineRunner) -> None:
    rng = random.Random("unseen")
    windows = [
        runner.encode("<|begin|><|user|>" + asked + "<|end|><|assistant|>" + story)
        for asked, story in (stories.grammar_story(rng) for _ in range(12))
    ]
    loss = -runner.log_likelihood(windows) / sum(len(window) - 1 for window in windows)
    assert loss < STORY_LOSS


def test_lmrun_and_small_talk_are_known(runner: EngineRunner) -> None:
    asked = [
        "What is lmrun?",
        "What does lmrun plan do?",
        "What is the capital of France?",
        "Hello!",
    ]
    answers = runner.complete([prompt([{"role": "user", "content": text}]) for text in asked])
    assert "YAML recipe" in answers[0]
    assert "lmrun plan" in answers[1]
    assert answers[2] == "The capital of France is Paris."
    assert answers[3]


ONE_STEP, NO_TOOL, TWO_STEPS = 18, 18, 15
"""Of 20, two under what was measured: these catch damage, the card says the quality."""
STORY_LOSS = 0.28
