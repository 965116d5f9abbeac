"""The YAML of a git revision, where git cannot give it."""

import subprocess
from pathlib import Path

import pytest

from lmrun.config.revisions import Repository
from lmrun.errors import UsageError


@pytest.mark.parametrize("damaged", ["HEAD:recipes/mine.yaml", "HEAD:recipes"])
def test_a_revision_with_missing_objects_is_refused_and_not_empty(
    tmp_path: Path, damaged: str
) -> None:
    def git(*words: str) -> str:
        who = ("-c", "user.name=x", "-c", "user.email=x@y.z")
        command = ["git", "-C", str(tmp_path), *who, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    git("init", "-q")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.yaml").write_text("kv: {bits: 8}\n")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    commit, missing = git("rev-parse", "HEAD"), git("rev-parse", damaged)
    with Repository.of(tmp_path).places("HEAD") as places:
        assert (places.base / "recipes" / "mine.yaml").read_text() == "kv: {bits: 8}\n"
    (tmp_path / ".git" / "objects" / missing[:2] / missing[2:]).unlink()
    with (
        pytest.raises(UsageError, match=f"^git:{commit[:12]}: its files cannot be read"),
        Repository.of(tmp_path).places("HEAD"),
    ):
        pass
