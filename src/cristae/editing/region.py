"""The part of an object that hangs together with one voxel: what a bucket fills, and what an island is."""

from __future__ import annotations

import cc3d
import numpy as np
from numpy.typing import NDArray


def region_at(labels: np.ndarray, at: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return the voxels that have the label of one voxel and are joined to it over faces.

    Parameters
    ----------
    labels
        Integers ``(z, y, x)`` or ``(y, x)``; 0 is background, and a label like others here.
    at
        Index of the voxel.

    Returns
    -------
    bool
        Of the shape of the labels; True at `at` at least.

    Raises
    ------
    IndexError
        If the voxel lies outside.
    """
    if len(at) != labels.ndim or not all(0 <= i < n for i, n in zip(at, labels.shape, strict=True)):
        raise IndexError(f"there is no voxel {at} in labels of shape {labels.shape}")
    same = labels == labels[at]
    parts = cc3d.connected_components(same, connectivity=4 if labels.ndim == 2 else 6)
    return np.asarray(parts == parts[at])


def open_faces(mask: np.ndarray) -> tuple[tuple[bool, bool], ...]:
    """Say for each axis whether a mask reaches its first and its last plane: the box may have cut it there."""
    return tuple((bool(np.take(mask, 0, axis).any()), bool(np.take(mask, -1, axis).any())) for axis in range(mask.ndim))


def bounds(mask: np.ndarray) -> tuple[slice, ...]:
    """Return the smallest box around the True voxels of a mask; of an empty one, an empty box at the origin."""
    if not mask.any():
        return (slice(0, 0),) * mask.ndim
    found = []
    for axis in range(mask.ndim):
        there = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        found.append(slice(int(there[0]), int(there[-1]) + 1))
    return tuple(found)
