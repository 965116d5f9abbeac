"""A small Hugging Face hub on loopback: the part of its HTTP interface that huggingface_hub uses.

Large files are answered with a redirect to another path, as the real hub sends to its storage.
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin", ".gz", ".parquet")
CHUNK = 1 << 16


@dataclass(frozen=True)
class Digests:
    """Of one file, as the hub names it."""

    size: int
    sha256: str
    git_sha1: str

    @classmethod
    def of(cls, path: Path) -> "Digests":
        content = path.read_bytes()
        git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        return cls(len(content), hashlib.sha256(content).hexdigest(), git)


@dataclass
class Repository:
    """One model or dataset: a folder, the names of its one commit, and who may read it."""

    folder: Path
    revisions: set[str] = field(default_factory=lambda: {"main"})
    token: str | None = None
    """What a reader must send; None for a public model."""
    gated: bool = False
    known: dict[tuple[str, int], Digests] = field(default_factory=dict)

    def digests(self, path: Path) -> Digests:
        key = (path.name, path.stat().st_mtime_ns)
        if key not in self.known:
            self.known[key] = Digests.of(path)
        return self.known[key]

    @property
    def commit(self) -> str:
        """Made from names and contents, so that a changed folder is another commit."""
        digest = hashlib.sha1()
        for path in self.files():
            digest.update(self.name_of(path).encode() + self.digests(path).git_sha1.encode())
        return digest.hexdigest()

    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    def name_of(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def siblings(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for path in self.files():
            digests = self.digests(path)
            one: dict[str, Any] = {"rfilename": self.name_of(path), "size": digests.size}
            one["blobId"] = digests.git_sha1
            if path.suffix in LARGE:
                one["lfs"] = {"sha256": digests.sha256, "size": digests.size, "pointerSize": 130}
            found.append(one)
        return found


@dataclass
class HubServer:
    """What the server holds, what it was asked, and how it misbehaves."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    """Method, path, and the Range asked for, of every request."""
    sent: dict[str, int] = field(default_factory=dict)
    """File name → bytes of it that were sent."""
    authorized_storage: list[str] = field(default_factory=list)
    """Storage requests that carried a token: none should."""
    break_after: int | None = None
    """Bytes of a large file after which its connections are cut, from now on."""
    stall_after: int | None = None
    """Bytes of a large file after which its connections stop sending, and stay open."""
    endless: bool = False
    """Send whole large files on and on."""
    heeds_ranges: bool = True
    """Send no more than was asked for."""
    damage: bool = False
    """Send large files with one byte changed."""
    status: int | None = None
    """Answer everything with this status."""
    page: bytes | None = None
    """Answer what is asked of a model with this, in place of JSON."""
    lie: dict[str, Any] = field(default_factory=dict)
    """Put over what the hub says of a model."""
    closing: threading.Event = field(default_factory=threading.Event)

    def add(self, hub_id: str, folder: Path, **more: Any) -> Repository:
        """A model; a dataset is `datasets/ORG/NAME`."""
        self.repositories[hub_id] = Repository(folder, **more)
        return self.repositories[hub_id]

    def environment(self, cache: Path) -> dict[str, str]:
        """What points huggingface_hub here, with a cache of its own and no token of the user's."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(cache),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
        }


@contextmanager
def serve() -> Iterator[HubServer]:
    hub = HubServer()

    class Handler(_Handler):
        state = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        hub.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: HubServer

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test output clean."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        asked = self.headers.get("Range")
        self.state.requests.append(f"{self.command} {path}" + (f" {asked}" if asked else ""))
        if self.state.status is not None:
            self._error(self.state.status, "")
        elif path.startswith("/storage/"):
            self._storage(path)
        elif path.startswith("/api/datasets/"):
            self._api(path.removeprefix("/api/"))
        elif path.startswith("/api/models/"):
            self._api(path.removeprefix("/api/models/"))
        else:
            self._resolve(path.strip("/"))

    def _error(self, status: int, code: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _repository(self, hub_id: str, *, of_content: bool) -> Repository | None:
        repository = self.state.repositories.get(hub_id)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if repository is None:
            self._error(404 if token else 401, "RepoNotFound")
        elif repository.token is not None and token != repository.token:
            if repository.gated and not of_content:
                return repository  # anyone may look at a gated model, not into it
            self._error(403 if repository.gated else 401, _code(repository))
        else:
            return repository
        return None

    def _api(self, rest: str) -> None:
        hub_id, _, revision = rest.partition("/revision/")
        repository = self._repository(hub_id, of_content=False)
        if repository is None:
            return
        if (revision or "main") not in {*repository.revisions, repository.commit}:
            self._error(404, "RevisionNotFound")
            return
        if self.state.page is not None:
            self._send(self.state.page, {"Content-Type": "text/html"})
            return
        body = {"id": hub_id, "sha": repository.commit, "siblings": repository.siblings()}
        body |= self.state.lie
        self._send(json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _resolve(self, rest: str) -> None:
        hub_id, _, rest = rest.partition("/resolve/")
        repository = self._repository(hub_id, of_content=True)
        if repository is None:
            return
        revision, _, name = rest.partition("/")
        if revision not in {*repository.revisions, repository.commit}:
            self._error(404, "RevisionNotFound")
            return
        file = repository.folder / name
        if not file.is_file():
            self._error(404, "EntryNotFound")
            return
        digests = repository.digests(file)
        headers = {"X-Repo-Commit": repository.commit}
        if file.suffix in LARGE:
            headers["X-Linked-Etag"] = f'"{digests.sha256}"'
            headers["X-Linked-Size"] = str(digests.size)
            port = urlsplit(self.state.url).port
            headers["Location"] = f"http://localhost:{port}/storage/{hub_id}/{name}"
            self._send(b"", headers, status=302)
        else:
            headers["ETag"] = f'"{digests.git_sha1}"'
            self._send(file.read_bytes(), headers, name)

    def _storage(self, path: str) -> None:
        rest = path.removeprefix("/storage/")
        hub_id = next(one for one in self.state.repositories if rest.startswith(f"{one}/"))
        name = rest.removeprefix(f"{hub_id}/")
        if self.headers.get("Authorization"):
            self.state.authorized_storage.append(path)
        content = (self.state.repositories[hub_id].folder / name).read_bytes()
        if self.state.endless and not (self.state.heeds_ranges and self.headers.get("Range")):
            self._send_on()
            return
        if self.state.damage:
            content = content[:-1] + bytes([content[-1] ^ 1])
        self._send(content, {"ETag": '"storage"'}, name, may_break=True)

    def _send_on(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.close_connection = True
        try:
            while not self.state.closing.is_set():
                self.wfile.write(b"\0" * CHUNK)
        except OSError:  # the client has enough
            pass

    def _send(
        self,
        content: bytes,
        headers: dict[str, str],
        name: str = "",
        *,
        status: int = 200,
        may_break: bool = False,
    ) -> None:
        start, total = 0, len(content)
        asked = self.headers.get("Range")
        if asked and status == 200 and total:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start = int(first)
            content = content[start : int(last) + 1 if last else None]
            status = 206
            headers["Content-Range"] = f"bytes {start}-{start + len(content) - 1}/{total}"
        self.send_response(status)
        for key, value in {**headers, "Accept-Ranges": "bytes"}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self._body(content, name, may_break=may_break)

    def _body(self, content: bytes, name: str, *, may_break: bool) -> None:
        for offset in range(0, len(content), CHUNK):
            if may_break and self._is_over(self.state.break_after, offset):
                self.close_connection = True
                return
            if may_break and self._is_over(self.state.stall_after, offset):
                self.state.closing.wait()
                self.close_connection = True
                return
            piece = content[offset : offset + CHUNK]
            try:
                self.wfile.write(piece)
            except OSError:  # the client is gone
                self.close_connection = True
                return
            self.state.sent[name] = self.state.sent.get(name, 0) + len(piece)

    @staticmethod
    def _is_over(limit: int | None, offset: int) -> bool:
        return limit is not None and offset >= limit


def _code(repository: Repository) -> str:
    return "GatedRepo" if repository.gated else "RepoNotFound"
