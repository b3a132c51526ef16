"""`Volume`: an array that knows where its voxels lie and what its numbers mean."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

import numpy as np

from cristae.errors import DataError
from cristae.files import system_error
from cristae.geometry import Box, Grid, Voxels

Kind = Literal["image", "labels", "probability", "flow"]


class ArrayLike(Protocol):
    """What a volume needs of its storage: a NumPy or Zarr array, or a reader of slices on disk."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent along z, y, x in voxels."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of one voxel."""
        ...

    def __getitem__(self, index: Any, /) -> Any:
        """Return the voxels of a tuple of three slices."""
        ...


@dataclass(frozen=True)
class Volume:
    """An array of shape ``(z, y, x)`` on a grid.

    Parameters
    ----------
    array
        NumPy array, Zarr array, or anything that can be cut by three slices.
    grid
        Shape and voxel size (nm). Its shape must equal that of the array.
    kind
        ``image`` (grey values), ``labels`` (integer ids, 0 background), ``probability`` (0–1, or 0–255 as uint8)
        or ``flow``. It decides how values are interpolated and reduced to coarser levels.

    Raises
    ------
    DataError
        If array and grid differ in shape.
    """

    array: ArrayLike
    grid: Grid
    kind: Kind = "image"

    def __post_init__(self) -> None:
        if tuple(self.array.shape) != self.grid.shape:
            raise DataError(f"the array has shape {tuple(self.array.shape)} but its grid {self.grid.shape}")

    @property
    def shape(self) -> Voxels:
        """Extent along z, y, x in voxels."""
        return self.grid.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of one voxel."""
        return np.dtype(self.array.dtype)

    def read(self, box: Box | None = None) -> np.ndarray:
        """Return the voxels of `box` (all without one) as an array of shape ``box.shape``.

        Raises
        ------
        DataError
            If the box leaves the volume, or what is stored there is damaged.
        """
        box = self._inside(box or self.grid.box)
        try:
            return np.asarray(self.array[box.slices])
        except (RuntimeError, OSError) as error:
            if isinstance(error, OSError) and error.errno:
                raise
            raise _told_apart(error, self.array) from error

    def write(self, box: Box, values: np.ndarray) -> None:
        """Store `values` of shape ``box.shape`` in `box`.

        Raises
        ------
        DataError
            If the box leaves the volume, or shape or type of the values do not fit.
        OSError
            If the disk is full or cannot be written.
        """
        box = self._inside(box)
        if values.shape != box.shape or not np.can_cast(values.dtype, self.dtype, "same_kind"):
            raise DataError(
                f"expected {box.shape} voxels of type {self.dtype} to write, got {values.shape} of type {values.dtype}"
            )
        try:
            cast(Any, self.array)[box.slices] = values
        except (RuntimeError, OSError) as error:
            if isinstance(error, OSError) and error.errno:
                raise
            raise _told_apart(error, self.array) from error

    def _inside(self, box: Box) -> Box:
        if not self.grid.box.contains(box):
            raise DataError(f"box {box.start}–{box.stop} leaves the volume of shape {self.shape}")
        return box


def _told_apart(error: RuntimeError | OSError, array: ArrayLike) -> Exception:
    """Return what an error of the compiled codecs really is: they put a full disk and a bad checksum in words only."""
    if number := system_error(error):
        return OSError(number, os.strerror(number))
    place = f"{array.image}: " if hasattr(array, "image") else ""
    return DataError(
        f"{place}a chunk of this volume is damaged ({error}); restore it from a copy, or make the volume again"
    )
