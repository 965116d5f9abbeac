"""`lmrun store`: the artifacts on this machine, and archives of them."""

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lmrun import env
from lmrun.artifacts import archive, canonical, uses
from lmrun.artifacts.digests import DigestCache
from lmrun.artifacts.inventory import Entry, chosen, entries, unfinished
from lmrun.artifacts.removal import Swept, remove, sweep
from lmrun.artifacts.store import Artifact, Store
from lmrun.cli import flags, store_text
from lmrun.cli.output import as_json
from lmrun.cli.planned_stage import check_has, fingerprint_of
from lmrun.config import compose
from lmrun.config.located import located
from lmrun.config.suggest import did_you_mean
from lmrun.errors import ArtifactError, ExitStatus, PlanError, UsageError
from lmrun.plan.plan import Plan, check_runnable
from lmrun.plan.planner import make_plan
from lmrun.plan.sizes import show_bytes, things
from lmrun.plan.stage_specs import BY_NAME

KEY_VERSION = 1
"""Raised when the layout of the store changes, so that a CI cache of the old one is not used."""
OLDER_THAN = "--older-than"
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_JSON = {"--json": False}


def run(argv: list[str]) -> ExitStatus:
    """Do what the first word says, in the store below $LMRUN_HOME."""
    pairs = zip(["", *argv], argv, strict=False)
    words = (word for before, word in pairs if before != OLDER_THAN and not word.startswith("-"))
    name = next(words, None)
    if name is None:
        raise UsageError(f"store: expected a command, got none. Commands: {', '.join(COMMANDS)}.")
    if name not in COMMANDS:
        raise UsageError(
            f"store {name}: no such command.{did_you_mean(name, COMMANDS)}"
            f" Commands: {', '.join(COMMANDS)}."
        )
    argv.remove(name)
    home = env.home()
    if home.exists() and not home.is_dir():
        raise ArtifactError(f"LMRUN_HOME={home}: expected a folder, got a file. Name another.")
    return COMMANDS[name](argv, Store(home))


def _ls(argv: list[str], store: Store) -> ExitStatus:
    given, words = flags.split(argv, _JSON)
    _no_words("ls", words)
    found = (store.home, _in_order(store), unfinished(store), uses.needed(store.home, Path.cwd()))
    if "--json" in given:
        return _say_json(store_text.listing(*found))
    sys.stdout.write(store_text.table(*found))
    return ExitStatus.OK


def _in_order(store: Store) -> list[Entry]:
    """Every artifact, by stage as they run."""
    order = {stage: index for index, stage in enumerate(BY_NAME)}
    return sorted(entries(store), key=lambda entry: order.get(entry.stage, len(order)))


def _verify(argv: list[str], store: Store) -> ExitStatus:
    given, words = flags.split(argv, _JSON)
    wanted = [chosen(store, word) for word in words] or _in_order(store)
    checked: list[tuple[Entry, str | None]] = []
    for entry in wanted:
        problem = _problem(store, entry)
        if not entry.path.is_dir():
            continue  # removed meanwhile
        checked.append((entry, problem))
        if "--json" not in given:
            state = "ok" if problem is None else f"damaged: {problem}"
            sys.stdout.write(f"{entry.stage:<10}{entry.fingerprint[:12]}  {state}\n")
    damaged = sum(problem is not None for _, problem in checked)
    if "--json" in given:
        rows = [
            {"stage": entry.stage, "fingerprint": entry.fingerprint, "problem": problem}
            for entry, problem in checked
        ]
        _say_json({"schema_version": 1, "damaged": damaged, "artifacts": rows})
    else:
        sys.stdout.write(f"{things(len(checked), 'artifact')}, {damaged or 'none'} damaged\n")
    return ExitStatus.STAGE_FAILED if damaged else ExitStatus.OK


def _problem(store: Store, entry: Entry) -> str | None:
    """What is wrong with an artifact after all its bytes were hashed."""
    if entry.problem is not None or entry.manifest is None:
        return entry.problem
    try:
        store.verify(Artifact(entry.path, entry.manifest))
    except ArtifactError as error:
        return str(error).removeprefix(f"{entry.path}: ")
    return None


def _gc(argv: list[str], store: Store) -> ExitStatus:
    known = {"--dry-run": False, OLDER_THAN: True, **_JSON}
    given, words = flags.split(argv, known)
    _no_words("gc", words)
    older_than_s = parse_age(given[OLDER_THAN]) if OLDER_THAN in given else None
    is_dry = "--dry-run" in given
    swept = sweep(store, Path.cwd(), older_than_s=older_than_s, dry_run=is_dry)
    if "--json" in given:
        return _say_json(_swept_document(swept, is_dry=is_dry))
    sys.stdout.write(_swept_text(swept, is_dry=is_dry))
    return ExitStatus.OK


def _swept_document(swept: Swept, *, is_dry: bool) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "dry_run": is_dry,
        "bytes": swept.num_bytes,
        "removed": [{"title": one.title, "bytes": one.num_bytes} for one in swept.removed],
        "kept": [
            {
                "stage": one.entry.stage,
                "fingerprint": one.entry.fingerprint,
                "bytes": one.entry.num_bytes,
                "why": one.why,
            }
            for one in swept.kept
        ],
    }


def _swept_text(swept: Swept, *, is_dry: bool) -> str:
    removed, freed = ("would remove", "would free") if is_dry else ("removed", "freed")
    lines = [f"{removed}  {one.title}, {show_bytes(one.num_bytes)}" for one in swept.removed]
    lines += [f"kept  {one.entry.title}: {one.why}" for one in swept.kept]
    size = show_bytes(swept.num_bytes)
    lines.append(f"{removed} {len(swept.removed)}, kept {len(swept.kept)}, {freed} {size}")
    return "\n".join(lines) + "\n"


def _rm(argv: list[str], store: Store) -> ExitStatus:
    given, words = flags.split(argv, {"--force": False})
    if not words:
        raise UsageError("store rm: expected a fingerprint, got none. `lmrun store ls` shows them.")
    doomed = list({entry.path: entry for entry in (chosen(store, word) for word in words)}.values())
    freed = remove(store, doomed, Path.cwd(), force="--force" in given)
    for entry in doomed:
        sys.stdout.write(f"removed  {entry.title}, {show_bytes(entry.num_bytes)}\n")
    sys.stdout.write(f"freed {show_bytes(freed)}\n")
    return ExitStatus.OK


def _export(argv: list[str], store: Store) -> ExitStatus:
    _, words = flags.split(argv, {})
    bare, overrides = flags.parted(words)
    if len(bare) != 2:
        raise UsageError(
            f"store export: expected an artifact and a file, got {things(len(bare), 'word')}."
            " Write: lmrun store export FINGERPRINT FILE.tar, or"
            " lmrun store export STAGE +recipe=NAME FILE.tar."
        )
    stage, fingerprint = _named(store, bare[0], overrides)
    with uses.using(store.home, uses.Use("store export", {stage: fingerprint})):
        look = store.look(stage, fingerprint)
        if look.artifact is None:
            state = "is not in the store" if look.problem is None else f"damaged: {look.problem}"
            raise ArtifactError(
                f"{stage} {fingerprint[:12]}: {state}. `lmrun build` with its settings makes it."
            )
        size = archive.pack(look.artifact, Path(bare[1]).expanduser())
    sys.stdout.write(f"{stage} {fingerprint[:12]} → {bare[1]}, {show_bytes(size)}\n")
    return ExitStatus.OK


def _named(store: Store, word: str, overrides: Sequence[str]) -> tuple[str, str]:
    """Stage and fingerprint of `STAGE` with overrides, or of the digits of a fingerprint."""
    if word not in BY_NAME:
        if overrides:
            raise UsageError(
                f"store export: {word}: expected a stage before overrides. Stages:"
                f" {', '.join(BY_NAME)}."
            )
        entry = chosen(store, word)
        return entry.stage, entry.fingerprint
    plan = _plan(store, overrides)
    check_has(plan, word)
    return word, fingerprint_of(plan, word)


def _import(argv: list[str], store: Store) -> ExitStatus:
    _, words = flags.split(argv, {})
    if not words:
        raise UsageError("store import: expected a file, got none. Write: lmrun store import FILE.")
    for word in words:
        artifact, is_new = archive.unpack(store, Path(word).expanduser())
        fields = artifact.manifest.fields
        state = "imported" if is_new else "already there"
        size = show_bytes(artifact.manifest.num_bytes)
        sys.stdout.write(f"{state}  {fields.stage} {fields.fingerprint[:12]}, {size}\n")
    return ExitStatus.OK


def _key(argv: list[str], store: Store) -> ExitStatus:
    """One line that is equal wherever the offline stages would build the same bytes."""
    given, overrides = flags.split(argv, _JSON)
    plan = _plan(store, overrides)
    if plan.hub is not None and plan.hub.missing:
        raise PlanError(
            f"store key: {plan.hub.hub_id}@{plan.hub.commit} is not downloaded, so that its files"
            " have no digests yet. `lmrun build` downloads it: keep the hub's cache between runs."
        )
    if plan.unhashed:
        DigestCache(store.home).hash_files(plan.unhashed)
        plan = _plan(store, overrides)
    stages = {stage.name: fingerprint_of(plan, stage.name) for stage in plan.stages}
    key = canonical.digest({"store": KEY_VERSION, "stages": stages})
    if "--json" not in given:
        sys.stdout.write(f"{key}\n")
        return ExitStatus.OK
    classes = [stage.numeric_class for stage in plan.stages if stage.numeric_class is not None]
    return _say_json(
        {
            "schema_version": 1,
            "key": key,
            "numeric_class": classes[0] if classes else None,
            "stages": [
                {
                    "stage": stage.name,
                    "fingerprint": stage.fingerprint,
                    "code_version": stage.code_version,
                    "action": str(stage.action),
                    "path": str(store.folder(stage.name, stages[stage.name])),
                }
                for stage in plan.stages
            ],
        }
    )


def _plan(store: Store, overrides: Sequence[str]) -> Plan:
    composed = compose(list(overrides))
    with located(composed):
        plan = make_plan(composed, store)
        check_runnable(plan)
    return plan


def parse_age(text: str) -> float:
    """`7d`, `12h`, `30m`, `2w`, `45s` in seconds."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhdw])", text)
    if match is None:
        raise UsageError(f"{OLDER_THAN}: expected a time such as 7d, 12h or 30m, got {text!r}.")
    return float(match[1]) * _SECONDS[match[2]]


def _no_words(command: str, words: Sequence[str]) -> None:
    if words:
        raise UsageError(f"store {command}: expected flags alone, got {words[0]!r}.")


def _say_json(document: dict[str, Any]) -> ExitStatus:
    sys.stdout.write(as_json(document))
    return ExitStatus.OK


COMMANDS: dict[str, Callable[[list[str], Store], ExitStatus]] = {
    "ls": _ls,
    "verify": _verify,
    "gc": _gc,
    "rm": _rm,
    "export": _export,
    "import": _import,
    "key": _key,
}
"""First word → what it does with the words after it."""
