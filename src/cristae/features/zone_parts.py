"""The grey level zones of one block of a volume.

Zones that reach no other block are only counted. Of the others the block keeps a number on the voxels of its faces, for
`cristae.features.zone_merge` to join them with those of the neighbours::

    levels of a block     1 1 4 4       closed: nothing here       first face   1        last face   2
                          1 4 4 4       open: 1, level 1 (7                     1                    2
                          1 1 1 1       voxels), 2, level 4 (5)                 1                    1

Paper: the zones are those of G. Thibault et al. (2009), PRIP, 140; see `cristae.features.zones`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numba import njit

from cristae.features.zones import Zones, collect_zones

Triple = tuple[int, int, int]
Faces = tuple[tuple[np.ndarray | None, np.ndarray | None], ...]

# Along how many axes at once a neighbour may lie.
AXES = {6: 1, 18: 2, 26: 3}
DIRECTIONS: list[Triple] = [(z, y, x) for z, y, x in itertools.product((-1, 0, 1), repeat=3) if (z, y, x) != (0, 0, 0)]


@dataclass(frozen=True)
class ZonePart:
    """The zones of one block.

    Parameters
    ----------
    start, stop
        The block in the volume, half-open (z, y, x).
    connectivity
        6, 18 or 26.
    closed
        Zones that reach no other block.
    object_id, level, size
        int64 (n,): the other zones, as far as they lie in this block.
    faces
        For each axis the first and the last plane of the block, three-dimensional with one voxel along that axis:
        int32, 0 or the number of the zone from 1. None where the volume ends.
    """

    start: Triple
    stop: Triple
    connectivity: int
    closed: Zones
    object_id: np.ndarray
    level: np.ndarray
    size: np.ndarray
    faces: Faces


def find_zones(
    labels: np.ndarray, ids: np.ndarray, levels: np.ndarray, start: Triple, volume_shape: Triple, connectivity: int = 26
) -> ZonePart:
    """Find the zones of a block; without a halo.

    Parameters
    ----------
    labels
        int32 ``(z, y, x)``: dense ids 0..n, 0 is background; at least one voxel, less than 2³¹.
    ids
        int64 (n,): the id in the volume of dense id i + 1.
    levels
        uint8 or uint16 ``(z, y, x)``: grey levels from 1 inside objects, from `cristae.features.quantise`.
    start
        First voxel of the block in the volume (z, y, x).
    volume_shape
        Shape of the volume: at its borders there is nothing to join.
    connectivity
        Whether voxels hang together over faces (6), over edges too (18), or over corners too (26).

    Returns
    -------
    ZonePart
        For `cristae.features.zone_merge`.

    Raises
    ------
    ValueError
        If shapes differ or do not fit into the volume, the connectivity is another, an id is not between 0 and n, or
        the level of a voxel inside an object is 0.
    """
    if labels.shape != levels.shape or labels.ndim != 3 or not 0 < labels.size < 1 << 31:
        raise ValueError(
            "expected labels and levels of one shape (z, y, x) with 1 to 2^31 - 1 voxels, "
            f"got {labels.shape} and {levels.shape}"
        )
    if connectivity not in AXES:
        raise ValueError(f"expected connectivity 6, 18 or 26, got {connectivity}")
    stop = start[0] + labels.shape[0], start[1] + labels.shape[1], start[2] + labels.shape[2]
    if min(start) < 0 or any(end > n for end, n in zip(stop, volume_shape, strict=True)):
        raise ValueError(f"a block from {start} to {stop} does not lie in a volume of {volume_shape}")
    bits = int(levels.max()).bit_length()
    keys, sizes, planes = _label(labels, levels, len(ids), bits, connectivity)
    leads_on = [(first > 0, end < n) for first, end, n in zip(start, stop, volume_shape, strict=True)]
    number = np.zeros(len(sizes), np.int32)
    for axis in range(3):
        for side in range(2):
            if leads_on[axis][side]:
                number[planes[axis][side]] = 1
    number[0] = 0
    opened = np.flatnonzero(number)
    number[opened] = np.arange(1, len(opened) + 1)
    faces: Faces = tuple(
        (number[planes[axis][0]] if leads_on[axis][0] else None, number[planes[axis][1]] if leads_on[axis][1] else None)
        for axis in range(3)
    )
    is_closed = (sizes > 0) & (number == 0)
    closed = _count_equal(keys[is_closed], sizes[is_closed], ids, bits)
    object_id, level = _apart(keys[opened], ids, bits)
    return ZonePart(start, stop, connectivity, closed, object_id, level, sizes[opened].astype(np.int64), faces)


def _apart(keys: np.ndarray, ids: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the object and the level that a key is made of."""
    whole = keys.astype(np.int64)
    return np.asarray(ids, np.int64)[(whole >> bits) - 1], whole & ((1 << bits) - 1)


def _count_equal(keys: np.ndarray, sizes: np.ndarray, ids: np.ndarray, bits: int) -> Zones:
    """Count zones of one key and size; both in one number, which is quicker to sort than two."""
    size_bits = int(sizes.max(initial=0)).bit_length()
    if int(keys.max(initial=0)).bit_length() + size_bits > 63:
        object_id, level = _apart(keys, ids, bits)
        return collect_zones(object_id, level, sizes.astype(np.int64), np.ones(len(keys), np.int64))
    both, n_zones = np.unique((keys.astype(np.int64) << size_bits) | sizes, return_counts=True)
    object_id, level = _apart(both >> size_bits, ids, bits)
    return collect_zones(object_id, level, both & ((1 << size_bits) - 1), n_zones.astype(np.int64))


def _label(
    labels: np.ndarray, levels: np.ndarray, n_objects: int, bits: int, connectivity: int
) -> tuple[np.ndarray, np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Give numbers to the zones of a block, slice by slice; those that turned out to be one zone are joined in the end.

    Returns
    -------
    tuple
        Per number, its key (id · 2^bits + level) and its voxels, 0 for numbers that were given up; and for each axis
        the first and the last plane of numbers. Number 0 is outside objects.
    """
    depth, height, width = labels.shape
    key_type = np.uint32 if (n_objects + 1) << bits < 1 << 32 else np.uint64
    # Two slices with a margin, the one before and the one at work.
    slice_keys = np.zeros((2, height + 2, width + 2), key_type)
    slice_numbers = np.zeros((2, height + 2, width + 2), np.int32)
    jumps, near = _neighbours(connectivity, height + 2, width + 2)
    # Memory that is not written to is not taken: only as many rows as there are numbers.
    parent, sizes = (np.empty(labels.size + 1, np.int32) for _ in range(2))
    keys = np.empty(labels.size + 1, key_type)
    parent[0] = sizes[0] = keys[0] = 0
    planes = [
        tuple(np.zeros([1 if k == axis else n for k, n in enumerate(labels.shape)], np.int32) for _ in range(2))
        for axis in range(3)
    ]
    n = 1
    for z in range(depth):
        if _fill_keys(labels[z], levels[z], n_objects, bits, slice_keys[1]):
            raise ValueError(f"expected ids from 0 to {n_objects} and, inside objects, levels from 1")
        n = _number(slice_keys, slice_numbers, (jumps, near), (parent, sizes, keys), n)
        here = slice_numbers[1, 1:-1, 1:-1]
        if z == 0:
            planes[0][0][0] = here
        if z == depth - 1:
            planes[0][1][0] = here
        planes[1][0][z], planes[1][1][z] = here[:1], here[-1:]
        planes[2][0][z], planes[2][1][z] = here[:, :1], here[:, -1:]
        slice_keys[0], slice_numbers[0] = slice_keys[1], slice_numbers[1]
    parent, sizes, keys = parent[:n], sizes[:n], keys[:n]
    _settle(parent, sizes)
    return keys, sizes, [(parent[first], parent[last]) for first, last in planes]


def _neighbours(connectivity: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the neighbours that come before a voxel, those with most others beside them first.

    Returns
    -------
    tuple
        int64 (n,), steps to them in two flat slices; int64 (n,), a bit for each neighbour that is one or is beside it.
    """

    def beside(one: Triple, other: Triple) -> bool:
        apart = [abs(a - b) for a, b in zip(one, other, strict=True)]
        return max(apart) <= 1 and sum(apart) <= AXES[connectivity]

    before = [step for step in DIRECTIONS if step < (0, 0, 0) and beside(step, (0, 0, 0))]
    before.sort(key=lambda step: -sum(beside(step, other) for other in before))
    jumps = [(z * height + y) * width + x for z, y, x in before]
    near = [sum(1 << k for k, other in enumerate(before) if beside(step, other)) for step in before]
    return np.array(jumps, np.int64), np.array(near, np.int64)


@njit(cache=True, nogil=True)
def _fill_keys(labels: np.ndarray, levels: np.ndarray, n_objects: int, bits: int, keys: np.ndarray) -> int:
    """Write id · 2^bits + level of a slice, 0 outside objects, inside the margin; return how many are wrong."""
    wrong = 0
    for y in range(labels.shape[0]):
        row, row_levels, row_keys = labels[y], levels[y], keys[y + 1, 1:-1]
        for x in range(len(row)):
            i, level = np.int64(row[x]), np.int64(row_levels[x])
            row_keys[x] = (i << bits) + level if i != 0 else 0
            wrong += (i != 0) & ((i < 0) | (i > n_objects) | (level < 1))
    return wrong


@njit(cache=True, nogil=True)
def _number(
    keys: np.ndarray,
    numbers: np.ndarray,
    neighbours: tuple[np.ndarray, np.ndarray],
    table: tuple[np.ndarray, np.ndarray, np.ndarray],
    n: int,
) -> int:
    """Give numbers to the voxels of the second of two slices; `n` is the first that is free, and so is what returns.

    Neighbours beside one that has been joined are skipped: they were joined with it when the later of them was visited.
    """
    jumps, near = neighbours
    parent, sizes, number_keys = table
    flat_keys, flat = keys.reshape(-1), numbers.reshape(-1)
    width = keys.shape[2]
    first = keys.shape[1] * width
    for y in range(1, keys.shape[1] - 1):
        for v in range(first + y * width + 1, first + (y + 1) * width - 1):
            key = flat_keys[v]
            number = 0
            if key != 0:
                left = (1 << len(jumps)) - 1
                for k in range(len(jumps)):
                    if (left >> k) & 1 and flat_keys[v + jumps[k]] == key:
                        left &= ~near[k]
                        other = flat[v + jumps[k]]
                        number = other if number == 0 else _unite(parent, number, other)
                        if left == 0:
                            break
                if number == 0:
                    number, n = n, n + 1
                    parent[number], sizes[number], number_keys[number] = number, 0, key
                sizes[number] += 1
            flat[v] = number
    return n


@njit(cache=True, nogil=True)
def _find(parent: np.ndarray, i: int) -> int:
    """Return the smallest number of the zone, making the way to it shorter."""
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True, nogil=True)
def _unite(parent: np.ndarray, i: int, j: int) -> int:
    """Make two numbers one zone; return its smallest number."""
    i, j = _find(parent, i), _find(parent, j)
    low, high = min(i, j), max(i, j)
    parent[high] = low
    return low


@njit(cache=True, nogil=True)
def _settle(parent: np.ndarray, sizes: np.ndarray) -> None:
    """Let every number point to the smallest of its zone, which gets all voxels."""
    for i in range(1, len(parent)):
        if parent[i] != i:
            parent[i] = parent[parent[i]]
            sizes[parent[i]] += sizes[i]
            sizes[i] = 0
