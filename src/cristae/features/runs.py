"""A block of labels as runs: the stretches of one id that make up its rows.

There are far fewer runs than voxels, so connected parts, their sizes and which of them touch are found among runs, for
all ids and for background in one go.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

Triple = tuple[int, int, int]

_FAR = 2**31 - 1
"""Beyond any row."""


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


def sizes_of(runs: Runs) -> tuple[np.ndarray, np.ndarray]:
    """Return voxels and id of each part, int64."""
    return _sizes(runs.first, runs.start, runs.label, runs.part, runs.shape[2], int(runs.part.max()) + 1)


def touching(runs: Runs) -> np.ndarray:
    """Return the pairs of parts that share a voxel's face, int64 ``(n, 2)``, each once, sorted, smaller first."""
    n_parts = int(runs.part.max()) + 1
    keys = _touching(runs.first, runs.start, runs.part, runs.shape[1], n_parts)
    return np.column_stack(np.divmod(keys, n_parts))


def face_of(runs: Runs, axis: int, side: int) -> np.ndarray:
    """Return the int32 plane of parts at one face of the block, side 0 low and 1 high."""
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
