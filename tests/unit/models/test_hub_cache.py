"""What the hub's cache on this machine tells without the hub."""

from pathlib import Path

import pytest
from huggingface_hub import constants

from lmrun.models.hub_cache import HubCache


def test_a_torn_or_foreign_note_of_a_branch_is_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    cache = HubCache("org/tiny", "main", None, offline=True)
    assert cache.cached_commit() is None
    note = cache.folder / "refs" / "main"
    note.parent.mkdir(parents=True)
    for text in ("", "0" * 39, "../../elsewhere"):
        note.write_text(text)
        assert cache.cached_commit() is None
    note.write_text(f"{'0' * 40}\n")
    assert cache.cached_commit() == "0" * 40
