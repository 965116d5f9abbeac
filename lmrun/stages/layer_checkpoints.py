"""Checkpoints of a stage that goes layer by layer: what makes it resume after `kill -9`.

    layer-N.safetensors      what layer N produced
    hidden-N.safetensors     the input of layer N in the float model, for the next layer only
    quantized-N.safetensors  the same where the layers before were replaced
    NAME.sha256              digest of each of them; its presence marks the file as whole

Each file is written aside and renamed, its digest after it (`hidden_states.py` writes those of the
text). The hidden states of layer N + 1 come before layer N's file, so that a finished layer always
has what the next one needs. What was changed or torn since counts as absent: it is computed again.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from lmrun.artifacts.files import sha256, write_text
from lmrun.errors import LmrunError
from lmrun.models.safetensors_header import TensorEntry, read_header
from lmrun.stages import tensor_files
from lmrun.stages.hidden_states import digest_file
from lmrun.stages.tensor_files import Array, LazyTensor


class LayerCheckpoints:
    """The checkpoints in one folder, which is created."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def num_done(self, kinds: Collection[str] = (), num_layers: int = 0) -> int:
        """Layers 0 … n - 1 are finished; unreadable files count as absent.

        Where 0 < n < ``num_layers``, the input of layer n must be whole in each of ``kinds``, or
        nothing counts as finished.
        """
        done = 0
        while _is_whole(self._layer(done)):
            done += 1
        is_midway = 0 < done < num_layers
        if is_midway and not all(_is_whole(self.hidden_file(done, kind)) for kind in kinds):
            return 0
        return done

    def hidden_file(self, index: int, kind: str) -> Path:
        """Where the input of a layer lies."""
        return self._folder / f"{kind}-{index}.safetensors"

    def save(
        self,
        index: int,
        tensors: Mapping[str, Array],
        kinds: Collection[str] = (),
        is_last: bool = False,
    ) -> None:
        """Mark a layer as finished, and drop its input of each of ``kinds``.

        After the last layer its output goes too.
        """
        listed = [LazyTensor.of(name, np.asarray(array)) for name, array in tensors.items()]
        path = self._layer(index)
        digest_file(path).unlink(missing_ok=True)
        tensor_files.write_safetensors(path, listed)
        write_text(digest_file(path), sha256(path) + "\n")
        for kind in kinds:
            for read in (index, index + 1) if is_last else (index,):
                hidden = self.hidden_file(read, kind)
                digest_file(hidden).unlink(missing_ok=True)
                hidden.unlink(missing_ok=True)

    def entries(self, index: int) -> dict[str, TensorEntry]:
        """The tensors of a finished layer."""
        return read_header(self._layer(index))

    def _layer(self, index: int) -> Path:
        return self._folder / f"layer-{index}.safetensors"


def _is_whole(path: Path) -> bool:
    """Has the bytes that were written, and a header that fits them."""
    try:
        if digest_file(path).read_text(encoding="utf-8").strip() != sha256(path):
            return False
        read_header(path)
    except (OSError, UnicodeDecodeError, LmrunError):
        return False
    return True
