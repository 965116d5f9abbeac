"""A run has one model: a path, or a model of the hub."""

from pathlib import Path

import pytest

from lmrun.config import compose
from lmrun.errors import ConfigError


def test_the_default_model_gives_way_to_a_hub_id() -> None:
    composed = compose(["model.hub_id=org/name", "model.revision=v1.0"])
    assert composed.run.model.path is None
    assert composed.run.model.hub_id == "org/name"
    assert str(composed.origins["model.path"]) == "command line"
    assert [setting.value for setting in composed.chain["model.path"]] == [
        None,
        "builtin:demo",
        None,
    ]


def test_a_hub_id_of_a_recipe_replaces_the_default_model_too(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.yaml").write_text("model:\n  hub_id: org/name\n")
    composed = compose(["+recipe=mine"], cwd=tmp_path)
    assert composed.run.model.path is None
    assert str(composed.origins["model.path"]) == "recipes/mine.yaml:2"


def test_two_models_are_refused_with_the_origin_of_both() -> None:
    with pytest.raises(ConfigError) as caught:
        compose(["model=random_llama", "model.hub_id=org/name"])
    assert str(caught.value) == (
        "model.path=builtin:random-llama (lmrun:configs/model/random_llama.yaml:2) and"
        " model.hub_id=org/name (command line): expected one of them."
        " Write model.path=null or model.hub_id=null as well."
    )


def test_two_models_become_one_as_the_message_says() -> None:
    overrides = ["model=random_llama", "model.hub_id=org/name"]
    assert compose([*overrides, "model.path=null"]).run.model.hub_id == "org/name"
    assert compose([*overrides, "model.hub_id=null"]).run.model.path == "builtin:random-llama"


@pytest.mark.parametrize("override", ["model.revision=main", "model.hub_token='${oc.env:KEY}'"])
def test_what_belongs_to_the_hub_needs_a_model_of_the_hub(override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose([override])
    name, _, value = override.replace("'", "").partition("=")
    assert str(caught.value) == (
        f"{name}={value} (command line): belongs to a model of the hub, and model.hub_id is not"
        " set. Write model.hub_id=ORG/NAME as well, or take it out."
    )


@pytest.mark.parametrize("revision", ["../main", "a..b", "/main", "main/", "a b"])
def test_a_revision_cannot_lead_out_of_the_cache(revision: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.revision"):
        compose(["model.hub_id=a/b", f"model.revision='{revision}'"])
