"""The skeleton of an object: how long its limbs are and how they branch, for mitochondria above all.

The filled mask is thinned to lines of voxels. Voxels with two neighbours are inside a branch; clusters of those with
more are one point each, the mean of their voxels, so that a crossing adds no length of its own. What a point is follows
from the branches that meet there: one makes an end, two make nothing, three or more a junction::

    o--------.            .-o
              >o--------o<            2 junctions, 4 ends, 5 branches
    o--------'            '-o

Three things keep numbers from being those of voxels rather than of the object:

- Stairs. The positions along a branch are averaged with their neighbours before steps are added up, as steps along the
  axes and diagonals make a slanted line up to an eighth too long.
- Ends. Thinning eats limbs up from their ends, by about their radius. From an end, the line goes on straight to where
  it leaves the object, but no farther than twice the distance to the surface: a rod is as long as it is, round ends and
  all, and a ball is a rod as long as wide, one branch with two ends.
- Spurs. A bump on the surface grows a side branch from the middle of the limb. Side branches count if the largest ball
  in the object around their end reaches 1½ times as far from the junction as the one around the junction does.

How it is thinned, and after whom: `cristae.features.thinning`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numba import njit
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, dijkstra

from cristae.features.crops import Nanometres, trimmed
from cristae.features.definitions import Definition
from cristae.features.holes import filled
from cristae.features.thinning import distance_inside, thinned

_STAIRS = 2.0
"""Positions are averaged over so many stairs to each side; a stair is as long as voxels are longer than wide."""
_SPUR = 1.5
"""A ball in the object around the end of a side branch has to reach so many times as far as that at its junction."""
_ROUNDS = 20
"""Spurs grow on spurs, but not for ever."""
_SOURCES = 256
"""Ends from which paths are searched at a time, to bound memory."""

_PAPER = "Lee, Kashyap and Chu (1994), CVGIP: Graph. Models Image Process. 56, 462"
DEFINITIONS: Mapping[str, Definition] = {
    "skeleton_length_um": Definition("µm", "length of all branches, to where they leave the object", "", _PAPER),
    "skeleton_longest_path_um": Definition(
        "µm", "the longest of the shortest ways along the skeleton; half the circumference of a ring", "", _PAPER
    ),
    "skeleton_radius_nm": Definition(
        "nm", "distance from the skeleton to the nearest voxel outside: mean over its voxels"
    ),
    "n_skeleton_branches": Definition(
        "", "branches of the skeleton, between junctions and ends; a ring is one", "", _PAPER
    ),
    "n_skeleton_ends": Definition("", "ends of branches", "", _PAPER),
    "n_skeleton_junctions": Definition("", "points where three or more branches meet", "", _PAPER),
}
"""Columns of `Skeleton`."""


@dataclass(frozen=True)
class Branches:
    """The branches of a skeleton, one row each.

    Parameters
    ----------
    voxels
        int32 ``(n_voxels, 3)``: the skeleton.
    node
        int64: the point that each voxel belongs to, −1 within branches.
    positions
        float64 ``(n_nodes, 3)``, nm: where the points are.
    ends
        int64 ``(n, 2)``: the points that a branch runs between; −1 twice for a ring without any.
    first, path
        The voxels along branch i without those of its points, in order: ``voxels[path[first[i] : first[i + 1]]]``.
    lengths
        float64, nm.
    """

    voxels: np.ndarray
    node: np.ndarray
    positions: np.ndarray
    ends: np.ndarray
    first: np.ndarray
    path: np.ndarray
    lengths: np.ndarray

    @property
    def degrees(self) -> np.ndarray:
        """int64, how many branches meet in each point; a branch that comes back to its point counts twice."""
        return np.bincount(self.ends[self.ends >= 0], minlength=len(self.positions))

    def along(self, branch: int) -> np.ndarray:
        """Return the voxels along a branch without those of its points, int32 ``(n, 3)``."""
        return np.asarray(self.voxels[self.path[self.first[branch] : self.first[branch + 1]]])


@dataclass(frozen=True)
class Skeleton:
    """Length and branching of an object's skeleton, a feature of crops."""

    definitions: ClassVar[Mapping[str, Definition]] = DEFINITIONS
    meaningless_when_cut: ClassVar[frozenset[str]] = frozenset(DEFINITIONS)

    def __call__(self, mask: np.ndarray, image: np.ndarray | None, voxel_size: Nanometres) -> dict[str, float]:
        """Return the columns of `DEFINITIONS`; the image is not used."""
        whole = trimmed(filled(mask), margin=1)
        if not whole.any():
            return dict.fromkeys(DEFINITIONS, math.nan)
        branches, radius = _skeleton(whole, voxel_size)
        return {
            "skeleton_length_um": float(branches.lengths.sum()) / 1e3,
            "skeleton_longest_path_um": _longest_path(branches) / 1e3,
            "skeleton_radius_nm": radius,
            "n_skeleton_branches": float(_n_branches(branches)),
            "n_skeleton_ends": float(np.count_nonzero(branches.degrees == 1)),
            "n_skeleton_junctions": float(np.count_nonzero(branches.degrees > 2)),
        }


def find_branches(lines: np.ndarray, voxel_size: Nanometres, reach: int = 0) -> Branches:
    """Return the branches of a skeleton of voxels as they are: spurs included, ends where its voxels end.

    Parameters
    ----------
    lines
        bool ``(z, y, x)``: lines one voxel wide, 26-connected, with a margin of False.
    voxel_size
        nm, ``(z, y, x)``.
    reach
        Positions are averaged over so many voxels to each side before steps are added up.
    """
    voxels = np.argwhere(lines).astype(np.int32)
    index = np.full(lines.shape, -1, np.int32)
    index[lines] = np.arange(len(voxels))
    n_neighbours, neighbours = _neighbours(voxels, index)
    node = _clusters(n_neighbours, neighbours)
    inside = node >= 0
    n_nodes = int(node.max(initial=-1)) + 1
    positions = np.zeros((n_nodes, 3))
    np.add.at(positions, node[inside], voxels[inside] * np.array(voxel_size))
    positions /= np.bincount(node[inside], minlength=n_nodes)[:, None]
    ends, first, path = _trace(node, n_neighbours, neighbours)
    lengths = _lengths(ends, first, voxels[path] * np.array(voxel_size), positions, reach)
    return Branches(voxels, node, positions, ends, first, path, lengths)


def _skeleton(whole: np.ndarray, voxel_size: Nanometres) -> tuple[Branches, float]:
    """Return the branches without spurs, led on to the surface, and their mean distance from it in nm."""
    reach = math.ceil(_STAIRS * max(voxel_size) / min(voxel_size)) + 1
    distance = distance_inside(whole, voxel_size)
    lines = thinned(whole, distance, min(voxel_size))
    branches = _led_on(find_branches(lines, voxel_size, reach), distance, voxel_size)
    for _ in range(_ROUNDS):
        spurs = _spurs(branches, distance, voxel_size)
        if not spurs.size:
            break
        tips = branches.ends[spurs][branches.degrees[branches.ends[spurs]] == 1]
        wiped = [branches.voxels[np.isin(branches.node, tips)], *(branches.along(spur) for spur in spurs)]
        lines[tuple(np.concatenate(wiped).T)] = False
        branches = _led_on(find_branches(lines, voxel_size, reach), distance, voxel_size)
    return branches, float(distance[lines].mean(dtype=np.float64))


def _at_points(values: np.ndarray, branches: Branches, voxel_size: Nanometres) -> np.ndarray:
    """Return the values of the voxels that points of the skeleton lie in."""
    return np.asarray(values[tuple(np.rint(branches.positions / voxel_size).astype(int).T)])


def _led_on(branches: Branches, distance: np.ndarray, voxel_size: Nanometres) -> Branches:
    """Return the branches with ends led on to the surface; points that no branch meets become branches."""
    lengths, degrees = branches.lengths.copy(), branches.degrees
    radii = _at_points(distance, branches, voxel_size)
    for branch, side in np.argwhere(_of_ends(branches) == 1):
        tip, other = branches.ends[branch][side], branches.ends[branch][1 - side]
        back = np.concatenate(
            [branches.along(branch) * np.array(voxel_size), branches.positions[[other]]][:: 1 - 2 * side]
        )
        lengths[branch] += _way_out(branches.positions[tip], back, float(radii[tip]), distance, voxel_size)
    alone = np.flatnonzero(degrees == 0)
    new = len(degrees) + np.arange(alone.size)
    return Branches(
        branches.voxels,
        branches.node,
        np.concatenate([branches.positions, branches.positions[alone]]),
        np.concatenate([branches.ends, np.column_stack([alone, new])]),
        np.append(branches.first, np.full(alone.size, branches.first[-1])),
        branches.path,
        np.append(lengths, 2 * radii[alone] - min(voxel_size)),
    )


def _of_ends(branches: Branches) -> np.ndarray:
    """Return how many branches meet in the two points of each branch; 0 for a ring."""
    degrees: np.ndarray = np.append(branches.degrees, 0)
    return np.take(degrees, branches.ends)


def _way_out(tip: np.ndarray, back: np.ndarray, radius: float, distance: np.ndarray, voxel_size: Nanometres) -> float:
    """Return how far it is from the end of a branch straight on to the surface, in nm.

    Parameters
    ----------
    tip
        The end.
    back
        What is before it in the branch, nearest or farthest first.
    radius
        Distance of the tip to the surface.
    distance
        That of every voxel; 0 outside the object.
    """
    away = np.linalg.norm(back - tip, axis=1)
    # From about a radius back: from the last voxel, there are but 26 directions.
    far = np.argmin(np.where(away >= radius, away, np.inf)) if away.max() >= radius else away.argmax()
    steps = np.arange(0, 2 * radius, min(voxel_size) / 8)
    line = tip + steps[:, None] * ((tip - back[far]) / away[far])
    voxels = np.rint(line / voxel_size).astype(int)
    there = ((voxels >= 0) & (voxels < distance.shape)).all(axis=1)
    there[there] = distance[tuple(voxels[there].T)] > 0
    return float(steps[-1] if there.all() else steps[np.argmin(there)])


def _spurs(branches: Branches, distance: np.ndarray, voxel_size: Nanometres) -> np.ndarray:
    """Return the side branches that do not count; where nothing but such meet in a point, the two longest do."""
    degrees = branches.degrees
    of_ends = _of_ends(branches)
    side = np.flatnonzero((of_ends.min(axis=1) == 1) & (of_ends.max(axis=1) > 2))
    junction, tip = branches.ends[side, of_ends[side].argmax(axis=1)], branches.ends[side, of_ends[side].argmin(axis=1)]
    radii = _at_points(distance, branches, voxel_size)
    reach = np.linalg.norm(branches.positions[tip] - branches.positions[junction], axis=1) + radii[tip]
    short = reach < _SPUR * radii[junction]
    side, junction, reach = side[short], junction[short], reach[short]
    order = np.lexsort((-reach, junction))
    side, junction = side[order], junction[order]
    rank = np.arange(side.size) - np.searchsorted(junction, junction)
    n_short = np.bincount(junction, minlength=len(degrees))
    return np.asarray(side[(n_short[junction] < degrees[junction]) | (rank >= 2)])


def _n_branches(branches: Branches) -> int:
    """Return the number of branches between ends and junctions: points where two meet join them."""
    rings = np.count_nonzero(branches.ends[:, 0] < 0)
    ends = branches.ends[branches.ends[:, 0] >= 0]
    n = len(branches.positions)
    if not n:
        return int(rings)
    n_pieces, piece = connected_components(csr_array((np.ones(len(ends)), ends.T), shape=(n, n)), directed=False)
    n_branches = np.bincount(piece[ends[:, 0]], minlength=n_pieces)
    n_through = np.bincount(piece[branches.degrees == 2], minlength=n_pieces)
    return int(rings + np.maximum(1, n_branches - n_through).sum())


def _longest_path(branches: Branches) -> float:
    """Return the longest shortest way between ends, or between any points in pieces without ends, in nm."""
    ring = branches.ends[:, 0] < 0
    longest = float(np.max(branches.lengths[ring] / 2, initial=0.0))
    n = len(branches.positions)
    ends, lengths = np.sort(branches.ends[~ring], axis=1), branches.lengths[~ring]
    # A sparse matrix adds up what two branches between the same points give: only the shorter one may enter.
    order = np.lexsort((lengths, ends[:, 1], ends[:, 0]))
    order = order[ends[order, 0] != ends[order, 1]]
    new = np.append(True, (np.diff(ends[order], axis=0) != 0).any(axis=1))[: order.size]
    order = order[new]
    graph = csr_array((lengths[order], ends[order].T), shape=(n, n))
    sources = np.arange(n)
    if n:
        _, piece = connected_components(graph, directed=False)
        with_ends = np.isin(piece, piece[branches.degrees == 1])
        sources = np.flatnonzero((branches.degrees == 1) | ~with_ends)
    for start in range(0, sources.size, _SOURCES):
        ways = dijkstra(graph, directed=False, indices=sources[start : start + _SOURCES])
        longest = max(longest, float(np.max(ways[np.isfinite(ways)], initial=0.0)))
    return longest


@njit(cache=True, nogil=True)
def _neighbours(voxels: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of 26-neighbours of each voxel and which they are."""
    n_neighbours = np.zeros(len(voxels), np.int64)
    neighbours = np.full((len(voxels), 26), -1, np.int32)
    for i in range(len(voxels)):
        z, y, x = voxels[i, 0], voxels[i, 1], voxels[i, 2]
        for step in range(27):
            other = index[z + step // 9 - 1, y + step // 3 % 3 - 1, x + step % 3 - 1]
            if other >= 0 and other != i:
                neighbours[i, n_neighbours[i]] = other
                n_neighbours[i] += 1
    return n_neighbours, neighbours


@njit(cache=True, nogil=True)
def _clusters(n_neighbours: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    """Return the point that each voxel belongs to: ends alone, those with more than two neighbours together."""
    node = np.full(n_neighbours.size, -1, np.int64)
    stack = np.empty(n_neighbours.size, np.int64)
    n = 0
    for source in range(n_neighbours.size):
        if n_neighbours[source] == 2 or node[source] >= 0:
            continue
        node[source] = n
        stack[0] = source
        n_stack = 1 if n_neighbours[source] > 2 else 0
        while n_stack:
            n_stack -= 1
            voxel = stack[n_stack]
            for other in neighbours[voxel, : n_neighbours[voxel]]:
                if n_neighbours[other] > 2 and node[other] < 0:
                    node[other] = n
                    stack[n_stack] = other
                    n_stack += 1
        n += 1
    return node


@njit(cache=True, nogil=True)
def _trace(
    node: np.ndarray, n_neighbours: np.ndarray, neighbours: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Follow branches from point to point; return the points at their ends and the voxels between."""
    most = n_neighbours[node >= 0].sum() + node.size + 1
    ends = np.empty((most, 2), np.int64)
    first = np.zeros(most + 1, np.int64)
    path = np.empty(node.size, np.int64)
    visited = np.zeros(node.size, np.bool_)
    n = 0
    for around in range(2):  # branches from points first; what is left are rings
        for source in range(node.size):
            if (node[source] >= 0) == (around == 1) or visited[source]:
                continue
            for start in neighbours[source, : n_neighbours[source]]:
                if node[start] >= 0:
                    if node[start] > node[source] >= 0:
                        ends[n] = node[source], node[start]
                        first[n + 1] = first[n]
                        n += 1
                    continue
                if visited[start]:
                    continue
                before, voxel, at = source, start, first[n]
                while node[voxel] < 0 and not visited[voxel]:
                    visited[voxel] = True
                    path[at] = voxel
                    at += 1
                    after = neighbours[voxel, 0] if neighbours[voxel, 0] != before else neighbours[voxel, 1]
                    before, voxel = voxel, after
                # One or two voxels beside a cluster are part of it rather than a way around a hole.
                if around == 0 and node[voxel] == node[source] and at - first[n] <= 2:
                    continue
                ends[n] = node[source], node[voxel]
                first[n + 1] = at
                n += 1
    return ends[:n], first[: n + 1], path[: first[n]]


@njit(cache=True, nogil=True)
def _lengths(ends: np.ndarray, first: np.ndarray, along: np.ndarray, positions: np.ndarray, reach: int) -> np.ndarray:
    """Return the length of each branch, over positions that are averaged over `reach` voxels to each side."""
    lengths = np.zeros(len(ends))
    for branch in range(len(ends)):
        ring = ends[branch, 0] < 0
        n_inner = first[branch + 1] - first[branch]
        n = n_inner if ring else n_inner + 2
        line = np.empty((n, 3))
        for a in range(3):
            for i in range(n_inner):
                line[i if ring else i + 1, a] = along[first[branch] + i, a]
            if not ring:
                line[0, a], line[n - 1, a] = positions[ends[branch, 0], a], positions[ends[branch, 1], a]
        before = np.zeros(3)
        for i in range(n + ring):
            width = min(reach, (n - 1) // 2) if ring else min(reach, i, n - 1 - i)
            square = 0.0
            for a in range(3):
                here = 0.0
                for j in range(i - width, i + width + 1):
                    here += line[j % n, a]
                here /= 2 * width + 1
                square += (here - before[a]) ** 2
                before[a] = here
            lengths[branch] += math.sqrt(square) if i else 0.0
    return lengths
