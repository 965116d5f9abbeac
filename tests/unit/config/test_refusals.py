"""What is refused, and the words it is refused with."""

from pathlib import Path

import pytest

from lmrun.config import compose
from lmrun.config.names import recipe_names
from lmrun.errors import ConfigError, PlanError

QUANT_OPTIONS = (
    "autoround_w4_g128, awq_gptq_w4_g128, awq_w4_g128, awq_w4_g32, awq_w4_g64, best_w4_g128,"
    " best_w4_g32, best_w4_g64, gptq_w4_g128, gptq_w4_g32, gptq_w4_g64, none,"
    " rotated_gptq_w4_g128, rtn, rtn_mse, w8a16, w8a8"
)
GROUPS = (
    "model, backend, prune, quant, kv, calibration, parallel, device, frontend, evaluate, bench"
)
KEYS_OF_QUANT = (
    "method, bits, group_size, symmetric, activation_bits, range, act_order, damping, alpha,"
    " rotate, preset, skip, format, device, activation_memory"
)
KEYS_OF_KV = "bits, memory_ratio, memory, keep, keep_bits, keep_layers, block_size, prefix_caching"
RECIPES = "w16_kv16_server, w4a16_kv4_server"

ON_THE_COMMAND_LINE = {
    "quant.grup_size=64": (
        "quant.grup_size (command line): no such key. Did you mean quant.group_size?"
        f" Keys of quant: {KEYS_OF_QUANT}."
    ),
    "+kv.ratio=0.5": (f"kv.ratio (command line): no such key. Keys of kv: {KEYS_OF_KV}."),
    "bits=4": (
        f"bits (command line): no such key. Did you mean quant.bits or kv.bits? Groups: {GROUPS}."
    ),
    "engine.threads=4": (
        "engine.threads (command line): no such key. Did you mean backend.threads?"
        f" Groups: {GROUPS}."
    ),
    "kv.bits=5": "kv.bits=5 (command line): expected one of 4, 8, 16 or 32.",
    "quant.group_size=100": (
        "quant.group_size=100 (command line): expected one of 0, 32, 64 or 128."
    ),
    "kv.memory_ratio=1.5": (
        "kv.memory_ratio=1.5 (command line): expected a number above 0 and at most 1."
    ),
    "kv.memory_ratio=nan": (
        "kv.memory_ratio=NaN (command line): expected a number above 0 and at most 1."
    ),
    "frontend.drain_s=inf": (
        "frontend.drain_s=Infinity (command line): expected a number of at least 0."
    ),
    "backend.threads=four": (
        "backend.threads=four (command line): expected a whole number from 1 to 1024, or null,"
        " got the text 'four'."
    ),
    "backend.threads=true": (
        "backend.threads=true (command line): expected a whole number from 1 to 1024, or null."
    ),
    "kv.bits=4.0": "kv.bits=4.0 (command line): expected one of 4, 8, 16 or 32.",
    "backend.name=natve": (
        "backend.name=natve (command line): expected one of native, torch, vllm, sglang, lmdeploy"
        " or llama_cpp. Did you mean native?"
    ),
    "kv.memory=lots": (
        "kv.memory=lots (command line): expected a value such as auto, 2GiB or 500MB."
    ),
    "kv.prefix_caching=1": "kv.prefix_caching=1 (command line): expected true or false.",
    "quant.skip=layers": "quant.skip=layers (command line): expected a list of texts.",
    "model.path={a: b}": (
        'model.path={"a": "b"} (command line): expected a text, or null, got a mapping.'
    ),
    "quant=awq_w4_g129": (
        "quant=awq_w4_g129 (command line): no such option. Did you mean awq_w4_g128?"
        f" Options of quant: {QUANT_OPTIONS}."
    ),
    "quant=[none,rtn]": (
        f"quant (command line): expected the name of one option. Options of quant: {QUANT_OPTIONS}."
    ),
    "+quant=rtn": "+quant=rtn (command line): has an option already. Write quant=rtn.",
    "quant@kv=rtn": (
        "quant@kv (command line): an option goes to its own group. Write quant=OPTION."
    ),
    "model=/models/llama": (
        "model=/models/llama (command line): expected the name of an option, got a path."
        " Write model.path=/models/llama."
    ),
    "+kv.bits=4": "+kv.bits (command line): is a key already. Write kv.bits=VALUE, no plus.",
    "~kv.bits": (
        "~kv.bits (command line): a key cannot be taken away."
        " Write kv.bits=VALUE, or choose another option of its group."
    ),
    "kv.bits": "kv.bits (command line): expected KEY=VALUE. Write kv.bits=VALUE.",
    "model.path=[a": (
        "model.path (command line): expected KEY=VALUE, got a value that cannot be read."
        " Quote it twice if it holds blanks or signs: \"model.path='…'\"."
    ),
    "reciep=w4a16_kv4_server": "reciep (command line): no such key. Did you mean recipe?",
    "recipe=w4a16_kv4_server.yaml": (
        "recipe=w4a16_kv4_server.yaml (command line): expected the name of a recipe, without"
        " folder and suffix. Write recipe=w4a16_kv4_server."
    ),
    "recipe=../w4a16": (
        "recipe=../w4a16 (command line): expected the name of a recipe, without folder and"
        f" suffix. Recipes: {RECIPES}."
    ),
    "recipe=3": (
        "recipe=3 (command line): expected the name of a recipe, or several as '+recipe=[A,B]'."
    ),
    "model.served_name=${model.nme}": (
        "model.served_name (command line): refers to model.nme, which is no such key."
        " Keys of model: path, hub_id, revision, hub_token, hub_offline, served_name,"
        " chat_template."
    ),
    "model.served_name=${oc.env:LMRUN_UNSET}": (
        "model.served_name (command line): the environment variable LMRUN_UNSET is not set."
        " Set it, or give a value."
    ),
    "model.served_name=${now:%Y}": (
        "model.served_name=${now:%Y} (command line): no such resolver as now."
        " Use ${oc.env:NAME} for an environment variable or ${group.key} for another key."
    ),
    "kv.bits=${model.chat_template}": (
        "kv.bits (command line): refers to a value that is not legal here:"
        " expected one of 4, 8, 16 or 32."
    ),
    "model.path=???": "model.path (command line): must be given. Write model.path=VALUE.",
    "kv.bits=4,8": (
        "kv.bits (command line): several values are a sweep. Add -m to run it. Or give one value."
    ),
    "model.path=a,b": (
        "model.path (command line): several values are a sweep. Add -m to run it."
        " A text with a comma is quoted twice: \"model.path='A,B'\"."
    ),
    "recipe=glob(*)": (
        "recipe (command line): several values are a sweep. Add -m to run it."
        " Several recipes in one run are written '+recipe=[A,B]'."
    ),
    "quant.skip=a,b": (
        "quant.skip (command line): several values are a sweep. Add -m to run it."
        " A list is written 'quant.skip=[A,B]'."
    ),
    "hydra/launcher=joblib": (
        "hydra/launcher (command line): is about a sweep. Add -m, or leave it out."
    ),
}

NOT_BUILT = {
    "hydra.run.dir=x": "hydra.run.dir (command line): Hydra's own settings are not built yet.",
}

IN_A_RECIPE = {
    "kv:\n  bits: 5\n": "kv.bits=5 (recipes/mine.yaml:2): expected one of 4, 8, 16 or 32.",
    "# one\n\nquant:\n  method: awq\n  grup_size: 64\n": (
        "quant.grup_size (recipes/mine.yaml:5): no such key. Did you mean quant.group_size?"
        f" Keys of quant: {KEYS_OF_QUANT}."
    ),
    "kv.bits: 4\n": (
        "kv.bits (recipes/mine.yaml:1): expected as nested keys. Write `kv:` and below it `bits:`."
    ),
    "kv:\n": (
        "kv (recipes/mine.yaml:1): expected its keys below it, got nothing."
        f" Keys of kv: {KEYS_OF_KV}."
    ),
    "kv: kv4\n": (
        "kv (recipes/mine.yaml:1): expected its keys below it, got the text 'kv4'."
        " Under `defaults:` write `override /kv: kv4`."
        f" Keys of kv: {KEYS_OF_KV}."
    ),
    "frontend:\n  port: '8080'\n": (
        "frontend.port=8080 (recipes/mine.yaml:2): expected a whole number from 1 to 65535,"
        " got the text '8080'."
    ),
    "model:\n  served_name: 7\n": (
        "model.served_name=7 (recipes/mine.yaml:2): expected a value such as my-model, or null,"
        " got a number or true/false: put it in quotes."
    ),
    "backend:\n  name:\n    _target_: os.system\n": (
        "_target_ (recipes/mine.yaml:3): no such key. A recipe is data: it names no classes and"
        " calls nothing."
    ),
    "hydra:\n  run:\n    dir: x\n": (
        f"hydra.run.dir (recipes/mine.yaml:3): no such key. Groups: {GROUPS}."
    ),
    "defaults:\n  - override /quant: awq_w4_g12\n": (
        "quant=awq_w4_g12 (recipes/mine.yaml:2): no such option. Did you mean awq_w4_g128?"
        f" Options of quant: {QUANT_OPTIONS}."
    ),
    "defaults:\n  - override /quantt: rtn\n": (
        f"quantt=rtn (recipes/mine.yaml:2): no such group. Did you mean quant? Groups: {GROUPS}."
    ),
    "defaults:\n  - kv: kv4\n": (
        "defaults: kv (recipes/mine.yaml:2): expected `override /GROUP: OPTION`, the name of a"
        " recipe, or `_self_`. Write `override /kv: kv4`."
    ),
    "defaults:\n  - override /kv: kv4\n  - w16_kv16_server\n": (
        "defaults: w16_kv16_server (recipes/mine.yaml:3): expected before the `override` lines."
        " Move it up."
    ),
    "defaults:\n  - mine\n": "recipe=mine (recipes/mine.yaml:2): inherits itself: mine → mine.",
    "defaults: w16_kv16_server\n": "defaults (recipes/mine.yaml:1): expected a list.",
    "defaults:\n": "defaults (recipes/mine.yaml:1): expected a list.",
    "kv:\n  bits: 4\n  bits: 8\n": "recipes/mine.yaml:3: expected YAML: found duplicate key bits.",
    "kv:\n  bits: [4\n": (
        "recipes/mine.yaml:3: expected YAML: expected ',' or ']', but got '<stream end>'."
    ),
    **{
        f"frontend:\n  port: {number}\n": (
            f"recipes/mine.yaml:2: expected a decimal number, got {number}, which YAML reads as"
            " another one. Write it out, or put a text in quotes."
        )
        for number in ("010", "1:30", "0x1F90", "0b11", "8_080")
    },
    "model:\n  served_name: ''\n": (
        "model.served_name= (recipes/mine.yaml:2): expected a value such as my-model, or null."
    ),
    "kv:\n  ? [a]\n  : 1\n": ("recipes/mine.yaml:2: expected the name of a key before the colon."),
    "null: 1\n": "recipes/mine.yaml:1: expected the name of a key before the colon.",
    "- kv\n": "recipes/mine.yaml:1: expected `key: value` lines, got a list.",
    "kv4\n": "recipes/mine.yaml:1: expected `key: value` lines, got a single value.",
    "kv: &kv\n  bits: 4\nquant: *kv\n": (
        "recipes/mine.yaml:3: expected plain values, got an alias. Write the value out."
    ),
    "kv:\n  bits: " + "[" * 400_000 + "]" * 400_000: (
        "recipes/mine.yaml:2: expected at most 20 levels, got more."
    ),
    "kv: " + "{a: " * 900 + "}" * 900: (
        "recipes/mine.yaml:1: expected at most 20 levels, got more."
    ),
    "".join(f"{' ' * level}a:\n" for level in range(1000)): (
        "recipes/mine.yaml:21: expected at most 20 levels, got more."
    ),
    "kv:\n  bits: !!python/name:os.system\n": (
        "recipes/mine.yaml:2: expected YAML: could not determine a constructor for the tag"
        " 'tag:yaml.org,2002:python/name:os.system'."
    ),
}


@pytest.mark.parametrize("override", ON_THE_COMMAND_LINE)
def test_an_override_is_refused_with_what_is_legal(override: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        compose([override], cwd=tmp_path)
    assert str(caught.value) == ON_THE_COMMAND_LINE[override]


@pytest.mark.parametrize("override", NOT_BUILT)
def test_sweeps_and_hydras_settings_are_not_built_yet(override: str) -> None:
    with pytest.raises(PlanError) as caught:
        compose([override])
    assert str(caught.value) == NOT_BUILT[override]


@pytest.mark.parametrize("text", IN_A_RECIPE)
def test_a_recipe_is_refused_with_file_and_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "recipes" / "mine.yaml"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        compose(["+recipe=mine"], cwd=tmp_path)
    assert str(caught.value) == IN_A_RECIPE[text]


def test_an_unknown_recipe_names_the_nearest_and_where_was_searched(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    with pytest.raises(ConfigError) as caught:
        compose(["+recipe=w4a16_kv4_sever"], cwd=tmp_path)
    assert str(caught.value) == (
        "recipe=w4a16_kv4_sever (command line): no such recipe. Did you mean w4a16_kv4_server?"
        f" Recipes: {RECIPES}. Searched: recipes, lmrun:recipes."
    )


def test_a_folder_or_a_dead_link_is_no_recipe(tmp_path: Path) -> None:
    folder = tmp_path / "recipes"
    (folder / "folder.yaml").mkdir(parents=True)
    (folder / "dead.yaml").symlink_to(tmp_path / "nowhere")
    assert recipe_names([folder]) == []
    with pytest.raises(ConfigError, match=f"no such recipe. Recipes: {RECIPES}"):
        compose(["+recipe=dead"], cwd=tmp_path)


def test_a_recipe_that_would_be_merged_twice_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "base.yaml").write_text("kv:\n  bits: 4\n")
    (folder / "a.yaml").write_text("defaults:\n  - base\n")
    (folder / "b.yaml").write_text("# b\ndefaults:\n  - base\n")
    with pytest.raises(ConfigError) as caught:
        compose(["+recipe=[a,b]"], cwd=tmp_path)
    assert str(caught.value) == (
        "recipe=base (recipes/b.yaml:3): taken part already; merging it again would undo what"
        " came between. Name it once."
    )


def test_recipe_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        compose(["+recipe=w16_kv16_server", "recipe=w4a16_kv4_server"])
    assert str(caught.value) == "recipe (command line): given twice. Write '+recipe=[A,B]'."


def test_an_option_that_a_recipes_key_would_beat_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipes" / "mine.yaml"
    path.parent.mkdir()
    path.write_text("kv:\n  bits: 4\n")
    with pytest.raises(ConfigError) as caught:
        compose(["+recipe=mine", "kv=kv8"], cwd=tmp_path)
    assert str(caught.value) == (
        "kv=kv8 (command line): sets kv.bits=8, but recipes/mine.yaml:2 sets 4 and would win."
        " Write kv.bits=8 as well."
    )
    assert compose(["+recipe=mine", "kv=kv8", "kv.bits=8"], cwd=tmp_path).run.kv.bits == 8


def test_an_option_that_an_inherited_key_would_beat_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "base.yaml").write_text("kv:\n  bits: 4\n")
    (folder / "prod.yaml").write_text("defaults:\n  - base\n  - override /kv: kv8\n")
    with pytest.raises(ConfigError) as caught:
        compose(["+recipe=prod"], cwd=tmp_path)
    assert str(caught.value) == (
        "kv=kv8 (recipes/prod.yaml:3): sets kv.bits=8, but recipes/base.yaml:2 sets 4 and would"
        " win. Write kv.bits=8 as well."
    )
    (folder / "last.yaml").write_text("defaults:\n  - override /kv: kv8\nkv:\n  bits: 4\n")
    assert compose(["+recipe=last"], cwd=tmp_path).run.kv.bits == 4


def test_a_wrong_value_in_a_recipe_is_refused_even_where_it_is_beaten(tmp_path: Path) -> None:
    path = tmp_path / "recipes" / "mine.yaml"
    path.parent.mkdir()
    path.write_text("kv:\n  bits: 5\n")
    with pytest.raises(ConfigError, match=r"^kv.bits=5 \(recipes/mine.yaml:2\)"):
        compose(["+recipe=mine", "kv.bits=4"], cwd=tmp_path)
