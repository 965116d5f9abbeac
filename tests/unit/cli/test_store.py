"""`lmrun store`, as it is typed."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from lmrun import env
from lmrun.artifacts import uses
from lmrun.artifacts.store import Store
from lmrun.artifacts.uses import Use
from lmrun.cli import main
from lmrun.cli.store import parse_age
from lmrun.cli.store_text import ago
from lmrun.errors import ExitStatus, UsageError
from unit.cli.conftest import QUANTIZED

TINY = ("model=random_llama", "quant=none")
_COLUMNS = ("stage", "fingerprint", "size", "age", "last used", "used by")


class Command:
    """Runs `lmrun store …` in this process."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def __call__(self, *words: str, status: ExitStatus = ExitStatus.OK) -> str:
        """stdout, or stderr where it fails."""
        self._capfd.readouterr()
        assert main.run(list(words)) is status
        said = self._capfd.readouterr()
        return said.out if status is ExitStatus.OK else said.out + said.err

    def json(self, *words: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self(*words, "--json"))
        return document


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Command:
    return Command(capfd)


@pytest.fixture
def store() -> Store:
    return Store(env.home())


@pytest.fixture
def built(built_home: Path, store: Store) -> Store:
    """The store of this test, with the artifacts of QUANTIZED."""
    shutil.copytree(built_home, store.home, dirs_exist_ok=True)
    return store


def _fingerprint(store: Store, stage: str) -> str:
    return next((store.home / "artifacts" / stage).iterdir()).name


def test_an_empty_store_is_not_made_by_looking(command: Command, store: Store) -> None:
    assert command("store", "ls") == f"0 artifacts, 0 B in {store.home}\n"
    assert command("store", "verify") == "0 artifacts, none damaged\n"
    assert command("store", "gc") == "removed 0, kept 0, freed 0 B\n"
    assert not (store.home / "artifacts").exists()


def test_ls_tells_size_age_and_users(command: Command, built: Store) -> None:
    convert = _fingerprint(built, "convert")
    os.utime(built.folder("convert", convert) / "manifest.json", (0, 0))
    lock = Path("locks") / "a.lock.yaml"
    lock.parent.mkdir()
    lock.write_text(convert)
    with uses.using(built.home, Use("up", {"convert": convert}, port=23333)):
        lines = command("store", "ls").splitlines()
        document = command.json("store", "ls")
    assert re.split("  +", lines[0]) == list(_COLUMNS)
    assert [line.split()[0] for line in lines[1:-1]] == ["resolve", "quantize", "convert"]
    pattern = (
        rf"convert   {convert[:12]}  [0-9.]+ MiB  [0-9]+ d  [0-9]+ s +"
        rf"up on port 23333 \(pid {os.getpid()}\), locks/a\.lock\.yaml"
    )
    assert re.fullmatch(pattern, lines[3]), lines[3]
    assert lines[2].endswith(f"convert {convert[:12]}")
    assert re.fullmatch(rf"3 artifacts, [0-9.]+ MiB in {built.home}", lines[-1])
    row = document["artifacts"][2]
    assert (row["fingerprint"], row["problem"]) == (convert, None)
    assert row["created"] == "1970-01-01T00:00:00Z"
    assert row["model_name"] == "random-llama"
    assert row["used_by"]["running"] == [{"verb": "up", "pid": os.getpid(), "port": 23333}]
    assert row["used_by"]["locks"] == [str(lock.absolute())]
    assert document["bytes"] == sum(one["bytes"] for one in document["artifacts"])


def test_ls_shows_what_is_unfinished(command: Command, store: Store) -> None:
    with store.building("convert", "a" * 64) as partial:
        (partial / "half").write_bytes(b"1234")
        assert command("store", "ls").splitlines()[1].endswith("being built")
    line = command("store", "ls").splitlines()[1]
    assert re.fullmatch(
        r"convert  a{12}  4 B   [0-9]+ s +unfinished; the next build goes on", line
    ), line
    document = command.json("store", "ls")
    assert [one["is_being_built"] for one in document["unfinished"]] == [False]


def test_verify_names_what_is_damaged_and_the_next_build_makes_it_again(
    command: Command, built: Store
) -> None:
    convert = _fingerprint(built, "convert")
    file = built.folder("convert", convert) / "rank-0.safetensors"
    info = file.stat()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    with file.open("r+b") as opened:
        opened.write(content)
    os.utime(file, ns=(info.st_atime_ns, info.st_mtime_ns))
    said = command("store", "verify", convert[:6], status=ExitStatus.STAGE_FAILED)
    wrong = "rank-0.safetensors: its bytes are not those that were written (SHA-256 differs)"
    assert said == f"convert   {convert[:12]}  damaged: {wrong}\n1 artifact, 1 damaged\n"
    assert f"damaged: {wrong}" in command("store", "ls")
    said = command("store", "verify", status=ExitStatus.STAGE_FAILED)
    assert said.endswith("3 artifacts, 1 damaged\n")
    command("build", *QUANTIZED)
    assert command("store", "verify").endswith("3 artifacts, none damaged\n")


def test_gc_says_what_goes_and_what_stays(command: Command, built: Store) -> None:
    convert, quantize = _fingerprint(built, "convert"), _fingerprint(built, "quantize")
    lock = Path("locks") / "a.lock.yaml"
    lock.parent.mkdir()
    lock.write_text(convert)
    would = command("store", "gc", "--dry-run")
    assert f"would remove  quantize {quantize[:12]}, " in would
    assert f"kept  convert {convert[:12]}: needed by {lock.absolute()}\n" in would
    assert re.search(r"would remove 2, kept 1, would free [0-9.]+ MiB\n$", would)
    assert command("store", "gc", "--older-than", "1h").endswith("removed 0, kept 3, freed 0 B\n")
    said = command("store", "gc")
    assert said == would.replace("would remove", "removed").replace("would free", "freed")
    assert command.json("store", "gc")["removed"] == []
    assert len(command.json("store", "ls")["artifacts"]) == 1


def test_a_flag_may_stand_before_the_command(command: Command, store: Store) -> None:
    assert command("--older-than", "7d", "store", "gc") == "removed 0, kept 0, freed 0 B\n"


def test_rm_takes_several_and_refuses_what_is_needed(command: Command, built: Store) -> None:
    convert, quantize = _fingerprint(built, "convert"), _fingerprint(built, "quantize")
    with uses.using(built.home, Use("up", {"convert": convert}, port=1)):
        said = command("store", "rm", convert, quantize, "--force", status=ExitStatus.REFUSED)
    assert said.startswith(f"lmrun: convert {convert[:12]}: used by up on port 1 (pid ")
    said = command("store", "rm", convert[:6], quantize[:8], convert)
    assert re.fullmatch(
        rf"removed  convert {convert[:12]}, [0-9.]+ MiB\n"
        rf"removed  quantize {quantize[:12]}, [0-9.]+ MiB\nfreed [0-9.]+ MiB\n",
        said,
    )
    assert [one["stage"] for one in command.json("store", "ls")["artifacts"]] == ["resolve"]


def test_an_artifact_travels_to_another_store(
    command: Command, built: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    convert = _fingerprint(built, "convert")
    said = command("store", "export", "convert", *QUANTIZED, "a.tar")
    assert re.fullmatch(rf"convert {convert[:12]} → a\.tar, [0-9.]+ MiB\n", said)
    command("store", "export", convert[:6], "b.tar")
    assert Path("a.tar").read_bytes() == Path("b.tar").read_bytes()
    command("store", "export", *QUANTIZED, "quantize", "q.tar")
    monkeypatch.setenv("LMRUN_HOME", str(tmp_path / "other"))
    said = command("store", "import", "a.tar", "b.tar")
    size = r"[0-9.]+ MiB\n"
    head = f"convert {convert[:12]}, "
    assert re.fullmatch(f"imported  {head}{size}already there  {head}{size}", said)
    stages = command.json("plan", *QUANTIZED)["stages"]
    assert {stage["action"] for stage in stages} == {"cached"}
    workspace = command("build", *QUANTIZED).strip()
    assert workspace == str(tmp_path / "other" / "artifacts" / "convert" / convert)
    assert not (tmp_path / "other" / "artifacts" / "resolve").exists()


def test_a_missing_artifact_is_not_exported(command: Command) -> None:
    said = command("store", "export", "convert", *TINY, "a.tar", status=ExitStatus.STAGE_FAILED)
    assert re.fullmatch(
        r"lmrun: convert [0-9a-f]{12}: is not in the store\. `lmrun build` with its settings makes"
        r" it\.\n",
        said,
    )
    assert not Path("a.tar").exists()


def test_the_key_is_one_line_that_moves_with_what_is_built(
    command: Command, built_home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key = command("store", "key", *QUANTIZED)
    assert re.fullmatch("[0-9a-f]{64}\n", key)
    monkeypatch.setenv("LMRUN_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert command("store", "key", *QUANTIZED, "frontend.port=1", "kv.bits=8") == key
    monkeypatch.setenv("LMRUN_HOME", str(built_home))
    assert command("store", "key", *QUANTIZED) == key
    assert command("store", "key", *QUANTIZED, "quant.group_size=64") != key
    document = command.json("store", "key", *QUANTIZED)
    assert document["key"] + "\n" == key
    assert [stage["stage"] for stage in document["stages"]] == ["resolve", "quantize", "convert"]
    assert {stage["action"] for stage in document["stages"]} == {"cached"}
    assert document["numeric_class"]["device"] == "cpu"


def test_the_key_of_a_folder_hashes_it_and_not_its_path(command: Command, tmp_path: Path) -> None:
    command("export", "quantize", "one", *QUANTIZED)
    Path("one").rename("two")
    first = command("store", "key", "model.path=two", "quant=none")
    Path("two").rename("three")
    assert command("store", "key", "model.path=three", "quant=none") == first


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ls", "x"], "store ls: expected flags alone, got 'x'."),
        (["rm"], "store rm: expected a fingerprint, got none. `lmrun store ls` shows them."),
        (["import"], "store import: expected a file, got none. Write: lmrun store import FILE."),
        (["lss"], "store lss: no such command. Did you mean ls? Commands: ls, verify, gc, rm,"),
        (["gc", "--older-than", "soon"], "--older-than: expected a time such as 7d, 12h or 30m,"),
        (["export", "convert"], "store export: expected an artifact and a file, got 1 word."),
        (
            ["export", "convrt", "kv.bits=4", "a.tar"],
            "store export: convrt: expected a stage before overrides. Stages: resolve, prune,",
        ),
        ([], "store: expected a command, got none. Commands: ls, verify, gc, rm, export, import,"),
    ],
)
def test_a_wrong_line_is_refused(command: Command, words: list[str], said: str) -> None:
    assert command("store", *words, status=ExitStatus.USAGE).startswith(f"lmrun: {said}")


def test_a_file_is_no_store(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LMRUN_HOME", str(tmp_path / "file"))
    assert command("store", "ls", status=ExitStatus.STAGE_FAILED) == (
        f"lmrun: LMRUN_HOME={tmp_path}/file: expected a folder, got a file. Name another.\n"
    )


def test_times_are_read_and_shown() -> None:
    times = ("45s", "30m", "12h", "7d", "2w", "1.5h")
    assert [parse_age(text) for text in times] == [45, 1800, 43200, 604800, 1209600, 5400]
    for text in ("7", "d", "-1d", "7 d", "1e3d"):
        with pytest.raises(UsageError):
            parse_age(text)
    shown = ["0 s", "59 s", "1 min", "3 h", "2 d"]
    assert [ago(seconds) for seconds in (-5, 59.9, 60, 3 * 3600 + 5, 2.9 * 86400)] == shown
