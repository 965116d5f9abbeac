"""Every shipped option file and recipe composes, validates and is built."""

from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter

from lmrun.config import compose, keys, paths
from lmrun.config.names import recipe_names
from lmrun.config.not_built import is_built
from lmrun.config.schema import RunConfig

REPOSITORY = Path(__file__).parents[2]
OPTIONS = [(group, option) for group in keys.groups() for option in paths.options(group)]
RECIPES = recipe_names([paths.shipped("recipes")])


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=str)
def test_an_option_sets_exactly_what_its_file_says(group: str, option: str) -> None:
    composed = compose([f"{group}={option}"])
    path = paths.option_file(f"{group}/{option}")
    content = yaml.safe_load(path.read_text())
    assert content
    for key, value in content.items():
        assert getattr(getattr(composed.run, group), key) == value
        assert composed.origins[f"{group}.{key}"].path == path
    assert is_built(composed.run)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_composes_in_both_spellings_and_is_built(name: str) -> None:
    plus, plain = compose([f"+recipe={name}"]), compose([f"recipe={name}"])
    assert plus.run == plain.run
    assert plus.recipe is not None
    assert plus.recipe.path == paths.shipped("recipes") / f"{name}.yaml"
    assert is_built(plus.run)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_short_and_names_a_model(name: str) -> None:
    text = (paths.shipped("recipes") / f"{name}.yaml").read_text()
    assert len(text.splitlines()) <= 12
    assert "override /model: " in text


def test_every_group_has_an_option_and_a_default() -> None:
    defaults = yaml.safe_load((paths.shipped("configs") / "config.yaml").read_text())["defaults"]
    chosen = [next(iter(item)) for item in defaults if isinstance(item, dict)]
    assert chosen == list(keys.groups())
    assert {group for group, _ in OPTIONS} == set(keys.groups())


def test_every_folder_of_configs_is_a_group() -> None:
    folders = {path.name for path in paths.shipped("configs").iterdir() if path.is_dir()}
    assert folders == set(keys.groups())


def test_every_shipped_file_begins_with_one_line_that_says_what_it_is() -> None:
    for folder in ("configs", "recipes"):
        for path in paths.shipped(folder).rglob("*.yaml"):
            assert paths.headline(path).endswith("."), path


def test_no_shipped_file_names_a_place_on_a_machine() -> None:
    for folder in ("configs", "recipes"):
        for path in paths.shipped(folder).rglob("*.yaml"):
            values = [word for word in path.read_text().split() if word.startswith(("/", "~"))]
            groups = [f"/{group}:" for group in keys.groups()]
            assert [value for value in values if value not in groups] == [], path


@pytest.mark.parametrize("folder", ["configs", "recipes"])
def test_what_is_installed_is_what_the_repository_holds(folder: str) -> None:
    def tree(root: Path) -> dict[str, bytes]:
        return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*.yaml")}

    assert tree(paths.shipped(folder)) == tree(REPOSITORY / folder)


def test_every_key_says_what_it_is_and_what_it_expects() -> None:
    for name, key in keys.table().items():
        assert key.rules["description"].strip(), name
        assert key.expectation.strip(), name
        assert key.kind is not object, name


def test_the_json_schema_carries_the_rules_of_the_keys() -> None:
    parts = TypeAdapter(RunConfig).json_schema()["$defs"]
    assert parts["KvConfig"]["properties"]["bits"]["enum"] == [4, 8, 16, 32]
    assert parts["KvConfig"]["properties"]["block_size"]["multipleOf"] == 16
    assert parts["FrontendConfig"]["properties"]["port"]["maximum"] == 65535
    for part in parts.values():
        for name, schema in part.get("properties", {}).items():
            assert schema.get("description"), name
