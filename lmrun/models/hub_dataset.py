"""A text among the datasets of the hub: `hub:ORG/NAME[/FOLDER][@REVISION][:SPLIT[:FIELD]]`.

The first file (by name) of a split is read: for calibration a shard is more than enough. Access is
as for models: `model.hub_token`, `model.hub_offline`. Imports huggingface_hub: only where such a
text is named.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lmrun.errors import PlanError
from lmrun.models import documents
from lmrun.models.hub import Hub
from lmrun.models.hub_cache import HubCache
from lmrun.models.hub_files import DEFAULT_REVISION, DatasetFile, HubFile, is_commit

PREFIX = "hub:"
DEFAULT_SPLIT = "train"
_FORM = re.compile(
    r"(?P<id>[\w.-]+/[\w.-]+)(?P<folder>(?:/[\w.-]+)*)(?:@(?P<revision>[\w./-]+))?"
    r"(?::(?P<split>[\w.-]+)(?::(?P<field>\w+))?)?"
)
_SHOWN = 8


@dataclass(frozen=True)
class Named:
    """What such a name says."""

    text: str
    hub_id: str
    folder: str
    """Within the repository, "" or with a slash at its end."""
    revision: str
    split: str | None
    field: str | None

    @classmethod
    def of(cls, text: str) -> "Named":
        """`PlanError` where it has another form."""
        found = _FORM.fullmatch(text.removeprefix(PREFIX))
        if found is None:
            raise PlanError(
                f"calibration.data={text}: expected hub:ORG/NAME[:SPLIT[:FIELD]], a folder of the"
                " repository after a slash, a revision after an @."
            )
        folder = (found["folder"] or "").strip("/")
        return cls(
            text,
            found["id"],
            f"{folder}/" if folder else "",
            found["revision"] or DEFAULT_REVISION,
            found["split"],
            found["field"],
        )


@dataclass(frozen=True)
class DatasetHub(Hub):
    """A repository of a dataset; errors as of `Hub`."""

    @property
    def kind(self) -> str:
        return "dataset"

    @property
    def where(self) -> str:
        return f"calibration.data={PREFIX}{self.hub_id}"

    @property
    def _revision_where(self) -> str:
        return f"{self.where}@{self.revision}"

    def _is_read(self, name: str) -> bool:
        return documents.suffix_of(Path(name)) is not None and ".." not in Path(name).parts


def find(text: str, token: str | None, offline: bool) -> DatasetFile:
    """Look at the hub, or at what its cache holds where it is not to be asked.

    Writes nothing. `PlanError` where the name, the split or the field's reader is wrong or missing,
    or offline and not cached; `StageError` where the hub cannot be reached.
    """
    named = Named.of(text)
    hub = DatasetHub(named.hub_id, named.revision, token, offline)
    if hub.is_offline:
        commit = named.revision if is_commit(named.revision) else hub.cached_commit()
        files = {} if commit is None else _cached_files(hub, commit)
        if commit is None or not files:
            raise PlanError(
                f"{hub.where}: offline, and the cache ({hub.folder}) does not hold it. Build once"
                " with the hub, or name a local file."
            )
    else:
        listing = hub.look(named.revision)
        commit, files = listing.commit, listing.files
    file = files[choose(named, sorted(files))]
    documents.check_readable(Path(file.name), f"calibration.data={text}")
    path = hub.snapshot(commit) / file.name
    missing = not hub.is_cached(commit, file)
    return DatasetFile(
        named.hub_id, named.revision, commit, file, named.field, path, is_missing=missing
    )


def hub_of(dataset: DatasetFile, token: str | None, offline: bool) -> DatasetHub:
    """The repository of a file that was found."""
    return DatasetHub(dataset.hub_id, dataset.revision, token, offline)


def choose(named: Named, names: list[str]) -> str:
    """The first file of the split; `PlanError` says what there is."""
    where = f"calibration.data={named.text}"
    inside = [name for name in names if name.startswith(named.folder)]
    split = named.split or DEFAULT_SPLIT
    found = [name for name in inside if split.lower() in _words(name.removeprefix(named.folder))]
    if not found and named.split is None and len(inside) == 1:
        found = inside
    if not found:
        listed = ", ".join(inside[:_SHOWN]) + (", …" if len(inside) > _SHOWN else "")
        raise PlanError(
            f"{where}: expected a file of the split {split} that ends in one of"
            f" {', '.join(documents.SUFFIXES)}, got {listed or 'none'}."
        )
    folders = sorted({name.rpartition("/")[0] for name in found})
    if len(folders) > 1:
        raise PlanError(
            f"{where}: the split {split} is in several folders: {', '.join(folders[:_SHOWN])}. Name"
            f" one: hub:{named.hub_id}/{folders[0]}:{split}."
        )
    return found[0]


def _words(name: str) -> list[str]:
    return re.split(r"[^a-z0-9]+", name.lower())


def _cached_files(cache: HubCache, commit: str) -> Mapping[str, HubFile]:
    folder = cache.snapshot(commit)
    if not folder.is_dir():
        return {}
    return {
        (name := path.relative_to(folder).as_posix()): HubFile(name, path.stat().st_size, None)
        for path in folder.rglob("*")
        if path.is_file() and documents.suffix_of(path) is not None
    }
