"""The cache of the Hugging Face hub on this machine, in huggingface_hub's own layout.

Costs little: of the library only the constants are imported. They read HF_HOME and HF_HUB_OFFLINE.
"""

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants

from lmrun.models.hub_files import HubFile, is_commit


@dataclass(frozen=True)
class HubCache:
    """What the cache holds of one repository. Reads, and writes nothing."""

    hub_id: str
    revision: str
    token: str | None
    """Reference to the access token; None leaves it to huggingface_hub (HF_TOKEN, or a login)."""
    offline: bool

    @property
    def is_offline(self) -> bool:
        """By `model.hub_offline` or HF_HUB_OFFLINE."""
        return self.offline or bool(constants.HF_HUB_OFFLINE)

    @property
    def kind(self) -> str:
        """What the hub calls such a repository."""
        return "model"

    @property
    def where(self) -> str:
        """How messages name it."""
        return f"model.hub_id={self.hub_id}"

    @property
    def folder(self) -> Path:
        """The repository's folder in the cache, there or not."""
        name = "--".join([f"{self.kind}s", *self.hub_id.split("/")])
        return Path(constants.HF_HUB_CACHE).absolute() / name

    def snapshot(self, commit: str) -> Path:
        """The folder of a commit in the cache, there or not."""
        return self.folder / "snapshots" / commit

    def cached_commit(self) -> str | None:
        """What the revision stood for when the cache was last filled under it; None for a note that
        a killed process tore."""
        file = self.folder / "refs" / self.revision
        text = file.read_text(encoding="utf-8").strip() if file.is_file() else ""
        return text if is_commit(text) else None

    def is_cached(self, commit: str, file: HubFile) -> bool:
        """Whether the cache holds a file of this commit in full length."""
        path = self.snapshot(commit) / file.name
        return path.is_file() and path.stat().st_size == file.size

    def bytes_left(self, file: HubFile) -> int:
        """What a download still has to fetch of a file that is not cached."""
        if not file.is_large:
            return file.size
        if self.blob(file).is_file():
            return 0
        partial = self.partial(file)
        return file.size - (min(partial.stat().st_size, file.size) if partial.is_file() else 0)

    def blob(self, file: HubFile) -> Path:
        """Where a large file lies."""
        return self.folder / "blobs" / str(file.sha256)

    def partial(self, file: HubFile) -> Path:
        """Where a large file lies while it is downloaded."""
        return self.folder / "blobs" / f"{file.sha256}.lmrun.incomplete"
