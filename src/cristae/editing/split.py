"""Splitting an object by seeds: water rises from each, and the parts meet where the object is narrow, or at a membrane.

::

      ▓▓▓▓▓▓          ▓▓▓▓▓▓           1111▓▓          222222       the landscape is half the distance to the outline
    ▓▓▓▓ 1 ▓▓▓▓▓▓▓▓▓▓▓▓ 2 ▓▓▓   -->  111111111111|2222222222222     and half the predicted boundary, where there is one
      ▓▓▓▓▓▓          ▓▓▓▓▓▓           111111          222222

Paper: F. Meyer (1991), Un algorithme optimal pour la ligne de partage des eaux.
"""

from __future__ import annotations

import numpy as np
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
    return flood(levels, marks, np.ascontiguousarray(inside))
