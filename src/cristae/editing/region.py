"""Where a mask lies, and what is left of it in coarser steps."""

from __future__ import annotations

import numpy as np


def bounds(mask: np.ndarray) -> tuple[slice, ...]:
    """Return the smallest box around the True voxels of a mask; of an empty one, an empty box at the origin."""
    if not mask.any():
        return (slice(0, 0),) * mask.ndim
    found = []
    for axis in range(mask.ndim):
        there = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        found.append(slice(int(there[0]), int(there[-1]) + 1))
    return tuple(found)


def pooled(values: np.ndarray, first: tuple[int, ...], step: tuple[int, ...]) -> np.ndarray:
    """Return the highest value of every few voxels.

    Parameters
    ----------
    values
        Numbers or bool of any shape, not empty.
    first
        Place of the first voxel: steps are counted from 0, so that the first one may be cut.
    step
        Voxels that become one, along each axis.

    Returns
    -------
    ndarray
        Of the type of the values.
    """
    for axis, (at, n) in enumerate(zip(first, step, strict=True)):
        place = (at + np.arange(values.shape[axis])) // n
        starts = np.flatnonzero(np.concatenate([[True], place[1:] != place[:-1]]))
        if len(starts) < len(place):
            values = np.maximum.reduceat(values, starts, axis=axis)
    return values
