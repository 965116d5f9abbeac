"""`lmrun schema`: one registry of schemas, recipes that editors understand."""

import json
import re
import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import lmrun
from lmrun.bench import startup
from lmrun.cli import main
from lmrun.cli.schema import SCHEMAS, document
from lmrun.config import keys, paths, recipe_schema, values
from lmrun.errors import ConfigError, ExitStatus
from unit.cli.language_server import LanguageServer

SOURCE = Path(lmrun.__file__).parent

VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1,
    7,
    64,
    10**9,
    0.5,
    2.5,
    "x",
    "",
    "auto",
    "2GiB",
    "none",
    "cpu",
    "${kv.bits}",
    "???",
    [],
    ["x"],
    [1],
    "${oc.env:KEY}",
    ["${oc.env:KEY}"],
    {"a": 1},
)
"""Tried on every key."""

WRONG: dict[str, Any] = {
    "an unknown group": {"kvs": {"bits": 4}},
    "an unknown key": {"kv": {"bit": 4}},
    "a value out of range": {"kv": {"memory_ratio": 1.5}},
    "a value of no closed list": {"kv": {"bits": 5}},
    "an unknown option": {"defaults": [{"override /quant": "awq_w5"}]},
    "an unknown group of options": {"defaults": [{"override /quants": "none"}]},
    "two options in one item": {"defaults": [{"override /kv": "kv4", "override /quant": "none"}]},
    "a path for a recipe": {"defaults": ["../other"]},
    "a literal API key": {"frontend": {"api_keys": ["sk-1"]}},
    "a literal token": {"model": {"hub_token": "hf_1"}},
    "a class to call": {"_target_": "os.system"},
    "an option where keys belong": {"kv": "kv4"},
}

RIGHT: dict[str, Any] = {
    "nothing": {},
    "a recipe to start from": {"defaults": ["w4a16_kv4_server", {"override /kv": "kv8"}, "_self_"]},
    "a recipe that is not there yet": {"defaults": ["mine"]},
    "a reference to another key": {"kv": {"bits": "${model.bits}"}},
    "a value that must be given": {"model": {"path": "???"}},
    "a reference to a key": {"frontend": {"api_keys": ["${oc.env:KEY}"]}},
}


@pytest.fixture
def recipe() -> jsonschema.Draft202012Validator:
    """Checks recipes."""
    return jsonschema.Draft202012Validator(document("recipe"))


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_one_and_is_printed(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["schema", name]) is ExitStatus.OK
    printed = json.loads(capfd.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(printed)
    assert printed["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_every_schema_of_the_project_is_in_the_registry() -> None:
    registered = {target.partition(":")[0] for target, _ in SCHEMAS.values()}
    with_schema = {
        ".".join(("lmrun", *path.relative_to(SOURCE).with_suffix("").parts))
        for path in SOURCE.rglob("*.py")
        if re.search(r"^SCHEMA\b.*= *(\{|json_schema\.)", path.read_text(), re.MULTILINE)
    }
    assert {"lmrun.artifacts.manifest", "lmrun.plan.lock", "lmrun.cli.list"} < with_schema
    assert with_schema - registered == set()


def test_without_a_name_the_schemas_are_listed(capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["schema"]) is ExitStatus.OK
    lines = capfd.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(SCHEMAS)


def test_a_folder_gets_a_file_for_each_schema(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["schema", "--output", str(tmp_path / "new")]) is ExitStatus.OK
    written = [Path(line) for line in capfd.readouterr().out.splitlines()]
    assert [path.name for path in written] == [f"{name}.schema.json" for name in SCHEMAS]
    for path, name in zip(written, SCHEMAS, strict=True):
        assert json.loads(path.read_text()) == document(name)


def test_a_folder_that_cannot_be_made_is_an_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "events.schema.json"
    assert main.run(["schema", "events", "--output", str(path.parent)]) is ExitStatus.STAGE_FAILED
    expected = f"lmrun: {path}: cannot be written: Not a directory.\n"
    assert capfd.readouterr().err.replace("File exists", "Not a directory") == expected


@pytest.mark.parametrize("name", RIGHT)
def test_the_schema_takes_what_a_recipe_may_say(
    name: str, recipe: jsonschema.Draft202012Validator
) -> None:
    recipe.validate(RIGHT[name])


@pytest.mark.parametrize("name", WRONG)
def test_the_schema_refuses_what_a_recipe_may_not_say(
    name: str, recipe: jsonschema.Draft202012Validator
) -> None:
    assert not recipe.is_valid(WRONG[name])


@pytest.mark.parametrize("key", keys.table())
def test_the_schema_and_composition_agree_on_every_key(
    key: str, recipe: jsonschema.Draft202012Validator
) -> None:
    group, _, leaf = key.partition(".")
    for value in (*VALUES, *(keys.table()[key].choices or ())):
        try:
            values.check(key, value, "here")
            is_legal = True
        except ConfigError:
            is_legal = False
        assert recipe.is_valid({group: {leaf: value}}) is is_legal, value


def test_every_key_has_a_description_that_editors_show() -> None:
    definitions = document("recipe")["$defs"]
    described = {
        f"{group}.{leaf}": body.get("description")
        for group, body in document("recipe")["properties"].items()
        if group != "defaults"
        for leaf, body in definitions[body["$ref"].rpartition("/")[2]]["properties"].items()
    }
    assert described == {name: key.rules["description"] for name, key in keys.table().items()}


def test_shipped_recipes_name_the_schema_and_obey_it(
    recipe: jsonschema.Draft202012Validator,
) -> None:
    found = sorted(paths.shipped("recipes").glob("*.yaml"))
    assert found
    for path in found:
        lines = path.read_text().splitlines()
        assert lines[1] == recipe_schema.MODELINE, path.name
        recipe.validate(yaml.safe_load(path.read_text()))


def test_the_schema_beside_the_shipped_recipes_is_the_one_that_lmrun_makes() -> None:
    shipped = paths.shipped("recipes") / recipe_schema.FILE_NAME
    made = recipe_schema.schema(Path.cwd())
    assert json.loads(shipped.read_text()) == made, "run `lmrun schema --editor` in the checkout"


def test_options_and_recipes_of_the_users_own_are_in_the_schema(tmp_path: Path) -> None:
    (tmp_path / "configs" / "kv").mkdir(parents=True)
    (tmp_path / "configs" / "kv" / "kv4_small.yaml").write_text("bits: 4\n")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.yaml").write_text("kv: {bits: 8}\n")
    made = recipe_schema.schema(tmp_path)
    item, named, _ = made["properties"]["defaults"]["items"]["anyOf"]
    assert item["properties"]["override /kv"]["enum"] == ["kv16", "kv4", "kv4_small", "kv8"]
    assert "mine" in named["enum"]


def test_editor_set_up_writes_the_schema_and_says_which_line_names_it(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert main.run(["schema", "--editor"]) is ExitStatus.OK
    out = capfd.readouterr().out
    assert out.startswith("recipes/recipe.schema.json\n")
    assert out.endswith("\n# yaml-language-server: $schema=recipe.schema.json\n")
    assert Path("recipes", "recipe.schema.json").is_file()


REPORTS = {
    "plan": ("plan", "+recipe=tiny", "--json"),
    "explain": ("explain", "kv.bits", "+recipe=tiny", "--json"),
    "list": ("list", "--json"),
    "diff": ("diff", "+recipe=tiny", "--", "+recipe=tiny", "kv.bits=8", "--json"),
    "verify": ("verify", "+recipe=tiny", "--json"),
    "doctor": ("doctor", "--json"),
    "store-ls": ("store", "ls", "--json"),
    "store-verify": ("store", "verify", "--json"),
    "store-key": ("store", "key", "+recipe=tiny", "--json"),
    "store-gc": ("store", "gc", "--dry-run", "--json"),
}


def test_what_commands_print_obeys_its_schema(capfd: pytest.CaptureFixture[str]) -> None:
    Path("recipes").mkdir()
    Path("recipes", "tiny.yaml").write_text(
        "model: {path: 'builtin:random-llama'}\nquant: {method: none}\nbackend: {threads: 1}\n"
    )
    assert main.run(["lock", "+recipe=tiny", "-q"]) is ExitStatus.OK
    capfd.readouterr()
    for name, argv in REPORTS.items():
        main.run(argv)
        printed = json.loads(capfd.readouterr().out)
        jsonschema.Draft202012Validator(document(name)).validate(printed)
        assert not jsonschema.Draft202012Validator(document(name)).is_valid({})


def test_the_bench_of_starts_obeys_its_schema() -> None:
    result = startup.Startup(("list",), 0.2, {"hydra": 100.0})
    jsonschema.validate(startup.document([result], 1), document("bench-startup"))


@pytest.fixture
def editor(tmp_path: Path) -> Iterator[LanguageServer]:
    """A language server over a folder with ``recipes/recipe.schema.json``."""
    command = shutil.which("yaml-language-server")
    if command is None:
        pytest.skip("yaml-language-server is not on the path; npm has it")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / recipe_schema.FILE_NAME).write_text(recipe_schema.text(tmp_path))
    server = LanguageServer(command, tmp_path)
    yield server
    server.close()


def test_a_real_language_server_completes_and_checks_a_recipe(
    editor: LanguageServer, tmp_path: Path
) -> None:
    lines = [
        "# mine",
        recipe_schema.MODELINE,
        "defaults:",
        "  - override /quant: ",
        "kv:",
        "  bits: ",
        "  memory_ratio: 1.5",
        "quant:",
        "  me",
        "backend:",
        '  threads: "${kv.bits}"',
        "  isa: avx9",
    ]
    path = tmp_path / "recipes" / "mine.yaml"
    editor.open(path, "\n".join(lines) + "\n")
    assert editor.complete(path, 3, len(lines[3])) == options_of("quant")
    assert sorted(editor.complete(path, 5, len(lines[5]))) == ["16", "32", "4", "8"]
    assert "method" in editor.complete(path, 8, len(lines[8]))
    wrong = dict(editor.diagnostics(path))
    assert wrong[6] == "Value is above the maximum of 1."
    assert wrong[11].startswith('Value is not accepted. Valid values: "auto", "generic", "avx2"')
    assert 10 not in wrong
    assert keys.table()["kv.memory_ratio"].rules["description"] in editor.hover(path, 6, 4)


def options_of(group: str) -> list[str]:
    """Options of a group, as the schema lists them."""
    overrides = document("recipe")["properties"]["defaults"]["items"]["anyOf"][0]["properties"]
    options: list[str] = overrides[f"override /{group}"]["enum"]
    return options


def test_the_registry_points_at_what_exists() -> None:
    for target, description in SCHEMAS.values():
        module, _, name = target.partition(":")
        assert getattr(import_module(module), name)
        assert description
