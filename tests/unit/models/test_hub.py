"""Models of the hub, through a small hub on loopback; verbs run as a user runs them.

huggingface_hub reads its settings when it is imported, so each command is a process of its own.
"""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lmrun.errors import ExitStatus
from unit.models.hub_desk import (
    CANARY,
    HUB_ID,
    MODEL,
    Desk,
    fingerprints,
    split_into_shards,
    tree,
    write_model,
)


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
