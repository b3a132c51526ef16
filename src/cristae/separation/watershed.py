"""Watershed: water rises from seeds through a landscape of 256 levels; each voxel goes to what floods it first.

Paper: F. Meyer (1991), Un algorithme optimal pour la ligne de partage des eaux; P. Soille (2003), Morphological Image
Analysis, §9 (flooding with one queue per level).
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

N_LEVELS = 256


def levels_of(depths: np.ndarray) -> NDArray[np.uint8]:
    """Return a landscape in which deep places lie low, from distances to the outline.

    Parameters
    ----------
    depths
        float32 ``(y, x)``, pixels, at least 0.

    Returns
    -------
    uint8 (y, x)
        255 − 16 √depth: 255 on the outline, 0 from 254 px on. The root spends levels where necks are: 6 between 1 and
        2 px, 1 at 100 px.
    """
    levels = np.sqrt(depths)
    levels *= -16
    levels += 255
    return np.maximum(levels, 0, out=levels).astype(np.uint8)


def flood(levels: np.ndarray, labels: np.ndarray, inside: np.ndarray) -> NDArray[np.int32]:
    """Fill a mask from what is labelled in it.

    A queue per level, first in, first out, so that water runs evenly over what is flat; steps go to voxels that share
    a face. Each is visited once, and the same input gives the same output.

    Parameters
    ----------
    levels
        uint8 ``(y, x)`` or ``(z, y, x)``, the landscape: low is flooded first.
    labels
        int32 of the same shape, the seeds: any number but 0, which is what is to be filled.
    inside
        bool of the same shape; outside nothing is filled.

    Returns
    -------
    int32
        The labels, filled; 0 remains outside, and where no water comes to.

    Raises
    ------
    ValueError
        If the shapes or types differ from these.
    """
    for name, plane, dtype in (
        ("levels", levels, np.uint8),
        ("labels", labels, np.int32),
        ("inside", inside, np.bool_),
    ):
        if plane.shape != levels.shape or plane.ndim not in (2, 3) or plane.dtype != dtype:
            raise ValueError(f"expected {name} as {np.dtype(dtype)} of {levels.shape}, got {plane.dtype} {plane.shape}")
    # A frame with nothing to fill, so that no step leaves the array.
    filled, framed, to_fill = (np.ascontiguousarray(np.pad(a, 1)) for a in (labels, levels, inside & (labels == 0)))
    strides = [stride // filled.itemsize for stride in filled.strides]
    steps = np.array([*(-stride for stride in strides), *reversed(strides)])
    _flood(framed.ravel(), filled.ravel(), to_fill.ravel(), steps)
    return np.ascontiguousarray(filled[(slice(1, -1),) * levels.ndim])


@njit(cache=True, nogil=True)
def _push(voxel: int, level: int, first: np.ndarray, last: np.ndarray, follower: np.ndarray) -> None:
    """Put a voxel at the end of the queue of its level."""
    follower[voxel] = -1
    if first[level] < 0:
        first[level] = voxel
    else:
        follower[last[level]] = voxel
    last[level] = voxel


@njit(cache=True, nogil=True)
def _flood(levels: np.ndarray, labels: np.ndarray, to_fill: np.ndarray, steps: np.ndarray) -> None:
    """Fill flat arrays in place; `levels` is used up."""
    follower = np.empty(labels.size, np.int32)
    first, last = np.full(N_LEVELS, -1, np.int32), np.full(N_LEVELS, -1, np.int32)
    widest = -steps[0]
    for voxel in range(widest, labels.size - widest):
        if labels[voxel] != 0:
            for step in steps:
                if to_fill[voxel + step]:
                    _push(voxel, levels[voxel], first, last, follower)
                    break
    water = 0
    while water < N_LEVELS:
        voxel = first[water]
        if voxel < 0:
            water += 1
            continue
        first[water] = follower[voxel]
        for step in steps:
            neighbour = voxel + step
            if to_fill[neighbour]:
                to_fill[neighbour] = False
                labels[neighbour] = labels[voxel]
                levels[neighbour] = max(water, levels[neighbour])
                _push(neighbour, levels[neighbour], first, last, follower)
