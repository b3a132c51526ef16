"""Watershed: water rises from seeds through a landscape of 256 levels; each pixel goes to what floods it first.

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

    A queue per level, first in, first out, so that water runs evenly over what is flat; steps go to the four
    neighbours. Each pixel is visited once, and the same input gives the same output.

    Parameters
    ----------
    levels
        uint8 ``(y, x)``, the landscape: low is flooded first.
    labels
        int32 ``(y, x)``, the seeds: any number but 0, which is what is to be filled.
    inside
        bool ``(y, x)``; outside nothing is filled.

    Returns
    -------
    int32 (y, x)
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
        if plane.shape != levels.shape or plane.ndim != 2 or plane.dtype != dtype:
            raise ValueError(f"expected {name} as {np.dtype(dtype)} of {levels.shape}, got {plane.dtype} {plane.shape}")
    # A frame with nothing to fill, so that no step leaves the plane.
    filled, framed, to_fill = (np.ascontiguousarray(np.pad(a, 1)) for a in (labels, levels, inside & (labels == 0)))
    _flood(framed.ravel(), filled.ravel(), to_fill.ravel(), filled.shape[1])
    return np.ascontiguousarray(filled[1:-1, 1:-1])


@njit(cache=True, nogil=True)
def _push(pixel: int, level: int, first: np.ndarray, last: np.ndarray, follower: np.ndarray) -> None:
    """Put a pixel at the end of the queue of its level."""
    follower[pixel] = -1
    if first[level] < 0:
        first[level] = pixel
    else:
        follower[last[level]] = pixel
    last[level] = pixel


@njit(cache=True, nogil=True)
def _flood(levels: np.ndarray, labels: np.ndarray, to_fill: np.ndarray, width: int) -> None:
    follower = np.empty(labels.size, np.int32)
    first, last = np.full(N_LEVELS, -1, np.int32), np.full(N_LEVELS, -1, np.int32)
    for pixel in range(width, labels.size - width):
        if labels[pixel] != 0:
            beside = to_fill[pixel - 1] or to_fill[pixel + 1]
            if beside or to_fill[pixel - width] or to_fill[pixel + width]:
                _push(pixel, levels[pixel], first, last, follower)
    water = 0
    while water < N_LEVELS:
        pixel = first[water]
        if pixel < 0:
            water += 1
            continue
        first[water] = follower[pixel]
        for step in (-width, -1, 1, width):
            neighbour = pixel + step
            if to_fill[neighbour]:
                to_fill[neighbour] = False
                labels[neighbour] = labels[pixel]
                _push(neighbour, max(water, levels[neighbour]), first, last, follower)
