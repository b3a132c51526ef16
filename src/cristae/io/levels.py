"""Coarser levels of volumes: how many there are, how voxels become one, and levels that are made while writing.

A volume that comes in slabs along z need not be read again for its coarser levels::

    level 0   | slab | slab | slab | slab | --> written, and reduced to half a slab each
    level 1   |    slab     |    slab     | --> written as soon as a whole slab is there
    level 2   |            slab           |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numba import njit

from cristae.geometry import Grid, Voxels
from cristae.volume import Kind

SMALLEST_LEVEL = 512
"""A pyramid ends at the first level that is not longer than this along y and x."""

Sink = Callable[[int, int, np.ndarray], object]
"""Takes a level, the z of its first slice, and voxels ``(z, y, x)``."""


def next_factor(grid: Grid) -> Voxels | None:
    """Halve the axes along which voxels are finest, so that levels grow isotropic; None when small enough."""
    if max(grid.shape[1:]) <= SMALLEST_LEVEL:
        return None
    limit = 1.5 * min(grid.voxel_size[1:])
    z, y, x = (2 if size <= limit and n > 1 else 1 for size, n in zip(grid.voxel_size, grid.shape, strict=True))
    return (z, y, x)


def factors_of(grid: Grid, most: int = 32) -> list[Voxels]:
    """Return the factor from each level to the next, for up to `most` coarser levels."""
    factors: list[Voxels] = []
    while len(factors) < most and (factor := next_factor(grid)) is not None:
        factors.append(factor)
        grid = grid.coarsened(factor)
    return factors


def grids_of(grid: Grid, factors: Sequence[Voxels]) -> list[Grid]:
    """Return the grids of all levels, the finest first."""
    grids = [grid]
    for factor in factors:
        grids.append(grids[-1].coarsened(factor))
    return grids


def reduce_block(values: np.ndarray, factor: Voxels, kind: Kind) -> np.ndarray:
    """Reduce an array by `factor` along each axis: rounded means, or the first voxel of each block for labels.

    Blocks that stick out of the array are filled with its last voxels.
    """
    if kind == "labels":
        return values[:: factor[0], :: factor[1], :: factor[2]]
    padding = [(0, -n % f) for n, f in zip(values.shape, factor, strict=True)]
    padded = np.pad(values, padding, mode="edge") if any(after for _, after in padding) else values
    if set(factor) <= {1, 2} and padded.dtype in (np.uint8, np.uint16):
        return _halved(np.ascontiguousarray(padded), *factor)
    z, y, x = (n // f for n, f in zip(padded.shape, factor, strict=True))
    exact = np.float64 if padded.dtype.itemsize > 2 else np.float32
    mean = padded.reshape(z, factor[0], y, factor[1], x, factor[2]).mean(axis=(1, 3, 5), dtype=exact)
    return np.rint(mean).astype(values.dtype) if values.dtype.kind in "ui" else mean.astype(values.dtype)


class LevelStream:
    """All levels of a volume that comes as slabs of whole slices, one after another along z.

    Parameters
    ----------
    factors
        From each level to the next; 1 or 2 along z.
    kind
        Decides how voxels become one.
    depth
        Slices that are handed on at a time, of each level; even. Only the last slab is thinner.
    sink
        Called with each slab of each level.
    """

    def __init__(self, factors: Sequence[Voxels], kind: Kind, depth: int, sink: Sink) -> None:
        self._factors, self._kind, self._depth, self._sink = factors, kind, depth, sink
        self._waiting: list[list[np.ndarray]] = [[] for _ in range(len(factors) + 1)]
        self._next = [0] * (len(factors) + 1)
        self._bands: list[np.ndarray] = []

    def add(self, values: np.ndarray, level: int = 0) -> None:
        """Take the slices that follow at a level."""
        waiting = self._waiting[level]
        waiting.append(values)
        n = sum(len(slab) for slab in waiting)
        if n < self._depth:
            return
        whole = waiting[0] if len(waiting) == 1 else np.concatenate(waiting)
        waiting.clear()
        for start in range(0, n - n % self._depth, self._depth):
            self._hand_on(level, whole[start : start + self._depth])
        if n % self._depth:
            waiting.append(whole[n - n % self._depth :])

    def add_band(self, values: np.ndarray, first_row: int, n_rows: int) -> None:
        """Take a band of rows of the slices that follow at level 0, bands in order; level 0 itself is not handed on."""
        if not self._factors:
            return
        reduced = reduce_block(values, self._factors[0], self._kind)
        self._bands.append(reduced)
        if first_row + values.shape[1] == n_rows:
            slab = self._bands[0] if len(self._bands) == 1 else np.concatenate(self._bands, axis=1)
            self._bands = []
            self.add(slab, 1)

    def end(self) -> None:
        """Hand on what waits at each level."""
        for level, waiting in enumerate(self._waiting):
            if waiting:
                whole = np.concatenate(waiting)
                waiting.clear()
                self._hand_on(level, whole)

    def _hand_on(self, level: int, values: np.ndarray) -> None:
        self._sink(level, self._next[level], values)
        self._next[level] += len(values)
        if level < len(self._factors):
            self.add(reduce_block(values, self._factors[level], self._kind), level + 1)


@njit(cache=True, nogil=True)
def _halved(values: np.ndarray, fz: int, fy: int, fx: int) -> np.ndarray:
    """Return means over blocks of up to 2 × 2 × 2, halves rounded to even as `numpy.rint` does."""
    nz, ny, nx = values.shape[0] // fz, values.shape[1] // fy, values.shape[2] // fx
    out = np.empty((nz, ny, nx), values.dtype)
    total = np.empty(values.shape[2], np.uint32)
    n = fz * fy * fx
    shift = (1 if fz == 2 else 0) + (1 if fy == 2 else 0) + (1 if fx == 2 else 0)
    half = np.uint32(n // 2)
    for z in range(nz):
        for y in range(ny):
            first = values[z * fz, y * fy]
            for x in range(total.size):
                total[x] = first[x]
            for i in range(1, fz * fy):
                row = values[z * fz + i // fy, y * fy + i % fy]
                for x in range(total.size):
                    total[x] += row[x]
            line = out[z, y]
            for x in range(nx):
                s = total[x] if fx == 1 else np.uint32(total[2 * x] + total[2 * x + 1])
                if n > 1:
                    # Half up would be `s + half`; one less where the quotient is even keeps halves even.
                    s = (s + half - np.uint32(1) + ((s >> np.uint32(shift)) & np.uint32(1))) >> np.uint32(shift)
                line[x] = s
    return out
