"""`lmrun verify`: every kind of drift, in the words a user reads."""

import errno
import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import jsonschema
import pytest
import yaml

from lmrun.cli import build as build_verb
from lmrun.cli import lock as lock_verb
from lmrun.cli import verify as verb
from lmrun.deploy.verifying import SCHEMA
from lmrun.errors import ConfigError, DriftError, ExitStatus, UsageError
from lmrun.plan.plan import Action
from lmrun.stages import resolve
from unit.cli.sites import STAGES, Site, build_all, copy, enter, flip, lay_out

Say = Callable[..., tuple[ExitStatus, str]]
FILE = "locks/tiny.lock.yaml"
MODEL = "  model: bring the locked files back, or lock again\n"
TOKENIZER = "  tokenizer: bring the locked files back, or lock again\n"
TEMPLATE = "  chat template: bring the locked file back, or lock again\n"
CONFIG = "  config: undo the change, or lock again\n"
ARTIFACT = "  artifact: build what is missing or damaged (`lmrun build`), or lock again\n"
ALL_MOVED = "  other artifacts would be built: resolve, calibrate, quantize, convert\n"


@pytest.fixture(scope="module")
def locked(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe, its lock, and all that it pins."""
    folder = copy(built, tmp_path_factory.mktemp("locked") / "site")
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        assert lock_verb.run(["recipe=tiny"]) is ExitStatus.OK
    return folder


@pytest.fixture
def site(locked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A copy of it, to spoil."""
    copied = enter(copy(locked, tmp_path / "site"), monkeypatch)
    resolve.hash_inputs(copied.store.home, copied.plan().unhashed)
    for stage in copied.plan().stages:
        artifact = copied.store.find(stage.name, stage.fingerprint or "")
        if artifact is not None:
            copied.store.verify(artifact)  # its stamps are those of the copy
    return copied


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Runs the verb; its status and what it prints."""

    def run(*argv: str) -> tuple[ExitStatus, str]:
        capsys.readouterr()
        status = verb.run(list(argv))
        return status, capsys.readouterr().out

    return run


def _digest(file: Path) -> str:
    return sha256(file.read_bytes()).hexdigest()[:12]


def _report(count: str, *parts: str) -> str:
    return f"{FILE}: {count} drifted\n" + "".join(parts)


def test_a_lock_holds_where_nothing_changed(site: Site, say: Say) -> None:
    status, text = say("recipe=tiny")
    assert status is ExitStatus.OK
    assert text.startswith(f"{FILE}: holds (")
    assert " settings, 4 model files, 3 artifacts, 9 packages; " in text
    assert text.endswith(" KiB hashed)\n") or text.endswith(" MiB hashed)\n")
    assert say(FILE) == (status, text), "a lock file brings the overrides it was made with"


def test_a_changed_setting_is_named_with_its_origin(site: Site, say: Say) -> None:
    site.recipe.write_text(site.recipe.read_text().replace("bits: 8", "bits: 4"))
    assert say("recipe=tiny") == (
        ExitStatus.DRIFT,
        _report("1 thing", CONFIG, "    kv.bits: 8 → 4 (recipes/tiny.yaml:14)\n"),
    )


def test_the_stages_that_a_setting_moves_are_told(site: Site, say: Say) -> None:
    assert say("recipe=tiny", "quant.group_size=64", "quant.skip=[layers.0.self_attn.o_proj]") == (
        ExitStatus.DRIFT,
        _report(
            "3 things",
            CONFIG,
            "    quant.group_size: 32 → 64 (command line)\n",
            '    quant.skip: [] → ["layers.0.self_attn.o_proj"] (command line)\n',
            "  plan: make it possible again: until then the model's files are not compared\n",
            "    plan: possible → refused: quant.group_size=64 (command line): must divide 96"
            " (in_features of layers.0.mlp.down_proj). Use 32.\n",
        ),
    )
    assert say("recipe=tiny", "quant.skip=[layers.0.self_attn.o_proj]") == (
        ExitStatus.DRIFT,
        _report(
            "1 thing",
            CONFIG,
            '    quant.skip: [] → ["layers.0.self_attn.o_proj"] (command line)\n',
            "  other artifacts would be built: quantize, convert\n",
        ),
    )


def test_another_text_of_the_recipe_with_the_same_settings_is_a_note(site: Site, say: Say) -> None:
    site.recipe.write_text(site.recipe.read_text() + "# a remark\n")
    status, text = say("recipe=tiny")
    assert status is ExitStatus.OK
    assert text.splitlines()[1:] == [
        "  note: recipes/tiny.yaml: changed since, to the same settings"
    ]


def test_a_changed_weight_is_found_behind_an_old_stamp(site: Site, say: Say) -> None:
    file = site.model / "model.safetensors"
    old = _digest(file)
    assert say("recipe=tiny")[0] is ExitStatus.OK
    flip(file)
    assert all(stage.action is Action.cached for stage in site.plan().stages), "the stamp is old"
    drifted = (
        ExitStatus.DRIFT,
        _report("1 thing", MODEL, f"    model.safetensors: {old} → {_digest(file)}\n", ALL_MOVED),
    )
    assert say("recipe=tiny") == drifted
    assert site.plan().missing, "the digest cache knows the file as it is"
    assert say("recipe=tiny") == drifted


def test_files_beside_the_weights_are_told_apart(site: Site, say: Say) -> None:
    old = _digest(site.model / "tokenizer.json")
    (site.model / "tokenizer.json").write_text(
        (site.model / "tokenizer.json").read_text().replace("  ", " ") + " "
    )
    (site.model / "tokenizer_config.json").unlink()
    template = site.model / "chat_template.jinja"
    template.write_text("{{ messages }}")
    status, text = say("recipe=tiny")
    assert status is ExitStatus.DRIFT
    removed = "tokenizer_config.json: "
    assert text.startswith(
        _report(
            "3 things",
            TOKENIZER,
            f"    tokenizer.json: {old} → {_digest(site.model / 'tokenizer.json')}\n",
            f"    {removed}",
        )
    )
    assert text.endswith(
        f" → none\n{TEMPLATE}    chat_template.jinja: none → {_digest(template)}\n{ALL_MOVED}"
    )


def test_a_model_that_is_gone_is_drift_too(site: Site, say: Say) -> None:
    shutil.rmtree(site.model)
    status, text = say("recipe=tiny")
    assert status is ExitStatus.DRIFT
    assert text.startswith(
        _report(
            "1 thing",
            "  plan: make it possible again: until then the model's files are not compared\n",
            "    plan: possible → refused: model.path=tiny (recipes/tiny.yaml:5): ",
        )
    )


def test_a_changed_calibration_text_is_named(site: Site, say: Say) -> None:
    file = site.folder / "text.txt"
    old = _digest(file)
    flip(file, 0)
    assert say("recipe=tiny") == (
        ExitStatus.DRIFT,
        _report(
            "1 thing",
            "  calibration data: bring the locked text back, or lock again\n",
            f"    text.txt: {old} → {_digest(file)}\n",
            "  other artifacts would be built: calibrate, quantize, convert\n",
        ),
    )


def test_the_file_of_a_chat_template_is_pinned(site: Site, say: Say) -> None:
    file = site.folder / "my.jinja"
    file.write_text("{{ messages }}")
    old = _digest(file)
    assert lock_verb.run(["recipe=tiny", "model.chat_template=my.jinja"]) is ExitStatus.OK
    assert say(FILE)[0] is ExitStatus.OK
    file.write_text("{{ messages | length }}")
    assert say(FILE) == (
        ExitStatus.DRIFT,
        _report("1 thing", TEMPLATE, f"    model.chat_template: {old} → {_digest(file)}\n"),
    )
    file.unlink()
    assert f"    model.chat_template: {old} → none\n" in say(FILE)[1]


@pytest.mark.parametrize("stage", STAGES)
def test_a_flipped_bit_of_an_artifact_is_found_and_marked(site: Site, say: Say, stage: str) -> None:
    folder = site.artifact(stage)
    file = next(folder.glob("*.safetensors"))
    old = _digest(file)
    assert say("recipe=tiny")[0] is ExitStatus.OK
    flip(file)
    assert say("recipe=tiny") == (
        ExitStatus.DRIFT,
        _report("1 thing", ARTIFACT, f"    {stage}/{file.name}: {old} → {_digest(file)}\n"),
    )
    planned = site.plan().stage(stage)
    assert planned is not None
    assert planned.action is Action.run, "the next build replaces it"
    assert say("recipe=tiny")[1] == _report(
        "1 thing",
        ARTIFACT,
        f"    {stage}: whole → damaged: {file.name}: its bytes are not those that were written\n",
    )


def test_a_manifest_that_another_process_renews_is_no_drift(site: Site, say: Say) -> None:
    (site.artifact("convert") / ".manifest.json.4711").write_text("{")
    assert say("recipe=tiny")[0] is ExitStatus.OK


def test_a_missing_artifact_is_drift_and_nothing_is_built(site: Site, say: Say) -> None:
    shutil.rmtree(site.artifact("convert"))
    assert say("recipe=tiny") == (
        ExitStatus.DRIFT,
        _report("1 thing", ARTIFACT, f"    convert: built → not in the store {site.store.home}\n"),
    )
    assert not site.artifact("convert").exists()


def test_an_artifact_that_nothing_needs_any_more_may_be_gone(site: Site, say: Say) -> None:
    for stage in ("calibrate", "quantize"):
        shutil.rmtree(site.artifact(stage))
    status, text = say("recipe=tiny")
    assert status is ExitStatus.OK
    assert text.splitlines()[1:] == [
        f"  note: {stage}: not in this store, where nothing needs it; its bytes were not checked"
        for stage in ("calibrate", "quantize")
    ]


def test_versions_builds_and_classes_are_compared(site: Site, say: Say) -> None:
    document = yaml.safe_load(site.lock.read_text(encoding="utf-8"))
    numpy, build = document["packages"]["numpy"], document["engine"]["build"]
    isa = document["stages"]["quantize"]["numeric_class"]["isa"]
    site.edit_lock(f"numpy: {numpy}", "numpy: 1.0.0")
    site.edit_lock(build, "e" * 64)
    site.edit_lock(f"isa: {isa}", "isa: sse9")
    assert say("recipe=tiny") == (
        ExitStatus.DRIFT,
        _report(
            "3 things",
            "  numeric class: build where the class is that of the lock, or lock again here\n",
            f"    isa: sse9 → {isa} (of calibrate and quantize)\n",
            "  engine build: install lmrun from the locked sources with the same compiler, or lock"
            " again\n",
            f"    build: eeeeeeeeeeee → {build[:12]}\n",
            "  package version: install the locked versions, or lock again\n",
            f"    numpy: 1.0.0 → {numpy}\n",
        ),
    )


def test_another_code_version_is_named(site: Site, say: Say) -> None:
    site.edit_lock("code_version: 3", "code_version: 9")
    status, text = say("recipe=tiny")
    assert status is ExitStatus.DRIFT
    assert text == _report(
        "1 thing",
        "  code version: install the lmrun that is locked, or lock again\n",
        "    calibrate: 9 → 3\n",
    )


def test_a_fingerprint_that_nothing_explains_is_named(site: Site, say: Say) -> None:
    planned = site.plan().stage("convert")
    assert planned is not None
    assert planned.fingerprint is not None
    site.edit_lock(planned.fingerprint, "f" * 64)
    assert say("recipe=tiny") == (
        ExitStatus.DRIFT,
        _report(
            "1 thing",
            "  code version: install the lmrun that is locked, or lock again\n",
            f"    fingerprint of convert: ffffffffffff → {planned.fingerprint[:12]}\n",
            "  other artifacts would be built: convert\n",
        ),
    )


def test_what_was_cut_out_of_a_lock_is_named(site: Site, say: Say) -> None:
    whole = site.lock.read_text(encoding="utf-8")
    document = yaml.safe_load(whole)
    convert = document["stages"].pop("convert")
    document["calibration"] = None
    document["stages"]["polish"] = {**convert, "files": {}}
    document["stages"]["quantize"]["files"] = {}
    site.lock.write_text(yaml.safe_dump(document), encoding="utf-8")
    status, text = say("recipe=tiny")
    assert status is ExitStatus.DRIFT
    assert text == _report(
        "4 things",
        "  calibration data: bring the locked text back, or lock again\n",
        f"    text.txt: none → {_digest(site.folder / 'text.txt')}\n",
        "  code version: install the lmrun that is locked, or lock again\n",
        f"    stage convert: none → {convert['fingerprint'][:12]}\n",
        f"    stage polish: {convert['fingerprint'][:12]} → none\n",
        ARTIFACT,
        "    quantize/*: none → built\n",
    )
    with pytest.raises(DriftError, match="stage convert: none → "):
        build_verb.run(["--locked", "recipe=tiny"])


def test_everything_that_drifted_comes_at_once(site: Site, say: Say) -> None:
    site.recipe.write_text(site.recipe.read_text().replace("bits: 8", "bits: 4"))
    flip(site.model / "model.safetensors")
    flip(site.folder / "text.txt", 0)
    flip(next(site.artifact("convert").glob("*.safetensors")))
    site.edit_lock("lmrun: 0.1.0", "lmrun: 0.0.9")
    status, text = say("recipe=tiny", "--json")
    assert status is ExitStatus.DRIFT
    report = json.loads(text)
    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    assert [(drift["kind"], drift["name"]) for drift in report["drift"]] == [
        ("config", "kv.bits"),
        ("model", "model.safetensors"),
        ("calibration data", "text.txt"),
        ("artifact", "convert/rank-0.safetensors"),
        ("package version", "lmrun"),
    ]
    assert report["drift"][0] == {
        "kind": "config",
        "name": "kv.bits",
        "locked": "8",
        "now": "4",
        "where": "recipes/tiny.yaml:14",
    }
    assert len(report["drift"][1]["now"]) == 64, "digests are whole in JSON"
    assert report["holds"] is False
    assert report["moved_stages"] == ["resolve", *STAGES]


def test_a_lock_holds_in_another_folder_with_another_store(
    site: Site, say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = site.lock.read_bytes()
    elsewhere = enter(lay_out(tmp_path / "elsewhere"), monkeypatch)
    build_all(elsewhere)
    assert lock_verb.run(["recipe=tiny"]) is ExitStatus.OK
    assert elsewhere.lock.read_bytes() == lock
    site.lock.unlink()
    shutil.copytree(elsewhere.folder / "locks", tmp_path / "locks")
    assert say(str(tmp_path / FILE))[0] is ExitStatus.OK


def test_a_lock_whose_artifacts_are_not_here_says_so(
    site: Site, say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = enter(lay_out(tmp_path / "elsewhere"), monkeypatch)
    status, text = say(str(site.lock))
    assert status is ExitStatus.DRIFT
    assert text == f"{site.lock}: 3 things drifted\n" + ARTIFACT + "".join(
        f"    {stage}: built → not in the store {elsewhere.store.home}\n"
        for stage in ("calibrate", "convert", "quantize")
    )


def test_a_store_that_cannot_be_written_is_verified_all_the_same(
    site: Site, say: Say, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: Path, document: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    (site.store.home / "digests.json").unlink()
    monkeypatch.setattr("lmrun.artifacts.digests.write_json", refuse)
    status, text = say("recipe=tiny")
    assert (status, text.partition(" (")[0]) == (ExitStatus.OK, f"{FILE}: holds")
    assert caplog.messages == [
        f"the digests are not kept: store: cannot write {site.store.home}/digests.json (Read-only"
        " file system). Name a writable folder by LMRUN_HOME."
    ]


def test_without_a_lock_there_is_nothing_to_verify(site: Site) -> None:
    site.lock.unlink()
    with pytest.raises(UsageError) as missing:
        verb.run(["recipe=tiny"])
    assert str(missing.value) == (
        f"{FILE}: no such lock file. Write it with `lmrun lock` and the same overrides."
    )
    with pytest.raises(UsageError) as unnamed:
        verb.run(["model.path=tiny"])
    assert str(unnamed.value) == (
        "verify: expected a recipe, after which the lock file is named, got none."
        " Name it: lmrun verify FILE.lock.yaml, or give +recipe=NAME."
    )
    with pytest.raises(UsageError) as two:
        verb.run(["a.lock.yaml", "b.lock.yaml"])
    assert str(two.value) == "verify: expected one lock file, got 2. Name one."
    site.lock.write_text("[]")
    with pytest.raises(ConfigError) as damaged:
        verb.run(["recipe=tiny"])
    assert str(damaged.value).endswith(" Write it anew with `lmrun lock`.")
