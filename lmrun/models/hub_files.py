"""Models and texts on the Hugging Face hub, as a plan names them: one commit, and its files."""

import re
from dataclasses import dataclass
from pathlib import Path

DEFAULT_REVISION = "main"
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubFile:
    """A file of a repository."""

    name: str
    size: int
    sha256: str | None
    """The hub's own for large files; of small ones as read; None while neither is known."""
    is_large: bool = False
    """Kept with Git LFS: the hub tells its SHA-256."""


@dataclass(frozen=True)
class Listing:
    """What the hub says of one commit."""

    commit: str
    files: dict[str, HubFile]
    """By name, those at the top of the repository; ``sha256`` of large files alone."""


@dataclass(frozen=True)
class HubModel:
    """Where the model of a plan comes from, and what of it is not on this machine yet."""

    hub_id: str
    revision: str
    """As asked: a commit, branch or tag."""
    commit: str
    """What the revision stands for, 40 hexadecimal digits."""
    files: tuple[HubFile, ...]
    """The files that lmrun reads, sorted by name; the repository may hold others."""
    missing: tuple[str, ...]
    """Names of the files that `resolve` has yet to download."""
    download_bytes: int
    """What is left to download, less what an interrupted download has kept."""

    @property
    def is_floating(self) -> bool:
        """Whether the revision may mean another commit tomorrow: a lock refuses it."""
        return not is_commit(self.revision)


@dataclass(frozen=True)
class DatasetFile:
    """A file of a dataset that calibrate reads: of one commit, in the hub's cache or not yet."""

    hub_id: str
    revision: str
    commit: str
    file: HubFile
    field: str | None
    """Of each document, in place of `text` or `messages`."""
    path: Path
    """In the cache."""
    is_missing: bool


def is_commit(revision: str) -> bool:
    """Whether a revision is a full commit hash, which never moves."""
    return _COMMIT.fullmatch(revision) is not None
