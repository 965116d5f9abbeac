import shutil
import tempfile
from pathlib import Path

import pytest

from lmrun.deploy.early import socket_folder


@pytest.mark.parametrize(("name", "is_inside"), [("short", True), ("x" * 100, False)])
def test_the_folder_of_sockets_is_private_and_its_path_short_enough(
    name: str, is_inside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = Path(tempfile.mkdtemp(dir="/tmp")) / name
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    folder = socket_folder()
    try:
        assert folder.stat().st_mode & 0o777 == 0o700
        assert len(str(folder / "engine.sock")) <= 107
        assert folder.is_relative_to(temporary) is is_inside
    finally:
        shutil.rmtree(folder)
        shutil.rmtree(temporary.parent)
