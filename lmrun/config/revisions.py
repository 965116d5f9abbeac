"""Recipes and options as a git revision has them, read without touching the work tree."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from lmrun import env
from lmrun.config.places import Places, existing, own_configs
from lmrun.errors import UsageError

_WHOLE_SET = b"lmrun_schema"
"""Stands in the `config.yaml` of a complete set of options, that of lmrun's own repository."""
_SUFFIX = ".yaml"
_FOLDERS = ("recipes", "configs")


@dataclass(frozen=True)
class Repository:
    """The git repository that the working directory lies in."""

    top: Path
    cwd: Path

    @classmethod
    def of(cls, cwd: Path) -> "Repository":
        """`UsageError` where there is no git, or no repository."""
        cwd = cwd.resolve()
        top = _git(cwd, "rev-parse", "--show-toplevel")
        if top is None:
            raise UsageError(f"git: expected a repository, got none at {cwd}.")
        return cls(Path(os.fsdecode(top.rstrip(b"\n"))).resolve(), cwd)

    def commit(self, revision: str) -> str:
        """The commit that a revision names; `UsageError` where it names none."""
        wanted = f"{revision}^{{commit}}"
        found = _git(self.top, "rev-parse", "--verify", "--quiet", "--end-of-options", wanted)
        if found is None:
            raise UsageError(
                f"git:{revision}: no such revision in {self.top}. A shallow clone has few of them:"
                " `git fetch --unshallow` brings all."
            )
        return found.decode().strip()

    def folders(self) -> tuple[Path, ...]:
        """The folders of recipes and options that lie in this repository, there now or not."""
        wanted = [self.cwd / name for name in _FOLDERS]
        wanted += [path for path in env.recipe_folders() if path.is_relative_to(self.top)]
        return tuple(dict.fromkeys(wanted))

    @contextmanager
    def places(self, revision: str) -> Iterator[Places]:
        """Where a composition finds the YAML of a revision; gone at the end of the block.

        Folders outside the repository are as they are now. Links are left out.
        """
        commit = self.commit(revision)
        with TemporaryDirectory(prefix="lmrun-revision-") as name:
            root = Path(name).resolve()
            self._write(commit, root)
            yield self._described(revision, root)

    def _write(self, commit: str, root: Path) -> None:
        inside = [str(path.relative_to(self.top)) for path in self.folders()]
        listed = _git(self.top, "ls-tree", "-r", "-z", "--full-tree", commit, "--", *inside)
        blobs: list[tuple[str, PurePosixPath]] = []
        if listed is None:
            raise _unreadable(commit)
        for entry in listed.split(b"\0"):
            about, _, name = entry.partition(b"\t")
            words = about.decode().split()
            path = PurePosixPath(os.fsdecode(name))
            if words and words[0].startswith("100") and path.suffix == _SUFFIX:
                blobs.append((words[2], path))
        contents = self._contents(commit, [blob for blob, _ in blobs])
        for (_, path), content in zip(blobs, contents, strict=True):
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)

    def _contents(self, commit: str, blobs: Sequence[str]) -> Iterator[bytes]:
        out = _git(self.top, "cat-file", "--batch", stdin="\n".join(blobs).encode() + b"\n") or b""
        for _ in blobs:
            head, _, out = out.partition(b"\n")
            words = head.split()
            if len(words) != 3:  # OBJECT missing
                raise _unreadable(commit)
            size = int(words[2])
            yield out[:size]
            out = out[size + 1 :]

    def _described(self, revision: str, root: Path) -> Places:
        now = Places.at(self.cwd)
        here = root / self.cwd.relative_to(self.top)
        configs, shipped_recipes = now.configs, now.shipped_recipes
        primary = here / "configs" / "config.yaml"
        if primary.is_file() and _WHOLE_SET in primary.read_bytes():
            configs, shipped_recipes = here / "configs", here / "recipes"
        extra = (
            root / path.relative_to(self.top) if path.is_relative_to(self.top) else path
            for path in env.recipe_folders()
        )
        return replace(
            now,
            base=root,
            label=f"{revision}:",
            configs=configs,
            shipped_recipes=shipped_recipes,
            recipe_folders=existing(*extra, here / "recipes", shipped_recipes),
            own_configs=own_configs(here, configs),
        )


def _unreadable(commit: str) -> UsageError:
    return UsageError(
        f"git:{commit[:12]}: its files cannot be read. A partial clone asks its remote for them;"
        " `git fsck` says what is missing."
    )


def _git(folder: Path, *arguments: str, stdin: bytes = b"") -> bytes | None:
    """What git prints; None where it fails."""
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments], input=stdin, capture_output=True, check=False
        )
    except FileNotFoundError as error:
        raise UsageError("git: expected the command on the PATH, got none.") from error
    return result.stdout if result.returncode == 0 else None
