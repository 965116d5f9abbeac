"""What the disk does to a download, in words."""

import errno
import os
from pathlib import Path

import pytest

from lmrun.errors import PlanError, StageError
from lmrun.models.hub import Hub
from lmrun.models.hub_files import HubFile, is_commit
from lmrun.plan.offline import check_download

HUB = Hub("org/tiny", "main", token=None, offline=False)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
            f"model.hub_id=org/tiny: no space left in the cache ({HUB.folder}). Free some, or name"
            " another cache by HF_HOME; what is there is kept.",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/cache/blobs"),
            "model.hub_id=org/tiny: cannot write /cache/blobs (Permission denied)."
            " Name another cache by HF_HOME.",
        ),
    ],
)
def test_a_disk_that_takes_nothing_is_a_failure_with_a_way_out(error: OSError, text: str) -> None:
    with pytest.raises(StageError) as caught, HUB._explained():
        raise error
    assert str(caught.value) == text


def test_a_model_larger_than_the_disk_is_refused_before_the_download(tmp_path: Path) -> None:
    check_download(1, tmp_path / "hub" / "none")
    with pytest.raises(PlanError) as caught:
        check_download(1 << 60, tmp_path / "none")
    text = str(caught.value)
    head = f"plan: the model is 1048576 TiB to download into {tmp_path / 'none'}, "
    assert text.startswith(head)
    assert text.endswith(" are free. Free some, or name another cache by HF_HOME.")


def test_only_a_full_hash_is_a_commit() -> None:
    assert is_commit("0123456789abcdef0123456789abcdef01234567")
    assert not any(map(is_commit, ("main", "0123456", "v1.0", "refs/pr/1", "f" * 41, "F" * 40)))


def test_a_file_without_a_cache_is_all_left_to_download() -> None:
    file = HubFile("model.safetensors", 100, "0" * 64, is_large=True)
    assert HUB.bytes_left(file) == 100
    assert not HUB.is_cached("0" * 40, file)
