"""Ways in which tools built on Hydra went wrong, each tried here. Sweeps: tests/unit/sweep."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import lmrun
from lmrun.artifacts.store import Store
from lmrun.cli import main
from lmrun.config import compose, resolved
from lmrun.errors import ExitStatus
from lmrun.plan.planner import make_plan

CANARY = "hf_canary9f31c07e"


@pytest.mark.parametrize("verb", ["plan", "explain", "diff"])
def test_a_sweep_without_its_flag_is_no_single_run(
    verb: str, capfd: pytest.CaptureFixture[str]
) -> None:
    words = {"plan": ["plan"], "explain": ["explain", "kv"], "diff": ["diff", "kv.bits=8", "--"]}
    main.run([*words[verb], "+recipe=glob(*)", "kv.bits=4,8"])
    assert "several values are a sweep. Add -m to run it." in "".join(capfd.readouterr())


def test_a_comment_above_a_package_line_moves_nothing() -> None:
    Path("recipes").mkdir()
    Path("recipes/mine.yaml").write_text("# a licence\n# more\n# @package kv\nkv:\n  bits: 8\n")
    assert compose(["+recipe=mine"]).run.kv.bits == 8


def test_the_package_has_no_folder_outside_itself() -> None:
    package = Path(lmrun.__file__).resolve().parent
    for entry in map(Path, lmrun.__path__):
        found = entry.resolve()
        assert found == package or found.name == "lmrun", found
        assert not (found / "tests").exists()
    assert lmrun.__spec__ is not None
    for name in ("tests", "configs", "recipes", "csrc"):
        with pytest.raises(ImportError):
            __import__(f"lmrun.{name}")


def test_plan_writes_nothing() -> None:
    main.run(["plan", "+recipe=w4a16_kv4_server"])
    assert list(Path.cwd().iterdir()) == []
    assert list(Path(os.environ["LMRUN_HOME"]).iterdir()) == []


SAME: list[tuple[str, str]] = [
    ("kv:\n  memory_ratio: 0.30000000000000004\n", "kv:\n  memory_ratio: 0.3\n"),
    ("frontend:\n  drain_s: 30\n", "frontend:\n  drain_s: 30.0\n"),
    ("quant:\n  bits: 4\n  method: rtn\n", "quant:\n  method: rtn\n  bits: 4\n"),
    ("backend:\n  threads: ~\n", "backend:\n  threads: null\n"),
    ("backend:\n  threads:\n", "# no key at all\n"),
    (
        "quant: {method: rtn, skip: [layers.1.mlp.down_proj, layers.0.mlp.down_proj]}\n",
        "quant: {method: rtn, skip: [layers.0.mlp.down_proj, layers.1.mlp.down_proj]}\n",
    ),
]


@pytest.mark.parametrize("texts", SAME)
def test_what_means_the_same_has_one_form_and_one_fingerprint(
    texts: tuple[str, str], tmp_path: Path
) -> None:
    Path("recipes").mkdir()
    forms: list[Any] = []
    for text in texts:
        Path("recipes/mine.yaml").write_text(text)
        composed = compose(["+recipe=mine"])
        plan = make_plan(composed, Store(tmp_path))
        forms.append((resolved(composed.run), [stage.fingerprint for stage in plan.stages]))
    assert forms[0] == forms[1]


def test_the_resolved_form_is_sorted_plain_data() -> None:
    document = resolved(compose(["+recipe=w4a16_kv4_server"]).run)
    assert list(document) == sorted(document)
    assert all(list(leaves) == sorted(leaves) for leaves in document.values())
    assert yaml.safe_load(yaml.safe_dump(document)) == document


REFERENCES = [
    "frontend.api_keys=['${oc.env:LMRUN_TEST_SECRET}']",
    "model.hub_token='${oc.env:LMRUN_TEST_SECRET}' model.hub_id=org/name",
]
LITERALS = [
    f"frontend.api_keys=[{CANARY}]",
    f"model.hub_token={CANARY} model.hub_id=org/name",
    f"model.hub_token='${{oc.env:NOPE,{CANARY}}}'",
    f"+model.hub_token={CANARY}",
    f"model={{hub_token: {CANARY}}}",
    f"kv.bits={CANARY},{CANARY}",
]
MISPLACED = [
    "frontend.port=${oc.env:LMRUN_TEST_SECRET}",
    "kv.bits=${oc.env:LMRUN_TEST_SECRET}",
    "kv.memory=${oc.env:LMRUN_TEST_SECRET}",
    "quant.method=${oc.env:LMRUN_TEST_SECRET}",
    "frontend.drain_s=${oc.decode:${oc.env:LMRUN_TEST_SECRET}}",
]
VERBS: dict[str, list[str]] = {
    "plan": ["plan"],
    "plan json": ["plan", "--json"],
    "cfg": ["plan", "--cfg", "job"],
    "explain": ["explain", "--all"],
    "explain json": ["explain", "--all", "--json"],
    "diff": ["diff", "kv.bits=8", "--"],
    "diff json": ["diff", "--json", "kv.bits=8", "--"],
    "diff markdown": ["diff", "--markdown", "kv.bits=8", "--"],
    "lock": ["lock", "--no-build", "--output", "x.lock.yaml"],
    "events": ["plan", "--events", "events.ndjson", "-v"],
    "json log": ["plan", "--log-format", "json", "-v"],
}
FEW = ("plan", "explain", "diff", "diff json", "lock", "events")


@pytest.mark.parametrize(
    ("words", "verb"),
    [
        *((words, verb) for words in REFERENCES for verb in VERBS),
        *((words, verb) for words in (*LITERALS, *MISPLACED) for verb in FEW),
    ],
)
def test_a_secret_given_in_any_way_stands_in_no_output_and_no_file(
    words: str, verb: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LMRUN_TEST_SECRET", CANARY)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    main.run([*VERBS[verb], *_split(words)])
    out, err = capfd.readouterr()
    assert out + err
    assert CANARY not in out + err
    for folder in (Path.cwd(), Path(os.environ["LMRUN_HOME"])):
        for file in folder.rglob("*"):
            assert not file.is_file() or CANARY.encode() not in file.read_bytes(), file


def _split(words: str) -> list[str]:
    return [words] if "{hub" in words else words.split(" ")


def test_no_revision_is_an_option_of_git() -> None:
    subprocess.run(["git", "init", "-q"], check=True)
    assert main.run(["diff", "git:--output=x", "--", "kv.bits=8"]) is ExitStatus.USAGE
    assert not Path("x").exists()
