"""`lmrun export`: what it hands over loads elsewhere and serves again."""

import json
import re
import shutil
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from lmrun import env
from lmrun.artifacts.store import Store
from lmrun.cli import main
from lmrun.config import compose
from lmrun.errors import ExitStatus
from lmrun.models.checkpoint import Checkpoint
from lmrun.plan.plan import ModelKind, Plan
from lmrun.plan.planner import make_plan
from unit.cli.conftest import QUANTIZED


@pytest.fixture
def store(built_home: Path) -> Store:
    """The store of this test, with those artifacts."""
    shutil.copytree(built_home, env.home(), dirs_exist_ok=True)
    return Store(env.home())


def _run(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[ExitStatus, str]:
    """Status, and stdout or what it failed with."""
    capfd.readouterr()
    status = main.run(["export", *words])
    said = capfd.readouterr()
    return status, said.out if status is ExitStatus.OK else said.err


def _plan(*words: str) -> Plan:
    return make_plan(compose(list(words)), Store(env.home()))


def test_a_workspace_serves_under_the_name_of_its_model(
    store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    assert _run(capfd, "convert", "out", *QUANTIZED) == (ExitStatus.OK, "out\n")
    plan = _plan("model.path=out")
    assert plan.model_kind is ModelKind.workspace
    assert plan.workspace == Path("out").absolute()
    assert plan.served_name == "random-llama"
    assert not plan.missing
    inside = _plan(f"model.path={_plan(*QUANTIZED).workspace}")
    assert inside.served_name == "random-llama", "not under 64 hex digits"


def test_a_name_of_ones_own_goes_along(store: Store, capfd: pytest.CaptureFixture[str]) -> None:
    _run(capfd, "convert", "out", *QUANTIZED, "model.served_name=mine")
    assert _plan("model.path=out").served_name == "mine"


def test_a_quantized_folder_is_a_checkpoint_for_others_and_for_lmrun(
    store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    assert _run(capfd, "quantize", "out", *QUANTIZED)[0] is ExitStatus.OK
    config = json.loads(Path("out/config.json").read_text())
    assert config["quantization_config"]["quant_method"] == "awq"
    tensors = load_file("out/model.safetensors")
    assert "model.layers.0.mlp.down_proj.qweight" in tensors
    assert Checkpoint.open(Path("out").absolute()).code_format is not None
    plan = _plan("model.path=out")
    assert (plan.model_kind, plan.served_name) == (ModelKind.quantized, "random-llama")


def test_what_is_missing_is_built_and_no_more(
    store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(store.home / "artifacts" / "quantize")
    shutil.rmtree(store.home / "artifacts" / "convert")
    status, said = _run(capfd, "quantize", "out", *QUANTIZED, "--no-build")
    assert status is ExitStatus.STAGE_FAILED
    assert re.fullmatch(
        r"lmrun: quantize [0-9a-f]{12} is not in the store\. `lmrun build` with the same settings"
        r" makes it\.\n",
        said,
    )
    assert not Path("out").exists()
    assert _run(capfd, "quantize", "out", *QUANTIZED)[0] is ExitStatus.OK
    assert not (store.home / "artifacts" / "convert").exists()


def test_a_stage_that_is_cached_as_not_needed_is_built_for_an_export(
    store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(store.home / "artifacts" / "quantize")
    assert not _plan(*QUANTIZED).missing
    assert _run(capfd, "quantize", "out", *QUANTIZED)[0] is ExitStatus.OK
    assert Path("out/model.safetensors").is_file()


def test_links_share_their_bytes_with_the_store(
    store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    _run(capfd, "convert", "out", *QUANTIZED, "--link", "--no-build")
    workspace = _plan(*QUANTIZED).workspace
    assert workspace is not None
    assert Path("out/rank-0.safetensors").samefile(workspace / "rank-0.safetensors")


def test_a_folder_that_holds_something_else_is_refused_before_anything_is_built(
    capfd: pytest.CaptureFixture[str],
) -> None:
    Path("out").mkdir()
    Path("out/notes.txt").write_text("mine")
    assert _run(capfd, "convert", "out", *QUANTIZED) == (
        ExitStatus.USAGE,
        "lmrun: out: expected an empty folder or an earlier export, got one that holds notes.txt."
        " Name another.\n",
    )
    assert not (env.home() / "artifacts").exists()


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["convert"], ExitStatus.USAGE, "export: expected a stage and a folder, got 1 word."),
        (
            ["prune", "out"],
            ExitStatus.REFUSED,
            "prune: this deployment prunes nothing (prune.method=none). Choose a method, such as"
            " prune=wanda.",
        ),
        (
            ["resolve", "out"],
            ExitStatus.USAGE,
            "export: resolve: expected prune, quantize or convert.",
        ),
        (
            ["quantize", "out", "model=random_llama", "quant=none"],
            ExitStatus.REFUSED,
            "quantize: this deployment quantizes nothing (quant.method=none). Choose a quantizer,",
        ),
    ],
)
def test_what_cannot_be_exported_is_refused(
    capfd: pytest.CaptureFixture[str], words: list[str], status: ExitStatus, said: str
) -> None:
    got, text = _run(capfd, *words)
    assert got is status
    assert text.startswith(f"lmrun: {said}")


def test_what_is_already_further_on_is_refused(
    store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    _run(capfd, "convert", "workspace", *QUANTIZED)
    _run(capfd, "quantize", "quantized", *QUANTIZED)
    status, said = _run(capfd, "convert", "out", "model.path=workspace")
    assert status is ExitStatus.REFUSED
    assert said.endswith("/workspace is a workspace already; no stage runs for it.\n")
    status, said = _run(capfd, "quantize", "out", "model.path=quantized")
    assert status is ExitStatus.REFUSED
    assert said.endswith("/quantized is quantized already; only convert runs for it.\n")
