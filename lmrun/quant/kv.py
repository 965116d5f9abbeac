"""What rounding the KV cache costs: the engine's rounding, and the expected errors of each layer.

The rounding is that of the engine's `kv_write` (csrc/cache/README.md): per token and head, keys
after RoPE, asymmetric codes with a scale and a zero in f16. No torch here: a plan reads the errors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmrun.errors import ArtifactError
from lmrun.models.safetensors_header import TensorEntry, read_header

BITS = (8, 4)
"""Bits that errors are stored for."""
PARTS = ("key", "value", "output")
"""What a stored error has, in order."""
_LARGEST_F16 = np.float32(65504)

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class KvError:
    """Expected squared errors of one layer at one number of bits, each over its energy."""

    key: float
    """Of the keys after RoPE."""
    value: float
    output: float
    """Of what attention adds to the residual stream, over the energy of the layer's output: keys
    and values rounded, all else exact. Layers are ranked by it."""


def rounded(x: Floats, bits: int) -> Floats:
    """Keys or values [..., head_dim] as the cache gives them back; bits 32, 16, 8 or 4."""
    x = np.asarray(x, np.float32)
    if bits == 32:
        return x
    if bits == 16:
        return _f16(x)
    largest = np.float32((1 << bits) - 1)
    low = x.min(-1, keepdims=True)
    scale = _f16((x.max(-1, keepdims=True) - low) / largest)
    zero = _f16(low)
    is_constant = scale == 0
    codes = np.rint((x - zero) / np.where(is_constant, np.float32(1), scale))
    np.clip(codes, 0, largest, out=codes)
    codes[np.broadcast_to(is_constant, codes.shape)] = 0
    codes *= scale
    codes += zero
    return codes


def tensor_name(layer: int, bits: int) -> str:
    """Of a layer's errors in the artifact of calibrate: F32 [3], as `PARTS`."""
    return f"layers.{layer}.kv_error.{bits}"


def read_errors(path: Path) -> dict[int, tuple[KvError, ...]]:
    """Bits → error of every layer, from the file of calibrate; `ArtifactError` where it has none.

    ``path`` is the safetensors file itself.
    """
    return errors_of(read_header(path), path)


def errors_of(entries: Mapping[str, TensorEntry], path: Path) -> dict[int, tuple[KvError, ...]]:
    """`read_errors`, of a header that was read."""
    found: dict[int, tuple[KvError, ...]] = {}
    for bits in BITS:
        layers: list[KvError] = []
        while (entry := entries.get(tensor_name(len(layers), bits))) is not None:
            if entry.dtype != "F32" or tuple(entry.shape) != (len(PARTS),):
                raise ArtifactError(
                    f"{path}: {entry.name}: expected F32 [{len(PARTS)}], got {entry.dtype}"
                    f" {list(entry.shape)}. Build calibrate again."
                )
            with entry.file.open("rb") as file:
                file.seek(entry.offset)
                numbers = np.fromfile(file, "<f4", len(PARTS))
            if numbers.size != len(PARTS) or not np.isfinite(numbers).all():
                raise ArtifactError(
                    f"{path}: {entry.name}: expected {len(PARTS)} finite numbers, got others."
                    " Build calibrate again."
                )
            layers.append(KvError(*(float(number) for number in numbers)))
        if not layers:
            raise ArtifactError(
                f"{path}: expected the KV errors of the layers ({tensor_name(0, bits)}), got none."
                " Build calibrate again."
            )
        found[bits] = tuple(layers)
    return found


def worst_layers(errors: Sequence[KvError], count: int) -> tuple[int, ...]:
    """The layers with the largest expected output error, in the order of the model."""
    ranked = sorted(range(len(errors)), key=lambda layer: (-errors[layer].output, layer))
    return tuple(sorted(ranked[:count]))


def _f16(x: Floats) -> Floats:
    clipped = np.clip(x, -_LARGEST_F16, _LARGEST_F16)
    return clipped.astype(np.float16).astype(np.float32)
