"""Hidden states of a calibration text between two layers: as many in memory as may be, all on disk.

The file is the layer's checkpoint (`lmrun/stages/layer_checkpoints.py`) as well as the place where
what is over the memory's budget waits. It is written and read in the order of the sequences.
"""

import hashlib
import json
import queue
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lmrun.artifacts.files import write_text
from lmrun.errors import StageError
from lmrun.models.safetensors_header import read_header

HIDDEN = "hidden"
"""Name of the one tensor in the file."""
WAITING = 2
"""Batches that may wait for the disk."""
Shape = tuple[int, int, int]
"""Sequences, tokens of each, features."""


@dataclass(frozen=True)
class HiddenStates:
    """float32 [sequences, tokens, features]."""

    shape: Shape
    resident: Tensor
    """The first sequences, in the memory of the device that computes."""
    file: Path | None
    """Where all of them lie; None where all are resident and nobody goes on from them."""
    offset: int = 0
    """Of the data in the file."""

    def rows(self, start: int, stop: int) -> Tensor:
        """Sequences [start, stop) on the device; a view where they are resident."""
        first = len(self.resident)
        if stop <= first:
            return self.resident[start:stop]
        if start < first:
            return torch.cat([self.resident[start:], self._read(first, stop)])
        return self._read(start, stop)

    def gather(self, sequences: list[int]) -> Tensor:
        """A copy of some sequences, in the order asked for, on the device."""
        return torch.cat([self.rows(one, one + 1) for one in sequences])

    def _read(self, start: int, stop: int) -> Tensor:
        assert self.file is not None
        size = self.shape[1] * self.shape[2]
        with self.file.open("rb") as file:
            file.seek(self.offset + start * size * 4)
            array = np.fromfile(file, np.float32, (stop - start) * size)
        if array.size != (stop - start) * size:
            raise StageError(f"{self.file}: expected {stop} sequences, the file ended.")
        found = torch.from_numpy(array.reshape(stop - start, *self.shape[1:]))
        return found.to(self.resident.device)

    @classmethod
    def open(cls, file: Path, num_resident: int, device: torch.device) -> "HiddenStates":
        """Those of a file, the first sequences in memory."""
        entry = read_header(file)[HIDDEN]
        shape = (entry.shape[0], entry.shape[1], entry.shape[2])
        on_disk = cls(shape, torch.empty((0, *shape[1:]), device=device), file, entry.offset)
        resident = torch.empty((min(num_resident, shape[0]), *shape[1:]), device=device)
        for one in range(len(resident)):
            resident[one] = on_disk.rows(one, one + 1)[0]
        return cls(shape, resident, file, entry.offset)


class HiddenWriter:
    """Takes the sequences in order, keeps the first ones, writes all to the file meanwhile.

    ``resident`` [sequences, tokens, features] is where the first ones go; it may be the memory that
    the input of the layer stands in, since a batch is read before it is written.
    """

    def __init__(self, shape: Shape, resident: Tensor, file: Path | None) -> None:
        self._shape, self._resident, self._file = shape, resident, file
        self._count = 0
        self._offset = 0
        self._error: BaseException | None = None
        self._waiting: queue.Queue[Tensor | None] = queue.Queue(WAITING)
        self._thread: threading.Thread | None = None
        if file is not None:
            digest_file(file).unlink(missing_ok=True)
            self._thread = threading.Thread(target=self._write, args=(file,), daemon=True)
            self._thread.start()

    def append(self, rows: Tensor) -> None:
        """The next sequences."""
        start, stop = self._count, self._count + len(rows)
        self._count = stop
        kept = max(0, min(stop, len(self._resident)) - start)
        self._resident[start : start + kept] = rows[:kept]
        if self._thread is not None:
            self._waiting.put(rows.cpu())
        if self._error is not None:
            self.close()

    def close(self) -> HiddenStates:
        """Wait for the disk; the file is whole then, its digest beside it."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()
            self._thread = None
        if self._error is not None:
            raise self._error
        assert self._count == self._shape[0]
        return HiddenStates(self._shape, self._resident, self._file, self._offset)

    def _write(self, file: Path) -> None:
        hasher = hashlib.sha256()
        aside = file.with_name(file.name + ".part")
        is_over = False
        try:
            header = _header(self._shape)
            self._offset = len(header)
            with aside.open("wb") as out:
                out.write(header)
                hasher.update(header)
                while (rows := self._waiting.get()) is not None:
                    data = rows.contiguous().numpy().data
                    out.write(data)
                    hasher.update(data)
                is_over = True
            aside.replace(file)
            # Not flushed: the digest tells what a power cut tore, and that layer is done again.
            write_text(digest_file(file), hasher.hexdigest() + "\n")
        except BaseException as error:  # noqa: BLE001 - raised where the rows come from
            self._error = error
            while not is_over:
                is_over = self._waiting.get() is None


def digest_file(file: Path) -> Path:
    """The file whose presence marks another one as whole, and holds its SHA-256."""
    return file.with_suffix(".sha256")


def _header(shape: Shape) -> bytes:
    size = shape[0] * shape[1] * shape[2] * 4
    fields = {HIDDEN: {"dtype": "F32", "shape": list(shape), "data_offsets": [0, size]}}
    text = json.dumps(fields, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
