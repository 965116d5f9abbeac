"""`lmrun diff`: overrides, locks and git revisions, and what follows from the difference."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from lmrun import env
from lmrun.artifacts.store import Store
from lmrun.cli import main
from lmrun.config import compose, resolved
from lmrun.errors import ExitStatus
from lmrun.plan import comparison, lock
from lmrun.plan.planner import make_plan

Capture = pytest.CaptureFixture[str]
TINY = "model=random_llama"
MINE = """\
# mine
defaults:
  - override /model: random_llama
  - override /kv: kv8
  - override /quant: awq_w4_g128
"""


def _write(name: str, text: str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _git(*arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=m"]
    result = subprocess.run(
        ["git", *identity, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull},
    )
    return result.stdout


def _commit() -> None:
    _git("add", "-A")
    _git("commit", "-q", "-m", "x")


def _out(capfd: Capture, *argv: str, status: ExitStatus = ExitStatus.OK) -> str:
    assert main.run(["diff", *argv]) is status, capfd.readouterr().err
    return capfd.readouterr().out


def _report(capfd: Capture, *argv: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(_out(capfd, *argv, "--json"))
    jsonschema.Draft202012Validator(comparison.schema()).validate(document)
    return document


def _lock(name: str, *overrides: str) -> None:
    composed = compose(overrides)
    plan = make_plan(composed, Store(env.home()))
    stages = {
        stage.name: lock.LockedStage(1, stage.fingerprint or "", stage.numeric_class, {})
        for stage in plan.stages
    }
    made = lock.Lock(
        recipe=composed.recipe.name if composed.recipe else None,
        overrides=tuple(overrides),
        config=resolved(composed.run),
        interpolations={},
        sources={},
        model=lock.LockedModel("builtin:random-llama", "builtin", {}, None),
        calibration=None,
        stages=stages,
        engine={},
        packages={},
    )
    lock.write(Path(name), made)


def test_settings_stages_memory_and_downtime_of_two_sides(capfd: Capture) -> None:
    _write("recipes/mine.yaml", MINE)
    out = _out(
        capfd, "+recipe=mine", "--", "+recipe=mine", "quant=awq_w4_g64", "frontend.port=8000"
    )
    blocks = out.rstrip().split("\n\n")
    assert blocks[0] == (
        "old     +recipe=mine\nnew     +recipe=mine quant=awq_w4_g64 frontend.port=8000"
    )
    assert [line.split() for line in blocks[1].splitlines()] == [
        ["settings"],
        [
            *("quant.group_size", "128", "→", "64", "lmrun:configs/quant/awq_w4_g128.yaml:4", "→"),
            *("lmrun:configs/quant/awq_w4_g64.yaml:4", "quantize,", "convert,", "evaluate"),
        ],
        [
            *("frontend.port", "23333", "→", "8000", "default", "→", "command", "line"),
            *("launch", "only"),
        ],
    ]
    assert [line.split()[:3] for line in blocks[2].splitlines()[1:]] == [
        ["resolve", "same", "run"],
        ["calibrate", "same", "run"],
        ["quantize", "differs", "run"],
        ["convert", "differs", "run"],
    ]
    assert blocks[3].startswith("memory\n  weights ")
    assert "artifacts to write: about " in blocks[3]
    assert blocks[4].startswith(
        "downtime\n  restart needed: yes (engine and server)\n  from start to ready: not known\n"
        "  both engines fit into memory at once ("
    )
    assert blocks[-1] == "quality\n  not known"


def test_equal_sides_differ_in_nothing_however_they_are_written(capfd: Capture) -> None:
    _write("recipes/mine.yaml", MINE)
    words = ["+recipe=mine", "--", "recipe=mine", "kv.memory_ratio=0.80", "kv.bits=8"]
    assert _out(capfd, *words).endswith("\n\nno difference\n")
    assert _out(capfd, *words, "--exit-code").endswith("no difference\n")
    assert _report(capfd, *words)["differs"] is False


def test_exit_code_is_8_where_something_differs_and_only_when_asked(capfd: Capture) -> None:
    words = ["kv.bits=8", "--", "kv.bits=4"]
    _out(capfd, *words)
    _out(capfd, *words, "--exit-code", status=ExitStatus.DIFFERENCE)
    _out(capfd, "--exit-code", *words, "--json", status=ExitStatus.DIFFERENCE)


def test_a_change_of_the_port_needs_no_engine_and_no_stage(capfd: Capture) -> None:
    (one,) = _report(capfd, "kv.bits=8", "--", "kv.bits=8", "frontend.port=8000")["comparisons"]
    assert one["downtime"]["because"] == ["server"]
    assert all(stage["is_same"] for stage in one["stages"])
    (change,) = one["changes"]
    assert change == {
        "key": "frontend.port",
        "old": 23333,
        "new": 8000,
        "old_origin": "default",
        "new_origin": "command line",
        "changes": "launch only",
    }


def test_a_refused_side_is_named_by_its_recipe_and_shows_no_other_value(capfd: Capture) -> None:
    _write("recipes/mine.yaml", MINE)
    out = _out(capfd, "+recipe=mine", "--", "+recipe=mine", "frontend.api_keys=[abc123]")
    assert "new     +recipe=mine frontend.api_keys=…\n" in out
    assert "abc123" not in out


def test_what_is_never_launched_needs_no_restart(capfd: Capture) -> None:
    (one,) = _report(capfd, "kv.bits=8", "--", "kv.bits=8", "calibration.seed=3")["comparisons"]
    assert one["status"] == "changed"
    assert one["downtime"]["needs_restart"] is False


def test_memory_moves_by_what_the_plans_say(capfd: Capture) -> None:
    (one,) = _report(capfd, "kv.bits=16", "--", "kv.bits=4")["comparisons"]
    store = Store(env.home())
    plans = [make_plan(compose([f"kv.bits={bits}"]), store) for bits in (16, 4)]
    rows = {row["what"]: (row["old"], row["new"]) for row in one["memory"]}
    assert rows["KV cache"] == tuple(plan.budget.kv_bytes for plan in plans)
    assert rows["tokens it holds"] == tuple(plan.budget.num_tokens for plan in plans)
    assert rows["weights"] == tuple(plan.budget.weights_bytes for plan in plans)


def test_speed_at_contexts_that_both_sides_have_shows_what_the_cache_costs(capfd: Capture) -> None:
    out = _out(capfd, TINY, "device=rtx4090", "--", TINY, "device=rtx4090", "kv.bits=8")
    assert "  tokens it holds  9,853,824  →  18,548,416  +8,694,592\n" in out
    speed = out.partition("speed, as estimated\n")[2].splitlines()[:6]
    assert [line.split(" →")[0].rstrip() for line in speed] == [
        "  decode, 1 sequence                    202,380",
        "  decode, 1 sequence at context 2047    109,888",
        "  decode, 32 sequences                  6,476,151",
        "  decode, 32 sequences at context 2047  231,836",
        "  prefill, 256 tokens                   31,497,096",
        "  prefill, 2048 tokens                  18,530,683",
    ]
    assert speed[3].endswith("→  423,035     tokens/s (+82%)")
    shorter = _out(
        capfd, TINY, "device=rtx4090", "--", TINY, "device=rtx4090", "backend.context_length=512"
    )
    assert "at context" not in shorter


def test_sides_of_which_none_can_be_composed_are_no_sides(capfd: Capture) -> None:
    for argv in (["+recipe=nope", "--", "+recipe=nope"], ["kv.bits=5", "--", "kv.bits=7"]):
        assert main.run(["diff", *argv]) is ExitStatus.CONFIG
        out, err = capfd.readouterr()
        assert out == ""
    assert err == "lmrun: kv.bits=7 (command line): expected one of 4, 8, 16 or 32.\n"


def test_sides_that_are_refused_alike_say_so(capfd: Capture) -> None:
    out = _out(capfd, "kv.memory=1B", "--", "kv.memory=1B")
    assert "\nno difference\nrefused, both sides: kv.memory=1 B (command line): one seq" in out
    out = _out(capfd, "kv.memory=1B", "--", "kv.memory=1B", "--markdown")
    assert "\n\nNo difference.\n\nRefused, both sides: kv.memory=1 B (command line): one" in out


def test_a_side_that_is_refused_is_a_finding(capfd: Capture) -> None:
    out = _out(capfd, "kv.bits=8", "--", "kv.memory=1B")
    assert "refused\n  new: kv.memory=1 B (command line): one sequence of 2048 tokens" in out
    (one,) = _report(capfd, "kv.bits=8", "--", "kv.bits=5")["comparisons"]
    assert one["new_refusal"] == ("kv.bits=5 (command line): expected one of 4, 8, 16 or 32.")
    assert one["status"] == "changed"
    assert one["downtime"] is None


def test_markdown_is_a_table_with_nothing_that_breaks_it(capfd: Capture) -> None:
    out = _out(capfd, "kv.bits=8", "--", "model.served_name='a|b'", "--markdown")
    assert out.startswith("### lmrun diff: changed\n\nold `kv.bits=8`, new `")
    lines = out.splitlines()
    start = lines.index("| key | old |  | new | set by | changes |")
    assert lines[start + 1] == "| --- | --- | --- | --- | --- | --- |"
    assert (
        "| model.served\\_name | null | → | a\\|b | default → command line | launch only |" in out
    )
    assert "**downtime**\n\n- restart needed: yes (engine and server)" in out


def test_one_side_is_compared_with_its_lock(capfd: Capture) -> None:
    _write("recipes/mine.yaml", MINE)
    _lock("locks/mine.lock.yaml", "+recipe=mine")
    assert _out(capfd, "+recipe=mine").endswith("no difference\n")
    _write("recipes/mine.yaml", MINE + "kv:\n  bits: 4\n")
    (one,) = _report(capfd, "+recipe=mine")["comparisons"]
    assert one["old"] == "locks/mine.lock.yaml"
    (change,) = one["changes"]
    assert (change["old_origin"], change["new_origin"]) == (
        "locks/mine.lock.yaml",
        "recipes/mine.yaml:7",
    )


def test_a_lock_alone_is_compared_with_its_own_overrides(capfd: Capture) -> None:
    _lock("a.lock.yaml", TINY, "quant=rtn", "kv.bits=8")
    assert _out(capfd, "a.lock.yaml").endswith("no difference\n")


def test_locked_fingerprints_count_and_not_those_of_today(capfd: Capture) -> None:
    _lock("a.lock.yaml", TINY, "quant=rtn")
    text = Path("a.lock.yaml").read_text()
    fingerprint = make_plan(compose([TINY, "quant=rtn"]), Store(env.home())).stages[-1].fingerprint
    assert fingerprint is not None
    Path("a.lock.yaml").write_text(text.replace(fingerprint, "f" * 64))
    (one,) = _report(capfd, "a.lock.yaml", "--", TINY, "quant=rtn")["comparisons"]
    assert one["changes"] == []
    assert [stage["stage"] for stage in one["stages"] if not stage["is_same"]] == ["convert"]
    assert one["downtime"]["because"] == ["engine"]


def test_a_revision_has_its_own_recipes_and_options(capfd: Capture) -> None:
    _git("init", "-q")
    _write("configs/kv/team.yaml", "bits: 8\n")
    recipe = "# mine\ndefaults:\n  - override /kv: team\n"
    _write("recipes/mine.yaml", recipe)
    _commit()
    _write("configs/kv/team.yaml", "# Smaller.\nbits: 4\n")
    status = _git("status", "--porcelain")
    out = _out(capfd, "git:HEAD", "+recipe=mine", "--", "+recipe=mine")
    assert "old     git:HEAD +recipe=mine\nnew     +recipe=mine\n" in out
    assert (
        "kv.bits  8  →  4  HEAD:configs/kv/team.yaml:1 → configs/kv/team.yaml:2  launch, evaluate"
        in out
    )
    assert _git("status", "--porcelain") == status
    (one,) = _report(capfd, "+recipe=mine", "--", "git:HEAD", "+recipe=mine")["comparisons"]
    assert [(change["old"], change["new"]) for change in one["changes"]] == [(4, 8)]


def test_a_subfolder_of_a_repository_is_a_place_to_stand(
    capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    _git("init", "-q")
    _write("deploy/recipes/mine.yaml", "kv:\n  bits: 8\n")
    _commit()
    monkeypatch.chdir("deploy")
    _write("recipes/mine.yaml", "kv:\n  bits: 4\n")
    (one,) = _report(capfd, "git:HEAD", "+recipe=mine", "--", "+recipe=mine")["comparisons"]
    (change,) = one["changes"]
    assert change["old_origin"] == "HEAD:deploy/recipes/mine.yaml:2"
    assert change["new_origin"] == "recipes/mine.yaml:2"


def test_since_finds_every_recipe_that_a_change_touches(capfd: Capture) -> None:
    _git("init", "-q")
    _write("configs/kv/team.yaml", "bits: 8\n")
    _write("recipes/base.yaml", "# base\nbackend:\n  threads: 1\n")
    _write("recipes/heir.yaml", "# heir\ndefaults:\n  - base\n")
    _write("recipes/shared.yaml", "# shared\ndefaults:\n  - override /kv: team\n")
    _write("recipes/still.yaml", "# still\nkv:\n  bits: 8\n")
    _write("recipes/gone.yaml", "# gone\n")
    _write("recipes/said.yaml", "# said\n")
    _commit()
    _write("configs/kv/team.yaml", "bits: 4\n")
    _write("recipes/base.yaml", "# base\nbackend:\n  threads: 2\n")
    _write("recipes/said.yaml", "# said otherwise\n")
    _write("recipes/new.yaml", "# new\nkv:\n  bits: 8\n")
    Path("recipes/gone.yaml").unlink()
    document = _report(capfd, "--since", "HEAD")
    assert document["since"] == "HEAD"
    found = {one["recipe"]: one for one in document["comparisons"]}
    assert {name: one["status"] for name, one in found.items()} == {
        "base": "changed",
        "gone": "removed",
        "heir": "changed",
        "new": "added",
        "said": "same",
        "shared": "changed",
    }
    (change,) = found["heir"]["changes"]
    assert (change["key"], change["old"], change["new"]) == ("backend.threads", 1, 2)
    assert change["old_origin"] == "HEAD:recipes/base.yaml:3"
    out = _out(capfd, "--since", "HEAD")
    assert "since HEAD\n  base    changed  1 setting; the same stages would run; restart\n" in out
    assert "  said    same     touched, and nothing differs\n" in out
    assert "recipe  heir (changed)" in out
    assert "still" not in out
    markdown = _out(capfd, "--since", "HEAD", "--markdown")
    assert markdown.startswith("## Recipes touched since `HEAD`\n\n| recipe |  | consequences |\n")
    _out(capfd, "--since", "HEAD", "--exit-code", status=ExitStatus.DIFFERENCE)


def test_since_says_when_nothing_is_touched(capfd: Capture) -> None:
    _git("init", "-q")
    _write("recipes/mine.yaml", MINE)
    _commit()
    out = _out(capfd, "--since", "HEAD", "--exit-code")
    assert out == "no recipe is touched by what changed since HEAD\n"


def test_a_recipe_that_breaks_is_a_finding_of_since(capfd: Capture) -> None:
    _git("init", "-q")
    _write("recipes/mine.yaml", MINE)
    _commit()
    _write("recipes/mine.yaml", "kv:\n  bits: 5\n")
    out = _out(capfd, "--since", "HEAD")
    assert "refused: kv.bits=5 (recipes/mine.yaml:2): expected one of 4, 8, 16 or 32." in out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "diff: expected a side, such as +recipe=NAME, or two with -- between them, got none."),
        (["kv.bits=8"], "diff: expected a recipe, after which the lock file is named, got none."),
        (["a=1", "--", "b=1", "--", "c=1"], "diff: expected one -- between two sides, got 2."),
        (["--json", "--markdown"], "--json, --markdown: expected one of them, got both."),
        (["git:", "--", "kv.bits=8"], "git: expected a revision, got nothing."),
        (["git:HEAD", "--", "kv.bits=8"], "git: expected a repository, got none at "),
        (["kv.bits=8", "git:HEAD", "--"], "git:HEAD: expected as the first word of a side."),
        (["a.lock.yaml", "b.lock.yaml"], "a.lock.yaml: a lock file is a side alone."),
        (["none.lock.yaml"], "none.lock.yaml: no such lock file."),
        (["--since", "HEAD", "--", "x"], "--since: compares each recipe with itself;"),
        (["--since", "HEAD", "+recipe=x"], "--since: looks at every recipe. Leave recipe= out."),
    ],
)
def test_what_is_no_side_is_refused(argv: list[str], message: str, capfd: Capture) -> None:
    assert main.run(["diff", *argv]) is ExitStatus.USAGE
    assert capfd.readouterr().err.startswith(f"lmrun: {message}")


def test_an_unknown_revision_is_refused(capfd: Capture) -> None:
    _git("init", "-q")
    _commit_nothing()
    assert main.run(["diff", "git:--upload-pack=x", "--", "kv.bits=8"]) is ExitStatus.USAGE
    assert main.run(["diff", "git:nowhere", "--", "kv.bits=8"]) is ExitStatus.USAGE
    assert capfd.readouterr().err.splitlines()[-1] == (
        f"lmrun: git:nowhere: no such revision in {Path.cwd()}. A shallow clone has few of them:"
        " `git fetch --unshallow` brings all."
    )


def _commit_nothing() -> None:
    _git("commit", "-q", "--allow-empty", "-m", "x")


def test_diff_writes_nothing(capfd: Capture) -> None:
    _out(capfd, "kv.bits=8", "--", "kv.bits=4")
    assert list(Path.cwd().iterdir()) == []
    assert list(env.home().iterdir()) == []
