"""Option files of the user's own, in ./configs beside ./recipes."""

import hashlib
import json
from pathlib import Path

import pytest

from lmrun.cli import main
from lmrun.config import compose, paths
from lmrun.config.footprint import footprint
from lmrun.config.places import Places
from lmrun.errors import ConfigError, ExitStatus


def _write(name: str, text: str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_an_option_of_ones_own_is_chosen_on_the_command_line_and_in_a_recipe() -> None:
    path = _write("configs/kv/team.yaml", "# Ours.\nbits: 4\nblock_size: 32\n")
    _write("recipes/mine.yaml", "# mine\ndefaults:\n  - override /kv: team\n")
    for overrides in (["kv=team"], ["+recipe=mine"]):
        composed = compose(overrides)
        assert (composed.run.kv.bits, composed.run.kv.block_size) == (4, 32)
        assert str(composed.origins["kv.block_size"]) == "configs/kv/team.yaml:3"
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert ("kv/team", path.resolve(), digest) in [
            (file.name, file.path, file.digest) for file in composed.files
        ]


def test_a_package_line_cannot_move_an_option_of_ones_own() -> None:
    _write("configs/kv/team.yaml", "# @package _global_\nbits: 4\n")
    assert compose(["kv=team"]).run.kv.bits == 4


def test_an_option_that_changed_is_read_again_in_the_same_process() -> None:
    _write("configs/kv/team.yaml", "bits: 4\n")
    assert compose(["kv=team"]).run.kv.bits == 4
    _write("configs/kv/team.yaml", "bits: 8\n")
    assert compose(["kv=team"]).run.kv.bits == 8


def test_the_name_of_a_shipped_option_is_refused_and_not_hidden() -> None:
    _write("configs/kv/kv8.yaml", "bits: 4\n")
    with pytest.raises(ConfigError) as caught:
        compose(["kv=kv8"])
    assert str(caught.value) == (
        "kv=kv8: configs/kv/kv8.yaml has the name of an option that comes with lmrun"
        f" ({paths.option_file('kv/kv8')}). Give the file another name."
    )
    assert compose(["kv=kv4"]).run.kv.bits == 4


def test_a_copy_of_a_shipped_option_is_that_option() -> None:
    text = paths.option_file("kv/kv8").read_text()
    _write("configs/kv/kv8.yaml", text)
    composed = compose(["kv=kv8"])
    assert str(composed.origins["kv.bits"]) == "lmrun:configs/kv/kv8.yaml:2"


def test_in_lmruns_own_checkout_the_shipped_folder_is_found_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(paths.shipped("configs").parent)
    places = Places.at(Path.cwd())
    assert places.own_configs is None
    assert list(places.options("kv")) == paths.options("kv")


def test_a_folder_that_is_no_group_and_a_file_that_is_no_option_are_none_of_ours() -> None:
    _write("configs/webpack/prod.yaml", "mode: production\n")
    _write("configs/config.yaml", "whatever: true\n")
    _write("configs/kv/a.b.yaml", "bits: 4\n")
    Path("configs/kv/folder.yaml").mkdir()
    assert compose([]).run.kv.bits == 16
    with pytest.raises(ConfigError, match=r"^kv=a\.b|^kv "):
        compose(["kv=a.b"])


def test_an_unknown_option_lists_ones_own_beside_the_shipped() -> None:
    _write("configs/kv/team.yaml", "bits: 4\n")
    with pytest.raises(ConfigError) as caught:
        compose(["kv=teem"])
    assert str(caught.value) == (
        "kv=teem (command line): no such option. Did you mean team?"
        " Options of kv: kv16, kv4, kv8, team."
    )


def test_a_wrong_key_in_an_option_of_ones_own_is_refused_with_its_line() -> None:
    _write("configs/kv/team.yaml", "# Ours.\nbit: 4\n")
    with pytest.raises(ConfigError, match=r"^kv\.bit \(configs/kv/team\.yaml:2\): no such key"):
        compose(["kv=team"])


def test_list_shows_ones_own_options_with_their_path_and_a_clash(
    capfd: pytest.CaptureFixture[str],
) -> None:
    own = _write("configs/quant/team.yaml", "# Ours, groups of 32.\nmethod: rtn\n")
    rival = _write("configs/quant/rtn.yaml", "# Another.\nmethod: rtn\n")
    assert main.run(["list", "quantizers", "--json"]) is ExitStatus.OK
    rows = {row["name"]: row for row in json.loads(capfd.readouterr().out)["quantizers"]}
    assert rows["quant=team"]["path"] == str(own.resolve())
    assert rows["quant=team"]["description"] == "Ours, groups of 32."
    assert rows["quant=rtn"]["description"].endswith(
        f"(refused: {rival.resolve()} has the same name)"
    )


def test_the_footprint_names_the_files_that_a_composition_reads() -> None:
    _write("configs/kv/team.yaml", "bits: 4\n")
    _write("recipes/base.yaml", "# b\ndefaults:\n  - override /quant: rtn\n")
    _write("recipes/mine.yaml", "# m\ndefaults:\n  - base\n  - override /kv: team\n")
    overrides = ["+recipe=mine", "frontend=api_gradio"]
    files = {f"{file.kind} {file.name}": file.digest for file in compose(overrides).files}
    assert footprint(overrides, Places.at(Path.cwd())) == files
    assert {"option kv/team", "recipe base", "option frontend/api_gradio"} < set(files)
