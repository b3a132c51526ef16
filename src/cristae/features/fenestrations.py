r"""Where an object has holes through it, or in it: what is seen through, or enclosed, voxel by voxel.

A voxel lies in a hole if, in some plane of voxels through it, the object is all around it. There are 13 such planes:
across the three axes, across the six diagonals of faces, and across the four of the cube. What is so found falls into
parts, and its mouths are counted, the places where a part opens to the outside::

      ring, cut open         dent                     pore               cavity
      ###.....###            ###.....###            ####.###            ########
      ###.....###            ###.....###            ##....##            ##....##
      ###.....###            ###########            ########            ########
      two mouths: kept       one, wide: not a hole  one, narrow: kept   none: kept

No direction is further than 28° from the nearest plane's, so a hole through a ring as thick as its hole is wide is
found however it lies; one through a thinner ring may be missed in part or altogether where it lies askew.

`cristae.features.holes` measures what is enclosed only, which is the papers' share of a nucleolus that is hole; this
is for looking at all of them, pores open to the outside included.

Method: own. The planes are those of P. Soille (2003), Morphological Image Analysis, 2.4 (the 26 neighbours).
"""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy import ndimage

WIDEST = 0.1
"""Of the surface of a pore, what its one mouth takes up at most; a dent's is wider."""
NORMALS = tuple((z, y, x) for z, y, x in product((-1, 0, 1), repeat=3) if (z, y, x) > (0, 0, 0))
"""Of the 13 planes (z, y, x)."""
_ALL = np.ones((3, 3, 3), np.bool_)
_FACES = ndimage.generate_binary_structure(3, 1)


def find_fenestrations(mask: np.ndarray) -> np.ndarray:
    """Return the holes of one object: those through it, however open, and what it encloses.

    Parameters
    ----------
    mask
        bool ``(z, y, x)``, the object. What is outside the array counts as outside.

    Returns
    -------
    ndarray
        bool of the same shape, False wherever the object is.
    """
    if not mask.size:
        return np.zeros(mask.shape, np.bool_)
    around = np.pad(mask, 1)
    free = ~around
    surrounded = np.zeros(around.shape, np.bool_)
    for normal in NORMALS:
        surrounded |= _surrounded(free, normal)
    parts, n_parts = ndimage.label(surrounded, _FACES)
    outside = free & ~surrounded
    kept = np.zeros(n_parts + 1, np.bool_)
    for number, box in enumerate(ndimage.find_objects(parts), start=1):
        near = tuple(slice(max(0, one.start - 1), one.stop + 1) for one in box)
        part = parts[near] == number
        mouths = ndimage.binary_dilation(part, _FACES) & outside[near]
        n_mouths = ndimage.label(mouths, _ALL)[1]
        kept[number] = n_mouths != 1 or _n_faces(part, mouths) < WIDEST * _n_faces(part, ~part)
    return kept[parts][1:-1, 1:-1, 1:-1]


def _n_faces(first: np.ndarray, second: np.ndarray) -> int:
    """Return the faces of voxels between two masks."""
    n = 0
    for axis in range(3):
        a, b = np.moveaxis(first, axis, 0), np.moveaxis(second, axis, 0)
        n += int((a[1:] & b[:-1]).sum() + (a[:-1] & b[1:]).sum())
    return n


def _surrounded(free: np.ndarray, normal: tuple[int, int, int]) -> np.ndarray:
    """Return what in the planes across `normal` does not reach the border of the array, all of which is free."""
    longest = 1 if np.abs(normal).sum() == 1 else 2
    steps = [s for s in product((-1, 0, 1), repeat=3) if np.dot(s, normal) == 0 and np.abs(s).sum() <= longest]
    structure = np.zeros((3, 3, 3), np.bool_)
    structure[tuple(np.array(steps).T + 1)] = True
    parts, n_parts = ndimage.label(free, structure)
    reached = np.zeros(n_parts + 1, np.bool_)
    reached[0] = True
    for axis in range(3):
        reached[parts.take(0, axis)] = True
        reached[parts.take(-1, axis)] = True
    return ~reached[parts]
