"""An artifact as a folder that the user owns: `lmrun export STAGE DIR`."""

import errno
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import psutil

from lmrun.artifacts import manifest as manifests
from lmrun.artifacts.files import files_under, fsync_path, sha256, stamp
from lmrun.artifacts.manifest import FileRecord, Manifest
from lmrun.artifacts.store import Artifact, read_manifest
from lmrun.errors import ArtifactError, UsageError

_MARK = ".lmrun-export-"


def check_target(folder: Path, stage: str) -> None:
    """Refuse a folder that holds anything but an earlier export of the same stage."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UsageError(f"{folder}: expected a folder, got none. Name another.")
    if not folder.exists():
        if not folder.parent.is_dir():
            raise UsageError(f"{folder}: there is no folder {folder.parent}. Make it, or name one.")
        return
    there = set(files_under(folder)) | {path.name for path in folder.iterdir()}
    if not there:
        return
    try:
        manifest = read_manifest(folder, None)
    except ArtifactError:
        raise UsageError(
            f"{folder}: expected an empty folder or an earlier export, got one that holds"
            f" {min(there)}. Name another."
        ) from None
    if manifest.fields.stage != stage:
        raise UsageError(
            f"{folder}: expected an earlier export of {stage}, got one of"
            f" {manifest.fields.stage}. Name another."
        )
    folders = {parent.as_posix() for name in manifest.files for parent in Path(name).parents}
    foreign = there - set(manifest.files) - folders - {manifests.FILE_NAME}
    if foreign:
        raise UsageError(
            f"{folder}: {min(foreign)} is not of the earlier export and would be lost."
            " Move it away, or name another folder."
        )


def hand_over(artifact: Artifact, folder: Path, *, model_name: str, link: bool = False) -> None:
    """Put an artifact's files and its manifest into a folder, checked by `check_target` again.

    Written aside and renamed, so that the folder is never half of it; an earlier export leaves
    as a whole. ``link`` makes hard links in place of copies. What is copied is hashed on the way:
    `ArtifactError` for wrong bytes, and for a folder that cannot be written.
    """
    check_target(folder, artifact.manifest.fields.stage)
    folder = folder.absolute()
    _clean(folder)
    aside = folder.with_name(f"{_MARK}{folder.name}.{os.getpid()}")
    old = folder.with_name(f"{_MARK}{folder.name}.{os.getpid()}.old")
    try:
        aside.mkdir()
        put = _link if link else _copy
        files = {
            name: put(artifact.path / name, aside / name, record)
            for name, record in artifact.manifest.files.items()
        }
        fields = replace(artifact.manifest.fields, model_name=model_name)
        manifests.write(aside, Manifest(fields, files))
        for place in {(aside / name).parent for name in files}:
            fsync_path(place)
        if folder.exists():
            folder.rename(old)
        aside.rename(folder)
        fsync_path(folder.parent)
    except OSError as error:
        raise ArtifactError(_explain(error, folder, link=link)) from error
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        for path in (aside, old):
            shutil.rmtree(path, ignore_errors=True)


def _copy(source: Path, target: Path, record: FileRecord) -> FileRecord:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    fsync_path(target)
    if sha256(target) != record.sha256:
        raise ArtifactError(
            f"{source}: its bytes are not those that were written. `lmrun store verify` marks the"
            " artifact, the next build makes it again."
        )
    return FileRecord(**asdict(stamp(target)), sha256=record.sha256)


def _link(source: Path, target: Path, record: FileRecord) -> FileRecord:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.hardlink_to(source)
    return FileRecord(**asdict(stamp(target)), sha256=record.sha256)


def _clean(folder: Path) -> None:
    """Remove what killed exports to this folder left beside it; put back what one moved away."""
    prefix = f"{_MARK}{folder.name}."
    for path in folder.parent.glob(f"{_MARK}*"):
        number, _, suffix = path.name.removeprefix(prefix).partition(".")
        if not path.name.startswith(prefix) or not number.isdigit():
            continue
        if psutil.pid_exists(int(number)):
            continue
        if suffix == "old" and not folder.exists():
            path.rename(folder)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _explain(error: OSError, folder: Path, *, link: bool) -> str:
    if link and error.errno == errno.EXDEV:
        return (
            f"--link: {folder} is on another file system than the store, which hard links cannot"
            " cross. Leave --link out."
        )
    return f"{folder}: cannot be written ({error.strerror}). Name another folder."
