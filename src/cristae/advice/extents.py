"""The boxes of objects, from blocks that are read one at a time."""

from __future__ import annotations

import numpy as np
from numba import njit

NOWHERE = np.iinfo(np.int64).max
"""Start of the box of an object that was not met."""


def extents(labels: np.ndarray, wanted: np.ndarray, start: tuple[int, int, int] = (0, 0, 0)) -> np.ndarray:
    """Return the boxes of some objects in a block.

    Parameters
    ----------
    labels
        Ids ``(z, y, x)`` of any unsigned type; 0 is no object.
    wanted
        Ids, ascending, ``(n,)``.
    start
        First voxel of the block in the volume.

    Returns
    -------
    int64 (n, 6)
        First voxel and the one after the last along z, y, x: `NOWHERE` and 0 for objects that the block does not hold.
        Boxes of blocks are joined by `joined`.

    Raises
    ------
    ValueError
        If the wanted ids do not ascend.
    """
    ids = np.ascontiguousarray(wanted, np.uint64)
    if (np.diff(ids.astype(np.float64)) <= 0).any():
        raise ValueError("expected ids that ascend")
    found = nowhere(len(ids))
    if len(ids):
        _extend(np.ascontiguousarray(labels), ids, np.array(start, np.int64), found)
    return found


def nowhere(n: int) -> np.ndarray:
    """Return the boxes of `n` objects of which nothing was met yet, int64 ``(n, 6)``."""
    return np.tile(np.array([NOWHERE] * 3 + [0] * 3, np.int64), (n, 1))


def joined(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the boxes that hold those of two blocks, int64 ``(n, 6)``."""
    return np.concatenate([np.minimum(one[:, :3], other[:, :3]), np.maximum(one[:, 3:], other[:, 3:])], axis=1)


@njit(cache=True, nogil=True)
def _extend(labels: np.ndarray, wanted: np.ndarray, start: np.ndarray, found: np.ndarray) -> None:
    last = np.uint64(0)
    place: int = -1
    n_rows = labels.shape[1]
    rows = labels.reshape(-1, labels.shape[2])
    for row in range(rows.shape[0]):
        for x in range(rows.shape[1]):
            label = np.uint64(rows[row, x])
            if label == 0:
                continue
            if label != last:
                last = label
                place = int(np.searchsorted(wanted, label))
                if place == wanted.size or wanted[place] != label:
                    place = -1
            if place >= 0:
                for axis, at in enumerate((row // n_rows, row % n_rows, x)):
                    found[place, axis] = min(found[place, axis], start[axis] + at)
                    found[place, axis + 3] = max(found[place, axis + 3], start[axis] + at + 1)
