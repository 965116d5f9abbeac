"""`lmrun lock`, and `--locked` on `build` and `up`."""

import shutil
from pathlib import Path

import pytest

from lmrun.artifacts.removal import sweep
from lmrun.artifacts.uses import lock_files
from lmrun.cli import build as build_verb
from lmrun.cli import lock as verb
from lmrun.cli import up as up_verb
from lmrun.deploy.building import Builder
from lmrun.errors import ConfigError, DriftError, ExitStatus, PlanError, UsageError
from lmrun.plan import lock as locks
from lmrun.plan.plan import Action, Plan
from lmrun.stages import resolve
from unit.cli.sites import STAGES, Site, copy, enter, flip, lay_out

FILE = "locks/tiny.lock.yaml"
WHAT = "(4 model files, 3 artifacts)"
CONFIG = "  config: undo the change, or lock again\n"


@pytest.fixture
def site(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A copy of it, to spoil."""
    copied = enter(copy(built, tmp_path / "site"), monkeypatch)
    resolve.hash_inputs(copied.store.home, copied.plan().unhashed)
    return copied


def _run(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    capsys.readouterr()
    assert verb.run(list(argv)) is ExitStatus.OK
    return capsys.readouterr().out


def test_a_lock_pins_what_there_is(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(capsys, "recipe=tiny") == f"{FILE}: written {WHAT}\n"
    lock = locks.read(site.lock)
    assert lock.recipe == "tiny"
    assert lock.overrides == ("recipe=tiny",)
    assert lock.config["kv"]["bits"] == 8
    assert lock.model.name == "tiny"
    assert sorted(lock.model.files) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert lock.calibration is not None
    assert lock.calibration.data == "text.txt"
    assert sorted(lock.stages) == sorted(["resolve", *STAGES])
    plan = site.plan()
    for stage in plan.stages:
        locked = lock.stages[stage.name]
        assert (locked.fingerprint, locked.numeric_class) == (
            stage.fingerprint,
            stage.numeric_class,
        )
        artifact = site.store.find(stage.name, locked.fingerprint)
        files = artifact.manifest.files if artifact else {}
        assert dict(locked.files) == {name: record.sha256 for name, record in files.items()}
    assert sorted(lock.packages) == [
        "hydra-core",
        "lmrun",
        "numpy",
        "omegaconf",
        "python",
        "safetensors",
        "tokenizers",
        "torch",
        "transformers",
    ]
    assert len(lock.engine["build"]) == 64
    assert lock.quality == {}
    assert lock.sources["recipes/tiny.yaml"]
    assert lock.sources["configs/quant/awq_w4_g32.yaml"]


def test_nothing_of_this_machine_is_in_a_lock(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    _run(capsys, "recipe=tiny")
    text = site.lock.read_text(encoding="utf-8")
    assert str(site.folder) not in text
    assert str(Path.home()) not in text
    inode = str((site.model / "model.safetensors").stat().st_ino)
    values = [line.partition(": ")[2] for line in text.splitlines()]
    assert inode not in values


def test_a_second_lock_leaves_the_file_alone(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    _run(capsys, "recipe=tiny")
    before, stamp = site.lock.read_bytes(), site.lock.stat()
    assert _run(capsys, "recipe=tiny") == f"{FILE}: unchanged {WHAT}\n"
    assert site.lock.read_bytes() == before
    assert site.lock.stat().st_ino == stamp.st_ino


def test_the_lines_that_change_are_told(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    _run(capsys, "recipe=tiny")
    assert _run(capsys, "recipe=tiny", "frontend.port=9000", "kv.bits=16") == (
        f"{FILE}: 4 lines changed {WHAT}\n"
        "  config.frontend.port: 28917 → 9000\n"
        "  config.kv.bits: 8 → 16\n"
        "  overrides[1]: none → frontend.port=9000\n"
        "  overrides[2]: none → kv.bits=16\n"
    )
    assert locks.read(site.lock).config["kv"]["bits"] == 16


def test_what_is_not_built_is_refused_with_no_build(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(site.artifact("quantize"))
    with pytest.raises(PlanError) as one:
        verb.run(["recipe=tiny", "--no-build"])
    assert str(one.value) == (
        "lock: quantize is not built, and a lock holds what was built. Leave out --no-build, and"
        " `lmrun lock` builds first."
    )
    with pytest.raises(PlanError) as more:
        verb.run(["recipe=tiny", "--no-build", "quant.skip=[layers.0.self_attn.o_proj]"])
    assert str(more.value).startswith("lock: quantize and convert are not built, and")
    assert not site.lock.exists()
    assert not site.artifact("quantize").exists()


def test_with_all_built_no_build_locks_and_hashes_what_is_new(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    (site.store.home / "digests.json").unlink()
    assert _run(capsys, "recipe=tiny", "--no-build") == f"{FILE}: written {WHAT}\n"


def test_a_lock_builds_all_that_is_missing_even_what_nothing_needs(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    _run(capsys, "recipe=tiny")
    before = site.lock.read_bytes()
    folder = site.artifact("quantize")
    digest = (folder / "model.safetensors").read_bytes()
    shutil.rmtree(folder)
    planned = site.plan().stage("quantize")
    assert planned is not None
    assert planned.action is Action.cached, "nothing needs it"
    assert _run(capsys, "recipe=tiny") == f"{FILE}: unchanged {WHAT}\n"
    assert (folder / "model.safetensors").read_bytes() == digest
    assert site.lock.read_bytes() == before


@pytest.mark.slow
def test_a_sweep_at_the_worst_moment_costs_a_build_and_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site = enter(lay_out(tmp_path / "site"), monkeypatch)
    plans = []
    real = Builder.plan

    def plan(builder: Builder) -> Plan:
        plans.append(real(builder))
        if len(plans) == 2:  # the stages ended, and let go of what they built
            assert len(sweep(site.store, None).removed) == len(STAGES)
        return real(builder)

    monkeypatch.setattr(Builder, "plan", plan)
    assert _run(capsys, "recipe=tiny") == f"{FILE}: written {WHAT}\n"
    assert all(site.artifact(stage).is_dir() for stage in STAGES)


def test_another_file_can_be_named(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        _run(capsys, "recipe=tiny", "--output", "deep/er.lock.yaml")
        == f"deep/er.lock.yaml: written {WHAT}\n"
    )
    assert not site.lock.exists()
    without_recipe = ["model.path=tiny", "quant=none", "--no-build"]
    with pytest.raises(UsageError) as unnamed:
        verb.run(without_recipe)
    assert str(unnamed.value) == (
        "lock: expected a recipe, after which the lock file is named, got none."
        " Name it: --output NAME.lock.yaml, or give +recipe=NAME."
    )
    with pytest.raises(UsageError) as other:
        verb.run([*without_recipe, "--output", "locks/tiny.yaml"])
    assert str(other.value) == (
        "--output=locks/tiny.yaml: expected a name that ends in .lock.yaml, by which other commands"
        " know a lock file. Write --output locks/tiny.lock.yaml."
    )
    with pytest.raises(UsageError, match=r" Write --output NAME\.lock\.yaml\.$"):
        verb.run([*without_recipe, "--output", "."])


def test_the_store_keeps_what_a_lock_names(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    _run(capsys, "recipe=tiny", "--output", "elsewhere/x.lock.yaml")
    assert lock_files(site.store.home) == [site.folder / "elsewhere" / "x.lock.yaml"]


def test_a_damaged_lock_is_written_anew(
    site: Site, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    _run(capsys, "recipe=tiny")
    whole = site.lock.read_bytes()
    site.lock.write_text("half: [")
    assert _run(capsys, "recipe=tiny") == f"{FILE}: written {WHAT}\n"
    assert site.lock.read_bytes() == whole
    assert "it is replaced: " in caplog.messages[-1]


def test_secrets_stay_references_and_other_interpolations_are_listed(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TINY_KEY", "canary-7f3a")
    monkeypatch.setenv("TINY_PORT", "9001")
    site.recipe.write_text(
        site.recipe.read_text().replace("  port: 28917\n", "  port: ${oc.env:TINY_PORT}\n")
        + "  api_keys: ['${oc.env:TINY_KEY}']\n"
    )
    _run(capsys, "recipe=tiny")
    text = site.lock.read_text(encoding="utf-8")
    assert "canary" not in text
    lock = locks.read(site.lock)
    assert lock.config["frontend"]["api_keys"] == ["${oc.env:TINY_KEY}"]
    assert lock.config["frontend"]["port"] == 9001
    assert lock.interpolations["frontend.port"] == "${oc.env:TINY_PORT}"


def test_a_plan_for_a_described_machine_is_not_locked(site: Site) -> None:
    with pytest.raises(PlanError) as caught:
        verb.run(["recipe=tiny", "device=h200"])
    assert "a lock holds what was built, and this plan is for a described machine" in str(
        caught.value
    )
    assert str(caught.value).endswith(" Lock on that machine, with device=auto.")


def test_a_workspace_is_pinned_by_its_own_files(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = site.artifact("convert")
    kept = site.folder / "kept"
    shutil.copytree(workspace, kept)
    (kept / "manifest.json").unlink()
    said = _run(capsys, "model.path=kept", "--output", "kept.lock.yaml")
    lock = locks.read(Path("kept.lock.yaml"))
    assert lock.model.kind == "workspace"
    assert {"model.json", "rank-0.safetensors", "tokenizer.json"} <= set(lock.model.files)
    assert lock.stages == {}
    assert said == f"kept.lock.yaml: written ({len(lock.model.files)} model files, 0 artifacts)\n"


def _refusal(verb_run: object, *argv: str) -> str:
    with pytest.raises(DriftError) as caught:
        verb_run(list(argv))  # type: ignore[operator]
    assert caught.value.status is ExitStatus.DRIFT
    return str(caught.value)


def test_locked_builds_what_the_lock_says(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    _run(capsys, "recipe=tiny")
    assert build_verb.run(["recipe=tiny", "--locked"]) is ExitStatus.OK
    assert capsys.readouterr().out == f"{site.artifact('convert')}\n"
    shutil.rmtree(site.artifact("convert"))
    assert build_verb.run(["recipe=tiny", f"--locked={FILE}"]) is ExitStatus.OK
    assert site.artifact("convert").is_dir()
    capsys.readouterr()
    assert build_verb.run([f"--locked={FILE}"]) is ExitStatus.OK
    assert capsys.readouterr().out == f"{site.artifact('convert')}\n", "the lock's own overrides"


@pytest.mark.parametrize("run", [build_verb.run, up_verb.run])
def test_locked_refuses_other_settings(
    site: Site, capsys: pytest.CaptureFixture[str], run: object
) -> None:
    _run(capsys, "recipe=tiny")
    assert _refusal(run, "recipe=tiny", "--locked", "kv.bits=4", "frontend.port=23399") == (
        f"--locked: 2 things drifted since {FILE}; nothing was built.\n"
        f"{CONFIG}"
        "    frontend.port: 28917 → 23399 (command line)\n"
        "    kv.bits: 8 → 4 (command line)"
    )


def test_locked_refuses_other_inputs_before_it_builds(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    _run(capsys, "recipe=tiny")
    shutil.rmtree(site.artifact("convert"))
    file = site.model / "tokenizer.json"
    file.write_text(file.read_text() + " ")
    said = _refusal(build_verb.run, "recipe=tiny", "--locked")
    assert said.startswith(
        f"--locked: 1 thing drifted since {FILE}; nothing was built.\n"
        "  tokenizer: bring the locked files back, or lock again\n"
        "    tokenizer.json: "
    )
    assert not site.artifact("convert").exists()


def test_locked_refuses_another_numeric_class_and_no_other_versions(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    _run(capsys, "recipe=tiny")
    lock = locks.read(site.lock)
    site.edit_lock(f"numpy: {lock.packages['numpy']}", "numpy: 1.0.0")
    assert build_verb.run(["recipe=tiny", "--locked"]) is ExitStatus.OK, "no byte depends on it"
    site.edit_lock(f"      torch: {lock.packages['torch']}", "      torch: 1.0.0")
    said = _refusal(build_verb.run, "recipe=tiny", "--locked")
    assert said.endswith(f"    torch: 1.0.0 → {lock.packages['torch']} (of calibrate and quantize)")


@pytest.mark.parametrize("run", [build_verb.run, up_verb.run])
def test_locked_refuses_other_bytes_and_launches_nothing(
    site: Site, capsys: pytest.CaptureFixture[str], run: object
) -> None:
    _run(capsys, "recipe=tiny")
    lock = locks.read(site.lock)
    built = lock.stages["convert"].files["rank-0.safetensors"]
    site.edit_lock(built, "d" * 64)
    assert _refusal(run, "recipe=tiny", "--locked") == (
        f"--locked: 1 thing drifted since {FILE}; nothing is launched.\n"
        "  artifact: build what is missing or damaged (`lmrun build`), or lock again\n"
        f"    convert/rank-0.safetensors: dddddddddddd → {built[:12]}"
    )


def test_locked_needs_a_lock(site: Site) -> None:
    with pytest.raises(UsageError) as missing:
        build_verb.run(["recipe=tiny", "--locked"])
    assert str(missing.value) == (
        f"{FILE}: no such lock file. Write it with `lmrun lock` and the same overrides."
    )
    with pytest.raises(UsageError) as unnamed:
        build_verb.run(["model.path=tiny", "--locked"])
    assert str(unnamed.value) == (
        "--locked: expected a recipe, after which the lock file is named, got none."
        " Name it: --locked=FILE, or give +recipe=NAME."
    )
    with pytest.raises(UsageError) as empty:
        build_verb.run(["recipe=tiny", "--locked="])
    assert str(empty.value) == "--locked=: expected a value after the sign, got none."
    (site.folder / "half.lock.yaml").write_text("{")
    with pytest.raises(ConfigError):
        build_verb.run(["recipe=tiny", "--locked=half.lock.yaml"])


def test_a_changed_weight_behind_an_old_stamp_is_for_verify(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--locked` trusts stamps, as `build` does; `lmrun verify` hashes."""
    _run(capsys, "recipe=tiny")
    flip(site.model / "model.safetensors")
    assert build_verb.run(["recipe=tiny", "--locked"]) is ExitStatus.OK
