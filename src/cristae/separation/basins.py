"""Cells between labelled slices from basins of the boundary map, joined where the boundary between them is weak.

What grows along paths finds its way through any leak. Basins are joined by what lies between them on average, so that
small cells which no labelled slice meets come out whole; a basin that a labelled slice cuts through is of the cell
that it is cut in, and a basin that touches no labelled slice is of a cell there only if the boundary says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import cc3d
import numpy as np
from skimage.morphology import local_minima

from cristae.separation.agglomerate import agglomerate, contacts
from cristae.separation.watershed import flood

_OVERLAP = 0.6
"""Share of the pixels of a basin in labelled slices that must be of one cell for it to be of that cell."""
_FLOOR = 8
"""Boundary × 255 up to which all is alike: ripples of a map inside a large cell would be basins by the thousand."""
_VOXELS_PER_BASIN = 128
"""Of a map with more basins than one for so many voxels all is noise up to a higher level: real maps have ten times
fewer, and what is known of each basin takes memory that nobody has planned for."""
_FEW = 10_000
"""So many basins take no memory to speak of."""


@dataclass(frozen=True)
class Joining:
    """How basins become cells.

    Parameters
    ----------
    weakest
        Basins and what they were joined to stay apart where the mean boundary between them (0–255) is above this.
    new_voxels
        A cell that no labelled slice meets has at least this many voxels.
    """

    weakest: float = 100.0
    new_voxels: int = 200


def join_basins(
    seeds: np.ndarray,
    boundary: np.ndarray,
    allowed: np.ndarray,
    joining: Joining,
    first_new_id: int,
    beside: np.ndarray | None = None,
) -> np.ndarray:
    """Return the cells of the basins of a boundary map.

    Parameters
    ----------
    seeds
        int32 ``(z, y, x)``: ids from 1 where cells are known, 0 elsewhere.
    boundary
        uint8 ``(z, y, x)``: probability of a boundary × 255.
    allowed
        bool ``(z, y, x)``: where cells may be.
    joining
        How basins become cells.
    first_new_id
        Ids from this one on are given to cells that hold no seed, in the order of their first voxel.
    beside
        bool ``(z, y, x)``: where it is known that no cell with a seed is. None: nowhere.

    Returns
    -------
    ndarray
        int32 ``(z, y, x)``: ids; 0 outside what is allowed, and in basins too small to be a cell of their own.
    """
    basins = _basins(boundary, allowed)
    n_basins = int(basins.max(initial=0))
    ids, touched = _known(basins, np.where(allowed, seeds, 0), beside, n_basins)
    stand_in = agglomerate(contacts(basins, boundary), ids, joining.weakest)
    names = np.zeros(n_basins + 1, np.int64)
    known = np.flatnonzero(ids)
    names[stand_in[known]] = ids[known]
    n_voxels = np.bincount(stand_in[basins.ravel()], minlength=n_basins + 1)
    cut = np.bincount(stand_in, weights=touched, minlength=n_basins + 1) > 0
    # What a labelled slice cuts is on that slice: it cannot be a cell that none meets.
    new = np.flatnonzero((names == 0) & ~cut & (n_voxels >= max(1, joining.new_voxels)))
    new = new[new > 0]
    names[new] = first_new_id + np.arange(len(new))
    return names[stand_in][basins].astype(np.int32)


def _basins(boundary: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Return the basins of the map, numbered from 1 in the order of their first voxel."""
    most = max(_FEW, int(allowed.sum()) // _VOXELS_PER_BASIN)
    floor, seeds = _FLOOR, _minima(boundary, allowed, _FLOOR)
    while seeds.max(initial=0) > most and floor < 128:
        floor = 2 * floor
        seeds = _minima(boundary, allowed, floor)
    return flood(boundary, seeds, allowed)


def _minima(boundary: np.ndarray, allowed: np.ndarray, floor: int) -> np.ndarray:
    """Return the lowest places of the map, each with a number of its own; up to `floor` all is as low."""
    minima: np.ndarray = local_minima(np.where(allowed, np.maximum(boundary, floor), 255), connectivity=1)  # type: ignore[no-untyped-call]
    minima &= allowed
    return cc3d.connected_components(minima, connectivity=6).astype(np.int32)


def _known(
    basins: np.ndarray, seeds: np.ndarray, beside: np.ndarray | None, n_basins: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the cell of each basin that labelled slices cut mostly in one cell, and which are cut in cells at all.

    A basin that they cut mostly beside all cells is cut in none: a cell's outer voxels lie on the boundary, and fall to
    either side of it.
    """
    place = (seeds > 0) & (basins > 0)
    n_ids = int(seeds.max(initial=0)) + 1
    key, n_shared = np.unique(basins[place].astype(np.int64) * n_ids + seeds[place], return_counts=True)
    basin, cell = key // n_ids, key % n_ids
    touched = np.bincount(basin, weights=n_shared, minlength=n_basins + 1)
    total = touched if beside is None else touched + np.bincount(basins[beside], minlength=n_basins + 1)
    clear = n_shared >= _OVERLAP * total[basin]
    ids = np.zeros(n_basins + 1, np.int64)
    ids[basin[clear]] = cell[clear]
    return ids, touched > (1 - _OVERLAP) * total
