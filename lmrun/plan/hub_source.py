"""A model of the hub, as far as it must be known before anything is downloaded. Writes nothing."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmrun.artifacts import hub_lists
from lmrun.config.schema import ModelConfig
from lmrun.errors import PlanError
from lmrun.models.checkpoint import (
    INDEX_FILE,
    SIDE_FILES,
    SINGLE_FILE,
    Checkpoint,
    merge_shards,
    no_safetensors,
    shard_names,
)
from lmrun.models.hub_cache import HubCache
from lmrun.models.hub_files import DEFAULT_REVISION, HubFile, HubModel, Listing, is_commit
from lmrun.models.registry import CONFIG_FILE, GENERATION_FILE
from lmrun.plan.config_source import ConfigOnly, not_served_only

if TYPE_CHECKING:
    from lmrun.models.hub import Hub

_READ = (CONFIG_FILE, GENERATION_FILE, INDEX_FILE)
"""Read by the planner, large or small."""


@dataclass(frozen=True)
class HubCheckpoint:
    """What the planner learns of a model of the hub."""

    model: HubModel
    found: Checkpoint | ConfigOnly
    """A checkpoint whose folder is that of the commit in the hub's cache, complete or not; or what
    can be priced alone, of which nothing is downloaded."""
    folder: Path
    notes: tuple[str, ...]


def hub_of(model: ModelConfig) -> "Hub":
    """The repository that the `model` group names."""
    from lmrun.models.hub import Hub  # noqa: PLC0415 - 0.13 s, where the hub must be asked

    return Hub(**asdict(_cache_of(model)))


def _cache_of(model: ModelConfig) -> HubCache:
    assert model.hub_id is not None
    revision = model.revision or DEFAULT_REVISION
    return HubCache(model.hub_id, revision, model.hub_token, model.hub_offline)


def find_on_hub(model: ModelConfig, home: Path, commit: str | None = None) -> HubCheckpoint:
    """Look at `model.hub_id`: its commit, its files, its headers.

    ``commit`` is what the revision stood for in an earlier plan of the same run: the model does
    not change under it. ``home`` is the store's. What is cached whole and was seen before needs no
    network. Raises `PlanError`, and `StageError` where the hub cannot be reached.
    """
    cache = _cache_of(model)
    if commit is None and is_commit(cache.revision):
        commit = cache.revision
    listing = None
    notes: tuple[str, ...] = ()
    if commit is None:
        if cache.is_offline:
            commit, notes = _remembered(cache)
        else:
            listing = hub_of(model).look(cache.revision)
            commit = listing.commit
    known = hub_lists.read(home, cache.hub_id, commit)
    if known is not None and all(cache.is_cached(commit, file) for file in known):
        return _local(cache, commit, known, notes)
    if cache.is_offline:
        return _offline(cache, commit, known, notes)
    hub = hub_of(model)
    return _asked(hub, listing or hub.look(commit), notes)


def _remembered(hub: HubCache) -> tuple[str, tuple[str, ...]]:
    commit = hub.cached_commit()
    if commit is None:
        raise PlanError(
            f"{hub.where}: offline, and the cache ({hub.folder}) does not know the revision"
            f" {hub.revision}. Build once with the hub, or name a commit by model.revision."
        )
    return commit, (f"offline: {hub.revision} is taken as {commit[:12]}, as the cache last saw it",)


def _local(
    hub: HubCache, commit: str, files: tuple[HubFile, ...], notes: tuple[str, ...]
) -> HubCheckpoint:
    checkpoint = Checkpoint.open(hub.snapshot(commit))
    model = HubModel(hub.hub_id, hub.revision, commit, files, missing=(), download_bytes=0)
    return HubCheckpoint(model, checkpoint, checkpoint.path, notes)


def _offline(
    hub: HubCache, commit: str, known: tuple[HubFile, ...] | None, notes: tuple[str, ...]
) -> HubCheckpoint:
    """Without the hub: what the cache holds, where that is a whole checkpoint."""
    folder = hub.snapshot(commit)
    missing = [file.name for file in known or () if not hub.is_cached(commit, file)]
    if known is None and not folder.is_dir():
        missing = [CONFIG_FILE]
    if missing:
        raise PlanError(
            f"{hub.where}: offline, and the cache lacks {', '.join(missing)} of {commit[:12]}"
            f" ({folder}). Run once with the hub: model.hub_offline=false, HF_HUB_OFFLINE unset."
        )
    checkpoint = Checkpoint.open(folder)
    files = tuple(HubFile(path.name, path.stat().st_size, None) for path in checkpoint.files)
    unseen = "offline: which files the hub has is not known, those in the cache are taken"
    return _local(hub, commit, files, (*notes, unseen))


def _asked(hub: "Hub", listing: Listing, notes: tuple[str, ...]) -> HubCheckpoint:
    commit = listing.commit
    where = f"{hub.where}@{commit[:12]}"
    small = _side_files(listing, where)
    has_index = INDEX_FILE in listing.files
    if has_index:
        small.append(listing.files[INDEX_FILE])
    elif SINGLE_FILE not in listing.files:
        raise no_safetensors(where, listing.files, hub.hub_id)
    contents = hub.read(commit, [file for file in small if not file.is_large or file.name in _READ])
    config = _json(contents, CONFIG_FILE, where)
    generation = _json(contents, GENERATION_FILE, where) if GENERATION_FILE in contents else {}
    folder = hub.snapshot(commit)
    priced = not_served_only(config, generation, folder, f"{hub.where}: {CONFIG_FILE}")
    if priced is not None:
        nothing = HubModel(hub.hub_id, hub.revision, commit, (), (), download_bytes=0)
        return HubCheckpoint(nothing, priced, folder, notes)
    small = [_with_digest(file, contents) for file in small]
    index = _json(contents, INDEX_FILE, where) if has_index else {}
    names = shard_names(index.get("weight_map"), f"{where}: {INDEX_FILE}") if has_index else []
    absent = [name for name in names if name not in listing.files]
    if absent:
        raise PlanError(f"{where}: {INDEX_FILE} names {absent[0]}, which the repository lacks.")
    weights = [listing.files[name] for name in names or [SINGLE_FILE]]
    files = tuple(sorted([*small, *weights], key=lambda file: file.name))
    missing = [file for file in files if not hub.is_cached(commit, file)]
    if not missing:
        return _local(hub, commit, files, notes)
    headers = hub.read_headers(commit, weights)
    tensors = (
        merge_shards(index["weight_map"], headers, folder) if has_index else headers[SINGLE_FILE]
    )
    checkpoint = Checkpoint.assemble(
        folder,
        config,
        generation,
        tensors,
        tuple(folder / file.name for file in files),
    )
    model = HubModel(
        hub.hub_id,
        hub.revision,
        commit,
        files,
        tuple(file.name for file in missing),
        sum(hub.bytes_left(file) for file in missing),
    )
    return HubCheckpoint(model, checkpoint, folder, notes)


def _side_files(listing: Listing, where: str) -> list[HubFile]:
    if CONFIG_FILE not in listing.files:
        raise PlanError(
            f"{where}: expected {CONFIG_FILE}, got no such file. lmrun reads repositories in the"
            " form that transformers writes."
        )
    return [listing.files[name] for name in (CONFIG_FILE, *SIDE_FILES) if name in listing.files]


def _with_digest(file: HubFile, contents: Mapping[str, bytes]) -> HubFile:
    if file.name not in contents:
        return file
    return replace(file, sha256=hashlib.sha256(contents[file.name]).hexdigest())


def _json(contents: Mapping[str, bytes], name: str, where: str) -> dict[str, Any]:
    try:
        document = json.loads(contents[name])
    except (ValueError, RecursionError) as error:
        raise PlanError(f"{where}: {name}: expected JSON, got {error}.") from error
    if not isinstance(document, dict):
        raise PlanError(f"{where}: {name}: expected a JSON object.")
    return document
