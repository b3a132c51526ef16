"""Flooding: every voxel goes to the seed from which it is reached most cheaply.

Two meanings of cheap. *Path cost* adds up what every step costs, so that long detours are dear even through bright
cytoplasm: a cell grows along itself from a labelled slice and stops half-way where two meet without a membrane.
*Watershed* counts only the worst step, the highest boundary that must be crossed, and distance decides nothing.

Both by one Dijkstra search with a queue of buckets, since costs are small whole numbers: linear in voxels, the same
result every time (equal cost goes to the one that came first).

Paper: S. Beucher & F. Meyer (1993), flooding with ordered queues; R. Dial (1969), Comm. ACM 12, 632, for the buckets.
"""

from __future__ import annotations

import numpy as np
from numba import njit

FAR = np.iinfo(np.int64).max
"""Cost of voxels that no seed reaches."""

_UNIT = 8
"""Cost of one voxel's length outside boundaries; fractions of it are rounded."""


def cheapest_paths(
    seeds: np.ndarray,
    boundary: np.ndarray,
    *,
    barrier: float,
    steps: tuple[float, float, float] = (1.0, 1.0, 1.0),
    allowed: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Give every voxel to the seed with the cheapest path to it; a step costs its length times 1 + barrier · boundary.

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
        int32 ids, 0 where nothing was reached, and int64 cost in eighths of a voxel's length, `FAR` there.
    """
    levels = np.arange(256) / 255
    table = np.array([np.maximum(1, np.rint(_UNIT * step * (1 + barrier * levels))) for step in steps]).astype(np.int64)
    return _flooded(seeds, boundary, allowed, table, True)


def watershed(seeds: np.ndarray, levels: np.ndarray, *, allowed: np.ndarray | None = None) -> np.ndarray:
    """Flood a relief from seeds, lowest levels first.

    Parameters
    ----------
    seeds
        int32 ``(z, y, x)``: ids from 1, 0 elsewhere.
    levels
        uint8 ``(z, y, x)``: height of the relief.
    allowed
        bool ``(z, y, x)``: where the flood may go, or everywhere.

    Returns
    -------
    ndarray
        int32 ids, 0 where nothing was reached.
    """
    table = np.tile(np.arange(256, dtype=np.int64), (3, 1))
    return _flooded(seeds, levels, allowed, table, False)[0]


def _flooded(
    seeds: np.ndarray, levels: np.ndarray, allowed: np.ndarray | None, table: np.ndarray, additive: bool
) -> tuple[np.ndarray, np.ndarray]:
    if seeds.shape != levels.shape or seeds.ndim != 3 or (allowed is not None and allowed.shape != seeds.shape):
        raise ValueError(f"expected arrays of one shape (z, y, x), got {seeds.shape} and {levels.shape}")
    labels = np.array(seeds, np.int32, order="C").ravel()
    free = np.ones(labels.size, np.bool_) if allowed is None else np.ascontiguousarray(allowed).ravel()
    labels[~free] = 0
    cost = _flood(labels, np.ascontiguousarray(levels, np.uint8).ravel(), free, np.array(seeds.shape), table, additive)
    return labels.reshape(seeds.shape), cost.reshape(seeds.shape)


@njit(cache=True, nogil=True)
def _flood(
    labels: np.ndarray, levels: np.ndarray, free: np.ndarray, shape: np.ndarray, table: np.ndarray, additive: bool
) -> np.ndarray:
    """Search in place over flat arrays and return the cost.

    Waiting voxels stand in a ring of buckets, one per cost, each a doubly linked list, so that one whose cost falls
    can change its place.
    """
    n = labels.size
    stride = np.array([shape[1] * shape[2], shape[2], 1])
    ring = table.max() + 1
    cost = np.full(n, np.iinfo(np.int64).max, np.int64)
    after = np.full(n, -1, np.int64)
    before = np.full(n, -1, np.int64)
    head = np.full(ring, -1, np.int64)
    tail = np.full(ring, -1, np.int64)
    done = np.zeros(n, np.bool_)
    waiting = 0
    for v in range(n):
        if labels[v] > 0 and free[v]:
            cost[v] = 0
            before[v] = tail[0]
            if tail[0] >= 0:
                after[tail[0]] = v
            else:
                head[0] = v
            tail[0] = v
            waiting += 1
    now = 0
    place = np.empty(3, np.int64)
    while waiting > 0:
        while head[now % ring] < 0:
            now += 1
        bucket = now % ring
        v = head[bucket]
        head[bucket] = after[v]
        if after[v] >= 0:
            before[after[v]] = -1
        else:
            tail[bucket] = -1
        done[v] = True
        waiting -= 1
        place[0] = v // stride[0]
        place[1] = (v - place[0] * stride[0]) // stride[1]
        place[2] = v - place[0] * stride[0] - place[1] * stride[1]
        for axis in range(3):
            for side in (-1, 1):
                if place[axis] + side < 0 or place[axis] + side >= shape[axis]:
                    continue
                u = v + side * stride[axis]
                if done[u] or not free[u]:
                    continue
                step = table[axis, levels[u]]
                total = cost[v] + step if additive else max(cost[v], step)
                if total >= cost[u]:
                    continue
                if cost[u] < np.iinfo(np.int64).max:  # waiting at a higher cost: take it out of its list
                    old = cost[u] % ring
                    if before[u] >= 0:
                        after[before[u]] = after[u]
                    else:
                        head[old] = after[u]
                    if after[u] >= 0:
                        before[after[u]] = before[u]
                    else:
                        tail[old] = before[u]
                    waiting -= 1
                cost[u] = total
                labels[u] = labels[v]
                new = total % ring
                after[u] = -1
                before[u] = tail[new]
                if tail[new] >= 0:
                    after[tail[new]] = u
                else:
                    head[new] = u
                tail[new] = u
                waiting += 1
    return cost
