"""Codes of a quantized checkpoint, matrix by matrix, as the tiles of a workspace want them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmrun.errors import StageError
from lmrun.models.checkpoint import Checkpoint
from lmrun.models.spec import LinearSpec
from lmrun.quant import packing
from lmrun.quant.formats import registry
from lmrun.quant.formats.codes import Array, LinearCodes
from lmrun.quant.layout import TensorSize, WeightQuant


@dataclass(frozen=True)
class _Matrix:
    """What the linears of a matrix of the engine hold, stacked; groups are contiguous."""

    codes: NDArray[np.uint8]
    scales: Array
    zeros: NDArray[np.uint8]
    orders: NDArray[np.int32]
    """[linears, K]: the input feature of x that each column reads."""


class CodeReader:
    """Makes the tensors of the code matrices of a workspace; one matrix is in memory at a time."""

    def __init__(
        self, checkpoint: Checkpoint, quant: WeightQuant, load: Callable[[str], Array]
    ) -> None:
        """``load`` gives a tensor by name: integers as stored, floats as float16 or float32."""
        self._form = checkpoint.code_format
        self._quant = quant
        self._present = checkpoint.tensors.keys()
        self._load = load
        self._held: tuple[str, _Matrix] | None = None

    def tensor(self, size: TensorSize, linears: list[LinearSpec]) -> Array:
        """The data of `.qweight`, `.scales`, `.zeros`, `.row_scales` or `.order`."""
        name, _, suffix = size.name.rpartition(".")
        matrix = self._matrix(name, linears)
        if suffix == "qweight":
            pack = packing.pack_codes if self._quant.bits == 4 else packing.pack_bytes
            return pack(matrix.codes)
        if suffix == "zeros":
            return packing.pack_groups(matrix.zeros)
        if suffix == "row_scales":
            return packing.pack_groups(matrix.scales.astype(np.float32))[:, 0]
        if suffix == "order":
            return self._orders(name, matrix.orders, size.shape[0])
        return packing.pack_groups(matrix.scales.astype(packing.NUMPY_DTYPES[size.dtype]))

    def _matrix(self, name: str, linears: list[LinearSpec]) -> _Matrix:
        if self._held is None or self._held[0] != name:
            self._held = None
            parts = [self._linear(linear) for linear in linears]
            self._held = (
                name,
                _Matrix(
                    np.concatenate([codes.codes for codes, _ in parts]),
                    np.concatenate([codes.scales for codes, _ in parts]),
                    np.concatenate([codes.zeros for codes, _ in parts]),
                    np.stack([order for _, order in parts]),
                ),
            )
        return self._held[1]

    def _linear(self, linear: LinearSpec) -> tuple[LinearCodes, NDArray[np.int32]]:
        """Codes with the columns of each group side by side, and the order that brings them."""
        assert self._form is not None
        found = registry.read(self._stored, linear, self._form)
        k = linear.in_features
        if found.group_index is None:
            return found, np.arange(k, dtype=np.int32)
        if not self._quant.has_order:
            raise StageError(
                f"{linear.prefix}.g_idx: expected consecutive groups, as desc_act false says, got"
                " others. Is config.json that of these weights? If so, set desc_act to true in it."
            )
        index, groups = found.group_index, found.scales.shape[1]
        sizes = np.bincount(index, minlength=groups) if index.min(initial=0) >= 0 else np.zeros(0)
        if len(sizes) != groups or (sizes != k // groups).any():
            raise StageError(
                f"{linear.prefix}.g_idx: expected {groups} groups of {k // groups} input features"
                " each, got others. The checkpoint is damaged: copy it again."
            )
        order = np.argsort(index, kind="stable").astype(np.int32)
        sorted_codes = np.ascontiguousarray(found.codes[:, order])
        return LinearCodes(sorted_codes, found.scales, found.zeros, found.bits), order

    def _orders(self, name: str, orders: NDArray[np.int32], rows: int) -> NDArray[np.int32]:
        """One order a linear, or the one that all of them share."""
        if len(orders) == rows:
            return orders
        if (orders != orders[0]).any():
            raise StageError(
                f"{name}: its linears order their input features differently (desc_act), and their"
                " output features are no multiples of 16: such a matrix is not built yet."
            )
        return orders[:1]

    def _stored(self, name: str) -> Array:
        if name not in self._present:
            raise KeyError(name)
        return self._load(name)
