"""The Hugging Face hub, through huggingface_hub.

Imported only where the hub must be asked: the library costs 0.13 s of CPU. It reads HF_HOME,
HF_ENDPOINT, HF_HUB_OFFLINE and HF_TOKEN when it is imported.
"""

import errno
import io
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock
from huggingface_hub import HfApi, constants, hf_hub_download, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import (  # type: ignore[attr-defined] # documented, not re-exported
    build_hf_headers,
    disable_progress_bars,
)

from lmrun.config.secrets import resolve
from lmrun.errors import LmrunError, PlanError, StageError
from lmrun.models.hub_cache import HubCache
from lmrun.models.hub_files import HubFile, Listing, is_commit
from lmrun.models.safetensors_header import TensorEntry, check_header, header_bytes

_CONNECTIONS = 8
_FIRST_BYTES = 100_001
"""Of a safetensors file: nearly all headers are shorter."""
_HTTP_ERROR: type[Exception] = HfHubHTTPError.__bases__[0]
"""Base of the errors of the HTTP library below, which differs between versions."""
_NAME = "lmrun"
_SHA256 = re.compile("[0-9a-f]{64}")

disable_progress_bars()
logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


@dataclass(frozen=True)
class Hub(HubCache):
    """One repository: what the hub says of it, and what the cache holds. Planning writes nothing.

    Errors: `PlanError` where asking again would not help (no such repository, no access, offline),
    `StageError` where it may (unreachable, broken off).
    """

    def remember_commit(self, commit: str) -> None:
        """Note in the cache what the revision stands for, as the library does."""
        file = self.folder / "refs" / self.revision
        with self._explained():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(commit, encoding="utf-8")

    def look(self, revision: str) -> Listing:
        """Ask the hub what a revision stands for and which files it has."""
        with self._explained():
            try:
                api = self._api()
                ask = api.dataset_info if self.kind == "dataset" else api.model_info
                info = ask(self.hub_id, revision=revision, files_metadata=True)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise self._nonsense("a commit and its files") from error
        if not isinstance(info.sha, str) or not is_commit(info.sha) or info.siblings is None:
            raise self._nonsense("a commit and its files")
        files = {}
        for sibling in info.siblings:
            name = sibling.rfilename
            if not self._is_read(name) or sibling.size is None:
                continue
            if not isinstance(sibling.size, int) or sibling.size < 0:
                raise self._nonsense(f"the size of {name}")
            sha256 = sibling.lfs.sha256 if sibling.lfs else None
            if sha256 is not None and not _SHA256.fullmatch(sha256):
                raise self._nonsense(f"a SHA-256 of {name}")
            files[name] = HubFile(name, sibling.size, sha256, is_large=sha256 is not None)
        return Listing(info.sha, files)

    def _is_read(self, name: str) -> bool:
        """Of a model the files at the top."""
        return "/" not in name

    def _nonsense(self, expected: str) -> StageError:
        """Names of the cache are made of what the hub says: it is not trusted to be harmless."""
        return StageError(
            f"{self.where}: expected {expected} from {constants.ENDPOINT}, got something else."
            " Is that a Hugging Face hub?"
        )

    def read(self, commit: str, files: Sequence[HubFile]) -> dict[str, bytes]:
        """The bytes of small files, from the cache or into memory."""

        def one(file: HubFile) -> bytes:
            if self.is_cached(commit, file):
                return (self.snapshot(commit) / file.name).read_bytes()
            memory = io.BytesIO()
            self._get(commit, file, _Bounded(memory, file.size, self._too_long(file)))
            return memory.getvalue()

        with self._explained(), ThreadPoolExecutor(_CONNECTIONS) as threads:
            return dict(zip((file.name for file in files), threads.map(one, files), strict=True))

    def read_headers(
        self, commit: str, files: Sequence[HubFile]
    ) -> dict[str, dict[str, TensorEntry]]:
        """The tensors of safetensors files by file name, from their first bytes alone."""

        def one(file: HubFile) -> dict[str, TensorEntry]:
            if file.size > constants.MAX_HTTP_DOWNLOAD_SIZE:
                raise PlanError(
                    f"{self.where}: {file.name}: larger than 50 GB, which the hub gives out through"
                    f" hf_xet alone: not built yet. Run `hf download {self.hub_id}` and name the"
                    " folder: model.path."
                )
            path = self.snapshot(commit) / file.name
            text = self._first(commit, file, _FIRST_BYTES)
            end = 8 + header_bytes(path, text, file.size)
            if end > len(text):
                text = self._first(commit, file, end)
            return check_header(path, text[8:end], end, file.size)

        with self._explained(), ThreadPoolExecutor(_CONNECTIONS) as threads:
            return dict(zip((file.name for file in files), threads.map(one, files), strict=True))

    def place(self, commit: str, file: HubFile) -> Path:
        """Put a file into its commit's folder of the cache, downloading it unless it is there."""
        with self._explained():
            found = hf_hub_download(
                self.hub_id,
                file.name,
                repo_type=self.kind,
                revision=commit,
                token=self._token(),
                library_name=_NAME,
            )
        return Path(found)

    def fetch_large(
        self,
        commit: str,
        file: HubFile,
        advance: Callable[[int], None],
        check: Callable[[Path], str],
    ) -> None:
        """Put a large file under its digest into the cache, where `place` finds it.

        huggingface_hub begins again after a kill; this goes on where the last attempt ended.
        ``check`` computes the SHA-256 of a file: bytes that are not those of the hub are dropped.
        """
        blob, partial = self.blob(file), self.partial(file)
        lock = self.folder.parent / ".locks" / self.folder.name / f"{file.sha256}.{_NAME}.lock"
        with self._explained():
            lock.parent.mkdir(parents=True, exist_ok=True)
            blob.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(lock):
                if blob.is_file():
                    return
                self._fetch(commit, file, partial, advance)
                found = check(partial)
                if found != file.sha256:
                    partial.unlink()
                    raise StageError(
                        f"{self.where}: {file.name}: expected SHA-256 {file.sha256}, as the hub"
                        f" says, got {found}. The bytes are dropped; run the command again."
                    )
                partial.replace(blob)

    def _fetch(
        self, commit: str, file: HubFile, partial: Path, advance: Callable[[int], None]
    ) -> None:
        with partial.open("r+b" if partial.exists() else "w+b") as opened:
            kept = opened.seek(0, os.SEEK_END)
            if kept > file.size:
                kept = opened.truncate(0)
                opened.seek(0)
            bounded = _Bounded(opened, file.size, self._too_long(file), advance)
            try:
                self._get(commit, file, bounded, kept=kept)
            except StageError:
                opened.truncate(0)
                raise
            opened.flush()
            os.fsync(opened.fileno())

    def _first(self, commit: str, file: HubFile, count: int) -> bytes:
        """The first bytes of a file, whether or not the hub heeds that no more were asked for."""
        memory = io.BytesIO()
        count = min(count, file.size)
        with suppress(_EnoughError):
            self._get(
                commit,
                file,
                _Bounded(memory, count, _EnoughError()),
                size=count,
                headers={"Range": f"bytes=0-{count - 1}"},
            )
        return memory.getvalue()

    def _get(
        self,
        commit: str,
        file: HubFile,
        into: "_Bounded",
        *,
        size: int | None = None,
        kept: int = 0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        http_get(
            self._url(commit, file),
            into,  # type: ignore[arg-type] # the part of a file that http_get uses
            resume_size=kept,
            headers={**self._headers(), **(headers or {})},
            expected_size=file.size if size is None else size,
        )

    def _too_long(self, file: HubFile) -> StageError:
        return StageError(
            f"{self.where}: {file.name}: expected {file.size} bytes, as the hub says, got more."
            " The bytes are dropped; run the command again."
        )

    def _url(self, commit: str, file: HubFile) -> str:
        return hf_hub_url(self.hub_id, file.name, repo_type=self.kind, revision=commit)

    def _api(self) -> HfApi:
        return HfApi(token=self._token(), library_name=_NAME)

    def _headers(self) -> dict[str, str]:
        return dict(build_hf_headers(token=self._token(), library_name=_NAME))

    def _token(self) -> str | None:
        return None if self.token is None else resolve(self.token)

    @property
    def _revision_where(self) -> str:
        return f"model.revision={self.revision}"

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Errors of the library, and of the disk, in one sentence."""
        try:
            yield
        except LmrunError:
            raise
        except (_HTTP_ERROR, OSError) as error:
            raise self._explanation(error) from error

    def _explanation(self, error: Exception) -> LmrunError:
        how = "set model.hub_token='${oc.env:NAME}' to a token that may read it"
        if isinstance(error, GatedRepoError):
            return PlanError(
                f"{self.where}: gated: its owners grant access one by one. Ask for it on"
                f" {constants.ENDPOINT}/{self.hub_id}, then {how}."
            )
        if isinstance(error, RevisionNotFoundError):
            return PlanError(
                f"{self._revision_where}: no such revision of {self.hub_id}."
                " Name a commit, a branch or a tag."
            )
        if isinstance(error, OfflineModeIsEnabled):
            return PlanError(
                f"{self.where}: not in the cache ({self.folder}), and HF_HUB_OFFLINE is set."
                " Unset it once, to download."
            )
        if isinstance(error, HfHubHTTPError):
            return self._answered(error, how)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return StageError(
                f"{self.where}: no space left in the cache ({self.folder}). Free some, or name"
                " another cache by HF_HOME; what is there is kept."
            )
        if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
            return StageError(
                f"{self.where}: cannot write {error.filename} ({error.strerror})."
                " Name another cache by HF_HOME."
            )
        return StageError(
            f"{self.where}: cannot reach {constants.ENDPOINT} ({_short(error)}). Try again;"
            " what is downloaded is kept. With model.hub_offline=true the cache alone is used."
        )

    def _answered(self, error: HfHubHTTPError, how: str) -> LmrunError:
        status = error.response.status_code if error.response is not None else 0
        if isinstance(error, RepositoryNotFoundError) or status == 404:
            return PlanError(
                f"{self.where}: no such {self.kind} on {constants.ENDPOINT}, or a private one."
                f" Check the name; if it is private, {how}."
            )
        if status in (401, 403):
            return PlanError(
                f"{self.where}: {constants.ENDPOINT} refuses access (HTTP {status}). Check the"
                f" token, or {how}."
            )
        return StageError(
            f"{self.where}: {constants.ENDPOINT} failed (HTTP {status}). Try again later;"
            " what is downloaded is kept."
        )


class _EnoughError(Exception):
    """All that was wanted is there."""


@dataclass
class _Bounded:
    """The part of a binary file that `http_get` uses; tells of what is written.

    A hub that sends more than it promised fills neither disk nor memory.
    """

    file: io.BufferedRandom | io.BytesIO
    limit: int
    beyond: Exception
    """Raised by the byte after the limit."""
    advance: Callable[[int], None] = field(default=lambda _: None)

    def write(self, data: bytes) -> int:
        room = self.limit - self.file.tell()
        self.advance(min(len(data), room))
        written = self.file.write(data[:room])
        if len(data) > room:
            raise self.beyond
        return written

    def tell(self) -> int:
        return self.file.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self.file.seek(offset, whence)

    def truncate(self, size: int | None = None) -> int:
        return self.file.truncate(size)


def _short(error: Exception) -> str:
    text = str(error).splitlines()
    return text[0].rstrip(".") if text and text[0] else type(error).__name__
