"""How deep the surface of an object lies below its convex hull: invaginations, of nuclei above all.

The depth of a point of the surface is its distance to the hull. Inside a convex body that is the distance to the
nearest of the planes of its facets, so no path need be followed::

      .---------.          hull
      |##.   .##|
      |##|   |##|          the deepest point of the notch: as deep as the notch, or as far as the hull is
      |##'---'##|          on another side
      '---------'

Cavities that are closed all around do not count: the object is filled first. Points are the centres of the faces of
voxels. So a box of voxels has depth 0 everywhere, a ball one of a fraction of a voxel; of the hull of a ball with a
radius of r voxels, about 0.6/r is outside.

Paper: C. B. Barber, D. P. Dobkin and H. Huhdanpaa (1996), ACM Trans. Math. Softw. 22, 469 (convex hull).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numba import njit
from scipy.spatial import ConvexHull

from cristae.features.crops import Nanometres, surface_faces, trimmed
from cristae.features.definitions import Definition
from cristae.features.holes import filled

_CELL = 8
"""Points are judged together in cells of so many voxels along each axis."""

DEFINITIONS: Mapping[str, Definition] = {
    "invagination_depth_max_nm": Definition("nm", "greatest distance of the surface below the convex hull"),
    "invagination_depth_mean_nm": Definition(
        "nm", "distance of the surface below the convex hull: mean over the faces of voxels, by area"
    ),
    "invagination_fraction": Definition(
        "",
        "share of the convex hull that is outside the object; closed cavities count as inside",
        "1 − filled volume / hull volume, not below 0",
    ),
}
"""Columns of `Invagination`."""


@dataclass(frozen=True)
class Invagination:
    """Depth of the invaginations of an object, a feature of crops."""

    definitions: ClassVar[Mapping[str, Definition]] = DEFINITIONS
    meaningless_when_cut: ClassVar[frozenset[str]] = frozenset(DEFINITIONS)

    def __call__(self, mask: np.ndarray, image: np.ndarray | None, voxel_size: Nanometres) -> dict[str, float]:
        """Return the columns of `DEFINITIONS`; the image is not used."""
        whole = trimmed(filled(mask), margin=1)
        if not whole.any():
            return dict.fromkeys(DEFINITIONS, math.nan)
        faces = surface_faces(whole)
        twice = 2 * faces.lower
        twice[np.arange(faces.axis.size), faces.axis] += 1
        half = np.array(voxel_size) / 2
        hull = ConvexHull(_outermost(twice, 2 * np.array(whole.shape)) * half)
        planes = np.unique(hull.equations, axis=0)
        depths = _depths(twice * half, planes, *_cells(faces.lower, whole.shape))
        areas = faces.areas(voxel_size)
        solidity = np.count_nonzero(whole) * math.prod(voxel_size) / hull.volume
        values = depths.max(), depths @ areas / areas.sum(), max(0.0, 1 - solidity)
        return dict(zip(DEFINITIONS, map(float, values), strict=True))


def _cells(lower: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the order that brings the points of each cell together, and where each cell starts in it."""
    cell = np.ravel_multi_index(tuple((lower // _CELL).T), tuple(n // _CELL + 1 for n in shape))
    order = np.argsort(cell, kind="stable")
    first = np.flatnonzero(np.diff(cell[order], prepend=-1))
    return order, np.append(first, order.size)


@njit(cache=True, nogil=True)
def _outermost(points: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Return the corners of the convex hull of the points of each plane, among which are those of the whole hull."""
    low = np.full((shape[0], shape[1]), shape[2])
    high = np.full((shape[0], shape[1]), -1)
    for i in range(len(points)):
        z, y, x = points[i, 0], points[i, 1], points[i, 2]
        low[z, y] = min(low[z, y], x)
        high[z, y] = max(high[z, y], x)
    corners = np.empty((2 * shape[0] * shape[1], 3), np.int64)
    n = 0
    for plane in range(shape[0]):
        for side in range(2):
            start = n
            for row in range(shape[1]):
                if high[plane, row] < 0:
                    continue
                corners[n, 0], corners[n, 1] = plane, row
                corners[n, 2] = high[plane, row] if side else low[plane, row]
                while n - start >= 2 and _hollow(corners, n, 1 - 2 * side):
                    for a in range(3):
                        corners[n - 1, a] = corners[n, a]
                    n -= 1
                n += 1
    return corners[:n]


@njit(cache=True, nogil=True)
def _hollow(corners: np.ndarray, n: int, side: int) -> bool:
    """Return whether corner n − 1 does not stick out from n − 2 and n, by rising y, to low (1) or high (−1) x."""
    y1, x1 = corners[n - 1, 1] - corners[n - 2, 1], corners[n - 1, 2] - corners[n - 2, 2]
    y2, x2 = corners[n, 1] - corners[n - 2, 1], corners[n, 2] - corners[n - 2, 2]
    return bool((y1 * x2 - x1 * y2) * side <= 0)


@njit(cache=True, nogil=True)
def _depths(points: np.ndarray, planes: np.ndarray, order: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return the distance of each point to the nearest plane.

    Distances change by no more than the way gone. So a plane that is nearest somewhere in a cell is, at one point of
    it, farther than the nearest there by at most twice the reach of the cell: few are, the rest is looked at once.
    """
    depths = np.empty(len(points))
    at_origin = np.empty(len(planes))
    near = np.empty(len(planes), np.int64)
    for cell in range(first.size - 1):
        inside = order[first[cell] : first[cell + 1]]
        origin = points[inside[0]]
        radius = 0.0
        for i in inside:
            radius = max(radius, _distance(points[i], origin))
        least = np.inf
        for p in range(len(planes)):
            at_origin[p] = _above(origin, planes[p])
            least = min(least, at_origin[p])
        n_near = 0
        for p in range(len(planes)):
            if at_origin[p] <= least + 2.001 * radius:
                near[n_near] = p
                n_near += 1
        for i in inside:
            depth = np.inf
            for p in near[:n_near]:
                depth = min(depth, _above(points[i], planes[p]))
            depths[i] = max(depth, 0.0)
    return depths


@njit(cache=True, nogil=True)
def _distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the distance of two points."""
    return math.sqrt((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 + (a[2] - b[2]) ** 2)


@njit(cache=True, nogil=True)
def _above(point: np.ndarray, plane: np.ndarray) -> float:
    """Return how far inside of the plane of a facet a point lies."""
    return float(-(plane[0] * point[0] + plane[1] * point[1] + plane[2] * point[2] + plane[3]))
