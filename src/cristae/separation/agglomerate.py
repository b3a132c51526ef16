"""Joining small basins of the boundary map into cells, where the boundary between them is weakest on average.

A path through a membrane needs only one leak; an average over the whole contact does not care about one. Basins that
labelled slices touch carry their ids, and two that carry different ones never join, whatever lies between them.

::

    basins of the map      contacts with their mean boundary      joined from the weakest on
      ╭───┬──╮                1 ─ .1 ─ a ─ .2 ─ b                   1 ═ a ═ b
      │ a │b │                │        │                            ┄┄┄┄┄┄┄┄┄   .8 and above: left apart
      ├───┴┬─┤               .9        .8                           2 ═ c
      │  c │ │                2 ─ .1 ─ c
      ╰────┴─╯

Papers: A. Bailoni et al. (2022), CVPR, "GASP" (average linkage with constraints); J. Nunez-Iglesias et al. (2013), PLoS
ONE 8, e71715 (region adjacency graphs of EM).
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Contacts:
    """Which basins touch, and what lies between them.

    Parameters
    ----------
    pairs
        int64 ``(n, 2)``: ids of two basins, the smaller first, each pair once.
    total
        float64 ``(n,)``: sum over all touching pairs of voxels of the higher boundary of the two (0–255).
    n_faces
        int64 ``(n,)``: number of such pairs.
    """

    pairs: np.ndarray
    total: np.ndarray
    n_faces: np.ndarray


def contacts(basins: np.ndarray, boundary: np.ndarray) -> Contacts:
    """Measure all contacts between basins.

    Parameters
    ----------
    basins
        int32 ``(z, y, x)``: ids from 1; 0 is none and touches nothing.
    boundary
        uint8 ``(z, y, x)``: probability of a boundary × 255.
    """
    n = int(basins.max(initial=0)) + 1
    keys, heights = [], []
    for axis in range(3):
        low = tuple(slice(None, -1) if i == axis else slice(None) for i in range(3))
        high = tuple(slice(1, None) if i == axis else slice(None) for i in range(3))
        a, b = basins[low], basins[high]
        touch = (a != b) & (a > 0) & (b > 0)
        first, second = a[touch].astype(np.int64), b[touch].astype(np.int64)
        keys.append(np.minimum(first, second) * n + np.maximum(first, second))
        heights.append(np.maximum(boundary[low], boundary[high])[touch])
    key, height = np.concatenate(keys), np.concatenate(heights)
    found, place = np.unique(key, return_inverse=True)
    total = np.bincount(place, weights=height, minlength=len(found))
    n_faces = np.bincount(place, minlength=len(found))
    return Contacts(np.stack([found // n, found % n], axis=1), total, n_faces)


def agglomerate(touching: Contacts, ids: np.ndarray, threshold: float) -> np.ndarray:
    """Join basins from the weakest contact on, by the mean over all that lies between what was joined so far.

    Parameters
    ----------
    touching
        From `contacts`.
    ids
        int64 ``(n_basins + 1,)``: the cell of each basin where it is known, else 0; entry 0 is not used.
    threshold
        Contacts with a mean boundary (0–255) above stay.

    Returns
    -------
    ndarray
        int64 ``(n_basins + 1,)``: which basin stands for each one; those joined have the same. Basins of one cell are
        joined from the start.
    """
    clusters = _Clusters(touching, ids)
    heap = [(total / n, a, b) for (a, b), total, n in clusters.edges()]
    heapq.heapify(heap)
    while heap:
        mean, a, b = heapq.heappop(heap)
        if mean > threshold:
            break
        edge = clusters.around[a].get(b)
        # Not there any more, or changed by a merger since: then it was pushed again.
        if edge is None or edge[0] / edge[1] != mean:
            continue
        if clusters.ids[a] and clusters.ids[b]:
            continue
        kept, changed = clusters.join(a, b)
        for other in changed:  # all others are on the heap as they are: pushing them too is quadratic for a large cell
            total, n = clusters.around[kept][other]
            heapq.heappush(heap, (total / n, min(kept, other), max(kept, other)))
    return clusters.stand_ins()


class _Clusters:
    """Basins joined so far: each cluster is known by one of its basins."""

    def __init__(self, touching: Contacts, ids: np.ndarray) -> None:
        self.parent = np.arange(len(ids))
        self.ids = np.array(ids, np.int64)
        cells, first = np.unique(self.ids, return_index=True)
        stand_in = dict(zip(cells.tolist(), first.tolist(), strict=True))
        for basin in np.flatnonzero(self.ids):
            self.parent[basin] = stand_in[int(self.ids[basin])]
        self.around: list[dict[int, tuple[float, int]]] = [{} for _ in ids]
        for (a, b), total, n in zip(
            self.parent[touching.pairs].tolist(), touching.total.tolist(), touching.n_faces.tolist(), strict=True
        ):
            if a != b:
                self._add(a, b, total, n)

    def edges(self) -> list[tuple[tuple[int, int], float, int]]:
        """Return every contact of two clusters once."""
        return [((a, b), *edge) for a, around in enumerate(self.around) for b, edge in around.items() if a < b]

    def join(self, a: int, b: int) -> tuple[int, list[int]]:
        """Make one cluster of two; return by which basin it is known, and with which others its contact changed."""
        kept, gone = (a, b) if len(self.around[a]) >= len(self.around[b]) else (b, a)
        self.parent[gone] = kept
        self.ids[kept] = self.ids[kept] or self.ids[gone]
        changed = []
        for other, (total, n) in self.around[gone].items():
            del self.around[other][gone]
            if other != kept:
                self._add(kept, other, total, n)
                changed.append(other)
        self.around[gone] = {}
        return kept, changed

    def stand_ins(self) -> np.ndarray:
        """Return by which basin the cluster of each one is known."""
        parent = self.parent
        while (parent != parent[parent]).any():
            parent = parent[parent]
        return parent

    def _add(self, a: int, b: int, total: float, n: int) -> None:
        old_total, old_n = self.around[a].get(b, (0.0, 0))
        self.around[a][b] = self.around[b][a] = (old_total + total, old_n + n)
