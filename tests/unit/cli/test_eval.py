"""`lmrun eval`, and the quality gate of `build`: figures, bounds, statuses, JUnit."""

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest

from lmrun import events
from lmrun.cli import eval as verb
from lmrun.cli import main
from lmrun.config import compose
from lmrun.errors import ConfigError, ExitStatus
from lmrun.plan import gate

TINY = ("model=random_llama", "quant.method=rtn", "quant.group_size=32")
TEXT = "A small boat crossed the quiet river while the teacher counted stones.\n" * 40
SMALL = ("evaluate.window=32", "evaluate.max_tokens=310", "evaluate.kl_tokens=62")
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def home(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of this file, where the weights are quantized already."""
    folder = tmp_path_factory.mktemp("evaluated")
    shutil.copytree(built_home, folder, dirs_exist_ok=True)
    return folder


@pytest.fixture
def words(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Overrides that evaluate a short text and a task."""
    monkeypatch.setenv("LMRUN_HOME", str(home))
    (tmp_path / "held_out.txt").write_text(TEXT)
    item = {"prompt": "A boat crossed the", "choices": ["river", "stone"], "answer": 0}
    (tmp_path / "own.jsonl").write_text(json.dumps(item) + "\n")
    files = (
        f"evaluate.data={tmp_path / 'held_out.txt'}",
        f"evaluate.tasks.own={tmp_path / 'own.jsonl'}",
    )
    return (*TINY, *SMALL, *files)


def test_figures_stand_beside_their_bounds(words: tuple[str, ...], capfd: Capture) -> None:
    assert main.run(["eval", *words, "evaluate.max_ppl_ratio=50"]) is ExitStatus.OK
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "random-llama"
    rows = {line.split()[0]: line for line in lines[1:]}
    assert {"ppl", "ppl_ratio", "kl", "top1", "task.own"} <= set(rows)
    assert rows["ppl_ratio"].endswith("at most 50: passed")
    assert rows["text:"] == (
        "  text: held_out.txt, 310 tokens predicted in windows of 32 with BOS; KL and top-1 on 62"
    )


def test_the_json_form_holds_to_its_schema(words: tuple[str, ...], capfd: Capture) -> None:
    argv = ["eval", "--json", *words, "evaluate.min_task_accuracy.own=0"]
    assert main.run(argv) is ExitStatus.OK
    document = json.loads(capfd.readouterr().out)
    jsonschema.Draft202012Validator(verb.SCHEMA).validate(document)
    assert document["passed"] is True
    assert document["figures"] == gate.figures(document["quality"])
    assert [one["key"] for one in document["gates"]] == ["evaluate.min_task_accuracy.own"]
    assert json.loads(Path(document["report"]).read_text()) == document["quality"]


@pytest.mark.parametrize("name", ["eval", "build"])
def test_a_bound_that_is_not_kept_ends_with_status_6_and_keeps_the_report(
    name: str, words: tuple[str, ...], tmp_path: Path, capfd: Capture
) -> None:
    passing = [*words, "kv.bits=8"]
    assert main.run(["eval", *passing]) is ExitStatus.OK
    kl = _figure(capfd, passing, "kl")
    results, log = tmp_path / "gate.xml", tmp_path / "events"
    bound = f"evaluate.max_kl={kl * 1.01:.3g}"
    argv = [name, *words, "kv.bits=4", bound, "--junit", str(results), "--events", str(log)]
    capfd.readouterr()
    assert main.run(argv) is ExitStatus.GATE_FAILED
    message = capfd.readouterr().err.partition("lmrun: ")[2].splitlines()
    assert message[0].startswith(f"{bound} (command line): expected a KL divergence of at most ")
    assert message[1] == "Nearest setting that passed: kv.bits=8."
    report = Path(message[2].removeprefix("The report is ").removesuffix("."))
    assert json.loads(report.read_text())["kl"] > kl
    suite = ElementTree.parse(results).getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    validator = jsonschema.Draft202012Validator(events.schema())
    for line in lines:
        validator.validate(line)
    (evaluated,) = [line for line in lines if line["event"] == "evaluated"]
    assert [(one["figure"], one["passed"]) for one in evaluated["gates"]] == [("kl", False)]
    assert lines[-1]["status"] == ExitStatus.GATE_FAILED


def _figure(capfd: Capture, words: list[str], name: str) -> float:
    capfd.readouterr()
    assert main.run(["eval", *words, "--json"]) is ExitStatus.OK
    value: float = json.loads(capfd.readouterr().out)["figures"][name]
    return value


def test_a_bound_without_its_figure_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    monkeypatch.setenv("LMRUN_HOME", str(tmp_path / "home"))
    argv = ["build", "model=random_llama", "evaluate.max_ppl_ratio=1.02"]
    assert main.run(argv) is ExitStatus.CONFIG
    assert capfd.readouterr() == (
        "",
        "lmrun: evaluate.max_ppl_ratio=1.02 (command line): no text is evaluated. Write"
        " evaluate.data=FILE, or evaluate=quick.\n",
    )
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("name", ["build", "up"])
def test_junit_without_anything_to_judge_is_refused(name: str, capfd: Capture) -> None:
    assert main.run([name, "model=random_llama", "--junit", "gate.xml"]) is ExitStatus.USAGE
    assert capfd.readouterr().err == (
        "lmrun: --junit: holds what the quality gate found, and nothing is evaluated here. Choose"
        " evaluate=quick, and a bound such as evaluate.max_ppl_ratio=1.05.\n"
    )


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("-", "--junit -: expected a file; stdout has other data."),
        ("no/gate.xml", "--junit no/gate.xml: no is no folder. Make it, or name another."),
        ("..", "--junit ..: is a folder. Name a file."),
    ],
)
@pytest.mark.parametrize("name", ["eval", "build", "up"])
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_built(
    name: str, file: str, message: str, tmp_path: Path, capfd: Capture
) -> None:
    argv = [name, "model=random_llama", "evaluate=quick", "evaluate.tools=null", "--junit", file]
    assert main.run(argv) is ExitStatus.USAGE
    assert capfd.readouterr() == ("", f"lmrun: {message}\n")
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("name", ["eval", "build", "up"])
def test_results_that_cannot_be_written_are_refused_before_anything_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    monkeypatch.setenv("LMRUN_HOME", str(tmp_path / "home"))
    argv = [name, "model=random_llama", "evaluate=quick", "--junit", "no/gate.xml"]
    assert main.run(argv) is ExitStatus.USAGE
    assert capfd.readouterr().err == (
        "lmrun: --junit no/gate.xml: no is no folder. Make it, or name another.\n"
    )
    assert not (tmp_path / "home").exists()


def test_a_recipe_that_asks_for_nothing_gets_a_quick_look() -> None:
    words = ["model=random_llama"]
    asked = verb._asking(compose(words), words).run.evaluate
    assert (asked.data, asked.max_tokens) == ("builtin:stories", 8192)


def test_asking_for_nothing_in_so_many_words_is_refused() -> None:
    words = ["model=random_llama", "evaluate=none"]
    with pytest.raises(ConfigError) as caught:
        verb._asking(compose(words), words)
    assert str(caught.value) == (
        "evaluate: nothing is asked for. Choose evaluate=quick or evaluate=full, or set"
        " evaluate.data, evaluate.tasks.NAME or evaluate.tools."
    )


def test_plan_shows_what_was_evaluated_and_tells_it_as_an_event(
    words: tuple[str, ...], tmp_path: Path, capfd: Capture
) -> None:
    argv = [*words, "kv.bits=8"]
    assert main.run(["eval", *argv]) is ExitStatus.OK
    capfd.readouterr()
    log = tmp_path / "events"
    argv += ["evaluate.max_ppl=1", "--json", "--events", str(log)]
    assert main.run(["plan", *argv]) is ExitStatus.OK
    document = json.loads(capfd.readouterr().out)
    happened = {line["event"]: line for line in map(json.loads, log.read_text().splitlines())}
    assert happened["evaluated"]["gates"][0]["passed"] is False
    assert document["quality"]["perplexity"] > 1
    assert [one["passed"] for one in document["gates"]] == [False]


def test_diff_shows_the_quality_of_both_sides(words: tuple[str, ...], capfd: Capture) -> None:
    for bits in ("8", "4"):
        assert main.run(["eval", *words, f"kv.bits={bits}"]) is ExitStatus.OK
    capfd.readouterr()
    sides = [*words, "kv.bits=8", "--", *words, "kv.bits=4"]
    assert main.run(["diff", *sides, "--json"]) is ExitStatus.OK
    (one,) = json.loads(capfd.readouterr().out)["comparisons"]
    figures = {figure["what"]: figure for figure in one["quality"]}
    assert figures["kl"]["old"] < figures["kl"]["new"]
    assert {"ppl", "ppl_ratio", "kl", "top1", "task.own"} <= set(figures)
