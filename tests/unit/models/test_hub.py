"""Models of the hub, through a small hub on loopback; verbs run as a user runs them.

huggingface_hub reads its settings when it is imported, so each command is a process of its own.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lmrun.errors import ExitStatus
from lmrun.models.registry import spec_from_config
from unit.conftest import CONFIG, write_tokenizer
from unit.models import hub_server
from unit.models.hub_server import HubServer, Repository

HUB_ID = "org/tiny"
RUN = "import sys; from lmrun.cli.main import main; main()"
CANARY = "hf_canary5b1f"
MODEL = f"model.hub_id={HUB_ID}"


@dataclass
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str


@dataclass
class Desk:
    """A hub with one tiny model, and a user with an empty cache and store."""

    hub: HubServer
    repository: Repository
    root: Path

    @property
    def environment(self) -> dict[str, str]:
        own = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("HF_", "HUGGING", "TRANSFORMERS"))
        }
        return {
            **own,
            **self.hub.environment(self.root / "hf"),
            "LMRUN_HOME": str(self.root / "home"),
            "OMP_NUM_THREADS": "1",
        }

    @property
    def snapshot(self) -> Path:
        folder = self.root / "hf" / "hub" / "models--org--tiny"
        return folder / "snapshots" / self.repository.commit

    @property
    def partial(self) -> Path:
        blobs = self.root / "hf" / "hub" / "models--org--tiny" / "blobs"
        return next(iter(blobs.glob("*.incomplete")), blobs / "none")

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", RUN, *words],
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, **environment: str) -> Done:
        self.hub.requests.clear()
        process = self.start(*words, **environment)
        out, err = process.communicate(timeout=120)
        return Done(process.returncode, out, err)

    def plan(self, *words: str, **environment: str) -> dict[str, Any]:
        done = self.run("plan", "--json", *words, **environment)
        assert done.status == ExitStatus.OK, done.err
        document: dict[str, Any] = json.loads(done.out)
        return document

    def refused(self, *words: str, **environment: str) -> str:
        """The one message of a plan that is refused."""
        done = self.run("plan", *words, **environment)
        assert done.status == ExitStatus.REFUSED, done.out + done.err
        assert done.err.count("\n") == 1
        return done.err.removeprefix("lmrun: ").rstrip("\n")


def write_model(folder: Path, hidden: int = 64, vocabulary: int = 272) -> Path:
    """A checkpoint that differs from zero nowhere but in its size; with a tokenizer."""
    folder.mkdir(parents=True)
    config = {**CONFIG, "hidden_size": hidden, "vocab_size": vocabulary, "head_dim": hidden // 4}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "README.md").write_text("not read by lmrun")
    shapes = spec_from_config(config, "config.json").float_tensors()
    rng = np.random.default_rng(3)
    tensors = {
        name: rng.normal(0, 0.02, shape).astype(np.float32) for name, shape in shapes.items()
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    write_tokenizer(folder)
    return folder


def split_into_shards(folder: Path) -> None:
    """The same tensors in two files with an index."""
    from safetensors.numpy import load_file

    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    weight_map = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with hub_server.serve() as hub:
        repository = hub.add(HUB_ID, write_model(tmp_path / "model"))
        yield Desk(hub, repository, tmp_path)


def tree(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*")) if folder.exists() else []


def fingerprints(plan: dict[str, Any]) -> dict[str, str]:
    return {stage["name"]: stage["fingerprint"] for stage in plan["stages"]}


def test_a_plan_knows_every_fingerprint_and_writes_nothing(desk: Desk) -> None:
    plan = desk.plan(MODEL, "quant=rtn", "quant.group_size=64")
    assert all(fingerprints(plan).values())
    assert tree(desk.root / "hf") == tree(desk.root / "home") == []
    resolve = plan["stages"][0]
    size = sum(path.stat().st_size for path in desk.repository.files() if path.suffix != ".md")
    assert resolve["action"] == "run"
    assert resolve["why"].startswith("download 5 files, ")
    assert plan["hub"]["download_bytes"] == size
    assert plan["hub"]["commit"] == desk.repository.commit
    assert plan["served_name"] == "tiny"
    assert plan["notes"][0] == (
        f"from the hub: org/tiny, main is commit {desk.repository.commit[:12]}"
    )
    weights = [line for line in desk.hub.requests if "model.safetensors" in line]
    assert all("bytes=0-100000" in line for line in weights)


def test_the_same_files_have_the_same_fingerprints_from_a_folder(desk: Desk) -> None:
    settings = ("quant=rtn", "quant.group_size=64")
    of_hub = fingerprints(desk.plan(MODEL, *settings))
    assert desk.run("build", f"model.path={desk.root / 'model'}", *settings).status == 0
    assert fingerprints(desk.plan(f"model.path={desk.root / 'model'}", *settings)) == of_hub
    after = desk.plan(MODEL, *settings)
    assert [stage["action"] for stage in after["stages"]] == ["run", "cached", "cached"]


def test_a_build_downloads_what_is_needed_once(desk: Desk) -> None:
    done = desk.run("build", MODEL, "-q")
    assert done.status == 0, done.err
    assert (Path(done.out.strip()) / "model.json").is_file()
    names = sorted(path.name for path in desk.snapshot.iterdir())
    assert names == [path.name for path in desk.repository.files() if path.suffix != ".md"]
    for path in desk.snapshot.iterdir():
        assert path.read_bytes() == (desk.repository.folder / path.name).read_bytes()
    assert desk.hub.authorized_storage == []
    again = desk.run("build", MODEL, "-q")
    assert again.status == 0
    assert desk.hub.requests == ["GET /api/models/org/tiny/revision/main"]


def test_shards_are_planned_by_their_headers_and_downloaded(desk: Desk) -> None:
    split_into_shards(desk.repository.folder)
    plan = desk.plan(MODEL)
    assert "model-00002-of-00002.safetensors" in plan["hub"]["missing"]
    assert desk.run("build", MODEL, "-q").status == 0
    assert fingerprints(desk.plan(MODEL)) == fingerprints(plan)


def test_a_fixed_commit_that_is_cached_needs_no_network(desk: Desk) -> None:
    commit = f"model.revision={desk.repository.commit}"
    assert desk.run("build", MODEL, commit, "-q").status == 0
    plan = desk.plan(MODEL, commit)
    assert desk.hub.requests == []
    assert all(stage["action"] == "cached" for stage in plan["stages"])
    assert plan["notes"][0] == f"from the hub: org/tiny {desk.repository.commit[:12]}"


@pytest.mark.parametrize(
    ("words", "environment"),
    [(("model.hub_offline=true",), {}), ((), {"HF_HUB_OFFLINE": "1"})],
    ids=["key", "environment"],
)
def test_offline_takes_the_branch_as_the_cache_saw_it_and_says_so(
    desk: Desk, words: tuple[str, ...], environment: dict[str, str]
) -> None:
    assert desk.run("build", MODEL, "-q").status == 0
    seen = desk.repository.commit
    (desk.repository.folder / "generation_config.json").write_text("{}")  # main moves on
    plan = desk.plan(MODEL, *words, **environment)
    assert desk.hub.requests == []
    assert plan["hub"]["commit"] == seen
    assert f"offline: main is taken as {seen[:12]}, as the cache last saw it" in plan["notes"]


def test_a_branch_that_moved_is_another_plan(desk: Desk) -> None:
    assert desk.run("build", MODEL, "-q").status == 0
    (desk.repository.folder / "generation_config.json").write_text('{"eos_token_id": 258}')
    plan = desk.plan(MODEL)
    assert plan["hub"]["commit"] == desk.repository.commit
    assert plan["hub"]["download_bytes"] < 20_000, "the weights are cached under their digest"
    assert desk.run("build", MODEL, "-q").status == 0
    assert "model.safetensors" not in " ".join(
        line
        for line in desk.hub.requests
        if line.startswith("GET /storage") and "bytes" not in line
    )


def test_offline_without_the_model_says_what_to_do(desk: Desk) -> None:
    folder = desk.root / "hf" / "hub" / "models--org--tiny"
    assert desk.refused(MODEL, "model.hub_offline=true") == (
        f"model.hub_id=org/tiny (command line): offline, and the cache ({folder}) does not know the"
        " revision main. Build once with the hub, or name a commit by model.revision."
    )
    commit = "0" * 40
    assert desk.refused(MODEL, f"model.revision={commit}", HF_HUB_OFFLINE="1") == (
        "model.hub_id=org/tiny (command line): offline, and the cache lacks config.json of"
        f" 000000000000 ({folder / 'snapshots' / commit})."
        " Run once with the hub: model.hub_offline=false, HF_HUB_OFFLINE unset."
    )


def test_a_killed_download_goes_on_where_it_ended(desk: Desk) -> None:
    shutil.rmtree(desk.repository.folder)
    write_model(desk.repository.folder, hidden=512, vocabulary=16384)  # 34 MB
    size = (desk.repository.folder / "model.safetensors").stat().st_size
    desk.hub.stall_after = 25 << 20
    process = desk.start("build", MODEL, "-q")
    deadline = time.monotonic() + 60
    while not (desk.partial.is_file() and desk.partial.stat().st_size >= 20 << 20):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = desk.partial.stat().st_size
    assert 20 << 20 <= kept < size
    plan = desk.plan(MODEL)
    assert plan["hub"]["download_bytes"] < size - kept + 50_000
    desk.hub.stall_after = None
    desk.hub.sent.clear()
    assert desk.run("build", MODEL, "-q").status == 0
    assert f"GET /storage/org/tiny/model.safetensors bytes={kept}-" in desk.hub.requests
    assert desk.hub.sent["model.safetensors"] <= size - kept + 2 * 100_001
    weights = desk.snapshot / "model.safetensors"
    assert weights.read_bytes() == (desk.repository.folder / weights.name).read_bytes()
    assert not desk.partial.exists()


def test_a_connection_that_breaks_is_taken_up_again(desk: Desk) -> None:
    shutil.rmtree(desk.repository.folder)
    write_model(desk.repository.folder, hidden=512, vocabulary=16384)  # 34 MB
    desk.hub.break_after = 20 << 20
    done = desk.run("build", MODEL, "-q")
    assert done.status == 0, done.err
    weights = desk.snapshot / "model.safetensors"
    assert weights.read_bytes() == (desk.repository.folder / weights.name).read_bytes()
    ranges = [line for line in desk.hub.requests if "GET /storage" in line]
    assert "bytes=0-100000" in ranges[0]
    assert f"bytes={20 << 20}-" in ranges[-1] or f"bytes={20_000_000}-" in ranges[-1]


def test_bytes_that_are_not_those_of_the_hub_are_dropped(desk: Desk) -> None:
    desk.plan(MODEL)
    desk.hub.damage = True
    done = desk.run("build", MODEL, "-q")
    assert done.status == ExitStatus.STAGE_FAILED
    assert "model.hub_id=org/tiny: model.safetensors: expected SHA-256 " in done.err
    assert ". The bytes are dropped; run the command again.\n" in done.err
    assert not desk.partial.exists()
    assert not (desk.snapshot / "model.safetensors").exists()
    desk.hub.damage = False
    assert desk.run("build", MODEL, "-q").status == 0


def test_a_damaged_file_of_the_cache_is_named(desk: Desk) -> None:
    assert desk.run("build", MODEL, "-q").status == 0
    weights = (desk.snapshot / "model.safetensors").resolve()
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    done = desk.run("build", MODEL, "-q")
    assert done.status == ExitStatus.STAGE_FAILED
    assert f"The file in the cache is damaged: delete {weights} and run again." in done.err
    weights.unlink()
    assert desk.run("build", MODEL, "-q").status == 0
    assert weights.read_bytes() == content


def test_a_token_is_read_from_its_reference_and_stands_nowhere(desk: Desk) -> None:
    desk.repository.token = CANARY
    token = "model.hub_token='${oc.env:MY_TOKEN}'"
    plan = desk.run("plan", MODEL, token, "--json", MY_TOKEN=CANARY)
    assert plan.status == 0, plan.err
    build = desk.run("build", MODEL, token, MY_TOKEN=CANARY)
    assert build.status == 0, build.err
    assert CANARY not in plan.out + plan.err + build.out + build.err
    assert desk.hub.authorized_storage == [], "the storage is another host"
    for path in [*tree(desk.root / "home"), *tree(desk.root / "hf")]:
        assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path
    assert json.loads(plan.out)["config"]["model"]["hub_token"] == "${oc.env:MY_TOKEN}"


def test_a_token_that_huggingface_hub_finds_serves_too(desk: Desk) -> None:
    desk.repository.token = CANARY
    assert desk.run("plan", MODEL, HF_TOKEN=CANARY).status == 0


def test_a_reference_to_an_unset_variable_is_refused(desk: Desk) -> None:
    done = desk.run("plan", MODEL, "model.hub_token='${oc.env:UNSET_TOKEN}'")
    assert done.status == ExitStatus.CONFIG
    assert "the environment variable UNSET_TOKEN is not set" in done.err


HOW = "set model.hub_token='${oc.env:NAME}' to a token that may read it"


def test_a_private_or_missing_model_is_refused(desk: Desk) -> None:
    expected = (
        f"model.hub_id=@ID (command line): no such model on {desk.hub.url}, or a private one."
        f" Check the name; if it is private, {HOW}."
    )
    assert desk.refused("model.hub_id=org/none") == expected.replace("@ID", "org/none")
    desk.repository.token = CANARY
    assert desk.refused(MODEL) == expected.replace("@ID", "org/tiny")


def test_a_gated_model_is_refused_before_its_weights_are_asked_for(desk: Desk) -> None:
    desk.repository.token, desk.repository.gated = CANARY, True
    assert desk.refused(MODEL) == (
        "model.hub_id=org/tiny (command line): gated: its owners grant access one by one. Ask for"
        f" it on {desk.hub.url}/org/tiny, then {HOW}."
    )


def test_an_unknown_revision_is_refused(desk: Desk) -> None:
    assert desk.refused(MODEL, "model.revision=v9") == (
        "model.revision=v9 (command line): no such revision of org/tiny."
        " Name a commit, a branch or a tag."
    )


def test_a_tag_is_a_revision(desk: Desk) -> None:
    desk.repository.revisions.add("v1.0")
    assert desk.plan(MODEL, "model.revision=v1.0")["hub"]["revision"] == "v1.0"


def test_pickles_alone_are_refused_before_anything_is_fetched(desk: Desk) -> None:
    folder = desk.repository.folder
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    message = desk.refused(MODEL)
    assert message.startswith(
        f"model.hub_id=org/tiny@{desk.repository.commit[:12]} (command line): expected"
        " model.safetensors, got only pytorch_model.bin. Those are pickle files, which lmrun does"
        " not read"
    )
    assert message.endswith('" org/tiny NEW_FOLDER (and copy the tokenizer files).')
    assert desk.hub.requests == ["GET /api/models/org/tiny/revision/main"]


def test_a_repository_without_config_is_refused(desk: Desk) -> None:
    (desk.repository.folder / "config.json").unlink()
    assert "expected config.json, got no such file" in desk.refused(MODEL)


def test_a_model_that_cannot_be_served_is_refused_by_its_config(desk: Desk) -> None:
    file = desk.repository.folder / "config.json"
    file.write_text(file.read_text().replace("LlamaForCausalLM", "OtherForCausalLM"))
    assert "architecture OtherForCausalLM is not built yet" in desk.refused(MODEL)


def test_a_model_that_is_known_and_not_served_is_priced_before_it_is_downloaded(
    desk: Desk,
) -> None:
    file = desk.repository.folder / "config.json"
    config = {**json.loads(file.read_text()), "architectures": ["InternLM2ForCausalLM"]}
    file.write_text(json.dumps(config))
    plan = desk.plan(MODEL, "device=rtx4090")
    assert plan["budget"]["weights_bytes"] > 0
    assert plan["refusals"][0].startswith(
        "model.hub_id=org/tiny (command line): config.json: architecture InternLM2ForCausalLM is"
        " not built yet. Supported: "
    )
    build = desk.run("build", MODEL, "-q")
    assert build.status == ExitStatus.REFUSED
    assert "model.safetensors" not in "".join(desk.hub.requests)


def test_a_hub_that_is_down_is_a_failure_and_not_a_refusal(desk: Desk) -> None:
    desk.hub.status = 503
    done = desk.run("plan", MODEL)
    assert done.status == ExitStatus.STAGE_FAILED
    assert done.err == (
        f"lmrun: model.hub_id=org/tiny (command line): {desk.hub.url} failed (HTTP 503)."
        " Try again later; what is downloaded is kept.\n"
    )


def test_a_hub_that_cannot_be_reached_is_a_failure(desk: Desk) -> None:
    done = desk.run("plan", MODEL, HF_ENDPOINT="http://127.0.0.1:9")
    assert done.status == ExitStatus.STAGE_FAILED
    assert done.err.startswith(
        "lmrun: model.hub_id=org/tiny (command line): cannot reach http://127.0.0.1:9 ("
    )
    assert done.err.endswith("With model.hub_offline=true the cache alone is used.\n")


def test_a_hub_cannot_name_a_place_outside_its_cache(desk: Desk) -> None:
    sibling = desk.repository.siblings()[-1]
    lies: list[dict[str, Any]] = [
        {"sha": "../../../elsewhere"},
        {"siblings": [{**sibling, "lfs": {"sha256": "../../x", "size": 1, "pointerSize": 1}}]},
    ]
    for lie in lies:
        desk.hub.lie = lie
        done = desk.run("build", MODEL, "-q")
        assert done.status == ExitStatus.STAGE_FAILED
        assert "got something else. Is that a Hugging Face hub?" in done.err
        assert tree(desk.root / "hf") == []


@pytest.mark.parametrize(
    "lie",
    [
        {"siblings": "x"},
        {"siblings": [{"size": 1}]},
        {"siblings": [{"rfilename": "config.json", "size": "x"}]},
        {"siblings": [{"rfilename": "config.json", "size": -5}]},
        {"sha": 7},
    ],
)
def test_what_no_hub_says_is_a_failure_and_no_bug(desk: Desk, lie: dict[str, Any]) -> None:
    desk.hub.lie = lie
    done = desk.run("plan", MODEL)
    assert done.status == ExitStatus.STAGE_FAILED, done.err
    assert done.err.endswith(", got something else. Is that a Hugging Face hub?\n")


def test_a_page_in_place_of_an_answer_is_a_failure(desk: Desk) -> None:
    desk.hub.page = b"<html>Please log in to this network.</html>"
    done = desk.run("plan", MODEL)
    assert done.status == ExitStatus.STAGE_FAILED, done.err
    assert done.err.endswith(", got something else. Is that a Hugging Face hub?\n")


def test_a_hub_that_sends_on_and_on_fills_no_disk(desk: Desk) -> None:
    desk.hub.endless = True
    done = desk.run("build", MODEL, "-q")
    assert done.status == ExitStatus.STAGE_FAILED
    size = (desk.repository.folder / "model.safetensors").stat().st_size
    assert (
        f"model.hub_id=org/tiny: model.safetensors: expected {size} bytes, as the hub says, got"
        " more. The bytes are dropped; run the command again.\n"
    ) in done.err
    assert desk.partial.stat().st_size == 0
    desk.hub.endless = False
    assert desk.run("build", MODEL, "-q").status == 0


def test_a_hub_that_sends_on_and_on_fills_no_memory(desk: Desk) -> None:
    desk.hub.endless, desk.hub.heeds_ranges = True, False
    assert desk.refused(MODEL).endswith(
        "model.safetensors: expected a safetensors file, got a header that is no JSON"
        " (Expecting value: line 1 column 1 (char 0)). Copy it again."
    )


def test_a_file_that_plain_http_does_not_bring_is_refused_with_another_way(desk: Desk) -> None:
    siblings = desk.repository.siblings()
    for one in siblings:
        if "lfs" in one:
            one["size"] = one["lfs"]["size"] = 60 * 10**9
    desk.hub.lie = {"siblings": siblings}
    done = desk.refused(MODEL)
    assert "larger than 50 GB" in done


def test_a_model_of_the_hub_is_imported_only_where_one_is_named(desk: Desk) -> None:
    probe = (
        "import sys\nfrom lmrun.cli.plan import run\nrun(sys.argv[1:])\n"
        "heavy = ('torch', 'transformers', 'gradio')\n"
        "print('huggingface_hub' in sys.modules, [n for n in heavy if n in sys.modules])"
    )

    def last_line(*words: str) -> str:
        command = [sys.executable, "-c", probe, *words]
        done = subprocess.run(
            command, env=desk.environment, capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()[-1]

    assert last_line("model=random_llama") == "False []"
    assert last_line(MODEL) == "True []"


def test_new_writes_a_recipe_that_is_held_to_one_commit(desk: Desk, tmp_path: Path) -> None:
    folder = str(tmp_path / "recipes")
    done = desk.run("new", "mine", "--model", HUB_ID, "--output", folder)
    assert done.status == 0, done.err
    text = (tmp_path / "recipes" / "mine.yaml").read_text()
    assert f'  hub_id: "{HUB_ID}"\n' in text
    assert (
        f'  revision: "{desk.repository.commit}"  # one commit, so that a lock can pin it\n' in text
    )
    assert tree(desk.root / "hf") == tree(desk.root / "home") == []
    plan = desk.plan("+recipe=mine", LMRUN_RECIPE_PATH=folder)
    assert plan["hub"]["revision"] == plan["hub"]["commit"] == desk.repository.commit
