"""Grey values as cristae keeps them: 8 or 16 bit from 0, whatever files hold, and 0 where nothing was recorded.

Slices that are missing, and what fills up smaller ones, are known by `extents`: a mapping from z to the rows and
columns that were recorded, of those slices alone that are not whole. Where there are such, 0 means that there is
nothing, and grey values begin at 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cristae.errors import DataError
from cristae.geometry import Grid, blocks
from cristae.io.opened import reads_parts
from cristae.volume import ArrayLike

Extents = Mapping[int, tuple[int, int]]


class _Changed(ABC):
    """An array whose grey values are changed one by one as they are read; what is filled up stays 0."""

    dtype: np.dtype[Any]

    def __init__(self, array: ArrayLike) -> None:
        self._array = array
        self.shape, self.reads_parts, self.extents = array.shape, reads_parts(array), extents_of(array)

    def __getitem__(self, index: tuple[slice, slice, slice]) -> np.ndarray:
        values = self._changed(np.asarray(self._array[index]))
        if not self.extents:
            return values
        values = np.maximum(values, self.dtype.type(1))
        first_row, first_column = (part.indices(n)[0] for part, n in zip(index[1:], self.shape[1:], strict=True))
        for i, z in enumerate(range(*index[0].indices(self.shape[0]))):
            height, width = self.extents.get(z, self.shape[1:])
            values[i, max(0, height - first_row) :] = 0
            values[i, :, max(0, width - first_column) :] = 0
        return values

    @abstractmethod
    def _changed(self, values: np.ndarray) -> np.ndarray:
        """Return the values as they are to be."""


class Rescaled(_Changed):
    """Signed or floating-point grey values mapped linearly to uint16: `low` becomes `first`, one unit `gain` steps."""

    dtype = np.dtype(np.uint16)

    def __init__(self, array: ArrayLike, low: float, gain: float, first: int) -> None:
        super().__init__(array)
        self._low, self._gain, self._first = low, gain, first

    def _changed(self, values: np.ndarray) -> np.ndarray:
        steps = np.rint((values.astype(np.float64) - self._low) * self._gain) + self._first
        return steps.clip(0, 65535).astype(np.uint16)


class Shifted(_Changed):
    """Signed bytes moved up by 128, so that −128 becomes 0; uint8."""

    dtype = np.dtype(np.uint8)

    def _changed(self, values: np.ndarray) -> np.ndarray:
        return values.view(np.uint8) ^ np.uint8(128)


class Inverted(_Changed):
    """Grey values taken from the largest of their type."""

    def __init__(self, array: ArrayLike) -> None:
        super().__init__(array)
        self.dtype = np.dtype(array.dtype)

    def _changed(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(np.iinfo(self.dtype).max - values)


def extents_of(array: ArrayLike) -> Extents:
    """Return by z the rows and columns of slices that are not whole; empty where all are."""
    found: Extents = getattr(array, "extents", {})
    return found


def as_grey(array: ArrayLike, files: Sequence[str], source: Path) -> tuple[ArrayLike, tuple[str, ...]]:
    """Return grey values of 8 or 16 bit, and what to say of how they came about.

    Parameters
    ----------
    array
        Voxels ``(z, y, x)``. Unsigned ones are kept as they are, others are read once for their range.
    files
        Names of the slices, for what is said of them.
    source
        What it was read from.

    Raises
    ------
    DataError
        If they are of another type, there are none, or one of them is no number.
    """
    dtype = np.dtype(array.dtype)
    if 0 in array.shape:
        raise DataError(f"{source} holds no voxels: its shape is {tuple(array.shape)}")
    if dtype in (np.dtype(np.uint8), np.dtype(np.uint16)):
        return array, ()
    first = 1 if extents_of(array) else 0
    kept = "; 0 is kept for what is filled up" if first else ""
    if dtype == np.dtype(np.int8):
        lowest = "-127 and less become 1" if first else "-128 becomes 0"
        return Shifted(array), (f"signed 8-bit grey values are moved up by 128, so that {lowest}{kept}",)
    if dtype.kind != "f" and dtype != np.dtype(np.int16):
        raise DataError(f"{source}: expected 8- or 16-bit grey values, got {dtype}; convert to 8- or 16-bit grey")
    low, high = _range(array, files, source)
    gain = (65535 - first) / (high - low) if dtype.kind == "f" and high > low else 1.0
    said = f"{dtype} grey values {low:.6g} to {high:.6g} are mapped to 16 bit from {first}{kept}"
    return Rescaled(array, low, gain, first), (said,)


def _range(array: ArrayLike, files: Sequence[str], source: Path) -> tuple[float, float]:
    """Find the smallest and largest grey value in one pass, and refuse what is no number."""
    low, high = np.inf, -np.inf
    depth, height, width = array.shape
    step = (16, 1024, 1024) if hasattr(array, "chunks") else (1, height, width)
    extents = extents_of(array)  # only of slices in files, which are looked at one by one
    for block in blocks(Grid((depth, height, width), (1.0, 1.0, 1.0)).box, step):
        n_rows, n_columns = extents.get(block.write.start[0], (height, width))
        values = np.asarray(array[block.write.slices])[:, :n_rows, :n_columns]
        if values.size == 0:
            continue
        bad = ~np.isfinite(values)
        if bad.any():
            z = block.write.start[0] + int(np.argmax(bad.any(axis=(1, 2))))
            name = f" ({files[z]})" if len(files) == depth > 1 else ""
            raise DataError(
                f"{source}: slice {z}{name} holds NaN or infinite grey values; expected numbers. Replace them (in "
                "Fiji: Process > Math > NaN Background) or convert to 8- or 16-bit grey"
            )
        low, high = min(low, float(values.min())), max(high, float(values.max()))
    return low, high
