r"""Filled volume and fenestration: what an object encloses, for all objects of a volume at once (Figure 1E).

A hole is a 6-connected component of everything that is not the object and does not reach the outside of the volume.
What lies in a hole counts as filled, other objects included; a pore that is open to the outside stays open, in three
dimensions, however closed it looks in a slice. The volume of an object with its holes filled is that of
`scipy.ndimage.binary_fill_holes` of its mask.

Holes are found among the parts of the volume (`cristae.features.parts`). Paths from the outside, as few parts long as
can be, make a tree. Without object L, only what hangs below parts of L in the tree can have lost its way to the
outside; among that, whatever touches something that does not hang there has another way. So an object costs as much
as hangs below it, not as much as the volume holds::

    outside -- a -- b -- c        without b:  c and e hang below b; e touches a, so e is no hole, c is one
                \    `-- e
                 '------'

Paper: A. Machireddy et al., fenestration of nucleoli; the definition by components is that of P. Soille (2003),
Morphological Image Analysis, 6.3.7 (fill holes).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import pandas as pd
from numba import njit

from cristae.features.definitions import Definition
from cristae.features.parts import PartGraph
from cristae.features.runs import paint, runs_of

_PAPER = "Machireddy et al., Figure 1E"

DEFINITIONS: Mapping[str, Definition] = {
    "n_filled_voxels": Definition("voxels", "voxels of the object and its holes", "n_voxels + voxels in holes", _PAPER),
    "filled_volume_um3": Definition(
        "µm³",
        "volume with holes filled in 3D; pores open to the outside stay open",
        "n_filled_voxels · voxel volume",
        _PAPER,
    ),
    "fenestrated_fraction": Definition(
        "", "share of the filled volume that is hole", "(filled − net) / filled", _PAPER
    ),
    "n_holes": Definition("", "holes: 6-connected components of what is not the object and does not reach the outside"),
}
"""Columns of `hole_columns`."""


@dataclass(frozen=True)
class Holes:
    """What objects enclose: int64 arrays, one row per object by rising id.

    Parameters
    ----------
    object_id
        Ids, without 0.
    n_voxels
        Voxels of the object.
    n_filled_voxels
        Voxels of the object and of its holes.
    n_holes
        Number of holes.
    """

    object_id: np.ndarray
    n_voxels: np.ndarray
    n_filled_voxels: np.ndarray
    n_holes: np.ndarray


def find_holes(graph: PartGraph) -> Holes:
    """Return what each object of a volume encloses.

    Parameters
    ----------
    graph
        The parts of the whole volume, from `cristae.features.parts.join_parts`. What reaches the border of the volume
        is connected to the outside.
    """
    n = graph.label.size
    ends = np.concatenate([graph.pairs, graph.pairs[:, ::-1]])
    ends = ends[np.argsort(ends[:, 0], kind="stable")]
    first = np.searchsorted(ends[:, 0], np.arange(n + 1))
    object_id, of_part = np.unique(graph.label, return_inverse=True)
    parent = _tree(first, ends[:, 1], graph.outside)
    hanging = np.argsort(parent, kind="stable")
    tree = np.searchsorted(parent[hanging], np.arange(n + 1)), hanging
    by_label = np.argsort(of_part, kind="stable")
    parts = np.searchsorted(of_part[by_label], np.arange(object_id.size + 1)), by_label
    n_voxels = np.zeros(object_id.size, np.int64)
    np.add.at(n_voxels, of_part, graph.n_voxels)
    within, n_holes = _enclosed((first, ends[:, 1]), tree, parts, of_part, graph.n_voxels)
    real = object_id != 0
    return Holes(object_id[real], n_voxels[real], (n_voxels + within)[real], n_holes[real])


def hole_columns(holes: Holes, voxel_size: tuple[float, float, float]) -> pd.DataFrame:
    """Return the columns of `DEFINITIONS`, indexed by ``object_id``.

    Parameters
    ----------
    holes
        From `find_holes`.
    voxel_size
        nm, ``(z, y, x)``.
    """
    filled = holes.n_filled_voxels
    return pd.DataFrame(
        {
            "n_filled_voxels": filled,
            "filled_volume_um3": filled * (prod(voxel_size) / 1e9),
            "fenestrated_fraction": (filled - holes.n_voxels) / filled,
            "n_holes": holes.n_holes,
        },
        index=pd.Index(holes.object_id, name="object_id"),
    )


def filled(mask: np.ndarray) -> np.ndarray:
    """Return a mask with its holes filled: what cannot be reached from the border of the crop, 6-connected.

    Parameters
    ----------
    mask
        bool ``(z, y, x)``, one object. What is outside the crop counts as outside the object.

    Returns
    -------
    ndarray
        bool of the same shape, a new array, equal to `scipy.ndimage.binary_fill_holes`.
    """
    if not mask.size:
        return mask.copy()
    runs = runs_of(np.ascontiguousarray(mask).view(np.uint8))
    in_object = np.zeros(int(runs.part.max()) + 1, np.bool_)
    in_object[runs.part] = runs.label != 0
    return paint(runs, in_object | ~_reach_border(runs.part, runs.first, mask.shape, in_object.size))


def _reach_border(part: np.ndarray, first: np.ndarray, shape: tuple[int, ...], n_parts: int) -> np.ndarray:
    """Return which parts of a crop reach its border."""
    reached = np.zeros(n_parts, np.bool_)
    reached[part[first[:-1]]] = True
    reached[part[first[1:] - 1]] = True
    row = np.repeat(np.arange(first.size - 1), np.diff(first))
    z, y = np.divmod(row, shape[1])
    reached[part[(z == 0) | (z == shape[0] - 1) | (y == 0) | (y == shape[1] - 1)]] = True
    return reached


@njit(cache=True, nogil=True)
def _tree(first: np.ndarray, neighbour: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Return the part before each on a shortest way from the outside, -1 if that is the outside itself."""
    parent = np.full(outside.size, -2, np.int64)
    queue = np.empty(outside.size, np.int64)
    n = 0
    for part in range(outside.size):
        if outside[part]:
            parent[part] = -1
            queue[n] = part
            n += 1
    at = 0
    while at < n:
        part = queue[at]
        at += 1
        for other in neighbour[first[part] : first[part + 1]]:
            if parent[other] == -2:
                parent[other] = part
                queue[n] = other
                n += 1
    return parent


@njit(cache=True, nogil=True)
def _enclosed(
    graph: tuple[np.ndarray, np.ndarray],
    tree: tuple[np.ndarray, np.ndarray],
    parts: tuple[np.ndarray, np.ndarray],
    of_part: np.ndarray,
    n_voxels: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the voxels in holes of each object and the number of its holes."""
    first_part, part_of = parts
    n_objects = first_part.size - 1
    within, n_holes = np.zeros(n_objects, np.int64), np.zeros(n_objects, np.int64)
    # Marks carry the object they were made for, so that nothing need be cleared between objects.
    hangs, visited = np.full(of_part.size, -1, np.int64), np.full(of_part.size, -1, np.int64)
    below, stack = np.empty(of_part.size, np.int64), np.empty(of_part.size, np.int64)
    for label in range(n_objects):
        own = part_of[first_part[label] : first_part[label + 1]]
        n_below = _hang_below(own, tree, of_part, hangs, below)
        for source in below[:n_below]:
            if visited[source] != label:
                open_way, found = _flood(source, label, graph, (of_part, hangs, visited, n_voxels), stack)
                if not open_way:
                    within[label] += found
                    n_holes[label] += 1
    return within, n_holes


@njit(cache=True, nogil=True)
def _hang_below(
    own: np.ndarray, tree: tuple[np.ndarray, np.ndarray], of_part: np.ndarray, hangs: np.ndarray, below: np.ndarray
) -> int:
    """List and mark the parts of others that hang below an object's parts in the tree; return how many."""
    first_child, child = tree
    label = of_part[own[0]]
    n = 0
    at = -own.size
    while at < n:
        part = own[at] if at < 0 else below[at]
        for other in child[first_child[part] : first_child[part + 1]]:
            if of_part[other] != label:
                hangs[other] = label
                below[n] = other
                n += 1
        at += 1
    return n


@njit(cache=True, nogil=True)
def _flood(
    source: int,
    label: int,
    graph: tuple[np.ndarray, np.ndarray],
    marks: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    stack: np.ndarray,
) -> tuple[bool, int]:
    """Visit what is connected to a part among those that hang below an object, not through it.

    Returns
    -------
    tuple
        Whether it touches something that does not hang there, and its voxels.
    """
    first, neighbour = graph
    of_part, hangs, visited, n_voxels = marks
    open_way, found = False, 0
    visited[source] = label
    stack[0], n_stack = source, 1
    while n_stack:
        n_stack -= 1
        part = stack[n_stack]
        found += n_voxels[part]
        for other in neighbour[first[part] : first[part + 1]]:
            if of_part[other] == label:
                continue
            if hangs[other] != label:
                open_way = True
            elif visited[other] != label:
                visited[other] = label
                stack[n_stack] = other
                n_stack += 1
    return open_way, found
