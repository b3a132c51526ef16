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
    found = np.unique(_starts(labels, _n_runs(labels)))
    ids = found[found != 0]
    if ids.size and ids[0] < 0:
        raise ValueError(f"expected ids from 0 to 2^63 - 1, got {ids[0]}; number the objects anew")
    return ids, _numbers(labels, ids)


@njit(cache=True, nogil=True)
def _n_runs(labels: np.ndarray) -> int:
    n_z, n_y, n_x = labels.shape
    n = 0
    for z in range(n_z):
        for y in range(n_y):
            row = labels[z, y]
            for x in range(n_x):
                n += x == 0 or row[x] != row[x - 1]
    return n


@njit(cache=True, nogil=True)
def _starts(labels: np.ndarray, n_runs: int) -> np.ndarray:
    """Return the id of every run along x."""
    n_z, n_y, n_x = labels.shape
    ids = np.empty(n_runs, np.int64)
    n = 0
    for z in range(n_z):
        for y in range(n_y):
            row = labels[z, y]
            for x in range(n_x):
                if x == 0 or row[x] != row[x - 1]:
                    ids[n] = row[x]
                    n += 1
    return ids


@njit(cache=True, nogil=True)
def _numbers(labels: np.ndarray, ids: np.ndarray) -> np.ndarray:
    n_z, n_y, n_x = labels.shape
    numbers = np.zeros(labels.shape, np.int32)
    if ids.size == 0:
        return numbers
    last, number = np.int64(0), np.int64(0)
    for z in range(n_z):
        for y in range(n_y):
            row, out = labels[z, y], numbers[z, y]
            for x in range(n_x):
                label = np.int64(row[x])
                if label != last:
                    last = label
                    number = np.int64(np.searchsorted(ids, label) + 1) if label != 0 else np.int64(0)
                out[x] = number
    return numbers
