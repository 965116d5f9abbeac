"""Digests that the installer wrote down make the first plan of the shipped model whole."""

import base64
import hashlib
from pathlib import Path

import pytest

from lmrun.artifacts.store import Store
from lmrun.config import compose
from lmrun.models import builtin
from lmrun.plan import told_digests
from lmrun.plan.planner import make_plan


def _installed(site: Path, files: dict[str, bytes]) -> Path:
    """A place of installation with a RECORD of the package data, as pip writes it."""
    demo = site / "lmrun" / "demo"
    demo.mkdir(parents=True)
    rows = ["lmrun/__init__.py,sha256=abc,10", "lmrun/demo/notes.txt,,", "lmrun/demo/x,md5=00,1"]
    for name, content in files.items():
        (demo / name).write_bytes(content)
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        rows.append(f"lmrun/demo/{name},sha256={digest},{len(content)}")
    (site / "lmrun-1.0.dist-info").mkdir()
    (site / "lmrun-1.0.dist-info" / "RECORD").write_text("\r\n".join(rows) + "\r\n")
    return demo


def test_a_record_tells_the_digests_of_the_files_of_the_folder(tmp_path: Path) -> None:
    demo = _installed(tmp_path, {"config.json": b"{}", "model.safetensors": b"weights"})
    assert told_digests.read(demo) == {
        "config.json": hashlib.sha256(b"{}").hexdigest(),
        "model.safetensors": hashlib.sha256(b"weights").hexdigest(),
    }


def test_nothing_is_told_without_a_record_or_of_another_folder(tmp_path: Path) -> None:
    (tmp_path / "lmrun" / "demo").mkdir(parents=True)
    assert told_digests.read(tmp_path / "lmrun" / "demo") == {}
    assert told_digests.of_folder(tmp_path) == {}


def test_the_first_plan_of_the_demo_model_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [path.name for path in builtin.demo_folder().iterdir() if path.is_file()]
    monkeypatch.setattr(told_digests, "read", lambda _: dict.fromkeys(names, "a" * 64))
    plan = make_plan(compose(["quant=awq_w4_g128"]), Store(tmp_path))
    assert {stage.name: stage.action.value for stage in plan.stages} == {
        "resolve": "run",
        "calibrate": "run",
        "quantize": "run",
        "convert": "run",
    }
    assert plan.stages[0].why.startswith("not yet hashed, ")
    assert plan.stages[1].why == "no entry yet"
    assert plan.unhashed  # a build hashes them, whatever was told
