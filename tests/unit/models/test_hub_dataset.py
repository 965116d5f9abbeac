"""Calibration texts from datasets of the hub, through a small hub on loopback."""

import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lmrun.errors import ExitStatus, PlanError
from lmrun.models.hub_dataset import Named, choose
from unit.models import hub_server
from unit.models.hub_desk import Desk, write_model

DATA = "hub:org/texts"
SETTINGS = (
    *("quant=awq_w4_g64", "quant.group_size=32", "calibration.samples=4", "calibration.seq_len=24"),
    *("backend.context_length=64", "backend.max_num_seqs=2"),
)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A local model, and a hub with a dataset of two splits."""
    write_model(tmp_path / "model")
    folder = tmp_path / "texts"
    folder.mkdir()
    for split in ("train", "test"):
        lines = [json.dumps({"text": f"{split} story {i}. " * 9, "id": i}) for i in range(20)]
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
    (folder / "README.md").write_text("# texts")
    with hub_server.serve() as hub:
        repository = hub.add("datasets/org/texts", folder)
        yield Desk(hub, repository, tmp_path)


def _words(desk: Desk, data: str = DATA) -> list[str]:
    return [f"model.path={desk.root / 'model'}", f"calibration.data={data}", *SETTINGS]


def _cached(desk: Desk, name: str) -> Path:
    folder = desk.root / "hf" / "hub" / "datasets--org--texts" / "snapshots"
    return folder / desk.repository.commit / name


def _calibrate(desk: Desk) -> dict[str, Any]:
    """The one manifest of calibrate."""
    (path,) = (desk.root / "home" / "artifacts" / "calibrate").glob("*/manifest.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_a_plan_says_what_is_to_come_and_a_build_brings_it(desk: Desk) -> None:
    plan = desk.plan(*_words(desk))
    stages = {stage["name"]: stage for stage in plan["stages"]}
    assert stages["calibrate"]["action"] == "unknown"
    assert stages["calibrate"]["why"].startswith("download ")
    assert not (desk.root / "hf").exists() or not list((desk.root / "hf").rglob("*.jsonl"))
    done = desk.run("build", *_words(desk))
    assert done.status == ExitStatus.OK, done.err
    file = desk.root / "texts" / "train.jsonl"
    assert _cached(desk, "train.jsonl").read_bytes() == file.read_bytes()
    assert not _cached(desk, "test.jsonl").exists()
    manifest = _calibrate(desk)
    assert manifest["inputs"]["text"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert manifest["metrics"]["data"]["documents"] == 20
    again = desk.plan(*_words(desk))
    assert {stage["action"] for stage in again["stages"]} == {"cached"}


def test_the_fingerprint_is_that_of_the_same_file_on_this_machine(desk: Desk) -> None:
    assert desk.run("build", *_words(desk)).status == ExitStatus.OK
    local = desk.plan(*_words(desk, str(desk.root / "texts" / "train.jsonl")))
    (artifact,) = (desk.root / "home" / "artifacts" / "calibrate").iterdir()
    found = [stage["fingerprint"] for stage in local["stages"] if stage["name"] == "calibrate"]
    assert found in ([artifact.name], [None]), "None: the local file is not hashed yet"
    assert desk.run("build", *_words(desk, str(desk.root / "texts" / "train.jsonl"))).status == 0
    assert [path.name for path in artifact.parent.iterdir()] == [artifact.name]


def test_a_split_and_a_field_may_be_named_and_count(desk: Desk) -> None:
    lines = [json.dumps({"body": f"story {i}. " * 9, "text": "no"}) for i in range(20)]
    (desk.root / "texts" / "other.jsonl").write_text("\n".join(lines))
    done = desk.run("build", *_words(desk, f"{DATA}:other:body"))
    assert done.status == ExitStatus.OK, done.err
    manifest = _calibrate(desk)
    digest = hashlib.sha256((desk.root / "texts" / "other.jsonl").read_bytes()).hexdigest()
    assert manifest["inputs"]["text"] != digest, "the field is part of what was read"


def test_a_packed_shard_in_a_folder_is_fetched_by_its_digest(desk: Desk) -> None:
    folder = desk.root / "texts" / "en"
    folder.mkdir()
    raw = b"".join(b'{"text": "a long story of %d. "}\n' % i for i in range(200))
    for number in (0, 1):
        (folder / f"c4-train.0000{number}-of-00002.json.gz").write_bytes(gzip.compress(raw))
    done = desk.run("build", *_words(desk, "hub:org/texts/en:train"))
    assert done.status == ExitStatus.OK, done.err
    assert _cached(desk, "en/c4-train.00000-of-00002.json.gz").is_file()
    assert not _cached(desk, "en/c4-train.00001-of-00002.json.gz").exists()
    assert desk.hub.authorized_storage == []


def test_what_is_cached_needs_no_hub(desk: Desk) -> None:
    assert desk.run("build", *_words(desk)).status == ExitStatus.OK
    plan = desk.plan(*_words(desk), HF_HUB_OFFLINE="1")
    assert {stage["action"] for stage in plan["stages"]} == {"cached"}
    assert desk.hub.requests == []


def test_offline_and_not_cached_is_refused(desk: Desk) -> None:
    message = desk.refused(*_words(desk), HF_HUB_OFFLINE="1")
    folder = desk.root / "hf" / "hub" / "datasets--org--texts"
    assert message == (
        f"calibration.data=hub:org/texts (command line): offline, and the cache ({folder}) does not"
        " hold it. Build once with the hub, or name a local file."
    )


def test_a_dataset_that_is_not_there_is_refused(desk: Desk) -> None:
    message = desk.refused(*_words(desk, "hub:org/nothing"))
    assert message == (
        f"calibration.data=hub:org/nothing (command line): no such dataset on {desk.hub.url}, or a"
        " private one. Check the name; if it is private, set model.hub_token='${oc.env:NAME}' to a"
        " token that may read it."
    )


def test_a_revision_that_is_not_there_is_refused(desk: Desk) -> None:
    message = desk.refused(*_words(desk, "hub:org/texts@v9"))
    assert message == (
        "calibration.data=hub:org/texts@v9 (command line): no such revision of org/texts."
        " Name a commit, a branch or a tag."
    )


def test_a_hub_that_cannot_be_reached_is_a_failure(desk: Desk) -> None:
    done = desk.run("plan", *_words(desk), HF_ENDPOINT="http://127.0.0.1:9")
    assert done.status == ExitStatus.STAGE_FAILED
    assert (
        "calibration.data=hub:org/texts (command line): cannot reach http://127.0.0.1:9" in done.err
    )


def _write_parquet(desk: Desk) -> None:
    """Rows of text in a dataset of its own."""
    import pyarrow  # type: ignore[import-untyped,unused-ignore]
    import pyarrow.parquet  # type: ignore[import-untyped,unused-ignore]

    folder = desk.root / "rows"
    folder.mkdir()
    rows = pyarrow.table({"text": [f"row {i}. " * 30 for i in range(20)], "id": list(range(20))})
    pyarrow.parquet.write_table(rows, folder / "train-00000-of-00001.parquet", row_group_size=6)
    desk.hub.add("datasets/org/rows", folder)


def test_rows_of_parquet_are_documents(desk: Desk) -> None:
    _write_parquet(desk)
    done = desk.run("build", *_words(desk, "hub:org/rows"))
    assert done.status == ExitStatus.OK, done.err
    assert _calibrate(desk)["metrics"]["data"]["documents"] == 20


def test_parquet_without_its_reader_is_refused_before_anything(desk: Desk) -> None:
    _write_parquet(desk)
    # an environment without pyarrow: the folder before all others hides it
    hidden = desk.root / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(
        "import importlib.util as util\nfind = util.find_spec\n"
        "util.find_spec = lambda name, *more: None if name == 'pyarrow' else find(name, *more)\n"
    )
    message = desk.refused(*_words(desk, "hub:org/rows"), PYTHONPATH=str(hidden))
    assert message == (
        "calibration.data=hub:org/rows (command line): reading parquet needs the package pyarrow,"
        " which is not installed. Run `pip install 'lmrun[parquet]'`, or name a .jsonl or .txt"
        " file."
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("hub:a/b", ("a/b", "", "main", None, None)),
        ("hub:a/b:test", ("a/b", "", "main", "test", None)),
        ("hub:a/b:test:body", ("a/b", "", "main", "test", "body")),
        ("hub:a/b/wikitext-2-raw-v1:train", ("a/b", "wikitext-2-raw-v1/", "main", "train", None)),
        ("hub:a/b.c@v1.0:train", ("a/b.c", "", "v1.0", "train", None)),
    ],
)
def test_parts_of_a_name(text: str, found: tuple[str | None, ...]) -> None:
    named = Named.of(text)
    assert (named.hub_id, named.folder, named.revision, named.split, named.field) == found


@pytest.mark.parametrize("text", ["hub:", "hub:name", "hub:a/b:", "hub:a/b:x:y:z", "hub:a/b c"])
def test_names_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(PlanError) as caught:
        Named.of(text)
    assert str(caught.value).startswith(
        f"calibration.data={text}: expected hub:ORG/NAME[:SPLIT[:FIELD]], a folder"
    )


def test_the_first_file_of_the_split_is_taken() -> None:
    names = ["data/test-0.parquet", "data/train-00001.parquet", "data/train-00000.parquet"]
    assert choose(Named.of("hub:a/b"), sorted(names)) == "data/train-00000.parquet"
    assert choose(Named.of("hub:a/b:test"), sorted(names)) == "data/test-0.parquet"
    assert choose(Named.of("hub:a/b"), ["stories.txt"]) == "stories.txt", "the only one"


def test_a_split_that_is_nowhere_or_everywhere_is_refused() -> None:
    with pytest.raises(PlanError, match=r"expected a file of the split dev that ends in one of"):
        choose(Named.of("hub:a/b:dev"), ["train.txt", "test.txt"])
    with pytest.raises(PlanError) as caught:
        choose(Named.of("hub:a/b"), ["de/train.txt", "en/train.txt"])
    assert str(caught.value) == (
        "calibration.data=hub:a/b: the split train is in several folders: de, en. Name one:"
        " hub:a/b/de:train."
    )
