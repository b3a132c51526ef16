"""The second reading of the volume: every region gets the id of its object, and shared regions are divided."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from cristae.tracking.links import Tracks
from cristae.tracking.overlap import SliceRegions, paint
from cristae.tracking.shared import divide

ID_DTYPE = np.uint32
"""Data type of relabelled slices."""
LEAST_MARGIN = 16
"""Pixels that a cell is allowed to move, while it shares a region, at least; else a quarter of its extent."""


class Relabeller:
    """Draws relabelled slices, in any order and from several threads.

    Parameters
    ----------
    tracks
        Objects of all regions.
    load
        Returns the regions of slice z, the same as were tracked.
    """

    def __init__(self, tracks: Tracks, load: Callable[[int], SliceRegions]) -> None:
        self.tracks = tracks
        self._load = load
        self._elsewhere = lru_cache(maxsize=4)(load)  # shapes before and after: the same for a run of slices
        objects = np.unique(np.concatenate([tracks.ids, tracks.shared.id]))
        if objects.size and objects[-1] > np.iinfo(ID_DTYPE).max:
            raise ValueError(f"ids must fit {np.dtype(ID_DTYPE)}; the highest is {objects[-1]}")

    def __call__(self, z: int) -> np.ndarray:
        """Return uint32 ids (y, x) of slice `z`, 0 for background.

        Raises
        ------
        ValueError
            If the slice is not the one that was tracked.
        """
        regions, tracks = self._load(z), self.tracks
        first, end = tracks.regions.first[z : z + 2]
        if regions.n_regions != end - first or not np.array_equal(regions.area, tracks.regions.area[first:end]):
            raise ValueError(f"slice {z} has changed since it was tracked; track the volume again")
        plane = paint(regions, tracks.of_slice(z).astype(ID_DTYPE))
        begin, stop = np.searchsorted(tracks.shared.region, [first, end])
        for region in np.unique(tracks.shared.region[begin:stop]):
            self._divide(plane, regions, z, int(region))
        return plane

    def _divide(self, plane: np.ndarray, regions: SliceRegions, z: int, region: int) -> None:
        """Give the pixels of a shared region to its objects."""
        shared, number = self.tracks.shared, region - int(self.tracks.regions.first[z])
        rows = np.flatnonzero(shared.region == region)
        before, after = shared.before[rows], shared.after[rows]
        tightest = int(before.max()), int(min((z for z in after if z >= 0), default=-1))
        cells = [int(self.tracks.ids[region]), *shared.id[rows].tolist()]
        spans = [tightest, *zip(before.tolist(), after.tolist(), strict=True)]
        where = self._reach(regions.box[number], list(zip(cells, spans, strict=True))[1:])
        inside = _mask(regions, np.arange(regions.n_regions) == number, where)
        shapes = [self._shapes(cell, z, span, where) for cell, span in zip(cells, spans, strict=True)]
        shown = [place for place, (masks, _) in enumerate(shapes) if masks or place == 0]
        part = divide(inside, [shapes[place] for place in shown])
        ids = np.array(cells, ID_DTYPE)[shown]
        plane[where[0] : where[2], where[1] : where[3]][inside] = ids[part[inside]]

    def _alone(self, cell: int, z: int) -> np.ndarray:
        """Say which regions of slice `z` are bodies that a cell does not share."""
        here = self.tracks.regions.of_slice(z)
        numbers = np.arange(here.start, here.stop)
        mine = (self.tracks.ids[here] == cell) & self.tracks.regions.body[here]
        return np.asarray(mine & ~np.isin(numbers, self.tracks.shared.region))

    def _reach(self, box: np.ndarray, further: list[tuple[int, tuple[int, int]]]) -> tuple[int, int, int, int]:
        """Return the part of a region's box that cells other than the one it is linked to can have."""
        boxes = [
            self.tracks.regions.box[self.tracks.regions.of_slice(other)][self._alone(cell, other)]
            for cell, span in further
            for other in span
            if other >= 0
        ]
        found = np.concatenate([box[None], *boxes])[1:]
        if not len(found):
            return 0, 0, 0, 0
        first, end = found[:, :2].min(axis=0), found[:, 2:].max(axis=0)
        margin = np.maximum((end - first) // 4, LEAST_MARGIN)
        first, end = np.maximum(first - margin, box[:2]), np.minimum(end + margin, box[2:])
        end = np.maximum(first, end)
        return int(first[0]), int(first[1]), int(end[0]), int(end[1])

    def _shapes(
        self, cell: int, z: int, span: tuple[int, int], where: tuple[int, int, int, int]
    ) -> tuple[list[np.ndarray], list[float]]:
        """Return the masks that show a cell by itself in the slices of `span`, and their weights at `z`."""
        masks = {other: _mask(self._elsewhere(other), self._alone(cell, other), where) for other in span if other >= 0}
        shown = {other: mask for other, mask in masks.items() if mask.any()}
        if len(shown) < 2:
            return list(shown.values()), [1.0] * len(shown)
        rest = (z - span[0]) / (span[1] - span[0])
        return list(shown.values()), [1 - rest, rest]


def _mask(regions: SliceRegions, chosen: np.ndarray, where: tuple[int, int, int, int]) -> np.ndarray:
    """Return a bool crop (first y, first x, end y, end x) that is true in the chosen regions."""
    y, x, end_y, end_x = where
    rows = regions.row_first[y : end_y + 1]
    runs = slice(rows[0], rows[-1])
    crop = SliceRegions(
        (end_y - y, end_x - x),
        rows - rows[0],
        np.clip(regions.start[runs] - x, 0, end_x - x).astype(np.int32),
        np.clip(regions.stop[runs] - x, 0, end_x - x).astype(np.int32),
        regions.region[runs],
        regions.source,
        regions.area,
        regions.box,
        regions.centroid,
    )
    return paint(crop, chosen)
