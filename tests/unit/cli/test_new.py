"""`lmrun new`: what it writes composes, plans, fits and says why."""

import json
import math
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

from lmrun import env
from lmrun.artifacts.store import Store
from lmrun.cli import main
from lmrun.cli.new_recipe import recipe_text
from lmrun.config import compose, recipe_schema
from lmrun.config.schema import ModelConfig
from lmrun.errors import ExitStatus, PlanError
from lmrun.models import chat_template
from lmrun.models.registry import spec_from_config
from lmrun.plan.choosing import choose
from lmrun.plan.machine import Machine
from lmrun.plan.plan import Plan
from lmrun.plan.planner import make_plan
from unit.conftest import CONFIG

GIB = 1 << 30
PROBE = """
import sys, time
from lmrun.cli.main import run
run(["new", "mine", "--model", "builtin:random-llama"])
heavy = ("torch", "transformers", "gradio", "ray", "hydra", "huggingface_hub")
print(time.process_time(), [name for name in heavy if name in sys.modules], file=sys.stderr)
"""


def machine(memory_bytes: int) -> Machine:
    return Machine("cpu", memory_bytes, "installed memory", 2, "avx512", "AuthenticAMD")


def chosen_text(path: str, memory_bytes: int) -> str:
    return recipe_text(choose(ModelConfig(path=path), Store(env.home()), machine(memory_bytes)))


def write(name: str, model: str, capfd: pytest.CaptureFixture[str], *flags: str) -> Path:
    """Run the verb; the file that it names."""
    assert main.run(["new", name, "--model", model, *flags]) is ExitStatus.OK
    first, _, advice = capfd.readouterr().out.partition("\n")
    assert advice.startswith(f"\n    lmrun plan +recipe={name}\n")
    return Path(first)


def plan_of(name: str) -> Plan:
    return make_plan(compose([f"+recipe={name}"]), Store(env.home()))


def refusal(argv: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    assert main.run(argv) is ExitStatus.USAGE
    return capfd.readouterr().err


def test_the_recipe_word_for_word(capfd: pytest.CaptureFixture[str]) -> None:
    assert chosen_text("builtin:random-llama-1b", 16 * GIB) == (
        "# random-llama-1b: BF16 weights and a 16-bit KV cache, which fit the 16 GiB of this"
        " machine.\n"
        f"{recipe_schema.MODELINE}\n"
        "defaults:\n"
        "  # 2.05 GiB of weights. In 4 bits, 736 MiB: awq_w4_g128 (groups of 128 divide every"
        " linear).\n"
        "  - override /quant: none\n"
        "  # 22 KiB a token; 1.38 GiB hold 32 sequences of 2048 tokens.\n"
        "  - override /kv: kv16\n"
        "model:\n"
        '  path: "builtin:random-llama-1b"\n'
        "backend:\n"
        "  context_length: 2048  # the model's own\n"
        "  max_num_seqs: 32\n"
    )


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of 11.6 GiB whose file is a hole; its own context is 131072 tokens."""
    folder = tmp_path_factory.mktemp("models") / "large"
    folder.mkdir()
    config = {
        **CONFIG,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 32000,
        "max_position_embeddings": 131072,
        "torch_dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config))
    header, end = {}, 0
    for name, shape in spec_from_config(config, "config.json").float_tensors().items():
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        out.truncate(8 + len(text) + end)
    return folder


@pytest.mark.parametrize(
    ("gib", "quant", "kv", "context"),
    [
        (64, "none", 16, 131072),
        (24, "none", 8, 131072),
        (16, "awq_w4_g128", 8, 131072),
        (10, "awq_w4_g128", 4, 131072),
        (6, "awq_w4_g128", 4, 65536),
    ],
)
def test_the_best_quality_that_fits_is_taken(
    large: Path, gib: int, quant: str, kv: int, context: int
) -> None:
    text = chosen_text(str(large), gib * GIB)
    document = yaml.safe_load(text)
    assert document["defaults"] == [{"override /quant": quant}, {"override /kv": f"kv{kv}"}]
    assert document["backend"]["context_length"] == context
    assert ("in 16 bits they do not fit" in text) == (quant != "none")
    assert ("the calibration of awq does not fit this machine" in text) == (quant == "rtn")
    assert ("# of the model's 131072, which do not fit" in text) == (context != 131072)


def test_what_nothing_makes_fit_is_refused_with_the_figures() -> None:
    with pytest.raises(PlanError, match=r"^plan: .* needs? .* of memory|^plan: needs "):
        chosen_text("builtin:random-llama-1b", 600 << 20)


def test_a_written_recipe_composes_and_plans_as_it_says(capfd: pytest.CaptureFixture[str]) -> None:
    file = write("mine", "builtin:random-llama", capfd)
    assert file == Path("recipes/mine.yaml")
    assert len(file.read_text().splitlines()) <= 14
    plan = plan_of("mine")
    assert plan.model_path == "builtin:random-llama"
    assert plan.recipe == "mine"
    assert plan.engine.context_length == 2048
    schema = json.loads((file.parent / recipe_schema.FILE_NAME).read_text())
    assert schema["properties"]["model"]


@pytest.mark.parametrize("folder", ["stories3m", "tinystories-656k", "stories260k"])
def test_recipes_of_real_checkpoints(
    folder: str, test_data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = write("mine", str(test_data / "models" / folder), capfd).read_text()
    plan = plan_of("mine")
    assert plan.served_name == folder
    assert "No chat template, so completions alone. To chat, add chat_template: a file or" in text
    group = {"stories3m": 64, "tinystories-656k": 128, "stories260k": None}[folder]
    if group is None:
        assert "No group size divides every linear, so they stay floats." in text
    else:
        assert f"awq_w4_g{group} (groups of {group} divide every linear)" in text
        compose(["+recipe=mine", f"quant=awq_w4_g{group}"])
        make_plan(compose(["+recipe=mine", f"quant=awq_w4_g{group}"]), Store(env.home()))


def test_a_quantized_folder_of_another_tool(
    test_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    name = "awq-gemm-gptqmodel-ts"
    with tarfile.open(test_data / "quantized" / "checkpoints.tar.xz") as archive:
        members = [one for one in archive.getmembers() if f"{name}/" in f"{one.name}/"]
        archive.extractall(tmp_path, members, filter="data")
    folder = next(tmp_path.rglob(name))
    text = write("mine", str(folder), capfd).read_text()
    assert "# The model's weights are stored as they will be served: " in text
    assert plan_of("mine").model_kind.value == "quantized"


def test_a_workspace_and_a_build(
    tiny_workspace: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = write("mine", str(tiny_workspace), capfd).read_text()
    assert "# The model's weights are stored as they will be served: " in text
    assert "No chat template" not in text
    assert plan_of("mine").stages == ()
    write("other", "builtin:random-llama", capfd)
    assert main.run(["build", "+recipe=other", "-q"]) is ExitStatus.OK
    workspace = Path(capfd.readouterr().out.strip())
    assert (workspace / "model.json").is_file()


def test_a_missing_tokenizer_and_a_broken_template_are_said(
    tiny_checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes((tiny_checkpoint / name).read_bytes())
    text = write("one", str(folder), capfd).read_text()
    assert "  # tokenizer.json is missing: the model can be planned, not served.\n" in text
    (folder / "tokenizer.json").write_text("{}")
    text = write("two", str(folder), capfd).read_text()
    names = ", ".join(sorted(chat_template.NAMED_TEMPLATES))
    assert f"To chat, add chat_template: a file or {names}." in text
    yaml.safe_load(text)


NO_NAMES = ("a.b", "../up", "a b", "é", "null", "True", "1", "1_0", "1e5", "inf", "a,b", "[x]")


@pytest.mark.parametrize("name", [*NO_NAMES, "$x", 'a"b', "x" * 101])
def test_names_that_no_override_could_say_are_refused(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    said = refusal(["new", name, "--model", "builtin:random-llama"], capfd)
    assert said == (
        f"lmrun: {name}: expected the name of a recipe: letters from a to z, digits, - and _, not"
        " a number alone. Choose another name.\n"
    )
    assert not Path("recipes").exists()


@pytest.mark.parametrize("name", ["7b-chat", "a_B-1", "w4", "on"])
def test_a_name_that_is_taken_can_be_planned(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    write(name, "builtin:random-llama", capfd)
    assert main.run(["plan", f"+recipe={name}"]) is ExitStatus.OK
    assert f"recipe    {name}\n" in capfd.readouterr().out


def test_words_that_new_does_not_take_are_refused(capfd: pytest.CaptureFixture[str]) -> None:
    assert refusal(["new", "mine"], capfd) == (
        "lmrun: new: expected a name and a model. Write lmrun new NAME --model PATH.\n"
    )
    said = refusal(["new", "mine", "--model", "builtin:random-llama", "kv.bits=8"], capfd)
    assert said == (
        "lmrun: new: expected a name and a model, got kv.bits=8. The recipe is there to be edited:"
        " write settings into it.\n"
    )
    assert not Path("recipes").exists()


def test_nothing_is_overwritten_or_hidden_unasked(capfd: pytest.CaptureFixture[str]) -> None:
    file = write("mine", "builtin:random-llama", capfd)
    file.write_text("# mine\n")
    again = ["new", "mine", "--model", "builtin:random-llama"]
    assert refusal(again, capfd) == (
        "lmrun: recipes/mine.yaml: is there already. Write --force to replace it.\n"
    )
    assert file.read_text() == "# mine\n"
    assert main.run([*again, "--force"]) is ExitStatus.OK
    assert file.read_text() != "# mine\n"
    hiding = ["new", "w16_kv16_server", "--model", "builtin:random-llama"]
    assert refusal(hiding, capfd) == (
        "lmrun: w16_kv16_server: is a recipe that comes with lmrun, which yours would hide."
        " Choose another name, or write --force.\n"
    )
    assert main.run([*hiding, "--force"]) is ExitStatus.OK


def test_another_folder_is_named_with_what_makes_it_found(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    flags = ("--output", str(tmp_path / "there"))
    assert main.run(["new", "mine", "--model", "builtin:random-llama", *flags]) is ExitStatus.OK
    out = capfd.readouterr().out
    assert out == (
        f"{tmp_path}/there/mine.yaml\n\n    lmrun plan +recipe=mine\n"
        f"    (with LMRUN_RECIPE_PATH={tmp_path}/there)\n"
    )


def test_a_model_that_is_not_there_writes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["new", "mine", "--model", "./none"]) is ExitStatus.REFUSED
    assert "no such folder" in capfd.readouterr().err
    assert not Path("recipes").exists()
    assert main.run(["new", "mine", "--model", "./none", "--revision", "x"]) is ExitStatus.USAGE
    assert capfd.readouterr().err == (
        "lmrun: --revision: belongs to a model of the hub, and ./none is none.\n"
    )


def test_it_takes_a_moment_and_neither_hydra_nor_torch() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    seconds, _, heavy = done.stderr.strip().rpartition("\n")[2].partition(" ")
    assert heavy == "[]"
    assert float(seconds) < 1.0  # 0.5 on a quiet core
