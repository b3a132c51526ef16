"""Labels of a slice as runs: where they change and to what, so that a gap of a hundred slices stays in memory.

A slice of 2000 × 6095 pixels takes 50 MB as int32 and about 1 MB as runs. Renaming and listing ids is quick too, as
each run is looked at instead of each pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit


@dataclass(frozen=True, slots=True)
class Runs:
    """One plane of labels, row by row.

    Parameters
    ----------
    shape
        ``(y, x)`` of the plane.
    lengths
        int32 ``(n,)``, pixels per run, above 0; they add up to the plane.
    ids
        ``(n,)``, the id of each run, in the dtype of the labels.
    """

    shape: tuple[int, int]
    lengths: np.ndarray
    ids: np.ndarray


def compress(labels: np.ndarray) -> Runs:
    """Return the runs of a plane of integers ``(y, x)``; it need not be contiguous."""
    flat = np.ascontiguousarray(labels).ravel()
    starts = np.empty(_count_runs(flat), np.int64)
    _find_starts(flat, starts)
    height, width = labels.shape
    return Runs((height, width), np.diff(starts, append=flat.size).astype(np.int32), flat[starts])


def expand(runs: Runs) -> np.ndarray:
    """Return the plane ``(y, x)`` that was compressed."""
    return np.repeat(runs.ids, runs.lengths).reshape(runs.shape)


def unique_ids(labels: np.ndarray) -> np.ndarray:
    """Return the ids above 0 that occur in a plane, sorted, in its dtype."""
    ids = np.unique(compress(labels).ids)
    return ids[ids > 0]


def overlaps(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count the pixels that each id of one plane shares with each id of another.

    Parameters
    ----------
    first, second
        Non-negative integers ``(y, x)`` of one shape; 0 is background and not counted.

    Returns
    -------
    tuple of three int64 (n,)
        Id in the first, id in the second, pixels above 0; sorted by both ids.
    """
    first, second = (np.ascontiguousarray(labels).ravel() for labels in (first, second))
    pairs = np.empty((3, _count_pairs(first, second)), np.int64)
    _find_pairs(first, second, pairs)
    order = np.lexsort((pairs[1], pairs[0]))
    a, b, n_pixels = pairs[:, order]
    if not a.size:
        return a, b, n_pixels
    new = np.flatnonzero(np.concatenate([[True], (np.diff(a) != 0) | (np.diff(b) != 0)]))
    return a[new], b[new], np.add.reduceat(n_pixels, new)


@njit(cache=True, nogil=True)
def _count_runs(flat: np.ndarray) -> int:
    n = min(1, flat.size)
    for i in range(1, flat.size):
        n += flat[i] != flat[i - 1]
    return n


@njit(cache=True, nogil=True)
def _find_starts(flat: np.ndarray, starts: np.ndarray) -> None:
    n = 0
    for i in range(flat.size):
        if i == 0 or flat[i] != flat[i - 1]:
            starts[n] = i
            n += 1


@njit(cache=True, nogil=True)
def _count_pairs(first: np.ndarray, second: np.ndarray) -> int:
    n = 0
    for i in range(first.size):
        if first[i] != 0 and second[i] != 0:
            n += i == 0 or first[i] != first[i - 1] or second[i] != second[i - 1]
    return n


@njit(cache=True, nogil=True)
def _find_pairs(first: np.ndarray, second: np.ndarray, pairs: np.ndarray) -> None:
    n = -1
    for i in range(first.size):
        if first[i] != 0 and second[i] != 0:
            if i == 0 or first[i] != first[i - 1] or second[i] != second[i - 1]:
                n += 1
                pairs[0, n], pairs[1, n], pairs[2, n] = first[i], second[i], 0
            pairs[2, n] += 1
