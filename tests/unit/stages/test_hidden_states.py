"""Hidden states: in memory or on the disk they are the same, and what fails on the way is said."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lmrun.artifacts.files import sha256
from lmrun.stages.hidden_states import HiddenStates, HiddenWriter, Shape, digest_file

SHAPE: Shape = (7, 3, 4)


def _values() -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))


def _written(file: Path | None, num_resident: int) -> HiddenStates:
    writer = HiddenWriter(SHAPE, torch.empty(num_resident, *SHAPE[1:]), file)
    for start in range(0, 7, 2):
        writer.append(_values()[start : start + 2])
    return writer.close()


@pytest.mark.parametrize("num_resident", [0, 1, 4, 7])
def test_any_rows_can_be_read_wherever_they_are(tmp_path: Path, num_resident: int) -> None:
    states = _written(tmp_path / "hidden-1.safetensors", num_resident)
    for start in range(7):
        for stop in range(start + 1, 8):
            assert torch.equal(states.rows(start, stop), _values()[start:stop])
    assert torch.equal(states.gather([5, 0, 3]), _values()[[5, 0, 3]])


def test_without_a_file_all_are_in_memory() -> None:
    assert torch.equal(_written(None, 7).rows(0, 7), _values())


@pytest.mark.parametrize("num_resident", [0, 7])
def test_the_file_is_whole_and_has_its_digest(tmp_path: Path, num_resident: int) -> None:
    file = tmp_path / "hidden-1.safetensors"
    _written(file, num_resident)
    assert torch.equal(load_file(file)["hidden"], _values())
    assert digest_file(file).read_text().strip() == sha256(file)
    again = HiddenStates.open(file, 2, torch.device("cpu"))
    assert len(again.resident) == 2
    assert torch.equal(again.rows(0, 7), _values())


def test_memory_may_be_that_of_the_input(tmp_path: Path) -> None:
    before = _written(tmp_path / "hidden-1.safetensors", 4)
    writer = HiddenWriter(SHAPE, before.resident, tmp_path / "hidden-2.safetensors")
    for start in range(0, 7, 2):
        writer.append(before.rows(start, min(start + 2, 7)) * 2)
    assert torch.equal(writer.close().rows(0, 7), _values() * 2)


def test_a_digest_of_earlier_bytes_is_gone_before_new_ones_are_there(tmp_path: Path) -> None:
    file = tmp_path / "hidden-1.safetensors"
    _written(file, 0)
    writer = HiddenWriter(SHAPE, torch.empty(0, *SHAPE[1:]), file)
    assert not digest_file(file).exists()
    writer.append(_values())
    writer.close()
    assert digest_file(file).exists()


def test_a_disk_that_refuses_is_told_to_who_writes(tmp_path: Path) -> None:
    writer = HiddenWriter(SHAPE, torch.empty(0, *SHAPE[1:]), tmp_path / "none" / "h.safetensors")
    with pytest.raises(FileNotFoundError):
        for start in range(7):
            writer.append(_values()[start : start + 1])
        writer.close()


def test_a_disk_that_refuses_the_last_bytes_is_told_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After all rows were taken: nobody waits for more."""

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(Path, "replace", full)
    writer = HiddenWriter(SHAPE, torch.empty(0, *SHAPE[1:]), tmp_path / "hidden-1.safetensors")
    writer.append(torch.zeros(SHAPE))
    with pytest.raises(OSError, match="No space left"):
        writer.close()
