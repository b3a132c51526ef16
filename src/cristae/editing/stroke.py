"""What a round brush covers on its way over a slice."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray


def stroke(points: np.ndarray, radius: float, shape: tuple[int, int]) -> tuple[tuple[int, int], NDArray[np.bool_]]:
    """Return the pixels that a round brush covers which is led from point to point.

    Parameters
    ----------
    points
        Float ``(n, 2)``, y and x of the centre of the brush, n at least 1; the centre of the first pixel is (0, 0).
    radius
        Pixels, at least 0; 0 covers the pixel under the centre alone.
    shape
        ``(y, x)`` of the slice; what lies outside is cut off.

    Returns
    -------
    tuple
        y and x of the first pixel of a box, and bool ``(y, x)`` of that box; it is empty where the stroke is outside.

    Raises
    ------
    ValueError
        If there is no point, or one is not finite, or the radius is negative.
    """
    path = np.asarray(points, np.float64).reshape(-1, 2)
    if not len(path) or not np.isfinite(path).all() or not 0 <= radius < math.inf:
        raise ValueError(f"a stroke needs points that are finite and a radius of at least 0; got {radius} and {points}")
    if radius < 0.75:  # a thin line that passes between centres of pixels would cover nothing
        path, radius = np.rint(path), max(radius, 0.5)
    first = np.maximum(np.ceil(path.min(axis=0) - radius), 0).astype(int)
    stop = np.minimum(np.floor(path.max(axis=0) + radius) + 1, shape).astype(int)
    mask = np.zeros(np.maximum(stop - first, 0), np.bool_)
    if mask.size:
        _cover(mask, path - first, radius)
    return (int(first[0]), int(first[1])), mask


@njit(cache=True, nogil=True)
def _cover(mask: np.ndarray, path: np.ndarray, radius: float) -> None:
    """Mark pixels whose centres lie at most `radius` from a segment of the path."""
    height, width = mask.shape
    for i in range(max(1, len(path) - 1)):
        ay, ax = path[i]
        by, bx = path[min(i + 1, len(path) - 1)]
        dy, dx = by - ay, bx - ax
        length = dy * dy + dx * dx
        for y in range(max(0, math.floor(min(ay, by) - radius)), min(height, math.ceil(max(ay, by) + radius) + 1)):
            for x in range(max(0, math.floor(min(ax, bx) - radius)), min(width, math.ceil(max(ax, bx) + radius) + 1)):
                along = 0.0 if length == 0 else min(1.0, max(0.0, ((y - ay) * dy + (x - ax) * dx) / length))
                off_y, off_x = y - ay - along * dy, x - ax - along * dx
                if off_y * off_y + off_x * off_x <= radius * radius:
                    mask[y, x] = True
