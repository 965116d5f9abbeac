"""The artifact store: input-addressed folders below $LMRUN_HOME.

    artifacts/<stage>/<fingerprint>/   finished, never changed; manifest.json says what is inside
    partial/<stage>-<fingerprint>/     being built; kept between attempts so that stages resume
    locks/, trash/                     a lock a fingerprint being built; artifacts on their way out

Looking up writes nothing and creates nothing. `inventory` lists what is there, `removal` removes.
"""

import os
import re
import secrets
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from lmrun import log
from lmrun.artifacts import manifest as manifests
from lmrun.artifacts.files import (
    files_under,
    fsync_path,
    parse_json,
    remove_lock_file,
    sha256,
    stamp,
    storage_errors,
    write_text,
)
from lmrun.artifacts.manifest import FileRecord, Manifest, ManifestFields
from lmrun.errors import ArtifactError

RESUME = ".resume"
"""Subfolder of a partial folder for a stage's own checkpoints; `commit` drops it."""
DAMAGED = ".damaged"
"""Marks an artifact whose bytes were found wrong after a start; holds the reason."""

_ASIDE = re.compile(r"\.(manifest\.json|\.damaged)\.\d+")
"""A manifest or a mark being replaced, by another process or by one that was killed."""

_log = log.get(__name__)


@dataclass(frozen=True)
class Artifact:
    """A finished artifact."""

    path: Path
    manifest: Manifest


@dataclass(frozen=True)
class Look:
    """What the store holds under a fingerprint."""

    artifact: Artifact | None
    problem: str | None
    """Why what is there counts as absent: the file and what is wrong with it."""


class Store:
    """Artifacts below one home folder. Several processes may use it at once."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def folder(self, stage: str, fingerprint: str) -> Path:
        """Where the artifact is, or will be."""
        return self.home / "artifacts" / stage / fingerprint

    def find(self, stage: str, fingerprint: str) -> Artifact | None:
        """The artifact, or None where there is none or it is damaged (`look` says why).

        A file whose size, mtime and inode are those of the manifest is trusted; any other is
        hashed in full.
        """
        return self.look(stage, fingerprint).artifact

    def look(self, stage: str, fingerprint: str) -> Look:
        """`find` with the reason."""
        folder = self.folder(stage, fingerprint)
        if not folder.is_dir():
            return Look(None, None)
        try:
            manifest = read_manifest(folder, fingerprint)
            problem = mark_of_damage(folder) or _problem(folder, manifest, hash_all=False)
        except ArtifactError as error:
            problem = str(error)
        if problem is None:
            return Look(Artifact(folder, manifest), None)
        return Look(None, problem if folder.is_dir() else None)  # it was removed meanwhile

    def manifests(self, stage: str) -> list[Manifest]:
        """Manifests of every artifact of a stage, the damaged ones left out, newest first."""
        found = []
        for file in (self.home / "artifacts" / stage).glob(f"*/{manifests.FILE_NAME}"):
            try:
                found.append((file.stat().st_mtime_ns, read_manifest(file.parent, None)))
            except (ArtifactError, OSError):
                continue  # damaged, or removed meanwhile: of no use as a neighbour
        return [manifest for _, manifest in sorted(found, key=lambda item: -item[0])]

    @contextmanager
    def building(self, stage: str, fingerprint: str) -> Iterator[Path]:
        """Hold the fingerprint's lock and yield its partial folder.

        The folder keeps what an earlier attempt left. Another process may have finished while
        this one waited: call `find` inside, or use `build`. Full and read-only disks become
        `ArtifactError`.
        """
        partial = self.partial(stage, fingerprint)
        with storage_errors(self.home), self.locked(stage, fingerprint):
            self._settle(partial, stage, fingerprint)
            partial.mkdir(parents=True, exist_ok=True)
            yield partial

    def partial(self, stage: str, fingerprint: str) -> Path:
        """Where the artifact is built."""
        return self.home / "partial" / f"{stage}-{fingerprint}"

    def lock_file(self, stage: str, fingerprint: str) -> Path:
        """Held by who builds, imports or removes the artifact."""
        return self.home / "locks" / f"{stage}-{fingerprint}.lock"

    @contextmanager
    def locked(self, stage: str, fingerprint: str, *, wait: bool = True) -> Iterator[None]:
        """Hold the fingerprint's lock; its file goes with it.

        Without ``wait``, `filelock.Timeout` where another process holds it.
        """
        file = self.lock_file(stage, fingerprint)
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not wait:
                raise
            _log.info("%s: another process builds it, waiting", stage)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()
            remove_lock_file(file)

    def build(
        self, stage: str, fingerprint: str, make: Callable[[Path], ManifestFields]
    ) -> Artifact:
        """The artifact, built by ``make`` (which fills the folder it is given) unless it is there.

        Of several processes that ask at once, one builds and the others wait for it.
        """
        with self.building(stage, fingerprint) as partial:
            found = self.find(stage, fingerprint)
            if found is None:
                return self.commit(partial, make(partial))
            shutil.rmtree(partial)
            return found

    def publish(self, partial: Path, manifest: Manifest) -> Artifact:
        """Make a folder of flushed files the artifact: write the manifest, rename.

        Called while the fingerprint's lock is held. What was in its place is replaced.
        """
        manifests.write(partial, manifest)
        return Artifact(
            self._publish(partial, manifest.fields.stage, manifest.fingerprint), manifest
        )

    def commit(self, partial: Path, fields: ManifestFields) -> Artifact:
        """Make a partial folder the artifact: hash, flush, write the manifest, rename.

        Called inside `building`. `RESUME` is dropped. A damaged artifact in its place is replaced.
        """
        if partial.name != f"{fields.stage}-{fields.fingerprint}":
            raise ArtifactError(f"{partial}: expected the folder that `building` gave for it.")
        files: dict[str, FileRecord] = {}
        for name in files_under(partial):
            if name == manifests.FILE_NAME or name.startswith(f"{RESUME}/"):
                continue
            fsync_path(partial / name)
            files[name] = FileRecord(**asdict(stamp(partial / name)), sha256=sha256(partial / name))
        if not files:
            raise ArtifactError(f"{partial}: expected files, got none.")
        for parent in {(partial / name).parent for name in files}:
            fsync_path(parent)
        return self.publish(partial, Manifest(fields, files))

    def verify(self, artifact: Artifact) -> None:
        """Hash every file; `ArtifactError` names the first that is not as it was committed.

        A wrong artifact is condemned, so that the next plan rebuilds it. Where the bytes are right
        and only the stamps moved (a copied store), the stamps are renewed.
        """
        problem = _problem(artifact.path, artifact.manifest, hash_all=True)
        if problem is not None:
            try:
                self.condemn(artifact, problem)
            except ArtifactError as error:
                _log.warning("%s: cannot be marked as damaged: %s", artifact.path, error)
            raise ArtifactError(f"{artifact.path}: {problem}")
        try:
            self._renew(artifact)
        except FileNotFoundError as error:
            raise ArtifactError(f"{artifact.path}: removed while it was verified") from error
        except ArtifactError as error:
            _log.warning("%s: right, but hashed again next time: %s", artifact.path, error)

    def _renew(self, artifact: Artifact) -> None:
        """Let the stamps be those of the files as they lie there."""
        renewed = {
            name: FileRecord(**asdict(stamp(artifact.path / name)), sha256=record.sha256)
            for name, record in artifact.manifest.files.items()
        }
        if renewed != dict(artifact.manifest.files):
            with storage_errors(self.home), _same_times(artifact.path):
                manifests.write(artifact.path, Manifest(artifact.manifest.fields, renewed))

    def condemn(self, artifact: Artifact, problem: str) -> None:
        """Mark an artifact as damaged: it counts as absent from now on and is rebuilt.

        One that was removed or replaced meanwhile is left alone.
        """
        try:
            if read_manifest(artifact.path, None) != artifact.manifest:
                return
        except ArtifactError:
            pass  # what cannot be read is marked too
        with storage_errors(self.home), suppress(FileNotFoundError):  # it is being removed
            write_text(artifact.path / DAMAGED, problem + "\n")

    def verify_in_background(
        self, artifacts: Iterable[Artifact], on_mismatch: Callable[[Artifact, str], None]
    ) -> threading.Thread:
        """Hash artifacts on a daemon thread, already started, after the server is ready.

        The first wrong file of an artifact condemns it, then ``on_mismatch`` is called with the
        artifact and the problem, on that thread.
        """
        todo = tuple(artifacts)

        def work() -> None:
            for artifact in todo:
                problem = _problem(artifact.path, artifact.manifest, hash_all=True)
                if problem is None:
                    continue
                _log.error("%s: %s", artifact.path, problem)
                try:
                    self.condemn(artifact, problem)
                except ArtifactError as error:
                    _log.error("%s: cannot be marked as damaged: %s", artifact.path, error)
                on_mismatch(artifact, problem)

        thread = threading.Thread(target=work, name="verify-artifacts", daemon=True)
        thread.start()
        return thread

    def _settle(self, partial: Path, stage: str, fingerprint: str) -> None:
        """Finish a commit that was killed before its rename; drop half a manifest."""
        for aside in partial.glob(".manifest.json.*"):
            aside.unlink()
        if not (partial / manifests.FILE_NAME).exists():
            return
        shutil.rmtree(partial / RESUME, ignore_errors=True)
        try:
            complete = _problem(partial, read_manifest(partial, fingerprint), hash_all=True)
        except ArtifactError as error:
            complete = str(error)
        if complete is None:
            self._publish(partial, stage, fingerprint)
        else:
            (partial / manifests.FILE_NAME).unlink()

    def _publish(self, partial: Path, stage: str, fingerprint: str) -> Path:
        shutil.rmtree(partial / RESUME, ignore_errors=True)
        folder = self.folder(stage, fingerprint)
        folder.parent.mkdir(parents=True, exist_ok=True)
        trash = self.to_trash(folder) if folder.exists() else None
        partial.rename(folder)
        fsync_path(folder.parent)
        if trash is not None:
            shutil.rmtree(trash, ignore_errors=True)
        return folder

    def to_trash(self, path: Path) -> Path:
        """Move something of the store out of the way, at once; where it is now."""
        trash = self.home / "trash" / f"{path.name[:80]}.{secrets.token_hex(4)}"
        trash.parent.mkdir(exist_ok=True)
        return path.rename(trash)


def mark_of_damage(folder: Path) -> str | None:
    """Why an artifact was condemned; None for one that was not."""
    try:
        return (folder / DAMAGED).read_text(encoding="utf-8").strip() or "marked as damaged"
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        return f"marked as damaged ({error})"


@contextmanager
def _same_times(folder: Path) -> Iterator[None]:
    """Rewrite a manifest, and let age and last use of the artifact stay what they were."""
    places = (folder / manifests.FILE_NAME, folder)
    times = [(place, place.stat()) for place in places]
    yield
    for place, info in times:
        os.utime(place, ns=(info.st_atime_ns, info.st_mtime_ns))


def read_manifest(folder: Path, fingerprint: str | None) -> Manifest:
    """The manifest in a folder, checked, and that of this fingerprint where one is given.

    Raises `ArtifactError`, its message without the folder.
    """
    file = folder / manifests.FILE_NAME
    try:
        document = parse_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{manifests.FILE_NAME}: missing") from None
    except OSError as error:
        raise ArtifactError(f"{manifests.FILE_NAME}: {error.strerror}") from error
    except ValueError as error:
        raise ArtifactError(f"{manifests.FILE_NAME}: expected JSON, got {error}") from error
    manifest = Manifest.from_json(document, manifests.FILE_NAME)
    if fingerprint is not None and manifest.fingerprint != fingerprint:
        raise ArtifactError(f"{manifests.FILE_NAME}: is that of {manifest.fingerprint[:12]}")
    return manifest


def _problem(folder: Path, manifest: Manifest, *, hash_all: bool) -> str | None:
    """The first thing wrong with an artifact's files, or None."""
    own = {manifests.FILE_NAME, DAMAGED}
    there = {name for name in files_under(folder) if not _ASIDE.fullmatch(name)}
    foreign = sorted(there - set(manifest.files) - own)
    if foreign:
        return f"{foreign[0]}: not in the manifest"
    for name, record in manifest.files.items():
        try:
            now = stamp(folder / name)
            if now.size != record.size:
                return f"{name}: expected {record.size} bytes, got {now.size}"
            if (hash_all or now != record.stamp) and sha256(folder / name) != record.sha256:
                return f"{name}: its bytes are not those that were written (SHA-256 differs)"
        except FileNotFoundError:
            return f"{name}: missing"
        except OSError as error:
            return f"{name}: {error.strerror}"
    return None
