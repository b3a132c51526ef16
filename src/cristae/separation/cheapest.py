"""Cheapest paths: every voxel goes to the seed from which it is reached at the least cost.

The cost of a path adds up what every step costs, so that long detours are dear even through bright cytoplasm: a cell
grows along itself from a labelled slice and stops half-way where two meet without a membrane. (In a watershed only the
worst step counts, and distance decides nothing.)

Dijkstra's search with a queue of buckets, since costs are small whole numbers: linear in voxels, and the same result
every time (equal cost goes to the one that came first).

Paper: R. Dial (1969), Comm. ACM 12, 632, for the buckets.
"""

from __future__ import annotations

import numpy as np
from numba import njit

FAR = np.iinfo(np.int32).max
"""Cost of voxels that no seed reaches."""

_UNIT = 8
"""Cost of one voxel's length outside boundaries; fractions of it are rounded."""
_POWER = 1.5
"""Of the boundary in the cost: a map's faint ripples inside cells add up along a path, and say little."""


def cheapest_paths(
    seeds: np.ndarray,
    boundary: np.ndarray,
    *,
    barrier: float,
    steps: tuple[float, float, float] = (1.0, 1.0, 1.0),
    allowed: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Give every voxel to the seed with the cheapest path to it; a step costs length × (1 + barrier · boundary^1.5).

    Parameters
    ----------
    seeds
        int32 ``(z, y, x)``: ids from 1 where cells are known, 0 elsewhere.
    boundary
        uint8 ``(z, y, x)``: probability of a boundary × 255.
    barrier
        How many voxels' length a step into a sure boundary costs beside its own.
    steps
        Relative length of a step along z, y, x: the voxel size divided by the smallest.
    allowed
        bool ``(z, y, x)``: where labels may go, or everywhere.

    Returns
    -------
    tuple of ndarray
        int32 ids, 0 where nothing was reached, and int32 cost in eighths of a voxel's length, `FAR` there.
    """
    walls = barrier * (np.arange(256) / 255) ** _POWER
    table = np.array([np.maximum(1, np.rint(_UNIT * step * (1 + walls))) for step in steps]).astype(np.int32)
    return _searched(seeds, boundary, allowed, table)


def _searched(
    seeds: np.ndarray, levels: np.ndarray, allowed: np.ndarray | None, table: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    if seeds.shape != levels.shape or seeds.ndim != 3 or (allowed is not None and allowed.shape != seeds.shape):
        raise ValueError(f"expected arrays of one shape (z, y, x), got {seeds.shape} and {levels.shape}")
    if seeds.size >= FAR:
        raise ValueError(f"{seeds.size} voxels are too many to search at once; work in parts or at a lower resolution")
    # One voxel of wall all around, so that no step has to ask where it is.
    labels = np.pad(seeds, 1).astype(np.int32, copy=False)
    free = np.pad(np.ones(seeds.shape, np.bool_) if allowed is None else allowed, 1)
    labels[~free] = 0
    strides = np.array([labels.shape[1] * labels.shape[2], labels.shape[2], 1])
    cost = _search(labels.ravel(), np.pad(levels, 1).ravel(), free.ravel(), strides, table)
    inner = (slice(1, -1),) * 3
    return np.ascontiguousarray(labels[inner]), np.ascontiguousarray(cost.reshape(labels.shape)[inner])


@njit(cache=True, nogil=True)
def _search(
    labels: np.ndarray, levels: np.ndarray, free: np.ndarray, strides: np.ndarray, table: np.ndarray
) -> np.ndarray:
    """Search in place over flat arrays and return the cost.

    Waiting voxels stand in a ring of buckets, one per cost, each a doubly linked list, so that one whose cost falls
    can change its place. About 19 bytes a voxel are held.
    """
    ring = table.max() + 1
    cost = np.full(labels.size, FAR, np.int32)
    # Neighbours in the list, then first and last of each bucket; -1 is nobody.
    after, before = np.full(labels.size, -1, np.int32), np.full(labels.size, -1, np.int32)
    first, last = np.full(ring, -1, np.int32), np.full(ring, -1, np.int32)
    waiting = 0
    for v in range(labels.size):
        if labels[v] > 0:
            cost[v] = 0
            _join(v, 0, after, before, first, last)
            waiting += 1
    now = 0
    while waiting > 0:
        while first[now % ring] < 0:
            now += 1
        v = first[now % ring]
        _leave(v, now % ring, after, before, first, last)
        free[v] = False
        waiting -= 1
        for axis in range(3):
            for u in (v - strides[axis], v + strides[axis]):
                if not free[u]:
                    continue
                total = cost[v] + table[axis, levels[u]]
                if total >= cost[u]:
                    continue
                if cost[u] < FAR:  # it waits already, at a higher cost
                    _leave(u, cost[u] % ring, after, before, first, last)
                    waiting -= 1
                cost[u] = total
                labels[u] = labels[v]
                _join(u, total % ring, after, before, first, last)
                waiting += 1
    return cost


@njit(cache=True, nogil=True)
def _join(v: int, bucket: int, after: np.ndarray, before: np.ndarray, first: np.ndarray, last: np.ndarray) -> None:
    """Put a voxel at the end of a bucket."""
    after[v] = -1
    before[v] = last[bucket]
    if last[bucket] >= 0:
        after[last[bucket]] = v
    else:
        first[bucket] = v
    last[bucket] = v


@njit(cache=True, nogil=True)
def _leave(v: int, bucket: int, after: np.ndarray, before: np.ndarray, first: np.ndarray, last: np.ndarray) -> None:
    """Take a voxel out of its bucket."""
    if before[v] >= 0:
        after[before[v]] = after[v]
    else:
        first[bucket] = after[v]
    if after[v] >= 0:
        before[after[v]] = before[v]
    else:
        last[bucket] = before[v]
