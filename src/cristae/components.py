"""Objects of a mask too large for memory: connected components block by block, joined where blocks touch.

::

    +-----+-----+   1. every block by itself: its parts, their voxels, and what lies on its six faces
    | 1 1 | 1   |   2. parts that touch across faces, edges and corners of blocks are one object
    |   2 | 2 2 |   3. objects are numbered in the order of their first voxels, z before y before x, and every block
    +-----+-----+      is labelled once more with these numbers

The numbers do not depend on how the volume was cut, nor on the order in which blocks were worked off. Parts of all
blocks and the faces are held, never the volume.

Paper: A. Rosenfeld & J. L. Pfaltz (1966), J. ACM 13, 471 (components in two passes, equivalences joined between them).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import cc3d
import numpy as np
from numba import njit
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Connectivity = Literal[6, 18, 26]
"""Neighbours of a voxel: those that share a face, also those that share an edge, also those that share a corner."""
Place = tuple[int, int, int]
"""Of a block among all, or of a voxel in the volume; z, y, x."""

_N_AXES: Mapping[int, int] = {6: 1, 18: 2, 26: 3}
"""Along how many axes neighbours may differ."""
DIRECTIONS: tuple[Place, ...] = tuple(
    (z, y, x) for z, y, x in itertools.product((-1, 0, 1), repeat=3) if (z, y, x) > (0, 0, 0)
)
"""From a block to half of those around it; the other half looks this way itself."""


@dataclass(frozen=True)
class Parts:
    """The parts of objects in one block, numbered from 1.

    Parameters
    ----------
    n_voxels
        int64 per part.
    first
        int64 per part: its first voxel, counted through the volume, x fastest.
    faces
        Numbers of parts (uint32, 0 none) on the two faces of the block along z ``(y, x)``, y ``(z, x)``, x ``(z, y)``.
    """

    n_voxels: np.ndarray
    first: np.ndarray
    faces: tuple[tuple[np.ndarray, np.ndarray], ...]


@dataclass(frozen=True)
class Objects:
    """The objects of a volume, numbered from 1 in the order of their first voxels.

    Parameters
    ----------
    n_voxels
        int64 per object.
    ids
        Per block, in the order given: uint32 ``(n_parts + 1,)``, the object of each part; 0 for none, the first entry.
    n_dropped
        Number of objects that were too small.
    """

    n_voxels: np.ndarray
    ids: tuple[np.ndarray, ...]
    n_dropped: int


def label_parts(mask: np.ndarray, connectivity: Connectivity = 26) -> np.ndarray:
    """Return the connected parts of a block.

    Parameters
    ----------
    mask
        Integers or bool ``(z, y, x)``; all but 0 is inside.
    connectivity
        Neighbours of a voxel.

    Returns
    -------
    uint32 (z, y, x)
        Parts from 1 without holes, 0 outside; the same for the same mask.
    """
    # As numbers: cc3d 4.1 refuses some masks of type bool with odd sides, such as 1 0 1, at connectivity 26.
    inside = np.ascontiguousarray(mask != 0).view(np.uint8)
    if not inside.any():
        return np.zeros(mask.shape, np.uint32)
    labels: np.ndarray = cc3d.connected_components(inside, connectivity=connectivity, out_dtype=np.uint32)
    return labels


def find_parts(labels: np.ndarray, start: Place, shape: Place) -> Parts:
    """Measure the parts of a block.

    Parameters
    ----------
    labels
        uint32 ``(z, y, x)`` from `label_parts`.
    start
        First voxel of the block in the volume.
    shape
        Of the volume.
    """
    n_parts = int(labels.max(initial=0))
    n_voxels, first = _measure(labels.ravel(), n_parts)
    z, y, x = np.unravel_index(first[1:], labels.shape)
    place = ((z + start[0]) * shape[1] + y + start[1]) * shape[2] + x + start[2]
    faces = tuple((labels.take(0, axis).copy(), labels.take(-1, axis).copy()) for axis in range(3))
    return Parts(n_voxels[1:], place.astype(np.int64), faces)


@njit(cache=True, nogil=True)
def _measure(labels: np.ndarray, n_parts: int) -> tuple[np.ndarray, np.ndarray]:
    n_voxels, first = np.zeros(n_parts + 1, np.int64), np.zeros(n_parts + 1, np.int64)
    for voxel in range(labels.size):
        part = labels[voxel]
        if part:
            if n_voxels[part] == 0:
                first[part] = voxel
            n_voxels[part] += 1
    return n_voxels, first


def touching(here: Parts, there: Parts, direction: Place, connectivity: Connectivity = 26) -> np.ndarray:
    """Return which parts of two neighbouring blocks are of one object.

    Parameters
    ----------
    here, there
        Their parts. Blocks beside each other have the same extent along the axes they share.
    direction
        From `here` to `there`: -1, 0 or 1 along z, y, x, not all 0.
    connectivity
        Neighbours of a voxel, as for `label_parts`.

    Returns
    -------
    int64 (n, 2)
        Numbers of parts `here` and `there`, each pair once.
    """
    apart = [axis for axis, step in enumerate(direction) if step]
    left = _N_AXES[connectivity] - len(apart)
    if left < 0:
        return np.zeros((0, 2), np.int64)
    one, other = _side(here, direction), _side(there, (-direction[0], -direction[1], -direction[2]))
    pairs = [np.zeros((0, 2), np.int64)]
    for shift in itertools.product((-1, 0, 1), repeat=one.ndim):
        if np.count_nonzero(shift) > left:
            continue
        a = one[tuple(slice(max(0, -step), n - max(0, step)) for step, n in zip(shift, one.shape, strict=True))]
        b = other[tuple(slice(max(0, step), n - max(0, -step)) for step, n in zip(shift, one.shape, strict=True))]
        both = (a > 0) & (b > 0)
        pairs.append(np.stack([a[both], b[both]], axis=1).astype(np.int64))
    return np.unique(np.concatenate(pairs), axis=0)


def _side(parts: Parts, direction: Place) -> np.ndarray:
    """Return the face, edge or corner of a block in a direction: an array of 2, 1 or 0 axes."""
    apart = [axis for axis, step in enumerate(direction) if step]
    side = parts.faces[apart[0]][(direction[apart[0]] + 1) // 2]
    for n_taken, axis in enumerate(apart[1:], start=1):
        side = side.take(-1 if direction[axis] > 0 else 0, axis - n_taken)
    return np.asarray(side)


def number_objects(
    parts: Sequence[tuple[np.ndarray, np.ndarray]], touches: Iterable[tuple[int, int, np.ndarray]], smallest: int = 1
) -> Objects:
    """Join the parts of all blocks to objects.

    Parameters
    ----------
    parts
        Per block, `Parts.n_voxels` and `Parts.first`.
    touches
        Two blocks by their places in `parts`, and what `touching` returns of them.
    smallest
        Objects of fewer voxels are dropped.
    """
    offsets = np.concatenate([[0], np.cumsum([len(n_voxels) for n_voxels, _ in parts])]).astype(np.int64)
    n_parts = int(offsets[-1])
    edges = [np.zeros((0, 2), np.int64)]
    edges += [pairs - 1 + offsets[[here, there]] for here, there, pairs in touches if len(pairs)]
    one, other = np.concatenate(edges).T
    graph = coo_array((np.ones(len(one), np.bool_), (one, other)), shape=(n_parts, n_parts))
    n_groups, group = connected_components(graph, directed=False) if n_parts else (0, np.zeros(0, np.int64))
    n_voxels, first = np.zeros(n_groups, np.int64), np.full(n_groups, np.iinfo(np.int64).max)
    np.add.at(n_voxels, group, np.concatenate([np.zeros(0, np.int64), *(counts for counts, _ in parts)]))
    np.minimum.at(first, group, np.concatenate([np.zeros(0, np.int64), *(places for _, places in parts)]))
    order = np.argsort(first)
    order = order[n_voxels[order] >= smallest]
    ids = np.zeros(n_groups, np.uint32)
    ids[order] = np.arange(1, len(order) + 1)
    of_parts = ids[group]
    tables = tuple(
        np.concatenate([np.zeros(1, np.uint32), of_parts[low:high]]) for low, high in itertools.pairwise(offsets)
    )
    return Objects(n_voxels[order], tables, n_groups - len(order))
