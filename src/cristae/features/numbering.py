"""Numbers without holes for the objects of a block: what kernels count by, whatever ids a volume has.

::

    ids of the volume      0 0 7 7 4000000000        numbers      0 0 1 1 2        ids   [7, 4000000000]

Neighbours mostly have the same id, so runs of equal voxels are looked up, not voxels.
"""

from __future__ import annotations

import numpy as np
from numba import njit


def number_from_one(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the objects of a block numbers from 1.

    Parameters
    ----------
    labels
        Integer ids ``(z, y, x)`` from 0 to 2⁶³ − 1, with gaps; 0 is background.

    Returns
    -------
    tuple
        int64 ``(n,)``, the id of number i + 1, rising; int32 ``(z, y, x)``, the numbers, 0 where there is no object.

    Raises
    ------
    ValueError
        If the labels are not three-dimensional, not integers, or negative.
    """
    if labels.ndim != 3 or labels.dtype.kind not in "iu":
        raise ValueError(f"expected integer ids (z, y, x), got {labels.dtype} of shape {labels.shape}")
    labels = np.ascontiguousarray(labels)  # by which the loops below become quick
    found = _found(labels)
    found.sort()
    ids = found[found != 0]
    if ids.size and ids[0] < 0:
        raise ValueError(f"expected ids from 0 to 2^63 - 1, got {ids[0]}; number the objects anew")
    return ids, _numbers(labels, ids)


_STRIDE = 16
"""Voxels that are compared at once with the one before; most are equal to it."""


@njit(cache=True, nogil=True)
def _alike(row: np.ndarray, x: int, label: int) -> bool:
    """Say whether the next voxels of a row all have a label."""
    if x + _STRIDE > row.size:
        return False
    other = False
    for i in range(_STRIDE):
        other |= row[x + i] != label
    return not other


@njit(cache=True, nogil=True)
def _found(labels: np.ndarray) -> np.ndarray:
    """Return every id that occurs, in any order."""
    n_z, n_y, n_x = labels.shape
    last = labels.dtype.type(0)
    seen = {np.int64(last)}
    for z in range(n_z):
        for y in range(n_y):
            row = labels[z, y]
            x = 0
            while x < n_x:
                if _alike(row, x, last):
                    x += _STRIDE
                    continue
                for i in range(x, min(x + _STRIDE, n_x)):
                    if row[i] != last:
                        last = row[i]
                        if last != 0:
                            seen.add(np.int64(last))
                x += _STRIDE
    return np.array(list(seen))


@njit(cache=True, nogil=True)
def _numbers(labels: np.ndarray, ids: np.ndarray) -> np.ndarray:
    n_z, n_y, n_x = labels.shape
    numbers = np.empty(labels.shape, np.int32)
    last, number = labels.dtype.type(0), np.int32(0)
    for z in range(n_z):
        for y in range(n_y):
            row, out = labels[z, y], numbers[z, y]
            x = 0
            while x < n_x:
                if _alike(row, x, last):
                    out[x : x + _STRIDE] = number
                    x += _STRIDE
                    continue
                for i in range(x, min(x + _STRIDE, n_x)):
                    if row[i] != last:
                        last = row[i]
                        number = np.int32(np.searchsorted(ids, np.int64(last)) + 1 if last != 0 else 0)
                    out[i] = number
                x += _STRIDE
    return numbers
