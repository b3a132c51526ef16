"""Contact of objects: the voxel faces at which they meet, counted for every pair at once.

::

    a a a ┃ b b      contact ┃: a on one side and not on the other, b the other way round
    a a a ┃ b b

    c c c c ║ .      flush ║: c and its organelle m end at the same face, on the same side.
    c m m m ║ .      That is how an organelle lies against the membrane of its cell.

Faces at the end of the volume count for nothing: what is beyond is not known. Areas are those of faces, which overstate
a surface that is oblique to the voxels: by up to √3 where voxels are cubes, by about 1.5 averaged over directions.
Counts add up over disjoint blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from cristae.metrics.instance import contingency

Box = tuple[slice, slice, slice]
HALO = (1, 1, 1)  # voxels around a block that its counts depend on


@dataclass(frozen=True)
class Contacts:
    """Pairs of objects that meet, each pair once; counts of disjoint blocks add up.

    Parameters
    ----------
    a, b
        int64 ids, sorted by a, then b. Within one volume a < b.
    n_faces
        int64 ``(n, 3)``: faces of contact across z, y, x.
    n_flush
        int64 ``(n, 3)``: faces at which both end on the same side; 0 within one volume.
    n_shared
        int64: voxels of both; 0 within one volume.
    """

    a: np.ndarray
    b: np.ndarray
    n_faces: np.ndarray
    n_flush: np.ndarray
    n_shared: np.ndarray

    def __add__(self, other: Contacts) -> Contacts:
        return _collect(
            np.concatenate([self.a, other.a]),
            np.concatenate([self.b, other.b]),
            np.concatenate([self._counts, other._counts]),
        )

    @property
    def _counts(self) -> np.ndarray:
        return np.column_stack([self.n_faces, self.n_flush, self.n_shared])

    def renamed(self, ids_a: np.ndarray, ids_b: np.ndarray, *, same: bool = False) -> Contacts:
        """Return the pairs with ``ids_a[a]`` and ``ids_b[b]`` for ids; `same` keeps a < b within one volume."""
        a, b = np.asarray(ids_a, np.int64)[self.a], np.asarray(ids_b, np.int64)[self.b]
        if same:
            a, b = np.minimum(a, b), np.maximum(a, b)
        return _collect(a, b, self._counts)


def count_contacts(first: np.ndarray, second: np.ndarray | None, inner: Box) -> Contacts:
    """Count the faces and voxels that objects have in common over a block.

    Parameters
    ----------
    first
        Integer ids ``(z, y, x)`` from 0 (background) to 2³¹ − 1, with a halo of one voxel, less only where the volume
        ends.
    second
        Ids of other objects in the same place, which may overlap the first; None for contacts of neighbours within
        `first`.
    inner
        The part of the block to count: a face belongs to the first of its two voxels.

    Returns
    -------
    Contacts
        Pairs with at least one face or voxel in common.

    Raises
    ------
    ValueError
        If shapes differ, or arrays are not of such ids.
    """
    other = first if second is None else second
    check_ids(first, other)
    low, high = np.array([part.indices(n)[:2] for part, n in zip(inner, first.shape, strict=True)]).T
    base = int(other.max(initial=0)) + 1
    keys, counts = [], []
    for axis in range(3):
        ends = high.copy()
        ends[axis] = min(high[axis], first.shape[axis] - 1)  # the last face needs a voxel behind it
        for kind, (key, n) in enumerate(_faces(first, other, low, ends, (axis, base))):
            keys.append(key)
            counts.append(np.zeros((len(key), 7), np.int64))
            counts[-1][:, 3 * kind + axis] = n
    key, n = np.concatenate(keys), np.concatenate(counts)
    a, b = key // base, key % base
    if second is None:  # each face came up as (a, b) and as (b, a), and flush with itself
        once = a < b
        a, b, n = a[once], b[once], n[once]
    else:
        shared = contingency(first[inner], second[inner])
        both = (shared.segmentation > 0) & (shared.truth > 0)
        a, b = np.concatenate([a, shared.segmentation[both]]), np.concatenate([b, shared.truth[both]])
        voxels = np.zeros((int(both.sum()), 7), np.int64)
        voxels[:, 6] = shared.n_voxels[both]
        n = np.concatenate([n, voxels])
    return _collect(a, b, n)


def area_um2(n_faces: np.ndarray, voxel_size: tuple[float, float, float]) -> np.ndarray:
    """Return the area (µm²) of faces across z, y, x (int64 ``(n, 3)``), the voxel size being in nm."""
    z, y, x = voxel_size
    return n_faces @ (np.array([y * x, z * x, z * y]) * 1e-6)


def check_ids(first: np.ndarray, second: np.ndarray) -> None:
    """Raise ValueError unless both are volumes of one shape and hold integers from 0 to 2³¹ − 1."""
    if first.shape != second.shape or first.ndim != 3:
        raise ValueError(f"expected two volumes (z, y, x) of one shape; got {first.shape} and {second.shape}")
    for ids in (first, second):
        if ids.dtype.kind not in "iu":
            raise ValueError(f"expected integer ids, got {ids.dtype}")
        if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < 2**31:
            raise ValueError("expected ids from 0 to 2³¹ − 1; number the objects of a block from 1 first")


def _collect(a: np.ndarray, b: np.ndarray, counts: np.ndarray) -> Contacts:
    """Sort by pair and add up equal ones."""
    order = np.lexsort((b, a))
    a, b, counts = a[order], b[order], counts[order]
    if a.size:
        new = np.flatnonzero(np.concatenate([[True], (np.diff(a) != 0) | (np.diff(b) != 0)]))
        a, b, counts = a[new], b[new], np.add.reduceat(counts, new, axis=0)
    return Contacts(a, b, counts[:, :3], counts[:, 3:6], counts[:, 6])


Runs = tuple[np.ndarray, np.ndarray]


@njit(cache=True, nogil=True)
def _faces(
    first: np.ndarray, second: np.ndarray, low: np.ndarray, high: np.ndarray, how: tuple[int, int]
) -> tuple[Runs, Runs]:
    """Return ``a · base + b`` of faces of contact, and of flush faces, and how many came in a row, for (axis, base)."""
    axis, base = how
    dz, dy, dx = np.int64(axis == 0), np.int64(axis == 1), np.int64(axis == 2)
    key, count, n = np.empty((2, 1024), np.int64), np.empty((2, 1024), np.int64), np.zeros(2, np.int64)
    for z in range(low[0], high[0]):
        for y in range(low[1], high[1]):
            needed = n.max() + 2 * (high[2] - low[2])
            if needed > key.shape[1]:
                more_keys, more_counts = np.empty((2, 2 * needed), np.int64), np.empty((2, 2 * needed), np.int64)
                more_keys[:, : key.shape[1]], more_counts[:, : key.shape[1]] = key, count
                key, count = more_keys, more_counts
            for x in range(low[2], high[2]):
                a, a_next = np.int64(first[z, y, x]), np.int64(first[z + dz, y + dy, x + dx])
                if a != a_next:
                    b, b_next = np.int64(second[z, y, x]), np.int64(second[z + dz, y + dy, x + dx])
                    if b != b_next:
                        _note(key, count, n, (0, base), (a, b_next))
                        _note(key, count, n, (0, base), (a_next, b))
                        _note(key, count, n, (1, base), (a, b))
                        _note(key, count, n, (1, base), (a_next, b_next))
    return (key[0, : n[0]].copy(), count[0, : n[0]].copy()), (key[1, : n[1]].copy(), count[1, : n[1]].copy())


@njit(cache=True, nogil=True)
def _note(
    key: np.ndarray, count: np.ndarray, n: np.ndarray, how: tuple[int, int], pair: tuple[np.int64, np.int64]
) -> None:
    """Count one face of a pair of objects, in the run of that kind of face if it goes on."""
    kind, base = how
    if pair[0] != 0 and pair[1] != 0:
        this, last = pair[0] * base + pair[1], n[kind] - 1
        if last >= 0 and key[kind, last] == this:
            count[kind, last] += 1
        else:
            key[kind, last + 1] = this
            count[kind, last + 1] = 1
            n[kind] += 1
