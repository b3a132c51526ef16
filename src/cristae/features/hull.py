"""Convex hulls of meshes that no block sees whole.

The hull of a union is the hull of the hulls' corners, so a block passes on only corners; objects that it sees whole
it settles at once and passes on nothing::

    block 1 | block 2          corners of the left part and of the right part, together,
       .--. | .--.             are enough for the hull of both
      (    )|(    )

Points are whole numbers of 1/65536 voxel from a voxel that does not depend on blocks, so every block and every order
gives exactly the same points. Convexity does not mind the voxel size, so it enters only at the end.

Paper: C. B. Barber, D. P. Dobkin and H. Huhdanpaa (1996), ACM Trans. Math. Softw. 22, 469 (Quickhull).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from cristae.features.quickhull import LARGEST, quickhull, volume_and_area

UNITS_PER_VOXEL = 65536


@dataclass(frozen=True)
class Hulls:
    """Convex hulls of objects, row i for object i + 1, and the corners of those that are not complete.

    Parameters
    ----------
    volume_nm3, area_nm2
        float64 ``(n,)``; NaN where an object is not complete, or has no extent.
    owners
        int64 ``(m,)`` rows that the points belong to, rising.
    points
        int32 ``(m, 3)`` (z, y, x) in 1/65536 voxel, from the voxel nearest to the object's centroid, of which no part
        may be 32,768 voxels away.
    """

    volume_nm3: np.ndarray
    area_nm2: np.ndarray
    owners: np.ndarray
    points: np.ndarray

    def completed(self, voxel_size: tuple[float, float, float]) -> Hulls:
        """Settle all objects: what is called once no block is missing."""
        return settle(self, np.ones(len(self.volume_nm3), bool), voxel_size)


def hull_measures(points: np.ndarray, voxel_size: tuple[float, float, float]) -> tuple[float, float]:
    """Return volume (nm³) and surface area (nm²) of the convex hull of points.

    Parameters
    ----------
    points
        int32 ``(m, 3)`` (z, y, x) in 1/65536 voxel.
    voxel_size
        nm (z, y, x).

    Returns
    -------
    tuple of float
        NaN twice where the points span no volume.
    """
    scale = np.asarray(voxel_size) / UNITS_PER_VOXEL
    shifted, triangles = _triangles(points)
    if len(triangles):
        return volume_and_area(shifted, triangles, scale)
    try:
        hull = ConvexHull(points * scale)
    except (QhullError, ValueError):
        return np.nan, np.nan
    return float(hull.volume), float(hull.area)


def hull_corners(points: np.ndarray) -> np.ndarray:
    """Return those of the points int32 ``(m, 3)`` that can be corners of the hull of these and any further points."""
    varying = np.flatnonzero((points != points[:1]).any(axis=0))
    if len(varying) == 1:
        ends = points[:, varying[0]]
        return points[[ends.argmin(), ends.argmax()]]
    if len(varying) == 0:
        return points[:1]
    triangles = _triangles(points)[1]
    if len(triangles):
        return points[np.unique(triangles)]
    try:
        # Where a border of the volume or of a block cuts an object, its part in a block may be flat.
        return points[np.sort(ConvexHull(points[:, varying].astype(np.float64)).vertices)]
    except QhullError:
        return points


def _triangles(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the points int64, shifted, and the triangles of their hull: none where SciPy has to try."""
    shifted = points - points[:1].astype(np.int64)
    fits = len(points) > 3 and np.abs(shifted).max() < LARGEST
    return shifted, quickhull(shifted) if fits else np.zeros((0, 3), np.int32)


def settle(hulls: Hulls, complete: np.ndarray, voxel_size: tuple[float, float, float]) -> Hulls:
    """Measure the hulls of complete objects, and of the others keep the corners.

    Parameters
    ----------
    hulls
        With all points that are known.
    complete
        bool ``(n,)``: objects of which no other block has points.
    voxel_size
        nm (z, y, x).

    Returns
    -------
    Hulls
        With numbers in place of the points of complete objects.
    """
    volume, area = hulls.volume_nm3.copy(), hulls.area_nm2.copy()
    rows = np.unique(hulls.owners)
    begins, ends = (np.searchsorted(hulls.owners, rows, side) for side in ("left", "right"))
    kept = [(np.zeros(0, np.int64), np.zeros((0, 3), np.int32))]
    for row, begin, end in zip(rows, begins, ends, strict=True):
        points = hulls.points[begin:end]
        if complete[row]:
            volume[row], area[row] = hull_measures(points, voxel_size)
        else:
            corners = hull_corners(points)
            kept.append((np.full(len(corners), row), corners))
    owners, points = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    return Hulls(volume, area, owners, points)


def merge_hulls(parts: Sequence[Hulls], rows: Sequence[np.ndarray], n_objects: int) -> Hulls:
    """Put together the hulls of blocks.

    Parameters
    ----------
    parts
        Of the blocks.
    rows
        For each of them int64 ``(n,)``, the row that each of its rows becomes.
    n_objects
        Number of rows of the result.

    Returns
    -------
    Hulls
        With the points of all; `Hulls.completed` settles them.
    """
    volume, area = np.full(n_objects, np.nan), np.full(n_objects, np.nan)
    for part, places in zip(parts, rows, strict=True):
        known = ~np.isnan(part.volume_nm3)
        volume[places[known]], area[places[known]] = part.volume_nm3[known], part.area_nm2[known]
    owners = np.concatenate(
        [np.zeros(0, np.int64), *(places[part.owners] for part, places in zip(parts, rows, strict=True))]
    )
    points = np.concatenate([np.zeros((0, 3), np.int32), *(part.points for part in parts)])
    order = np.argsort(owners, kind="stable")
    return Hulls(volume, area, owners[order], points[order])
