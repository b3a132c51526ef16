"""Smallest distances: between the objects of every pair, and from organelles to the membrane of their cell.

Distances are between centres of voxels: 0 where objects overlap, one voxel where they touch. They are exact up to a
largest distance, and nothing is said beyond it.

::

        a a a . . . b b         of a and b only voxels at an outline are looked at: from one inside, a step towards
        a A a . . . B b         the other object leads to a voxel that is nearer and still of the same object.
        a a a<----->b b         For the same reason the end of a block makes no outline.

Two voxels at most the largest distance apart, of which one lies in the inner part of a block, are both in the block if
its halo is as wide as that distance. So the smallest value over blocks is the smallest of all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.spatial import cKDTree

from cristae.features.contacts import check_ids
from cristae.metrics.instance import contingency

Box = tuple[slice, slice, slice]
_SLACK = 1 + 1e-9  # so that rounding never decides whether something lies within the largest distance


@dataclass(frozen=True)
class Reach:
    """How far distances are measured (nm), between the centres of voxels of a size in nm (z, y, x)."""

    voxel_size: tuple[float, float, float]
    max_distance_nm: float

    def __post_init__(self) -> None:
        if not all(0 < length < math.inf for length in (*self.voxel_size, self.max_distance_nm)):
            raise ValueError(
                f"expected voxel sizes and a largest distance above 0 nm; got {self.voxel_size}, {self.max_distance_nm}"
            )

    @property
    def halo(self) -> tuple[int, int, int]:
        """Voxels around a block (z, y, x) that its distances depend on; at least 1."""
        z, y, x = (max(1, math.floor(self.max_distance_nm * _SLACK / size)) for size in self.voxel_size)
        return z, y, x


@dataclass(frozen=True)
class Distances:
    """Smallest distance of pairs of objects, each pair once; over blocks the smallest counts.

    Parameters
    ----------
    a, b
        int64 ids, sorted by a, then b. Within one volume a < b.
    distance_nm
        float64; 0 where they overlap.
    """

    a: np.ndarray
    b: np.ndarray
    distance_nm: np.ndarray

    def __add__(self, other: Distances) -> Distances:
        return _smallest(
            np.concatenate([self.a, other.a]),
            np.concatenate([self.b, other.b]),
            np.concatenate([self.distance_nm, other.distance_nm]),
        )

    def renamed(self, ids_a: np.ndarray, ids_b: np.ndarray, *, same: bool = False) -> Distances:
        """Return the pairs with ``ids_a[a]`` and ``ids_b[b]`` for ids; `same` keeps a < b within one volume."""
        a, b = np.asarray(ids_a, np.int64)[self.a], np.asarray(ids_b, np.int64)[self.b]
        if same:
            a, b = np.minimum(a, b), np.maximum(a, b)
        return _smallest(a, b, self.distance_nm)

    def swapped(self) -> Distances:
        """Return the pairs the other way round."""
        return _smallest(self.b, self.a, self.distance_nm)


def pair_distances(first: np.ndarray, second: np.ndarray | None, inner: Box, reach: Reach) -> Distances:
    """Find the smallest distance of every pair of objects that come near each other in a block.

    Parameters
    ----------
    first
        Integer ids ``(z, y, x)`` from 0 (background) to 2³¹ − 1, with a halo of ``reach.halo`` voxels, less only where
        the volume ends.
    second
        Ids of other objects in the same place; None for distances of neighbours within `first`. The order of ids must
        then be the same in all blocks, as it is if each numbers the ids that it holds in rising order.
    inner
        The part of the block that one voxel of each pair lies in: that of `first`, or of the smaller id.
    reach
        Size of voxels and largest distance.

    Returns
    -------
    Distances
        Pairs at most ``reach.max_distance_nm`` apart.

    Raises
    ------
    ValueError
        If shapes differ, or arrays are not of such ids.
    """
    other = first if second is None else second
    check_ids(first, other)
    whole = tuple(slice(0, n) for n in first.shape)
    ours, theirs = _Surfaces(first, inner), _Surfaces(other, whole)
    near = []
    if second is not None:
        shared = contingency(first[inner], second[inner])
        pairs = zip(shared.segmentation.tolist(), shared.truth.tolist(), strict=True)
        near += [(a, b, 0.0) for a, b in pairs if a and b]
    overlapping = {(a, b) for a, b, _ in near}
    for i, a in enumerate(ours.ids.tolist()):
        for j in np.flatnonzero(_apart(ours.boxes[i], theirs.boxes, reach) <= reach.max_distance_nm * _SLACK).tolist():
            b = int(theirs.ids[j])
            if (a, b) in overlapping or (second is None and b <= a):
                continue
            distance = _distance(ours.points[i], theirs, j, reach)
            if distance <= reach.max_distance_nm * _SLACK:
                near.append((a, b, distance))
    table = np.array(near, np.float64).reshape(-1, 3)  # ids below 2³¹ are exact
    return _smallest(table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2])


def add_membrane_distances(
    labels: np.ndarray, n_objects: int, inner: Box, cells: np.ndarray, cell_of: np.ndarray, reach: Reach
) -> np.ndarray:
    """Find the distance of every organelle to the membrane of its cell, as far as a block shows it.

    Parameters
    ----------
    labels
        int32 ``(z, y, x)``: organelles 0..n_objects, with a halo of ``reach.halo`` voxels, less only where the volume
        ends.
    n_objects
        Number of ids.
    inner
        The part of the block whose organelle voxels count.
    cells
        Ids of cells of the same shape, from 0 (outside cells) to 2³¹ − 1.
    cell_of
        int64 ``(n_objects,)``: the id in `cells` of the cell of every organelle; 0 if it has none.
    reach
        Size of voxels and largest distance.

    Returns
    -------
    np.ndarray
        float64 ``(n_objects,)`` nm: the smallest distance from a voxel of the organelle to a voxel that is not of its
        cell; 0 if it sticks out, inf if it is beyond the largest distance or the organelle has no cell. What is outside
        the volume is not known to be outside the cell. Over blocks the smallest counts.

    Raises
    ------
    ValueError
        If shapes differ, or arrays are not of such ids.
    """
    check_ids(labels, cells)
    if cell_of.shape != (n_objects,):
        raise ValueError(f"expected the cells of {n_objects} objects, got an array of shape {cell_of.shape}")
    if int(labels.max(initial=0)) > n_objects:
        raise ValueError(f"expected ids up to {n_objects}, found {labels.max()}; number the objects of a block first")
    distance = np.full(n_objects, np.inf)
    own = np.concatenate([[0], cell_of])
    shared = contingency(labels[inner], cells[inner])
    home = own[shared.segmentation]
    out = (home != 0) & (home != shared.truth)
    distance[shared.segmentation[out] - 1] = 0.0
    surfaces = _Surfaces(labels, inner)
    mine = own[surfaces.ids]
    todo = (mine != 0) & (distance[surfaces.ids - 1] > 0)
    if todo.any():
        shells = _Surfaces(cells, tuple(slice(0, n) for n in cells.shape), outside=True)
        places = {int(cell): place for place, cell in enumerate(shells.ids)}
        for i in np.flatnonzero(todo & np.isin(mine, shells.ids)).tolist():
            found = _distance(surfaces.points[i], shells, places[int(mine[i])], reach)
            if found <= reach.max_distance_nm * _SLACK:
                distance[surfaces.ids[i] - 1] = found
    return distance


class _Surfaces:
    """The voxels at the outline of every object within a part of a block, or those just outside of it."""

    def __init__(self, labels: np.ndarray, part: tuple[slice, ...], *, outside: bool = False) -> None:
        bounds = np.array([piece.indices(n)[:2] for piece, n in zip(part, labels.shape, strict=True)])
        ids, points = _outlines(labels, bounds, outside)
        order = np.argsort(ids, kind="stable")
        ids, points = ids[order], points[order]
        first = np.flatnonzero(np.concatenate([[ids.size > 0], ids[1:] != ids[:-1]]))[: ids.size]
        self.ids = ids[first]
        self.points = np.split(points, first[1:]) if first.size else []
        self.boxes = np.empty((first.size, 2, 3), np.int64)
        if first.size:
            self.boxes[:, 0] = np.minimum.reduceat(points, first, axis=0)
            self.boxes[:, 1] = np.maximum.reduceat(points, first, axis=0)
        self._trees: dict[int, cKDTree] = {}

    def tree(self, place: int, voxel_size: tuple[float, float, float]) -> cKDTree:
        """Return the search tree of one object, in nm."""
        if place not in self._trees:
            points = self.points[place] * np.array(voxel_size)
            self._trees[place] = cKDTree(points, balanced_tree=False, compact_nodes=False)
        return self._trees[place]


def _distance(points: np.ndarray, surfaces: _Surfaces, place: int, reach: Reach) -> float:
    """Return the smallest distance (nm) of points to an object; inf where it is beyond the reach.

    Points are asked in the order in which they could be near, until none can be nearer than what was found.
    """
    least = _apart(points[:, None].repeat(2, axis=1), surfaces.boxes[place][None], reach)
    order = np.argsort(least, kind="stable")
    order = order[: np.searchsorted(least[order], reach.max_distance_nm * _SLACK, side="right")]
    best, done, size = math.inf, 0, 64
    while done < order.size and least[order[done]] <= best:
        some = points[order[done : done + size]]
        bound = min(best, reach.max_distance_nm) * _SLACK
        nearest = np.asarray(
            surfaces.tree(place, reach.voxel_size).query(
                some * np.array(reach.voxel_size), distance_upper_bound=bound * _SLACK
            )[1]
        )
        found = nearest < len(surfaces.points[place])
        if found.any():
            away = some[found] - surfaces.points[place][nearest[found]]
            best = min(best, float(_length(away, reach.voxel_size).min()))
        done, size = done + size, 4 * size
    return best


def _apart(box: np.ndarray, boxes: np.ndarray, reach: Reach) -> np.ndarray:
    """Return how far boxes of voxels (first and last, ``(..., 2, 3)``) are apart, in nm."""
    gap = np.maximum(0, np.maximum(boxes[:, 0] - box[..., 1, :], box[..., 0, :] - boxes[:, 1]))
    return _length(gap, reach.voxel_size)


def _length(steps: np.ndarray, voxel_size: tuple[float, float, float]) -> np.ndarray:
    """Return the length (nm) of steps in voxels; from whole numbers, so that it does not depend on the block."""
    return np.sqrt(((steps * np.array(voxel_size)) ** 2).sum(axis=-1))


def _smallest(a: np.ndarray, b: np.ndarray, distance: np.ndarray) -> Distances:
    """Sort by pair and keep the smallest distance of equal ones."""
    order = np.lexsort((distance, b, a))
    a, b, distance = a[order], b[order], distance[order]
    new = np.concatenate([[True], (np.diff(a) != 0) | (np.diff(b) != 0)])[: a.size]
    return Distances(a[new], b[new], distance[new])


@njit(cache=True, nogil=True)
def _outlines(labels: np.ndarray, bounds: np.ndarray, outside: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return id and place of every voxel within bounds that has a neighbour of another id across a face.

    With `outside`, it is instead the voxel that borders on an object from outside, with the object's id; it may come
    up once for each object.
    """
    n = 0
    ids, points = np.empty(1024, np.int64), np.empty((1024, 3), np.int32)
    for z in range(bounds[0, 0], bounds[0, 1]):
        for y in range(bounds[1, 0], bounds[1, 1]):
            needed = n + 6 * (bounds[2, 1] - bounds[2, 0])
            if needed > len(ids):
                more_ids, more_points = np.empty(2 * needed, np.int64), np.empty((2 * needed, 3), np.int32)
                more_ids[:n], more_points[:n] = ids[:n], points[:n]
                ids, points = more_ids, more_points
            for x in range(bounds[2, 0], bounds[2, 1]):
                here = np.int64(labels[z, y, x])
                if here == 0 and not outside:
                    continue
                for side in range(6):
                    near = _neighbour(labels, (z, y, x), side)
                    if near != here and (near != 0 or not outside):
                        ids[n] = near if outside else here
                        points[n, 0], points[n, 1], points[n, 2] = z, y, x
                        n += 1
                        if not outside:
                            break
    return ids[:n].copy(), points[:n].copy()


@njit(cache=True, nogil=True)
def _neighbour(labels: np.ndarray, place: tuple[int, int, int], side: int) -> np.int64:
    """Return the id across one of six faces; beyond the block there is no outline, so the voxel's own."""
    z, y, x = place
    step = 1 if side % 2 else -1
    axis = side // 2
    if axis == 0 and 0 <= z + step < labels.shape[0]:
        z += step
    elif axis == 1 and 0 <= y + step < labels.shape[1]:
        y += step
    elif axis == 2 and 0 <= x + step < labels.shape[2]:
        x += step
    return np.int64(labels[z, y, x])
