"""The parts of a volume and which of them touch: what holes are found in, small where the volume is large.

A part is a 6-connected component of voxels of one id, background included. A block gives its parts, their voxels,
the pairs that share a voxel's face, and the planes of parts at its faces; planes of neighbours lie face to face, so
parts of one id are joined across them and parts of two ids become pairs. Blocks need no halo::

    0 0 0 0 0 0            a a a a a a        outside
    0 1 1 1 1 0            a b b b b a          |
    0 1 0 0 2 0    -->     a b c c d a          a --- b --- c      a is at the border of the volume
    0 1 1 1 1 0            a b b b b a          '---- d ----'
    0 0 0 0 0 0            a a a a a a

Work is done on runs, not on voxels: the stretches of one id that make up a row.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numba import njit
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Triple = tuple[int, int, int]

_FAR = 2**31 - 1
"""Beyond any row."""


@dataclass(frozen=True)
class BlockParts:
    """The parts of one block, numbered from 0 in the order of their first voxel.

    Parameters
    ----------
    start, shape
        Where the block lies, in voxels.
    label
        int64, the id of each part; 0 is background.
    n_voxels
        int64, the voxels of each part.
    outside
        bool, whether the part reaches the border of the volume.
    pairs
        int64 ``(n, 2)``, the parts that touch by a voxel's face, each pair once, the smaller number first.
    faces
        int32 planes of part numbers by (axis, side), side 0 low and 1 high; those at the border of the volume are
        left out.
    """

    start: Triple
    shape: Triple
    label: np.ndarray
    n_voxels: np.ndarray
    outside: np.ndarray
    pairs: np.ndarray
    faces: Mapping[tuple[int, int], np.ndarray]


@dataclass(frozen=True)
class PartGraph:
    """The parts of a volume: ``label``, ``n_voxels``, ``outside`` and ``pairs`` as those of `BlockParts`."""

    label: np.ndarray
    n_voxels: np.ndarray
    outside: np.ndarray
    pairs: np.ndarray


@dataclass(frozen=True)
class Runs:
    """The stretches of one id that make up the rows of a block.

    Parameters
    ----------
    shape
        Of the block.
    first
        int64 ``(n_z * n_y + 1)``: the first run of each row.
    start
        int32: x at which each run starts; it ends where the next one of its row does, or with the row.
    label
        int64: its id.
    part
        int32: the part it belongs to.
    """

    shape: Triple
    first: np.ndarray
    start: np.ndarray
    label: np.ndarray
    part: np.ndarray


def block_parts(labels: np.ndarray, start: Triple, volume_shape: Triple) -> BlockParts:
    """Return the parts of a block and which of them touch.

    Parameters
    ----------
    labels
        Integer ids ``(z, y, x)`` of the block, without halo, in any numbering that all blocks share; 0 is background.
    start
        Where the block starts in the volume.
    volume_shape
        Shape of the volume, to know which faces of the block are its border.

    Raises
    ------
    ValueError
        If the labels are not a block of integers, or the block sticks out of the volume.
    """
    if labels.ndim != 3 or not labels.size or labels.dtype.kind not in "iu":
        raise ValueError(f"expected a block (z, y, x) of integer ids, got {labels.dtype} of shape {labels.shape}")
    stop = tuple(a + n for a, n in zip(start, labels.shape, strict=True))
    if min(start) < 0 or any(a > n for a, n in zip(stop, volume_shape, strict=True)):
        raise ValueError(f"the block from {start} to {stop} sticks out of the volume of {volume_shape}")
    runs = runs_of(labels)
    n_parts = int(runs.part.max()) + 1
    n_voxels, label = _sizes(runs.first, runs.start, runs.label, runs.part, labels.shape[2], n_parts)
    pairs = np.column_stack(np.divmod(_touching(runs.first, runs.start, runs.part, labels.shape[1], n_parts), n_parts))
    outside = np.zeros(n_parts, np.bool_)
    faces = {}
    for axis in range(3):
        for side, at_border in enumerate((start[axis] == 0, stop[axis] == volume_shape[axis])):
            plane = _face(runs, axis, side)
            if at_border:
                outside[plane] = True
            else:
                faces[axis, side] = plane
    return BlockParts(start, runs.shape, label, n_voxels, outside, pairs, faces)


def runs_of(labels: np.ndarray) -> Runs:
    """Return the runs of a block ``(z, y, x)`` of integer ids and the part that each belongs to."""
    first = _count_runs(labels)
    start, label = _find_runs(labels, first)
    part = _join_runs(first, start, label, labels.shape[1])
    return Runs(tuple(labels.shape), first, start, label, part)


def paint(runs: Runs, chosen: np.ndarray) -> np.ndarray:
    """Return a bool array of the block's shape that is True in the parts for which `chosen` (bool per part) is."""
    painted = np.zeros(runs.shape, np.bool_)
    _paint(runs.first, runs.start, chosen[runs.part], painted.reshape(-1, runs.shape[2]))
    return painted


@dataclass
class _Joined:
    """What blocks have been joined so far; part numbers count through all blocks."""

    n_parts: int = 0
    parts: list[BlockParts] = field(default_factory=list)
    same: list[np.ndarray] = field(default_factory=list)
    pairs: list[np.ndarray] = field(default_factory=list)
    waiting: dict[tuple[int, ...], tuple[np.ndarray, np.ndarray, int]] = field(default_factory=dict)

    def add(self, block: BlockParts) -> None:
        offset = self.n_parts
        self.n_parts += block.label.size
        self.pairs.append(block.pairs + offset)
        for (axis, side), plane in block.faces.items():
            corner = list(block.start)
            corner[axis] += side * block.shape[axis]
            met = self.waiting.pop((axis, *corner), None)
            if met is None:
                self.waiting[axis, *corner] = plane, block.label, offset
            else:
                self._join(met, (plane, block.label, offset))
        # Faces are the bulk of a block: they are kept only until the neighbour comes.
        self.parts.append(BlockParts(block.start, block.shape, block.label, block.n_voxels, block.outside, *_NONE))

    def _join(self, a: tuple[np.ndarray, np.ndarray, int], b: tuple[np.ndarray, np.ndarray, int]) -> None:
        if a[0].shape != b[0].shape:
            raise ValueError(f"blocks do not lie face to face: faces of {a[0].shape} and {b[0].shape} voxels meet")
        key = np.unique(a[0].astype(np.int64).ravel() * b[1].size + b[0].ravel())
        of_a, of_b = np.divmod(key, b[1].size)
        equal = a[1][of_a] == b[1][of_b]
        both = np.column_stack([of_a + a[2], of_b + b[2]])
        self.same.append(both[equal])
        self.pairs.append(both[~equal])


_NONE: tuple[np.ndarray, Mapping[tuple[int, int], np.ndarray]] = (np.zeros((0, 2), np.int64), {})


def join_parts(blocks: Iterable[BlockParts], volume_shape: Triple) -> PartGraph:
    """Join the parts of blocks, in whatever order these come, to those of the volume.

    Parameters
    ----------
    blocks
        Every block of a regular tiling of the volume, once. Faces are held until the neighbour has come.
    volume_shape
        Shape of the volume.

    Raises
    ------
    ValueError
        If the blocks do not tile the volume face to face.
    """
    joined = _Joined()
    for block in blocks:
        joined.add(block)
    n_voxels = sum(math.prod(block.shape) for block in joined.parts)
    if joined.waiting or n_voxels != math.prod(volume_shape):
        raise ValueError(f"blocks of {n_voxels} voxels in all do not tile a volume of {volume_shape} face to face")
    same = np.concatenate([_NONE[0], *joined.same])
    ones = np.ones(len(same), np.int8)
    links = coo_array((ones, (same[:, 0], same[:, 1])), shape=(joined.n_parts, joined.n_parts))
    n_parts, part = connected_components(links, directed=False)
    part = part.astype(np.int64)
    label, outside = np.zeros(n_parts, np.int64), np.zeros(n_parts, np.bool_)
    sizes = np.zeros(n_parts, np.int64)
    label[part] = np.concatenate([block.label for block in joined.parts])
    np.logical_or.at(outside, part, np.concatenate([block.outside for block in joined.parts]))
    np.add.at(sizes, part, np.concatenate([block.n_voxels for block in joined.parts]))
    pairs = np.sort(part[np.concatenate([_NONE[0], *joined.pairs])], axis=1)
    key = np.unique(pairs[:, 0] * n_parts + pairs[:, 1])
    return PartGraph(label, sizes, outside, np.column_stack(np.divmod(key, n_parts)))


def _face(runs: Runs, axis: int, side: int) -> np.ndarray:
    """Return the plane of parts at one face of the block."""
    n_z, n_y, n_x = runs.shape
    if axis == 2:
        ends = runs.first[1:] - 1 if side else runs.first[:-1]
        return np.reshape(runs.part[ends], (n_z, n_y))
    rows = np.moveaxis(np.arange(n_z * n_y).reshape(n_z, n_y), axis, 0)[-side]
    plane = np.empty((rows.size, n_x), np.int32)
    _paint_rows(rows, runs.first, runs.start, runs.part, plane)
    return plane


@njit(cache=True, nogil=True)
def _count_runs(labels: np.ndarray) -> np.ndarray:
    """Return the first run of each row, and the number of runs behind them."""
    n_z, n_y, n_x = labels.shape
    first = np.zeros(n_z * n_y + 1, np.int64)
    for z in range(n_z):
        for y in range(n_y):
            n = 1
            for x in range(1, n_x):
                n += labels[z, y, x] != labels[z, y, x - 1]
            first[z * n_y + y + 1] = first[z * n_y + y] + n
    return first


@njit(cache=True, nogil=True)
def _find_runs(labels: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return x of the start and id of each run."""
    n_z, n_y, n_x = labels.shape
    n_runs = first[-1]
    start = np.zeros(n_runs, np.int32)
    label = np.zeros(n_runs, np.int64)
    for z in range(n_z):
        for y in range(n_y):
            at = first[z * n_y + y]
            label[at] = labels[z, y, 0]
            for x in range(1, n_x):
                if labels[z, y, x] != labels[z, y, x - 1]:
                    at += 1
                    start[at] = x
                    label[at] = labels[z, y, x]
    return start, label


@njit(cache=True, nogil=True)
def _root(parent: np.ndarray, i: int) -> int:
    """Return the first run of the part that a run belongs to."""
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True, nogil=True)
def _before(row: int, axis: int, n_y: int) -> int:
    """Return the row before one along y (1) or z (0), negative if there is none; itself along x (2)."""
    if axis == 2:
        return row
    if axis == 1:
        return row - 1 if row % n_y else -1
    return row - n_y


@njit(cache=True, nogil=True)
def _join_runs(first: np.ndarray, start: np.ndarray, label: np.ndarray, n_y: int) -> np.ndarray:
    """Return the part of each run, numbered in the order of their first voxels."""
    parent = np.arange(label.size)
    for row in range(first.size - 1):
        for axis in range(2):
            other = _before(row, axis, n_y)
            if other < 0:
                continue
            a, b = first[row], first[other]
            while a < first[row + 1] and b < first[other + 1]:
                if label[a] == label[b]:
                    of_a, of_b = _root(parent, a), _root(parent, b)
                    parent[max(of_a, of_b)] = min(of_a, of_b)
                a, b = _step(start, (a, b), (first[row + 1], first[other + 1]))
    part = np.empty(label.size, np.int32)
    n = 0
    for run in range(label.size):
        root = _root(parent, run)
        if root == run:
            part[run] = n
            n += 1
        else:
            part[run] = part[root]
    return part


@njit(cache=True, nogil=True)
def _step(start: np.ndarray, at: tuple[int, int], end: tuple[int, int]) -> tuple[int, int]:
    """Return the next two runs of two rows that overlap, or the ends of the rows."""
    a, b = at
    a_next = start[a + 1] if a + 1 < end[0] else _FAR
    b_next = start[b + 1] if b + 1 < end[1] else _FAR
    return a + (a_next <= b_next), b + (b_next <= a_next)


@njit(cache=True, nogil=True)
def _sizes(
    first: np.ndarray, start: np.ndarray, label: np.ndarray, part: np.ndarray, n_x: int, n_parts: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return voxels and id of each part."""
    n_voxels = np.zeros(n_parts, np.int64)
    of_part = np.zeros(n_parts, np.int64)
    for row in range(first.size - 1):
        end = n_x
        for run in range(first[row + 1] - 1, first[row] - 1, -1):
            n_voxels[part[run]] += end - start[run]
            of_part[part[run]] = label[run]
            end = start[run]
    return n_voxels, of_part


@njit(cache=True, nogil=True)
def _enter(table: np.ndarray, key: int) -> bool:
    """Enter a key in an open-addressing table (-1 is free, size a power of 2); return whether it is new."""
    at = ((key * 0x9E3779B97F4A7C1) >> 20) & (table.size - 1)
    while table[at] != -1:
        if table[at] == key:
            return False
        at = (at + 1) & (table.size - 1)
    table[at] = key
    return True


@njit(cache=True, nogil=True)
def _grown(table: np.ndarray) -> np.ndarray:
    """Return a table of twice the size with the same keys."""
    bigger = np.full(2 * table.size, -1, np.int64)
    for key in table:
        if key != -1:
            _enter(bigger, key)
    return bigger


@njit(cache=True, nogil=True)
def _touching(first: np.ndarray, start: np.ndarray, part: np.ndarray, n_y: int, n_parts: int) -> np.ndarray:
    """Return the pairs of parts that touch, as smaller · n_parts + larger, sorted."""
    table = np.full(1 << 10, -1, np.int64)
    n = 0
    for row in range(first.size - 1):
        for axis in range(3):
            other = _before(row, axis, n_y)
            if other < 0:
                continue
            # A row beside itself, one run further, gives the pairs along x.
            a, b = first[row] + (axis == 2), first[other]
            last = -1
            while a < first[row + 1] and b < first[other + 1]:
                key = np.int64(min(part[a], part[b])) * n_parts + max(part[a], part[b])
                if part[a] != part[b] and key != last:
                    last = key
                    n += _enter(table, key)
                    if 2 * n > table.size:
                        table = _grown(table)
                if axis == 2:
                    a, b = a + 1, b + 1
                else:
                    a, b = _step(start, (a, b), (first[row + 1], first[other + 1]))
    return np.sort(table[table != -1])


@njit(cache=True, nogil=True)
def _paint_rows(rows: np.ndarray, first: np.ndarray, start: np.ndarray, part: np.ndarray, plane: np.ndarray) -> None:
    """Write the parts of some rows."""
    for i in range(rows.size):
        end = plane.shape[1]
        for run in range(first[rows[i] + 1] - 1, first[rows[i]] - 1, -1):
            plane[i, start[run] : end] = part[run]
            end = start[run]


@njit(cache=True, nogil=True)
def _paint(first: np.ndarray, start: np.ndarray, chosen: np.ndarray, painted: np.ndarray) -> None:
    """Write True where a run is chosen."""
    for row in range(first.size - 1):
        end = painted.shape[1]
        for run in range(first[row + 1] - 1, first[row] - 1, -1):
            if chosen[run]:
                painted[row, start[run] : end] = True
            end = start[run]
