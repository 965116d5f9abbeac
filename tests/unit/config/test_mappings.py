"""Keys that hold a mapping: entries set one by one or together, each with its origin."""

from pathlib import Path

import pytest

from lmrun.config import compose, explain, flat
from lmrun.config.located import with_origin
from lmrun.errors import ConfigError
from lmrun.plan.effects import effect

TASKS = "evaluate.tasks"


def _recipe(name: str, text: str) -> None:
    Path("recipes").mkdir(exist_ok=True)
    Path(f"recipes/{name}.yaml").write_text(text)


def test_entries_of_the_command_line_need_no_plus_and_may_have_one() -> None:
    words = ["evaluate.tasks.arc=./arc.jsonl", "+evaluate.tasks.piqa=piqa.jsonl"]
    composed = compose([*words, "evaluate.min_task_accuracy.arc=0.3"])
    assert composed.run.evaluate.tasks == {"arc": "./arc.jsonl", "piqa": "piqa.jsonl"}
    assert composed.run.evaluate.min_task_accuracy == {"arc": 0.3}
    assert str(composed.origins["evaluate.tasks.arc"]) == "command line"


def test_a_recipe_adds_to_the_entries_of_the_one_it_inherits_and_later_wins() -> None:
    _recipe("base", "evaluate:\n  tasks:\n    arc: a.jsonl\n    gsm: g.jsonl\n")
    _recipe("mine", "defaults:\n  - base\n  - _self_\nevaluate:\n  tasks: {arc: b.jsonl}\n")
    composed = compose(["+recipe=mine"])
    assert composed.run.evaluate.tasks == {"arc": "b.jsonl", "gsm": "g.jsonl"}
    assert str(composed.origins["evaluate.tasks.arc"]) == "recipes/mine.yaml:5"
    assert str(composed.origins["evaluate.tasks.gsm"]) == "recipes/base.yaml:4"
    assert [setting.value for setting in composed.chain[TASKS]] == [
        {},
        {"arc": "a.jsonl", "gsm": "g.jsonl"},
        {"arc": "b.jsonl", "gsm": "g.jsonl"},
    ]


def test_a_whole_mapping_on_the_command_line_replaces_what_recipes_say() -> None:
    _recipe("mine", "evaluate:\n  tasks: {arc: a.jsonl}\n")
    composed = compose(["+recipe=mine", "evaluate.tasks={gsm: g.jsonl}"])
    assert composed.run.evaluate.tasks == {"gsm": "g.jsonl"}
    assert "evaluate.tasks.arc" not in composed.origins
    assert compose(["+recipe=mine", "evaluate.tasks={}"]).run.evaluate.tasks == {}


def test_an_entry_that_is_a_reference_resolves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARC_FILE", "/data/arc.jsonl")
    _recipe("mine", "evaluate:\n  tasks:\n    arc: ${oc.env:ARC_FILE}\n")
    composed = compose(["+recipe=mine"])
    assert composed.run.evaluate.tasks == {"arc": "/data/arc.jsonl"}
    assert [item.key for item in composed.interpolations] == ["evaluate.tasks.arc"]


REFUSED = {
    "evaluate.tasks.arc=[a]": (
        'evaluate.tasks.arc=["a"] (command line): expected a value such as ./arc.jsonl, got a list.'
    ),
    "evaluate.tasks=arc.jsonl": (
        "evaluate.tasks=arc.jsonl (command line): expected a mapping of names to texts."
    ),
    "evaluate.min_task_accuracy.arc=1.5": (
        "evaluate.min_task_accuracy.arc=1.5 (command line): expected a number from 0 to 1."
    ),
    "evaluate.min_task_accuracy={arc: -1}": (
        "evaluate.min_task_accuracy.arc=-1 (command line): expected a number from 0 to 1."
    ),
    "evaluate.task.arc=arc.jsonl": (
        "evaluate.task.arc (command line): no such key. Did you mean evaluate.tasks.arc?"
    ),
    "evaluate.tasks._x=a": (
        "evaluate.tasks._x (command line): '_x' is no name of an entry. A name has letters, digits,"
        " _ and -, and begins with a letter or a digit."
    ),
    "bench.concurrency=[1,0]": (
        "bench.concurrency=[1, 0] (command line): expected a list of whole numbers from 1 to 4096."
    ),
    "bench.concurrency=[1.5]": (
        "bench.concurrency=[1.5] (command line): expected a list of whole numbers from 1 to 4096."
    ),
}


@pytest.mark.parametrize("override", REFUSED)
def test_an_entry_is_refused_with_what_is_legal(override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose([override])
    assert str(caught.value) == REFUSED[override]


def test_an_entry_of_a_file_is_refused_with_its_line() -> None:
    _recipe("mine", "evaluate:\n  min_task_accuracy:\n    arc: 0.3\n    gsm: high\n")
    with pytest.raises(ConfigError) as caught:
        compose(["+recipe=mine"])
    assert str(caught.value) == (
        "evaluate.min_task_accuracy.gsm=high (recipes/mine.yaml:4): expected a number from 0 to 1,"
        " got the text 'high'."
    )


def test_a_dotted_name_in_a_file_is_no_entry() -> None:
    _recipe("mine", "evaluate:\n  tasks:\n    arc.easy: a.jsonl\n")
    with pytest.raises(ConfigError, match=r"recipes/mine.yaml:3\): no such key"):
        compose(["+recipe=mine"])


def test_explain_tells_of_the_mapping_and_of_an_entry() -> None:
    _recipe("mine", "evaluate:\n  tasks:\n    arc: a.jsonl\n")
    composed = compose(["+recipe=mine", "evaluate.tasks.arc=b.jsonl"])
    explain.check(["evaluate.tasks.arc"])
    assert explain.text(composed, ["evaluate.tasks.arc"], effect).splitlines() == [
        "evaluate.tasks.arc = b.jsonl",
        "    a.jsonl   recipes/mine.yaml:3",
        "  > b.jsonl   command line",
        "  means    of evaluate.tasks: task files by name: JSONL with choices, or with exact"
        " answers",
        "  legal    a value such as ./arc.jsonl",
        "  changes  evaluate",
    ]
    (row,) = explain.document(composed, [TASKS], effect)["keys"]
    assert row["value"] == {"arc": "b.jsonl"}
    assert [setting["value"] for setting in row["settings"]] == [
        {},
        {"arc": "a.jsonl"},
        {"arc": "b.jsonl"},
    ]


def test_explain_says_which_entries_there_are() -> None:
    composed = compose(["evaluate.tasks.arc=b.jsonl"])
    with pytest.raises(ConfigError) as caught:
        explain.text(composed, ["evaluate.tasks.gsm"], effect)
    assert str(caught.value) == (
        "evaluate.tasks.gsm: nothing sets it. Entries of evaluate.tasks: arc."
    )


def test_a_refusal_of_an_entry_gets_its_origin() -> None:
    composed = compose(["evaluate.tasks.arc=./arc.jsonl"])
    assert with_origin("evaluate.tasks.arc=./arc.jsonl: no such file.", composed) == (
        "evaluate.tasks.arc=./arc.jsonl (command line): no such file."
    )
    assert with_origin("/x/arc.jsonl: line 3: no JSON.", composed) == (
        "/x/arc.jsonl (evaluate.tasks.arc, command line): line 3: no JSON."
    )


def test_the_canonical_form_is_sorted_by_name() -> None:
    run = compose(["evaluate.tasks.b=b", "evaluate.tasks.a=a"]).run
    assert list(flat(run)[TASKS]) == ["a", "b"]
