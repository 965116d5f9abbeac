"""What `lmrun list` names can be typed as it stands."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from lmrun.cli import list as listing
from lmrun.cli import main
from lmrun.config import compose
from lmrun.errors import ExitStatus


def _json(capfd: pytest.CaptureFixture[str], *kinds: str) -> dict[str, list[dict[str, Any]]]:
    assert main.run(["list", *kinds, "--json"]) is ExitStatus.OK
    document: dict[str, Any] = json.loads(capfd.readouterr().out)
    jsonschema.validate(document, listing.SCHEMA)
    assert document.pop("schema_version") == 1
    return document


def test_every_name_is_an_override_that_composes(capfd: pytest.CaptureFixture[str]) -> None:
    document = _json(capfd)
    assert list(document) == list(listing.KINDS)
    for kind in ("recipes", "models", "quantizers", "backends", "devices", "chat-templates"):
        assert document[kind]
        for row in document[kind]:
            compose([row["name"]])


def test_what_is_not_built_is_marked(capfd: pytest.CaptureFixture[str]) -> None:
    document = _json(capfd, "quantizers", "backends")
    built = {row["name"] for rows in document.values() for row in rows if row["is_built"]}
    assert {"quant.method=awq", "quant.method=rtn", "backend.name=native"} <= built
    assert {"quant.method=best", "quant=w8a8", "prune=none"} <= built
    assert not {"quant.method=llm_int8", "backend.name=vllm"} & built
    assert main.run(["list", "quantizers", "backends"]) is ExitStatus.OK
    out = capfd.readouterr().out
    assert f"  {'backend.name=vllm':<34} not built yet\n" in out
    assert (
        f"  {'quant.method=llm_int8':<34} not offered: quant=w8a8 and quant=w8a16 do without"
        " outliers apart\n"
    ) in out


def test_a_recipe_that_cannot_be_read_hides_no_other(capfd: pytest.CaptureFixture[str]) -> None:
    Path("recipes").mkdir()
    Path("recipes/odd.yaml").symlink_to("/proc/self/mem")  # even root cannot read its beginning
    (odd, *others) = _json(capfd, "recipes")["recipes"]
    assert (odd["name"], len(others)) == ("+recipe=odd", 2)
    assert odd["description"] == "(cannot be read: Input/output error)"
    assert main.run(["plan", "+recipe=odd"]) is ExitStatus.CONFIG
    said = "lmrun: recipes/odd.yaml: cannot be read: Input/output error.\n"
    assert capfd.readouterr().err == said


def test_a_file_that_is_not_utf8_is_named_with_its_byte(capfd: pytest.CaptureFixture[str]) -> None:
    Path("recipes").mkdir()
    Path("recipes/odd.yaml").write_bytes(b"# \xff\n")
    assert main.run(["plan", "+recipe=odd"]) is ExitStatus.CONFIG
    assert capfd.readouterr().err == (
        "lmrun: recipes/odd.yaml: expected UTF-8 text, got byte 0xff at 2. Save it as UTF-8.\n"
    )


def test_folders_of_models_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, file in (("llama", "config.json"), ("packed", "model.json"), ("notes", "a.txt")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("{}")
    monkeypatch.setenv("LMRUN_MODELS", f"{tmp_path}:/nowhere")
    rows = {row["name"]: row for row in _json(capfd, "models")["models"]}
    assert rows["model.path=llama"]["description"] == "checkpoint"
    assert rows["model.path=packed"]["description"] == "workspace"
    assert "model.path=notes" not in rows


def test_the_users_recipes_are_listed_with_what_they_hide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "mine.yaml").write_text("# My server.\nkv:\n  bits: 8\n")
    (folder / "w4a16_kv4_server.yaml").write_text("# My own.\n")
    (folder / "not.a.recipe.yaml").write_text("")
    monkeypatch.chdir(tmp_path)
    rows = {row["name"]: row for row in _json(capfd, "recipes")["recipes"]}
    assert rows["+recipe=mine"]["description"] == "My server."
    assert rows["+recipe=mine"]["path"] == str(folder / "mine.yaml")
    assert rows["+recipe=w4a16_kv4_server"]["description"].startswith("My own. (hides /")
    assert not any("not.a" in name for name in rows)
