"""Quality in a lock: figures and gate results, and what `verify` makes of them."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from lmrun.cli import main
from lmrun.cli import verify as verb
from lmrun.errors import ExitStatus
from lmrun.plan import lock as locks
from unit.cli.sites import Site, build_all, copy, enter

EVALUATE = """\
evaluate:
  data: held_out.txt
  tasks:
    own: own.jsonl
  window: 32
  max_tokens: 310
  kl_tokens: 62
  max_ppl_ratio: 50
"""
TEXT = "The teacher counted the stones while a quiet boat crossed the river.\n" * 40
Say = Callable[..., tuple[ExitStatus, str]]
FILE = "locks/tiny.lock.yaml"


@pytest.fixture(scope="module")
def locked(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose recipe evaluates, and its lock."""
    folder = copy(built, tmp_path_factory.mktemp("locked") / "site")
    with pytest.MonkeyPatch.context() as patch:
        site = enter(folder, patch)
        (folder / "held_out.txt").write_text(TEXT)
        item = {"prompt": "A boat crossed the", "choices": ["river", "stone"], "answer": 0}
        (folder / "own.jsonl").write_text(json.dumps(item) + "\n")
        site.recipe.write_text(site.recipe.read_text() + EVALUATE)
        build_all(site)
        assert main.run(["lock", "recipe=tiny"]) is ExitStatus.OK
    return folder


@pytest.fixture
def site(locked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A copy of it, to spoil."""
    return enter(copy(locked, tmp_path / "site"), monkeypatch)


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    def run(*argv: str) -> tuple[ExitStatus, str]:
        capsys.readouterr()
        status = verb.run(list(argv))
        return status, capsys.readouterr().out

    return run


def _move(site: Site, figure: str, factor: float) -> tuple[float, float]:
    """Multiply a figure of the lock; the old value and the new."""
    text = site.lock.read_text()
    found = re.search(rf"^    {figure}: (.*)$", text, re.MULTILINE)
    assert found is not None
    old = float(found[1])
    site.edit_lock(found[0], f"    {figure}: {old * factor!r}")
    return old, old * factor


def test_a_lock_holds_figures_gate_results_and_what_was_evaluated(site: Site) -> None:
    lock = locks.read(site.lock)
    assert set(lock.figures) == {"ppl", "ppl_ratio", "kl", "top1", "task.own"}
    assert lock.quality["gates"] == {"evaluate.max_ppl_ratio": "passed"}
    assert set(lock.evaluation) == {"evaluation_text", "tasks.own", "template"}
    assert {"baseline", "evaluate"} <= set(lock.stages)
    assert set(lock.stages["evaluate"].files) == {"report.json", "tasks.own.jsonl"}
    assert yaml.safe_load(site.lock.read_text())["schema_version"] == 1


def test_it_holds_and_a_second_lock_leaves_it(
    site: Site, say: Say, capsys: pytest.CaptureFixture[str]
) -> None:
    status, text = say("recipe=tiny")
    assert status is ExitStatus.OK, text
    assert ", 5 figures of quality; " in text
    assert main.run(["lock", "recipe=tiny"]) is ExitStatus.OK
    assert "unchanged" in capsys.readouterr().out


def test_a_figure_that_moved_beyond_the_tolerance_is_named(site: Site, say: Say) -> None:
    was, moved = _move(site, "ppl", 1.006)
    status, text = say("recipe=tiny")
    assert status is ExitStatus.DRIFT
    assert text == (
        f"{FILE}: 1 thing drifted\n"
        "  quality: find what moved the figure beyond evaluate.tolerance, or lock again\n"
        f"    ppl: {moved:.6g} → {was:.6g}\n"
    )


def test_a_figure_within_the_tolerance_holds(site: Site, say: Say) -> None:
    _move(site, "ppl", 1.004)
    assert say("recipe=tiny")[0] is ExitStatus.OK


def test_another_text_to_evaluate_is_drift_by_name(site: Site, say: Say) -> None:
    (site.folder / "held_out.txt").write_text(TEXT.replace("river", "stream"))
    status, text = say("recipe=tiny")
    assert status is ExitStatus.DRIFT
    assert "  evaluation data: bring the locked files back, or lock again\n" in text
    assert "    evaluation_text: " in text


def test_another_numeric_class_of_equal_quality_is_a_note(site: Site, say: Say) -> None:
    site.edit_lock("cpu: ", "cpu: other_")
    status, text = say("recipe=tiny")
    assert status is ExitStatus.OK, text
    assert "note: another numeric class, of equal quality: cpu: other_" in text


def test_another_numeric_class_of_other_quality_is_drift(site: Site, say: Say) -> None:
    site.edit_lock("cpu: ", "cpu: other_")
    _move(site, "kl", 1.5)
    status, text = say("recipe=tiny")
    assert status is ExitStatus.DRIFT
    assert "  quality: " in text
    assert "  numeric class: " in text


def test_a_gate_that_fails_is_not_locked(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    before = site.lock.read_text()
    assert main.run(["lock", "recipe=tiny", "evaluate.max_ppl=1"]) is ExitStatus.GATE_FAILED
    assert "evaluate.max_ppl=1 (command line): expected a perplexity of at most 1, got " in (
        capfd.readouterr().err
    )
    assert site.lock.read_text() == before


def test_locked_builds_what_the_lock_says(site: Site) -> None:
    assert main.run(["build", "--locked", "recipe=tiny"]) is ExitStatus.OK
    (site.folder / "own.jsonl").write_text("{}\n")
    assert main.run(["build", "--locked", "recipe=tiny"]) is ExitStatus.DRIFT
