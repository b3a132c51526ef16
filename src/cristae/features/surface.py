"""Area, volume and Euler number of every object's marching-cubes mesh, straight from its voxels.

One pass over the cells of 2 × 2 × 2 voxel centres serves all objects: in each cell, every object is one of 256
configurations, and a table says what that one adds. Inside objects and background, a cell costs a comparison::

    1 1 | 2      three cells of a row: of objects 1 and 2 the first adds nothing, the second a piece of
    1 1 | 2      surface to both of them, the third again nothing

The area equals that of `skimage.measure.marching_cubes` on the mask at level 0.5. It is about 8 % too large for smooth
bodies, as a mask has steps (methods that smooth first: `cristae.features.mesh`); volume, Euler number and exposed
faces are whole numbers, exact in any order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numba import njit

from cristae.features.marching import cell_tables

HALO = 1


@dataclass(frozen=True)
class VoxelSurface:
    """Sums over the cells of every object, row i for object i + 1; disjoint parts add up.

    Parameters
    ----------
    counts
        int64 ``(n, 4)``: Euler number in eighths (26-connected objects, 6-connected background), exposed voxel faces in
        quarters, area facing +z in eighths of a voxel face (0 once complete), mesh volume in 48ths of a voxel.
    area_nm2
        float64 ``(n,)``, area of the mesh.
    """

    counts: np.ndarray
    area_nm2: np.ndarray

    def __add__(self, other: VoxelSurface) -> VoxelSurface:
        return VoxelSurface(self.counts + other.counts, self.area_nm2 + other.area_nm2)

    def __getitem__(self, rows: np.ndarray) -> VoxelSurface:
        """Return the sums of some objects, in that order."""
        return VoxelSurface(self.counts[rows], self.area_nm2[rows])

    @classmethod
    def empty(cls, n_objects: int) -> Self:
        """Return the sums over no cell at all: what blocks are added to."""
        return cls(np.zeros((n_objects, 4), np.int64), np.zeros(n_objects))

    @property
    def euler_number(self) -> np.ndarray:
        """int64 ``(n,)``: parts + cavities − tunnels."""
        return self.counts[:, 0] // 8

    @property
    def n_faces(self) -> np.ndarray:
        """int64 ``(n,)``: voxel faces between the object and anything else."""
        return self.counts[:, 1] // 4

    @property
    def volume_px(self) -> np.ndarray:
        """float64 ``(n,)``: volume that the mesh encloses, in voxels."""
        return self.counts[:, 3] / 48


def add_voxel_surface(
    labels: np.ndarray,
    n_objects: int,
    inner: tuple[slice, slice, slice],
    *,
    start: tuple[int, int, int] = (0, 0, 0),
    voxel_size: tuple[float, float, float],
) -> VoxelSurface:
    """Sum up the cells that the inner part of a block owns: those whose lowest corner lies in it.

    Cells that begin one voxel outside the volume belong to the block at that border.

    Parameters
    ----------
    labels
        Integers ``(z, y, x)``, 0 background, objects 1 to `n_objects`. Needs a halo of `HALO` voxels at the upper ends;
        what lies beyond the array counts as background.
    n_objects
        Number of rows to return.
    inner
        Part of the block to count.
    start
        Index of the block's first voxel in the volume.
    voxel_size
        nm (z, y, x).

    Returns
    -------
    VoxelSurface
        Of the cells owned.
    """
    sums = VoxelSurface.empty(n_objects)
    cells, first_z = corners_of_cells(labels, inner, start, 0)
    tables = cell_tables()
    cells = cells.astype(np.int32, copy=False)
    _add_cells(cells, first_z, (tables.counts, tables.areas(voxel_size)), (sums.counts, sums.area_nm2))
    return sums


def corners_of_cells(
    labels: np.ndarray, inner: tuple[slice, slice, slice], start: tuple[int, int, int], margin: int
) -> tuple[np.ndarray, int]:
    """Return the labels at the corners of the cells that `inner` owns, with a margin, and the volume's z of the first.

    Voxels outside the block are 0. The z is that of the first corner, without the margin.
    """
    needed = []
    for part, begin, length in zip(inner, start, labels.shape, strict=True):
        low, high, _ = part.indices(length)
        needed.append((low - (begin + low == 0) - margin, high + 1 + margin))
    present = tuple(
        slice(max(0, low), min(high, length)) for (low, high), length in zip(needed, labels.shape, strict=True)
    )
    missing = [(max(0, -low), max(0, high - length)) for (low, high), length in zip(needed, labels.shape, strict=True)]
    corners = np.ascontiguousarray(labels[present])
    return np.pad(corners, missing) if any(map(any, missing)) else corners, start[0] + needed[0][0] + margin


@njit(cache=True, nogil=True)
def _add_cells(labels, first_z, tables, sums):  # type: ignore[no-untyped-def]
    """Add every cell of the array in which not all corners are alike."""
    depth, height, width = labels.shape
    corners = np.zeros(8, np.int64)
    for z in range(depth - 1):
        for y in range(height - 1):
            a, b, c, d = labels[z, y], labels[z, y + 1], labels[z + 1, y], labels[z + 1, y + 1]
            plain = False  # whether the four corners at the lower x are alike
            before = a[0]
            for x in range(width):
                now = a[x]
                alike = b[x] == now and c[x] == now and d[x] == now
                if x > 0 and not (plain and alike and now == before):
                    corners[0], corners[1], corners[2], corners[3] = a[x - 1], now, b[x - 1], b[x]
                    corners[4], corners[5], corners[6], corners[7] = c[x - 1], c[x], d[x - 1], d[x]
                    _add_cell(corners, z + first_z, tables, sums)
                plain = alike
                before = now


@njit(cache=True, nogil=True)
def _add_cell(corners, z, tables, sums):  # type: ignore[no-untyped-def]
    """Add the configuration of every object that has a corner in the cell."""
    table, areas = tables
    counts, area = sums
    done = 0
    for first in range(8):
        label = corners[first]
        if done >> first & 1 or label == 0:
            continue
        configuration = 0
        for corner in range(first, 8):
            configuration |= (corners[corner] == label) << corner
        done |= configuration
        row = table[configuration]
        counts[label - 1, 0] += row[0]
        counts[label - 1, 1] += row[1]
        counts[label - 1, 2] += row[2]
        counts[label - 1, 3] += row[3] + 6 * z * row[2]
        area[label - 1] += areas[configuration]
