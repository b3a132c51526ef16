"""Splitting an object by seeds: water rises from each, and the parts meet where the object is narrow, or at a membrane.

::

      ▓▓▓▓▓▓          ▓▓▓▓▓▓           1111▓▓          222222       the landscape is half the distance to the outline
    ▓▓▓▓ 1 ▓▓▓▓▓▓▓▓▓▓▓▓ 2 ▓▓▓   -->  111111111111|2222222222222     and half the predicted boundary, where there is one
      ▓▓▓▓▓▓          ▓▓▓▓▓▓           111111          222222

Paper: F. Meyer (1991), Un algorithme optimal pour la ligne de partage des eaux.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cristae.separation.outlines import depth_inside
from cristae.separation.watershed import flood, levels_of


def split_region(inside: np.ndarray, seeds: np.ndarray, boundary: np.ndarray | None = None) -> NDArray[np.int32]:
    """Divide a region among seeds by a watershed.

    Parameters
    ----------
    inside
        bool ``(z, y, x)``, the object.
    seeds
        int32 of the same shape: 1, 2… where the parts are marked, 0 elsewhere. Marks outside of the object count for
        nothing.
    boundary
        uint8 of the same shape, probability of a membrane × 255; None where none was predicted.

    Returns
    -------
    int32 (z, y, x)
        The part of each voxel, as in `seeds`; 0 outside, and in what hangs together with no seed.

    Raises
    ------
    ValueError
        If the shapes differ, or fewer than two parts have a mark inside.
    """
    if inside.shape != seeds.shape or inside.ndim != 3 or (boundary is not None and boundary.shape != inside.shape):
        raise ValueError(f"expected arrays of one shape (z, y, x), got {inside.shape} and {seeds.shape}")
    marks = np.where(inside, seeds, 0).astype(np.int32)
    if len(np.unique(marks[marks > 0])) < 2:
        raise ValueError("a split needs marks of at least two parts inside the object")
    levels = np.stack([levels_of(depth_inside(plane)) for plane in inside])
    if boundary is not None:
        levels = levels // 2 + boundary // 2
    return flood(levels, _led_down(marks, levels, inside), np.ascontiguousarray(inside))


def _led_down(marks: np.ndarray, levels: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return marks with the way from each to the bottom of its valley: people click near an outline as well.

    Water from a mark that lies higher than the pass would come too late. Marks of several parts in one valley stay as
    they are.
    """
    places = np.argwhere(marks)
    ways = [_way_down(place, levels, inside) for place in places]
    parts = marks[tuple(places.T)]
    ends: dict[tuple[int, ...], set[int]] = {}
    for way, part in zip(ways, parts, strict=True):
        ends.setdefault(tuple(way[-1]), set()).add(int(part))
    led = marks.copy()
    for way, part in zip(ways, parts, strict=True):
        if len(ends[tuple(way[-1])]) == 1:
            led[tuple(way.T)] = part
    led[marks > 0] = marks[marks > 0]
    return led


@njit(cache=True, nogil=True)
def _way_down(start: np.ndarray, levels: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return the voxels ``(n, 3)`` from a voxel to the end of the steepest descent, itself first."""
    way = [(start[0], start[1], start[2])]
    while True:
        z, y, x = way[-1]
        lowest = (z, y, x)
        for i in range(max(0, z - 1), min(levels.shape[0], z + 2)):
            for j in range(max(0, y - 1), min(levels.shape[1], y + 2)):
                for k in range(max(0, x - 1), min(levels.shape[2], x + 2)):
                    if inside[i, j, k] and levels[i, j, k] < levels[lowest]:
                        lowest = (i, j, k)
        if lowest == (z, y, x):
            break
        way.append(lowest)
    out = np.empty((len(way), 3), np.int64)
    for n in range(len(way)):
        out[n, 0], out[n, 1], out[n, 2] = way[n]
    return out
