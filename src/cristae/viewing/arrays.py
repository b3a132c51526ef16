"""Volumes as arrays that viewers can cut with any index, read when they are looked at."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cristae.geometry import Box
from cristae.volume import Volume


class LazyArray:
    """A volume as viewers expect an array: cut by whole numbers, slices and an ellipsis; nothing is kept in memory.

    Parameters
    ----------
    volume
        What is looked at.
    """

    def __init__(self, volume: Volume) -> None:
        self.volume = volume
        self.shape, self.dtype, self.ndim = volume.shape, volume.dtype, 3
        self.size = math.prod(volume.shape)

    def __getitem__(self, index: Any) -> np.ndarray:
        box, rest = cut(index, self.shape)
        return self.read(box)[rest]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.read(self.volume.grid.box), dtype)

    def read(self, box: Box) -> np.ndarray:
        """Return the voxels of a box, as they are shown."""
        return self.volume.read(box)


def cut(index: Any, shape: tuple[int, ...]) -> tuple[Box, tuple[Any, ...]]:
    """Return the box that an index needs of an array ``(z, y, x)``, and the index that is left to apply to that box.

    Parameters
    ----------
    index
        Whole numbers, slices, an ellipsis, or one array of whole numbers per axis.
    shape
        Of the array.

    Raises
    ------
    IndexError
        If the index leaves the array.
    """
    given = index if isinstance(index, tuple) else (index,)
    if Ellipsis in [one for one in given if one is Ellipsis]:
        place = next(i for i, one in enumerate(given) if one is Ellipsis)
        filling = (slice(None),) * (len(shape) - len(given) + 1)
        given = (*given[:place], *filling, *given[place + 1 :])
    given = (*given, *(slice(None),) * (len(shape) - len(given)))
    if len(given) != len(shape):
        raise IndexError(f"expected up to {len(shape)} indices, got {len(given)}")
    start, stop, rest = [], [], []
    for one, length in zip(given, shape, strict=True):
        low, high, left = _side(one, length)
        start.append(low)
        stop.append(high)
        rest.append(left)
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2])), tuple(rest)


def _side(one: Any, length: int) -> tuple[int, int, Any]:
    """Return first, end and what is left of the index along one axis."""
    if isinstance(one, slice):
        low, high, step = one.indices(length)
        if step < 0:
            raise IndexError("slices that run backwards are not for volumes")
        return low, max(low, high), slice(None, None, step)
    places = np.asarray(one)
    if places.dtype.kind not in "iu":
        raise IndexError(f"expected whole numbers or slices, got {one!r}")
    if not places.size:
        return 0, 0, places
    if places.min() < -length or places.max() >= length:
        raise IndexError(f"{one} is out of an axis of {length}")
    places = np.where(places < 0, places + length, places)
    low = int(places.min())
    return low, int(places.max()) + 1, int(places - low) if places.ndim == 0 else places - low
