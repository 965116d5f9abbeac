"""How options, recipes and overrides become one run config."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from lmrun.config import compose, hydra_session, paths
from lmrun.config.composed import Origin
from lmrun.config.places import Places
from lmrun.config.schema import QuantMethod, RunConfig, UiName
from lmrun.errors import ConfigError

Write = Callable[..., Path]


@pytest.fixture
def recipe(tmp_path: Path) -> Write:
    """Write ``tmp_path/recipes/NAME.yaml``; compose with ``cwd=tmp_path``."""

    def write(name: str, text: str, folder: str = "recipes") -> Path:
        path = tmp_path / folder / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_without_overrides_the_demo_model_is_served_in_16_bits() -> None:
    composed = compose([])
    assert isinstance(composed.run, RunConfig)
    assert composed.run.model.path == "builtin:demo"
    assert composed.run.quant.method is QuantMethod.none
    assert composed.recipe is None
    assert composed.recipes == ()


def test_the_command_line_beats_the_recipe_which_beats_the_option(
    recipe: Write, tmp_path: Path
) -> None:
    recipe("mine", "defaults:\n  - override /kv: kv8\nkv:\n  bits: 4\n  block_size: 32\n")
    composed = compose(["+recipe=mine", "kv.block_size=16"], cwd=tmp_path)
    assert composed.run.kv.bits == 4
    assert composed.run.kv.block_size == 16


def test_each_value_knows_where_it_was_set(recipe: Write, tmp_path: Path) -> None:
    path = recipe("mine", "# mine\ndefaults:\n  - override /kv: kv4\n\nbackend:\n  threads: 2\n")
    composed = compose(["+recipe=mine", "frontend.port=1234"], cwd=tmp_path)
    kv4 = paths.shipped("configs") / "kv" / "kv4.yaml"
    assert composed.origins["backend.threads"] == Origin("recipes/mine.yaml", path, 6)
    assert composed.origins["kv.bits"] == Origin("lmrun:configs/kv/kv4.yaml", kv4, 2)
    assert str(composed.origins["kv.bits"]) == "lmrun:configs/kv/kv4.yaml:2"
    assert str(composed.origins["frontend.port"]) == "command line"
    assert str(composed.origins["backend.max_num_seqs"]) == "default"


def test_a_comment_above_the_package_line_does_not_move_a_recipe(
    recipe: Write, tmp_path: Path
) -> None:
    recipe("mine", "# a licence\n# @package _global_\nkv:\n  bits: 8\n")
    assert compose(["+recipe=mine"], cwd=tmp_path).run.kv.bits == 8


def test_a_package_line_cannot_move_a_recipe(recipe: Write, tmp_path: Path) -> None:
    recipe("mine", "# @package quant\nkv:\n  bits: 8\n")
    assert compose(["+recipe=mine"], cwd=tmp_path).run.kv.bits == 8


def test_an_empty_recipe_changes_nothing(recipe: Write, tmp_path: Path) -> None:
    recipe("mine", "# nothing yet\n")
    assert compose(["+recipe=mine"], cwd=tmp_path).run == compose([]).run


def test_of_several_recipes_the_last_wins_in_options_and_in_keys(
    recipe: Write, tmp_path: Path
) -> None:
    recipe("base", "defaults:\n  - override /kv: kv8\nbackend:\n  threads: 1\n")
    recipe("prod", "defaults:\n  - override /kv: kv4\nbackend:\n  threads: 2\n")
    composed = compose(["+recipe=[base,prod]"], cwd=tmp_path)
    assert (composed.run.kv.bits, composed.run.backend.threads) == (4, 2)
    assert composed.recipe is not None
    assert composed.recipe.name == "prod"
    assert [recipe.name for recipe in composed.recipes] == ["base", "prod"]


def test_a_recipe_inherits_and_overrides_what_it_inherits(recipe: Write, tmp_path: Path) -> None:
    recipe("base", "defaults:\n  - override /kv: kv8\nbackend:\n  threads: 1\n  max_num_seqs: 5\n")
    recipe("prod", "defaults:\n  - base\n  - override /kv: kv4\nbackend:\n  threads: 2\n")
    composed = compose(["recipe=prod"], cwd=tmp_path)
    assert (composed.run.kv.bits, composed.run.backend.threads) == (4, 2)
    assert composed.run.backend.max_num_seqs == 5
    assert str(composed.origins["backend.max_num_seqs"]) == "recipes/base.yaml:5"
    assert composed.recipe is not None
    assert composed.recipe.name == "prod"
    assert [recipe.name for recipe in composed.recipes] == ["base", "prod"]


def test_a_recipe_may_let_what_it_inherits_win(recipe: Write, tmp_path: Path) -> None:
    recipe("base", "backend:\n  threads: 1\n")
    recipe("prod", "defaults:\n  - _self_\n  - base\nbackend:\n  threads: 2\n")
    composed = compose(["recipe=prod"], cwd=tmp_path)
    assert composed.run.backend.threads == 1
    assert str(composed.origins["backend.threads"]) == "recipes/base.yaml:2"
    assert composed.recipe is not None
    assert composed.recipe.name == "prod"


def test_origins_follow_the_order_in_which_hydra_merges(recipe: Write, tmp_path: Path) -> None:
    recipe("base", "defaults:\n  - override /kv: kv8\n")
    recipe("more", "# empty\n")
    recipe("last", "defaults:\n  - _self_\n  - more\n  - override /quant: rtn\n")
    recipe("prod", "defaults:\n  - base\n  - last\n  - _self_\n  - override /kv: kv4\n")
    overrides = ["+recipe=[w16_kv16_server,prod]", "frontend=api"]
    files = compose(overrides, cwd=tmp_path).files
    taken = [f"recipe/{file.name}" if file.kind == "recipe" else file.name for file in files[1:]]
    assert taken == list(hydra_session.order(overrides, Places.at(tmp_path)))
    assert {"kv/kv4", "quant/rtn", "frontend/api"} < set(taken)
    assert taken[-5:] == [
        "recipe/w16_kv16_server",
        "recipe/base",
        "recipe/last",
        "recipe/more",
        "recipe/prod",
    ]


def test_the_users_recipe_wins_and_says_what_it_hides(recipe: Write, tmp_path: Path) -> None:
    path = recipe("w4a16_kv4_server", "kv:\n  bits: 8\n")
    chosen = compose(["recipe=w4a16_kv4_server"], cwd=tmp_path).recipe
    assert chosen is not None
    assert chosen.path == path
    assert chosen.shadows == (paths.shipped("recipes") / path.name).resolve()
    assert chosen.digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_shipped_recipe_hides_nothing(tmp_path: Path) -> None:
    chosen = compose(["recipe=w4a16_kv4_server"], cwd=tmp_path).recipe
    assert chosen is not None
    assert chosen.shadows is None


def test_the_recipe_path_comes_before_the_working_directory(
    recipe: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe("mine", "kv:\n  bits: 8\n")
    recipe("mine", "kv:\n  bits: 4\n", folder="first")
    recipe("other", "kv:\n  bits: 4\n", folder="second")
    folders = os.pathsep.join([str(tmp_path / "first"), "/nowhere", str(tmp_path / "second")])
    monkeypatch.setenv("LMRUN_RECIPE_PATH", folders)
    assert compose(["recipe=mine"], cwd=tmp_path).run.kv.bits == 4
    assert compose(["recipe=other"], cwd=tmp_path).run.kv.bits == 4


def test_a_text_that_looks_like_a_number_stays_the_text_that_was_typed() -> None:
    assert compose(["model.served_name=007"]).run.model.served_name == "007"
    assert compose([r"model.path='/a b/it\'s, \\ [x]'"]).run.model.path == r"/a b/it's, \\ [x]"


def test_a_list_and_a_null_are_taken() -> None:
    run = compose(["quant.skip=[layers.0.mlp.down_proj]", "model.path=null"]).run
    assert run.quant.skip == ["layers.0.mlp.down_proj"]
    assert run.model.path is None


def test_an_interpolation_is_resolved_and_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "8080")
    overrides = ["frontend.port=${oc.env:PORT}", "frontend.ui_port=${frontend.port}"]
    run = compose(overrides).run
    assert (run.frontend.port, run.frontend.ui_port) == (8080, 8080)
    monkeypatch.setenv("PORT", "80800")
    with pytest.raises(ConfigError) as caught:
        compose(overrides)
    assert str(caught.value) == (
        "frontend.port=${oc.env:PORT} (command line): refers to a value that is not legal here:"
        " expected a whole number from 1 to 65535."
    )


def test_an_option_without_a_recipe_key_in_its_way_is_free_to_be_chosen() -> None:
    run = compose(["+recipe=w4a16_kv4_server", "kv=kv8", "frontend=api"]).run
    assert run.kv.bits == 8
    assert run.frontend.ui is UiName.none


def test_composing_twice_is_the_same_and_leaves_hydra_as_it_was() -> None:
    assert compose(["+recipe=w4a16_kv4_server"]) == compose(["+recipe=w4a16_kv4_server"])
    assert not GlobalHydra.instance().is_initialized()


def test_composition_writes_nothing_and_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from lmrun.config import compose; compose(['+recipe=w4a16_kv4_server']);"
        "print([name for name in ('torch', 'transformers', 'gradio', 'numpy', 'hydra_plugins')"
        " if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "[]\n", "")
    assert list(tmp_path.iterdir()) == []


def test_the_dataclasses_come_without_hydra() -> None:
    code = (
        "import sys; from lmrun.config import RunConfig; RunConfig();"
        "assert not {'hydra', 'omegaconf', 'pydantic'} & set(sys.modules), 'heavy'"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
    )
