"""Thinning: from an object to lines of single voxels with the same pieces, tunnels and cavities, in its middle.

Voxels are taken off one side after the other, as long as nothing changes that counts: a voxel goes only if it is simple
(its neighbours in the object hang together without it, and so does what is not the object) and is not the end of a line
when the turn of its side comes. Two things differ from the scheme of Lee, Kashyap and Chu:

- A voxel goes from one side only if the object goes on right behind it; what is behind is not at that side and stays.
  Otherwise a ribbon two voxels wide and one thick burns off like a fuse from one end to the other, and a whole limb is
  lost. Tips, that hold on by one face at most, go from any side, unless a neighbour has just gone.
- Voxels go by their distance to the surface, one layer as thick as a voxel after the other. Else the object would turn
  into an octahedron on its way, of which each ridge leaves a line, and be eaten faster along the longer side of voxels.

Papers: T.-C. Lee, R. L. Kashyap and C.-N. Chu (1994), CVGIP: Graph. Models Image Process. 56, 462; C. J. Pudney (1998),
Comput. Vis. Image Underst. 72, 404 (by distance); G. Bertrand and G. Malandain (1994), Pattern Recognit. Lett. 15, 169
(simple points).
"""

from __future__ import annotations

import itertools

import numpy as np
from numba import njit

_AROUND = list(itertools.product((-1, 0, 1), repeat=3))
_MIDDLE = 13
_NEAR = [i for i, at in enumerate(_AROUND) if 0 < sum(map(abs, at)) < 3]
"""The 18 neighbours that share a face or an edge."""


def _bits(positions: list[int]) -> int:
    return sum(1 << i for i in positions)


def _adjacent(i: int, j: int, most: int) -> bool:
    steps = [abs(a - b) for a, b in zip(_AROUND[i], _AROUND[j], strict=True)]
    return i != j and max(steps) == 1 and sum(steps) <= most


_TOUCHING = np.array([_bits([j for j in range(27) if j != _MIDDLE and _adjacent(i, j, 3)]) for i in range(27)])
"""Bits of the neighbours of each of the 27 positions by face, edge or corner."""
_BY_FACE = np.array([_bits([j for j in _NEAR if _adjacent(i, j, 1)]) for i in range(27)])
"""Bits of their neighbours by face among the 18."""
_FACES = _bits([i for i, at in enumerate(_AROUND) if sum(map(abs, at)) == 1])
_NEAR_BITS = _bits(_NEAR)


def thinned(mask: np.ndarray, distance: np.ndarray, layer: float) -> np.ndarray:
    """Return the lines that an object is thinned to.

    Parameters
    ----------
    mask
        bool ``(z, y, x)`` with a margin of at least one False voxel.
    distance
        float ``(z, y, x)``: distance of each voxel of the object to the nearest one outside, in any unit.
    layer
        Thickness of the layers that are taken off, in that unit: about the shortest side of a voxel.

    Returns
    -------
    ndarray
        bool of the same shape, a new array: as many 26-connected pieces, tunnels and cavities as the mask.
    """
    solid = np.array(mask, np.uint8, order="C")
    _, n_y, n_x = solid.shape
    around = np.array([(z * n_y + y) * n_x + x for z, y, x in _AROUND])
    _thin(solid.reshape(-1), np.ascontiguousarray(distance).reshape(-1), around, layer)
    return solid.astype(np.bool_)


def distance_inside(mask: np.ndarray, voxel_size: tuple[float, float, float]) -> np.ndarray:
    """Return the distance from each voxel of an object to the nearest one outside, centre to centre.

    Parameters
    ----------
    mask
        bool ``(z, y, x)`` with a margin of at least one False voxel.
    voxel_size
        nm, ``(z, y, x)``.

    Returns
    -------
    ndarray
        float32 ``(z, y, x)``, nm; 0 outside. It takes time by the object's voxels times its width, not by the crop.
    """
    along_x = _squares_along_x(mask, voxel_size[2])
    along_y = _spread_squares(along_x, 1, voxel_size[1])
    return np.asarray(np.sqrt(_spread_squares(along_y, 0, voxel_size[0])))


@njit(cache=True, nogil=True)
def _squares_along_x(mask: np.ndarray, length: float) -> np.ndarray:
    """Return the square of the distance along x to the nearest voxel outside."""
    n_z, n_y, n_x = mask.shape
    squares = np.zeros(mask.shape, np.float32)
    for z in range(n_z):
        for y in range(n_y):
            steps = 0
            for x in range(n_x):
                steps = steps + 1 if mask[z, y, x] else 0
                squares[z, y, x] = (steps * length) ** 2
            steps = 0
            for x in range(n_x - 1, -1, -1):
                steps = steps + 1 if mask[z, y, x] else 0
                squares[z, y, x] = min(squares[z, y, x], (steps * length) ** 2)
    return squares


@njit(cache=True, nogil=True)
def _spread_squares(squares: np.ndarray, axis: int, length: float) -> np.ndarray:
    """Return the least of squares at k voxels along an axis plus (k · length)²; 0 stays 0 and bounds the search."""
    n_z, n_y, n_x = squares.shape
    spread = squares.copy()
    for z in range(n_z):
        for y in range(n_y):
            for x in range(n_x):
                best = squares[z, y, x]
                k = 1
                while (k * length) ** 2 < best:
                    dz, dy = (k, 0) if axis == 0 else (0, k)
                    near = min(squares[z - dz, y - dy, x], squares[z + dz, y + dy, x])
                    best = min(best, np.float32(near + (k * length) ** 2))
                    k += 1
                spread[z, y, x] = best
    return spread


@njit(cache=True, nogil=True)
def _thin(solid: np.ndarray, distance: np.ndarray, around: np.ndarray, layer: float) -> None:
    """Thin in place."""
    listed = np.zeros(solid.size, np.bool_)
    fresh = np.zeros(solid.size, np.bool_)
    border = np.empty(np.count_nonzero(solid), np.int64)
    due, chosen = np.empty(border.size, np.int64), np.empty(border.size, np.int64)
    n_border = _list_border(solid, around, listed, border)
    deepest = 0.0
    for voxel in range(solid.size):
        if solid[voxel]:
            deepest = max(deepest, distance[voxel])
    reach, n_gone = layer, 0
    while n_gone or reach < deepest + 2 * layer:
        n_gone = 0
        for side in (4, 22, 10, 16, 12, 14):
            n_due = 0
            for voxel in border[:n_border]:
                if solid[voxel] and distance[voxel] <= reach and not solid[voxel + around[side]]:
                    due[n_due] = voxel
                    n_due += 1
            n_chosen = _choose(solid, due[:n_due], around, side, chosen)
            n = _peel(solid, chosen[:n_chosen], around, side, fresh)
            n_gone += n
            n_border = _uncover(solid, chosen[:n], around, listed, border, n_border)
            for voxel in chosen[:n]:
                fresh[voxel] = False
        n_border = _drop_gone(solid, border, n_border)
        reach += layer
    # What is left touches by edges and corners only, where no side has anything behind it.
    for voxel in border[:n_border]:
        there = _neighbours(solid, voxel, around)
        if there & (there - 1) and _simple(there):
            solid[voxel] = 0


@njit(cache=True, nogil=True)
def _list_border(solid: np.ndarray, around: np.ndarray, listed: np.ndarray, border: np.ndarray) -> int:
    """List and mark what has a face on the surface; return how many."""
    n = 0
    for voxel in range(solid.size):
        if solid[voxel]:
            for face in (4, 10, 12, 14, 16, 22):
                if not solid[voxel + around[face]]:
                    listed[voxel] = True
            if listed[voxel]:
                border[n] = voxel
                n += 1
    return n


@njit(cache=True, nogil=True)
def _uncover(
    solid: np.ndarray, gone: np.ndarray, around: np.ndarray, listed: np.ndarray, border: np.ndarray, n_border: int
) -> int:
    """Add to the border what voxels that have gone lay on; return how many it has then."""
    for voxel in gone:
        for face in (4, 10, 12, 14, 16, 22):
            other = voxel + around[face]
            if solid[other] and not listed[other]:
                listed[other] = True
                border[n_border] = other
                n_border += 1
    return n_border


@njit(cache=True, nogil=True)
def _choose(solid: np.ndarray, due: np.ndarray, around: np.ndarray, side: int, chosen: np.ndarray) -> int:
    """List what is due at a side and no end of a line: tips with nothing behind, then the rest; return how many."""
    n = 0
    for behind in range(2):
        for voxel in due:
            if solid[voxel - around[side]] == behind:
                there = _neighbours(solid, voxel, around)
                held = there & _FACES
                if there & (there - 1) and (behind or held & (held - 1) == 0):
                    chosen[n] = voxel
                    n += 1
    return n


@njit(cache=True, nogil=True)
def _peel(solid: np.ndarray, chosen: np.ndarray, around: np.ndarray, side: int, fresh: np.ndarray) -> int:
    """Take off what may go of the voxels chosen at a side; bring these to the front, mark them, return how many."""
    n = 0
    for voxel in chosen:
        blocked = False
        if not solid[voxel - around[side]]:
            for i in range(27):
                blocked |= fresh[voxel + around[i]]
        if not blocked and _simple(_neighbours(solid, voxel, around)):
            solid[voxel] = 0
            fresh[voxel] = True
            chosen[n] = voxel
            n += 1
    return n


@njit(cache=True, nogil=True)
def _drop_gone(solid: np.ndarray, border: np.ndarray, n_border: int) -> int:
    """Keep what is still there of the border, in its order; return how many."""
    n = 0
    for voxel in border[:n_border]:
        if solid[voxel]:
            border[n] = voxel
            n += 1
    return n


@njit(cache=True, nogil=True)
def _neighbours(solid: np.ndarray, voxel: int, around: np.ndarray) -> int:
    """Return the bits of the neighbours that are there; of one bit alone, `there & (there − 1)` is 0."""
    there = 0
    for i in range(27):
        if i != _MIDDLE and solid[voxel + around[i]]:
            there |= 1 << i
    return there


@njit(cache=True, nogil=True)
def _simple(there: int) -> bool:
    """Return whether nothing falls apart, joins, opens or closes without a voxel that has these neighbours."""
    if there == 0 or _spread(there & -there, there, _TOUCHING) != there:
        return False
    missing = ~there & _NEAR_BITS
    faces = missing & _FACES
    if faces == 0:
        return False
    return _spread(faces & -faces, missing, _BY_FACE) & faces == faces


@njit(cache=True, nogil=True)
def _spread(reached: int, allowed: int, steps: np.ndarray) -> int:
    """Return the bits of what can be reached from the first by steps among those allowed."""
    fresh = reached
    while fresh:
        found = 0
        for i in range(27):
            if fresh >> i & 1:
                found |= steps[i]
        fresh = found & allowed & ~reached
        reached |= fresh
    return reached
