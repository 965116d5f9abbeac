import json
import subprocess
import sys
from pathlib import Path

import pytest

from lmrun.cli import build, up
from lmrun.cli import plan as verb
from lmrun.errors import ConfigError, ExitStatus, PlanError, UsageError
from lmrun.plan.plan import Plan

PROBE = """
import sys, time
from lmrun.cli.plan import run
run(["model=random_llama", "quant=awq_w4_g128"])
heavy = [name for name in ("torch", "transformers", "gradio", "ray") if name in sys.modules]
print(time.process_time(), heavy, file=sys.stderr)
"""


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A home that is not there and an empty working folder."""
    home, work = tmp_path / "home", tmp_path / "work"
    work.mkdir()
    monkeypatch.setenv("LMRUN_HOME", str(home))
    monkeypatch.chdir(work)
    return home, work


def test_a_plan_writes_nothing(
    places: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    home, work = places
    assert verb.run(["model=random_llama", "quant=awq_w4_g128", "kv.bits=4"]) is ExitStatus.OK
    out, err = capsys.readouterr()
    assert out.startswith("model     random-llama: built-in model builtin:random-llama\n")
    assert err == ""
    assert not home.exists()
    assert list(work.iterdir()) == []


def test_json_is_one_document_that_reads_back(
    places: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert verb.run(["model=random_llama", "--json", "kv.bits=8"]) is ExitStatus.OK
    document = json.loads(capsys.readouterr().out)
    plan = Plan.from_json(document)
    assert plan.engine.kv_bits == 8
    assert [stage.name for stage in plan.stages] == ["resolve", "convert"]


def test_what_is_not_built_yet_is_priced_and_refused_to_run(
    places: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ["model=random_llama", "parallel.tp=2", "backend.name=vllm"]
    assert verb.run(overrides) is ExitStatus.OK
    assert capsys.readouterr().out.endswith(
        """
refused to run
  backend.name=vllm (command line): not built yet; native is.
  parallel.tp=2 (command line): not built yet; 1 is.
"""
    )
    for run in (build.run, up.run):
        with pytest.raises(PlanError) as caught:
            run(overrides)
        assert str(caught.value).startswith("backend.name=vllm (command line): not built yet;")
    assert not places[0].exists()


def test_a_chat_template_that_is_not_there_is_refused(places: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigError) as caught:
        verb.run(["model.path=builtin:random-llama", "model.chat_template=chatm"])
    assert str(caught.value) == (
        "model.chat_template=chatm (command line): no such file, and no such name. Use auto, a"
        " Jinja file, or one of chatml, llama2, llama3, zephyr."
    )
    assert verb.run(["model.chat_template=chatml"]) is ExitStatus.OK


def test_an_unknown_flag_is_refused(places: tuple[Path, Path]) -> None:
    with pytest.raises(UsageError) as caught:
        verb.run(["--jsn"])
    assert str(caught.value) == "--jsn: no such flag. Did you mean --json?"


def test_a_plan_takes_a_moment_and_no_framework(places: tuple[Path, Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(Path(verb.__file__).parents[2]), "LMRUN_HOME": str(places[0])},
    )
    seconds, _, heavy = done.stderr.strip().rpartition("\n")[2].partition(" ")
    assert heavy == "[]"
    assert float(seconds) < 1.0  # 0.5 on a quiet core
