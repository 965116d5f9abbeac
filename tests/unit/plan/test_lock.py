"""The lock document: its text, what it refuses, and how it is written."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from lmrun.errors import ArtifactError, ConfigError, UsageError
from lmrun.plan import lock as locks
from lmrun.plan.lock import Lock, LockedModel, LockedStage, LockedText

A, B, C = "a" * 64, "b" * 64, "1" * 64

LOCK = Lock(
    recipe="tiny",
    overrides=("+recipe=tiny", "kv.bits=8"),
    config={
        "kv": {"bits": 8, "memory": "auto", "memory_ratio": 0.8},
        "frontend": {"api_keys": ["${oc.env:KEY}"]},
        "model": {"revision": None, "path": "größe"},
    },
    interpolations={"kv.bits": "${oc.env:BITS}"},
    sources={"recipes/tiny.yaml": A},
    model=LockedModel("größe", "checkpoint", {"model.safetensors": C, "config.json": A}, None),
    calibration=LockedText("text.txt", B),
    stages={
        "quantize": LockedStage(2, B, {"isa": "avx512", "torch": "2.13.0"}, {"x.safetensors": A}),
        "convert": LockedStage(1, A, None, {}),
    },
    engine={"version": "0.1.0", "build": C},
    packages={"torch": "2.13.0", "python": "3.11"},
)

TEXT = f"""\
# Written by `lmrun lock`, checked by `lmrun verify`. Do not edit: lock again.
calibration:
  data: text.txt
  sha256: {B}
config:
  frontend:
    api_keys:
    - ${{oc.env:KEY}}
  kv:
    bits: 8
    memory: auto
    memory_ratio: 0.8
  model:
    path: größe
    revision: null
engine:
  build: '{C}'
  version: 0.1.0
interpolations:
  kv.bits: ${{oc.env:BITS}}
model:
  chat_template: null
  files:
    config.json: {A}
    model.safetensors: '{C}'
  kind: checkpoint
  name: größe
overrides:
- +recipe=tiny
- kv.bits=8
packages:
  python: '3.11'
  torch: 2.13.0
quality: {{}}
recipe: tiny
schema_version: 1
sources:
  recipes/tiny.yaml: {A}
stages:
  convert:
    code_version: 1
    files: {{}}
    fingerprint: {A}
    numeric_class: null
  quantize:
    code_version: 2
    files:
      x.safetensors: {A}
    fingerprint: {B}
    numeric_class:
      isa: avx512
      torch: 2.13.0
"""


def test_the_file_is_sorted_with_one_value_a_line() -> None:
    assert LOCK.to_yaml() == TEXT


def test_the_order_in_which_things_were_found_does_not_count() -> None:
    turned = replace(
        LOCK,
        config=dict(reversed(LOCK.config.items())),
        stages=dict(reversed(LOCK.stages.items())),
        packages=dict(reversed(LOCK.packages.items())),
    )
    assert turned.to_yaml() == TEXT


def test_a_lock_reads_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "tiny.lock.yaml"
    locks.write(path, LOCK)
    assert locks.read(path) == LOCK
    assert [file.name for file in path.parent.iterdir()] == ["tiny.lock.yaml"]


def test_a_lock_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "tiny.lock.yaml"
    locks.write(path, LOCK)
    with pytest.raises(ArtifactError) as caught:
        locks.write(path / "deeper.lock.yaml", LOCK)
    assert str(caught.value) == (
        f"{path}/deeper.lock.yaml: cannot be written (File exists). Name another file:"
        " --output FILE."
    )
    assert path.read_text(encoding="utf-8") == TEXT


def test_nothing_but_a_lock_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.lock.yaml"
    with pytest.raises(UsageError) as missing:
        locks.read(path)
    assert str(missing.value) == (
        f"{path}: no such lock file. Write it with `lmrun lock` and the same overrides."
    )
    path.write_text("a: [1\nb: 2\n")
    with pytest.raises(ConfigError) as broken:
        locks.read(path)
    assert str(broken.value) == (
        f"{path}:2: expected YAML, got expected ',' or ']', but got ':'. Write it anew with"
        " `lmrun lock`."
    )
    for text, got in (("", "an empty file"), ("garbage", "no `key: value` lines")):
        path.write_text(text)
        with pytest.raises(ConfigError) as no_lock:
            locks.read(path)
        assert str(no_lock.value) == (
            f"{path}: expected a lock file, got {got}. Write it anew with `lmrun lock`."
        )
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="expected a lock file, got no UTF-8 text"):
        locks.read(path)
    path.write_text("x" * (locks.MAX_BYTES + 1))
    with pytest.raises(ConfigError, match=r"expected a lock file of at most 16 MiB, got more\.$"):
        locks.read(path)
    path.write_text("a: &x [1]\nb: *x\n")
    with pytest.raises(ConfigError) as alias:
        locks.read(path)
    assert str(alias.value) == (
        f"{path}:2: expected plain values, got an alias. Write it anew with `lmrun lock`."
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "schema_version: 1",
            "schema_version: 2",
            "schema_version: expected 1, got 2 (a newer lmrun wrote it)",
        ),
        (f"recipes/tiny.yaml: {A}", "recipes/tiny.yaml: 12", "12 is not of type 'string'"),
        ("quality: {}\n", "", "'quality' is a required property"),
        ("recipe: tiny\n", "recipe: tiny\nextra: 1\n", "Additional properties are not allowed"),
        ("kind: checkpoint", "kind: pickle", "'pickle' is not one of"),
    ],
)
def test_a_damaged_lock_is_refused_with_the_place(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    path = tmp_path / "x.lock.yaml"
    assert old in TEXT
    path.write_text(TEXT.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        locks.read(path)
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)
    assert str(caught.value).endswith(" Write it anew with `lmrun lock`.")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("quality: {a: 1}\nquality: {}", ":LINE+1: expected each key once, got 'quality' again"),
        ("quality: {a: 1, a: 2}", ":LINE: expected each key once, got 'a' again"),
        ("quality: {a: 2026-11-21}", ":LINE: expected plain values, got a timestamp"),
        ("quality: {a: !!binary aGk=}", ":LINE: expected plain values, got a binary"),
        ("quality: {a: !!set {b}}", ":LINE: expected plain values, got a set"),
        ("quality: {a: .nan}", ":LINE: expected a decimal number, got .nan"),
        ("quality: {a: -.inf}", ":LINE: expected a decimal number, got -.inf"),
        ("quality: {a: 010}", ":LINE: expected a decimal number, got 010"),
        (f"quality: {{a: {'9' * 5000}}}", ":LINE: expected a decimal number, got 9999999999"),
        ("quality: {1: 2}", ":LINE: expected texts as keys, got 1"),
        ("quality: {~: 2}", ":LINE: expected texts as keys, got ~"),
        ("quality: {a: \0}", ": expected YAML, got a character that YAML has not"),
        (f"quality: {{a: {'[' * 2000}{']' * 2000}}}", ": expected YAML, got too many levels"),
    ],
)
def test_values_that_a_lock_never_has_are_refused_with_the_line(
    tmp_path: Path, line: str, said: str
) -> None:
    path = tmp_path / "x.lock.yaml"
    path.write_text(TEXT.replace("quality: {}", line), encoding="utf-8")
    place = TEXT[: TEXT.index("quality: {}")].count("\n") + 1
    said = said.replace("LINE+1", str(place + 1)).replace("LINE", str(place))
    with pytest.raises(ConfigError) as caught:
        locks.read(path)
    assert str(caught.value).startswith(f"{path}{said}")
    assert str(caught.value).endswith(". Write it anew with `lmrun lock`.")


def test_a_stage_of_a_lock_has_the_name_of_a_stage(tmp_path: Path) -> None:
    path = tmp_path / "x.lock.yaml"
    path.write_text(TEXT.replace("  convert:\n", "  ../../x:\n"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"'\.\./\.\./x' does not match"):
        locks.read(path)


def test_a_lock_that_is_no_lock_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is not of type 'string'"):
        locks.write(tmp_path / "x.lock.yaml", replace(LOCK, packages={"torch": 2}))  # type: ignore[dict-item]
    assert list(tmp_path.iterdir()) == []


def test_every_yaml_reader_sees_the_same_texts() -> None:
    """Digests of digits alone are quoted, and no text is taken for a number."""
    document = yaml.safe_load(TEXT)
    assert document["engine"]["build"] == C
    assert document["packages"]["python"] == "3.11"


def test_the_default_file_is_named_after_the_recipe() -> None:
    assert locks.default_path("tiny", "lock", "Name it") == Path("locks/tiny.lock.yaml")
    with pytest.raises(UsageError) as caught:
        locks.default_path(None, "lock", "Name it: --output NAME.lock.yaml")
    assert str(caught.value) == (
        "lock: expected a recipe, after which the lock file is named, got none."
        " Name it: --output NAME.lock.yaml, or give +recipe=NAME."
    )


def test_a_lock_file_is_known_by_its_name() -> None:
    assert locks.is_lock_file("locks/x.lock.yaml")
    assert not locks.is_lock_file("model.path=x.lock.yaml")
    assert not locks.is_lock_file("recipes/x.yaml")
