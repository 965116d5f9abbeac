"""Tool-call accuracy: what counts as right, and whole files through the demo model."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from lmrun.demo import scoring
from lmrun.engine.llm import LLM, settings_for
from lmrun.engine.messages import SamplingParams
from lmrun.errors import PlanError
from lmrun.evals.report import ToolScore
from lmrun.evals.run import Evaluation, evaluate
from lmrun.evals.tool_files import ExpectedCall, ToolItem, read_tools
from lmrun.evals.tool_scores import is_equal, is_right
from lmrun.models import builtin, builtin_data
from lmrun.models.checkpoint import Checkpoint
from lmrun.models.tool_calls import FORMATS
from lmrun.stages.convert import convert
from unit.evals.engines import engine

HERMES, LMRUN = FORMATS


def item(*calls: tuple[str, Mapping[str, Any]], accepted: bool = False) -> ToolItem:
    expected = tuple(ExpectedCall(name, given, accepted) for name, given in calls)
    return ToolItem([], [], expected, in_order=not accepted)


def hermes(*calls: tuple[str, Any]) -> str:
    return "\n".join(
        f"<tool_call>\n{json.dumps({'name': name, 'arguments': given})}\n</tool_call>"
        for name, given in calls
    )


def right(text: str, expected: ToolItem, finish_reason: str = "stop") -> bool:
    return is_right(HERMES, text, finish_reason, expected)


ADD = ("add", {"a": 1, "b": [1.5, "x"]})
MUL = ("mul", {"a": True})


def test_a_call_is_right_when_name_and_arguments_are() -> None:
    assert right(hermes(ADD), item(ADD))
    assert right(hermes(("add", {"b": [1.5, "x"], "a": 1.0})), item(ADD))
    assert not right(hermes(("add", {"a": 1})), item(ADD))
    assert not right(hermes(("add", {**ADD[1], "c": None})), item(ADD))
    assert not right(hermes(("Add", ADD[1])), item(ADD))
    assert not right(hermes(("mul", {"a": 1})), item(MUL))


def test_words_beside_calls_do_not_matter_but_broken_calls_do() -> None:
    assert right("Let me see.\n" + hermes(ADD), item(ADD))
    assert not right(hermes(ADD) + "\n<tool_call>{broken}</tool_call>", item(ADD))
    assert not right(hermes(ADD) + "\n<tool_call>", item(ADD))
    assert not right(hermes(ADD)[: -len("</tool_call>")], item(ADD))


def test_a_turn_that_was_cut_off_is_wrong() -> None:
    assert not right(hermes(ADD), item(ADD), "length")
    assert is_right(LMRUN, '<|call|>{"name": "f", "arguments": {}}', "stop", item(("f", {})))
    assert not is_right(LMRUN, '<|call|>{"name": "f", "arguments": {}}', "length", item(("f", {})))


def test_all_calls_are_due_in_order_and_no_more() -> None:
    assert right(hermes(ADD, MUL), item(ADD, MUL))
    assert not right(hermes(MUL, ADD), item(ADD, MUL))
    assert not right(hermes(ADD), item(ADD, MUL))
    assert not right(hermes(ADD, MUL, MUL), item(ADD, MUL))


def test_words_are_right_where_no_call_is_due() -> None:
    assert right("I cannot do that.", item())
    assert right("I cannot do that.", item(), "length")
    assert not right(" \n", item())
    assert not right(hermes(ADD), item())
    assert not right("<tool_call>{}</tool_call>", item())


PLAY = {"artist": ["Swift", "Taylor Swift"], "minutes": [20], "shuffle": ["", False]}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"artist": "Swift", "minutes": 20}, True),
        ({"artist": "Taylor Swift", "minutes": 20.0, "shuffle": False}, True),
        ({"artist": "Swift", "minutes": 20, "shuffle": True}, False),
        ({"artist": "Swift"}, False),
        ({"artist": "swift", "minutes": 20}, False),
        ({"artist": "Swift", "minutes": 20, "loud": 1}, False),
        ({"artist": "Swift", "minutes": 20, "shuffle": 0}, False),
        ({"artist": ["Swift"], "minutes": 20}, False),
    ],
)
def test_an_argument_is_one_of_the_accepted_and_may_be_left_out_where_told(
    arguments: dict[str, Any], expected: bool
) -> None:
    assert right(hermes(("play", arguments)), item(("play", PLAY), accepted=True)) is expected


def test_accepted_objects_hold_accepted_values_in_their_turn() -> None:
    accepted = {"info": [{"name": ["Jo", "John"], "age": [3, ""]}], "tags": [[{"k": ["v"]}], []]}
    truth = item(("f", accepted), accepted=True)
    assert right(hermes(("f", {"info": {"name": "Jo"}, "tags": [{"k": "v"}]})), truth)
    assert right(hermes(("f", {"info": {"name": "John", "age": 3}, "tags": []})), truth)
    assert not right(hermes(("f", {"info": {"name": "J"}, "tags": []})), truth)
    assert not right(hermes(("f", {"info": {"name": "Jo"}, "tags": [{"k": "w"}]})), truth)


def test_many_calls_that_are_alike_are_compared_at_once() -> None:
    some, other = ("f", {"a": [1, 2]}), ("g", {"a": [1]})
    expected = item(*[some] * 14, other, accepted=True)
    assert right(hermes(*[("f", {"a": 1})] * 14, ("g", {"a": 1})), expected)
    assert not right(hermes(*[("f", {"a": 1})] * 14, ("h", {"a": 1})), expected)


def test_parallel_calls_are_right_in_any_order_once_each() -> None:
    truth = item(("f", {"x": [1, 2]}), ("f", {"x": [1]}), accepted=True)
    assert right(hermes(("f", {"x": 1}), ("f", {"x": 2})), truth)
    assert right(hermes(("f", {"x": 2}), ("f", {"x": 1})), truth)
    assert right(hermes(("f", {"x": 1}), ("f", {"x": 1})), truth)
    assert not right(hermes(("f", {"x": 2}), ("f", {"x": 2})), truth)


@pytest.mark.parametrize(
    ("left", "other", "expected"),
    [
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        (0, None, False),
        ("1", 1, False),
        ([1, 2], [2, 1], False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": None}, {}, False),
        ([{"a": True}], [{"a": 1}], False),
    ],
)
def test_json_values_are_compared_as_json(left: Any, other: Any, expected: bool) -> None:
    assert is_equal(left, other) is expected
    assert is_equal(other, left) is expected


@pytest.fixture(scope="module")
def demo_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo-workspace")
    convert(Checkpoint.open(builtin.demo_folder()), folder, "0" * 64)
    return folder


@pytest.fixture(scope="module")
def demo(demo_workspace: Path) -> LLM:
    return engine(demo_workspace)


def score(llm: LLM, path: Path, limit: int, details: Path | None = None) -> ToolScore:
    asked = Evaluation(tools=path, task_limit=limit)
    found = evaluate(llm, asked, baseline=None, details=details).tools
    assert found is not None
    return found


def test_the_demo_model_calls_tools_of_the_built_in_file(
    demo: LLM, demo_workspace: Path, tmp_path: Path
) -> None:
    path = builtin_data.TOOLS["tools"]
    found = score(demo, path, 24, tmp_path)
    answers = [json.loads(line) for line in (tmp_path / "tools.jsonl").read_text().splitlines()]
    share = sum(answer["is_right"] for answer in answers) / 24
    assert found.accuracy == pytest.approx(share)
    assert found.accuracy > 0.4
    assert found.call_items == sum(bool(one.calls) for one in read_tools(path, 24).items)
    assert found.call_accuracy is not None
    assert found.word_accuracy is not None
    assert found.accuracy * 24 == pytest.approx(
        found.call_accuracy * found.call_items + found.word_accuracy * (24 - found.call_items)
    )
    # A turn is what `chat` writes for the same messages and tools, whatever the batch.
    one = read_tools(path, 1).items[0]
    params = SamplingParams(temperature=0, max_tokens=256)
    alone = demo.chat(one.messages, params, tools=one.tools)
    assert answers[0]["completion"] == alone.text
    again = score(engine(demo_workspace, max_num_seqs=3, max_batch_tokens=50), path, 24)
    assert again == found


def test_berkeley_accuracy_is_what_the_demo_models_own_scoring_finds(
    demo: LLM, test_data: Path
) -> None:
    folder = test_data / "function-calling"

    def complete(prompts: Sequence[str]) -> list[str]:
        ids = [demo.tokenizer.encode(prompt, add_special_tokens=False) for prompt in prompts]
        params = SamplingParams(temperature=0, max_tokens=256)
        return [output.text for output in demo.generate(ids, params)]

    expected = scoring.score_simple_python(complete, folder, 40)
    found = score(demo, folder / "BFCL_v4_simple_python.json", 40)
    assert found.accuracy == pytest.approx(expected.share)
    assert found.format == "berkeley"
    assert found.word_accuracy is None


def test_a_prompt_that_does_not_fit_counts_as_wrong_and_is_said(
    demo_workspace: Path, tmp_path: Path
) -> None:
    long = {"messages": [{"role": "user", "content": "word " * 400}], "tools": [], "calls": []}
    short = {"messages": [{"role": "user", "content": "Hello."}], "tools": [], "calls": []}
    path = tmp_path / "tools.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in (long, short)))
    llm = engine(demo_workspace, context_length=128)
    quality = evaluate(llm, Evaluation(tools=path), baseline=None)
    assert quality.notes == (
        "tools: prompts that do not fit into the context of 128 tokens count as wrong: 1 of 2"
        " items",
    )
    assert quality.tools is not None
    assert quality.tools.accuracy <= 0.5


def test_a_model_without_a_template_for_tools_is_refused_by_name(
    random_workspace: Path, demo_workspace: Path, tmp_path: Path
) -> None:
    asked = Evaluation(tools=builtin_data.TOOLS["tools"])
    with pytest.raises(PlanError) as caught:
        evaluate(
            LLM(settings_for(random_workspace, threads=1), template="chatml"), asked, baseline=None
        )
    assert str(caught.value) == (
        "evaluate.tools: the chat template model.chat_template=chatml has no tools, or writes"
        " calls in no format that is built yet (hermes, lmrun). Use another model or template, or"
        " evaluate.tools=null."
    )
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in demo_workspace.iterdir():
        if file.name != "chat_template.jinja":
            (bare / file.name).symlink_to(file)
    with pytest.raises(PlanError) as caught:
        evaluate(engine(bare), asked, baseline=None)
    assert str(caught.value) == (
        "evaluate.tools: the model in bare has no chat template, so no tools can be offered to it."
        " Set model.chat_template, or evaluate.tools=null."
    )
