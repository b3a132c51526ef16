"""Growing cells from labelled slices through the gap between them, in 3D: cristae's own way.

::

    labelled slice   ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓   1. every voxel goes to the cell with the cheapest path to it, boundaries
           │           1   │    2     │        being dear: half-way where two cells meet without a membrane
           ▼            ╲  │   ╭──╮   │     2. basins that are joined to no labelled cell, as the mean boundary is high
        the gap          ╲ │   │ 3│   │        all around, are a cell that no labelled slice meets, with its own id
           ▲              ╲│   ╰──╯   │     3. near outlines a path says little about where exactly the membrane lies:
           │           1   ╲    2     │        the outer voxels are given back and flooded once more, along the crest
    labelled slice   ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓      of the boundary map
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cc3d
import numpy as np
from numba import njit

from cristae.separation.basins import Joining, join_basins
from cristae.separation.cheapest import cheapest_paths
from cristae.separation.watershed import flood

Ours = Literal["paths", "basins"]


@dataclass(frozen=True)
class Growth:
    """How cells grow; see `grow`.

    Parameters
    ----------
    by
        ``paths``: every voxel goes to the cell with the cheapest path to it. ``basins``: basins of the boundary map
        are joined where it is weak between them (`cristae.separation.basins`). Either way, basins tell of cells that
        no labelled slice meets.
    barrier
        What a step into a sure boundary costs a path beside its own length, in voxels' lengths.
    steps
        Relative length of a step along z, y, x: the voxel size divided by the smallest.
    new_depth
        Boundary × 255 below which voxels are the inside of a cell.
    weakest
        Basins stay apart where the mean boundary × 255 between them is above this.
    new_voxels
        How many voxels a cell has at least that no labelled slice meets.
    rim
        Voxels along every outline that are flooded again.
    """

    by: Ours = "paths"
    barrier: float = 2000.0
    steps: tuple[float, float, float] = (1.0, 1.0, 1.0)
    new_depth: int = 64
    weakest: float = 100.0
    new_voxels: int = 200
    rim: int = 2


def grow(
    seeds: np.ndarray,
    boundary: np.ndarray,
    allowed: np.ndarray,
    growth: Growth,
    first_new_id: int,
    beside: np.ndarray | None = None,
) -> np.ndarray:
    """Carry the cells of labelled slices through the slices between them.

    Parameters
    ----------
    seeds
        int32 ``(z, y, x)``: ids from 1 where cells are known, 0 elsewhere.
    boundary
        uint8 ``(z, y, x)``: probability of a boundary × 255.
    allowed
        bool ``(z, y, x)``: where cells may be; False where the background is known or found.
    growth
        How.
    first_new_id
        Ids from this one on are given to cells that hold no seed.
    beside
        bool ``(z, y, x)``: where it is known that no cell with a seed is, as beside cells that were painted whole.
        None: nowhere.

    Returns
    -------
    ndarray
        int32 ``(z, y, x)``: ids, 0 where no cell is. Seeds keep theirs.
    """
    start = np.where(allowed, seeds, 0).astype(np.int32)
    cells = join_basins(start, boundary, allowed, Joining(growth.weakest, growth.new_voxels), first_new_id, beside)
    if growth.by == "basins":
        labels = flood(boundary, np.where(start > 0, start, cells).astype(np.int32), allowed)
    else:
        new = (cells >= first_new_id) & (boundary < growth.new_depth)
        start = np.where(new & (start == 0), cells, start).astype(np.int32)
        labels = cheapest_paths(start, boundary, barrier=growth.barrier, steps=growth.steps, allowed=allowed)[0]
    if growth.rim:
        # Slices twice as thick as pixels are wide give no rim: their neighbours say little about an outline.
        z, y, x = growth.steps
        thin = (z < 2 * min(y, x), True, True)
        cores = without_rim(labels, growth.rim, thin, boundary, growth.new_depth)
        labels = flood(boundary, cores, allowed)
    return np.where((seeds > 0) & allowed, seeds, labels).astype(np.int32)


def without_rim(
    labels: np.ndarray, rim: int, thin: tuple[bool, bool, bool], boundary: np.ndarray, low: int
) -> np.ndarray:
    """Remove `rim` voxels along the outline of every object, but leave something of each of its parts.

    Parameters
    ----------
    labels
        int32 ``(z, y, x)``, 0 background.
    rim
        Steps from the outline.
    thin
        Along which axes there is a rim.
    boundary, low
        uint8 ``(z, y, x)``: what lies below `low` and hangs together is a part. One too thin for the rim stays whole,
        for from its other parts it may be reached only over a boundary.
    """
    padded = np.pad(labels, 1, mode="edge")
    strides = np.array([padded.shape[1] * padded.shape[2], padded.shape[2], 1])
    real = np.pad(np.ones(labels.shape, np.bool_), 1)
    keep = _inside(padded.ravel(), real.ravel(), strides, rim, np.array(thin)).reshape(padded.shape)[1:-1, 1:-1, 1:-1]
    for parts in (cc3d.connected_components(np.where(boundary < low, labels, 0), connectivity=6), labels):
        kept = np.zeros(int(parts.max(initial=0)) + 1, np.bool_)
        kept[parts[keep]] = True
        kept[0] = True
        keep = keep | ~kept[parts]
    return np.where(keep, labels, 0).astype(np.int32)


@njit(cache=True, nogil=True)
def _inside(labels: np.ndarray, real: np.ndarray, strides: np.ndarray, rim: int, along: np.ndarray) -> np.ndarray:
    """Mark voxels all of whose neighbours up to `rim` steps away are of the same object.

    Arrays are flat and padded by one voxel, with the label beside it, that is not `real`.
    """
    keep = np.ones(labels.size, np.bool_)
    for _ in range(rim):
        before = keep.copy()
        for v in range(strides[0], labels.size - strides[0]):
            for axis in range(3):
                if along[axis] and real[v]:
                    low, high = v - strides[axis], v + strides[axis]
                    same = labels[low] == labels[v] and labels[high] == labels[v]
                    keep[v] = keep[v] and same and before[low] and before[high]
    return keep
