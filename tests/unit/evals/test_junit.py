"""Gate results as JUnit XML, read back by another's parser."""

from pathlib import Path

import junitparser
import pytest

from lmrun.errors import StageError
from lmrun.evals import junit
from lmrun.plan.gate import Gate

PASSED = Gate("ppl_ratio", "evaluate.max_ppl_ratio", 1.05, True, 1.0312, True)
FAILED = Gate("task.arc", "evaluate.min_task_accuracy.arc", 0.5, False, 0.25, False)
UNDECIDED = Gate("kl", "evaluate.max_kl", 0.1, True, None, None)
FIGURES = {"ppl": 4.7081234, "ppl_ratio": 1.0312, "task.arc": 0.25}


def parsed(text: str, tmp_path: Path) -> junitparser.TestSuite:
    """The one suite of a document, through a file."""
    junit.write(tmp_path / "report.xml", text)
    document = junitparser.JUnitXml.fromfile(str(tmp_path / "report.xml"))
    assert isinstance(document, junitparser.JUnitXml)
    (suite,) = document
    assert (document.tests, document.failures) == (suite.tests, suite.failures)
    return suite


def test_each_bound_is_a_case(tmp_path: Path) -> None:
    text = junit.document("w4", (PASSED, FAILED, UNDECIDED), FIGURES, details="the table")
    suite = parsed(text, tmp_path)
    assert suite.name == "lmrun.w4"
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (4, 1, 0, 1)
    done, passed, failed, undecided = suite
    assert [case.name for case in suite] == [
        "evaluate",
        "evaluate.max_ppl_ratio",
        "evaluate.min_task_accuracy.arc",
        "evaluate.max_kl",
    ]
    assert {case.classname for case in suite} == {"lmrun.w4"}
    assert done.is_passed
    assert done.system_out == "the table"
    assert passed.is_passed
    assert passed.system_out == "perplexity ratio to the baseline: 1.0312, at most 1.05"
    assert failed.is_failure
    (failure,) = failed.result
    assert failure.message == FAILED.text
    assert failure.type == "QualityGate"
    assert undecided.is_skipped
    assert undecided.result[0].message == "KL divergence is not evaluated"
    figures = {entry.name: entry.value for entry in suite.properties()}
    assert figures == {"ppl": "4.7081234", "ppl_ratio": "1.0312", "task.arc": "0.25"}


def test_without_bounds_there_is_one_case(tmp_path: Path) -> None:
    suite = parsed(junit.document("w4", (), {}), tmp_path)
    assert [case.name for case in suite] == ["evaluate"]


def test_the_same_results_give_the_same_bytes() -> None:
    first = junit.document("w4", (PASSED, FAILED), FIGURES, details="t")
    assert first == junit.document("w4", (PASSED, FAILED), dict(FIGURES), details="t")


def test_any_text_can_be_written(tmp_path: Path) -> None:
    name = 'a<b>&"c"\x00\ud800é'
    suite = parsed(junit.document(name, (PASSED,), {name: 1.0}, details=name + "\n"), tmp_path)
    assert suite.name == 'lmrun.a<b>&"c"\ufffd\ufffdé'


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "report.xml"
    with pytest.raises(StageError) as caught:
        junit.write(path, "x")
    assert str(caught.value) == f"{path}: cannot be written: No such file or directory."
