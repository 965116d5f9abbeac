"""`lmrun explain`: the chain behind a value, word for word."""

import json
from pathlib import Path

import jsonschema
import pytest

from lmrun.cli import main
from lmrun.config import compose, explain, flat, keys
from lmrun.errors import ExitStatus
from lmrun.plan.effects import effect

BASE = "# base\ndefaults:\n  - override /kv: kv8\nbackend:\n  threads: 1\n  max_num_seqs: 5\n"
MINE = "# mine\ndefaults:\n  - base\n  - override /kv: kv4\nbackend:\n  threads: 2\n"


@pytest.fixture(autouse=True)
def _recipes() -> None:
    Path("recipes").mkdir()
    Path("recipes/base.yaml").write_text(BASE)
    Path("recipes/mine.yaml").write_text(MINE)


def _explained(capfd: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main.run(argv) is ExitStatus.OK
    return capfd.readouterr().out


def test_every_value_of_a_key_is_shown_in_the_order_of_merging(
    capfd: pytest.CaptureFixture[str],
) -> None:
    out = _explained(capfd, "explain", "kv.bits", "+recipe=mine", "kv.bits=8")
    assert out == (
        "kv.bits = 8\n"
        "    16   default\n"
        "    4    lmrun:configs/kv/kv4.yaml:2   kv=kv4, chosen by recipes/mine.yaml:4\n"
        "  > 8    command line\n"
        "  means    bits of a stored key or value element: 16, 8 or 4; 32 to compare with a"
        " reference\n"
        "  legal    one of 4, 8, 16 or 32\n"
        "  changes  launch, evaluate\n"
    )


def test_an_inherited_recipe_is_in_the_chain(capfd: pytest.CaptureFixture[str]) -> None:
    out = _explained(capfd, "+recipe=mine", "explain", "backend.threads")
    assert out.splitlines()[:4] == [
        "backend.threads = 2",
        "    null   default",
        "    1      recipes/base.yaml:5",
        "  > 2      recipes/mine.yaml:6",
    ]


def test_a_group_shows_who_chose_its_option_and_what_each_key_is(
    capfd: pytest.CaptureFixture[str],
) -> None:
    out = _explained(capfd, "explain", "+recipe=mine", "kv", "kv.block_size=32")
    assert out == (
        "kv = kv4\n"
        "    kv16   lmrun:configs/config.yaml:8\n"
        "    kv8    recipes/base.yaml:3\n"
        "  > kv4    recipes/mine.yaml:4\n"
        "  key              value   set by                             "
        "               changes\n"
        "  bits             4       lmrun:configs/kv/kv4.yaml:2, beats "
        "16 (default)   launch, evaluate\n"
        "  memory_ratio     0.8     default                            "
        "               launch only\n"
        "  memory           auto    default                            "
        "               launch only\n"
        "  keep             0       default                            "
        "               launch, evaluate\n"
        "  keep_bits        16      default                            "
        "               launch, evaluate\n"
        "  keep_layers      []      default                            "
        "               launch, evaluate\n"
        "  block_size       32      command line, beats 64 (default)   "
        "               launch only\n"
        "  prefix_caching   true    default                            "
        "               launch only\n"
    )


def test_the_recipes_that_took_part_are_shown_with_file_and_digest(
    capfd: pytest.CaptureFixture[str],
) -> None:
    lines = _explained(capfd, "explain", "recipe", "recipe=mine").splitlines()
    composed = compose(["recipe=mine"])
    assert lines[0] == "recipe = mine"
    for line, recipe in zip(lines[1:], composed.recipes, strict=True):
        assert str(recipe.path) in line
        assert line.endswith(f"sha256 {recipe.digest[:12]}")
    assert "recipe: none is named" in _explained(capfd, "explain", "recipe")


def test_a_reference_is_shown_as_written_beside_what_it_stands_for(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMRUN_TEST_PORT", "8080")
    out = _explained(capfd, "explain", "frontend.port", "frontend.port=${oc.env:LMRUN_TEST_PORT}")
    assert out.splitlines()[:3] == [
        "frontend.port = 8080",
        "    23333                       default",
        "  > ${oc.env:LMRUN_TEST_PORT}   command line",
    ]


def test_all_keys_are_explained(capfd: pytest.CaptureFixture[str]) -> None:
    out = _explained(capfd, "explain", "--all", "+recipe=mine")
    for name in keys.table():
        assert f"\n  {name.partition('.')[2]} " in out
    assert out.startswith("recipe = mine\n")


def test_the_json_form_holds_to_its_schema_and_ends_each_chain_with_the_winner(
    capfd: pytest.CaptureFixture[str],
) -> None:
    document = json.loads(_explained(capfd, "explain", "--all", "--json", "+recipe=mine"))
    jsonschema.Draft202012Validator(explain.SCHEMA).validate(document)
    values = flat(compose(["+recipe=mine"]).run)
    assert {row["key"]: row["value"] for row in document["keys"]} == values
    for row in document["keys"]:
        assert row["settings"][0]["source"] == "default"
        assert row["settings"][-1]["value"] == row["value"]
        assert row["changes"] == effect(row["key"])
    (kv,) = (group for group in document["groups"] if group["group"] == "kv")
    assert [choice["option"] for choice in kv["choices"]] == ["kv16", "kv8", "kv4"]
    assert kv["choices"][1] == {
        "option": "kv8",
        "source": "recipes/base.yaml",
        "path": str(Path("recipes/base.yaml").resolve()),
        "line": 3,
    }


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        (
            ["explain", "kv.bit"],
            ExitStatus.CONFIG,
            "lmrun: kv.bit: no such key. Did you mean kv.bits?"
            " Keys of kv: bits, memory_ratio, memory, keep, keep_bits, keep_layers,"
            " block_size, prefix_caching.\n",
        ),
        (
            ["explain"],
            ExitStatus.USAGE,
            "lmrun: explain: expected a key such as kv.bits, a group such as kv, or --all.\n",
        ),
        (
            ["explain", "kv", "--all"],
            ExitStatus.USAGE,
            "lmrun: --all: explains every key. Leave out kv, or --all.\n",
        ),
    ],
)
def test_what_cannot_be_explained_is_refused(
    argv: list[str], status: ExitStatus, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main.run(argv) is status
    assert capfd.readouterr().err == message
