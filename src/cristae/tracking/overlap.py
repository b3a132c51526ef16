"""Regions of every slice and how many pixels each shares with those of the next slice: all that tracking looks at.

A region is one 8-connected component of one id. A slice is read once, as runs of equal pixels along x; components,
areas and overlaps are then counted on the runs, of which there are some hundred times fewer than pixels::

    row y of slice z      ..1111111..22222...      runs  [2, 9) of id 1, [11, 16) of id 2
    row y of slice z + 1  ....1111133333.....            [4, 9) of id 1, [9, 14) of id 3
    shared                    ^^^^^  ^^^                 1 and 1: 5 px, 2 and 3: 3 px

Counts are exact for every pair of regions that meet, so no search window is needed. Paper: Machireddy et al. (2023),
"Tracking", eq. 1 (intersection over union).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

UNSEEN = 2**62
"""Added to the ids that a labelled slice has where the expert did not look; other ids lie below."""


@dataclass(frozen=True)
class SliceRegions:
    """The runs and regions of one slice.

    Parameters
    ----------
    shape
        Height and width of the slice in px.
    row_first
        int64 (height + 1,), place of the first run of each row; the runs of row y are ``row_first[y]:row_first[y+1]``.
    start, stop
        int32, half-open x of each run.
    region
        int32, region of each run. Regions are numbered from 0 in the order of their first pixel, row by row, so that
        the numbers do not depend on ids.
    source
        int64 per region, its id in the slice, above 0; from `UNSEEN` on where an expert did not look.
    area
        int64 per region, px.
    box
        int32 (n, 4) per region, half-open: first y, first x, end y, end x.
    centroid
        float64 (n, 2) per region, mean y and x in px.
    """

    shape: tuple[int, int]
    row_first: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    region: np.ndarray
    source: np.ndarray
    area: np.ndarray
    box: np.ndarray
    centroid: np.ndarray

    @property
    def n_regions(self) -> int:
        """Number of regions."""
        return len(self.area)

    @property
    def touches_edge(self) -> np.ndarray:
        """Bool per region: whether it lies on the border of the slice."""
        height, width = self.shape
        first, end = self.box[:, :2], self.box[:, 2:]
        return np.asarray((first == 0).any(axis=1) | (end == (height, width)).any(axis=1))


def find_regions(labels: np.ndarray) -> SliceRegions:
    """Find the 8-connected regions of one slice.

    Parameters
    ----------
    labels
        Integer ids (y, x) of one slice, at least 0; 0 is background. Equal ids that do not touch are several regions.

    Returns
    -------
    SliceRegions
        Memory of the order of the number of runs, not of pixels.

    Raises
    ------
    ValueError
        If the array is not a plane of integers, or an id is negative or above 2⁶³ − 1.
    """
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        raise ValueError(f"expected a plane of integer ids (y, x), got {labels.dtype} of shape {labels.shape}")
    row_first, start, stop, value = _runs(np.ascontiguousarray(labels))
    source = value.astype(np.int64)
    if source.size and source.min() < 0:
        raise ValueError("ids must lie between 0 (background) and 2**63 - 1")
    region = _connect(row_first, start, stop, source)
    area, box, moment, first_run = _measure(row_first, start, stop, region, int(region.max(initial=-1)) + 1)
    return SliceRegions(
        (labels.shape[0], labels.shape[1]),
        row_first,
        start,
        stop,
        region,
        source[first_run],
        area,
        box,
        moment / np.maximum(area, 1)[:, None],
    )


def count_overlaps(first: SliceRegions, second: SliceRegions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count the pixels that every region of one slice shares with every region of another.

    Returns
    -------
    tuple of int64 arrays
        Region of `first`, region of `second`, and pixels of each pair that meets, sorted by the regions.

    Raises
    ------
    ValueError
        If the slices differ in shape.
    """
    if first.shape != second.shape:
        raise ValueError(f"slices differ in shape: {first.shape} and {second.shape}")
    pair, n_px = _shared(
        (first.row_first, first.start, first.stop, first.region),
        (second.row_first, second.start, second.stop, second.region),
        second.n_regions,
    )
    order = np.argsort(pair, kind="stable")
    pair, n_px = pair[order], n_px[order]
    if pair.size:
        new = np.flatnonzero(np.concatenate([[True], np.diff(pair) != 0]))
        pair, n_px = pair[new], np.add.reduceat(n_px, new)
    return pair // max(second.n_regions, 1), pair % max(second.n_regions, 1), n_px


def paint(regions: SliceRegions, ids: np.ndarray) -> np.ndarray:
    """Return the slice (y, x) with the id of every region, as `ids` has it (one per region), in its data type."""
    return _paint(regions.shape[1], regions.row_first, regions.start, regions.stop, ids[regions.region])


@njit(cache=True, nogil=True)
def _runs(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return place of each row's first run, and start, stop and id of the runs of equal non-zero pixels."""
    height, width = labels.shape
    row_first = np.zeros(height + 1, np.int64)
    room = max(4 * height, width) + 16
    start, stop, value = np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, labels.dtype)
    n = 0
    for y in range(height):
        row_first[y] = n
        if n + width > room:
            room = 2 * room + width
            longer = np.empty(room, np.int32)
            longer[:n] = start[:n]
            start = longer
            longer = np.empty(room, np.int32)
            longer[:n] = stop[:n]
            stop = longer
            more = np.empty(room, labels.dtype)
            more[:n] = value[:n]
            value = more
        x = 0
        while x < width:
            this = labels[y, x]
            begin = x
            x += 1
            while x < width and labels[y, x] == this:
                x += 1
            if this != 0:
                start[n], stop[n], value[n] = begin, x, this
                n += 1
    row_first[height] = n
    return row_first, start[:n].copy(), stop[:n].copy(), value[:n].copy()


@njit(cache=True, nogil=True)
def _connect(row_first: np.ndarray, start: np.ndarray, stop: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Join runs of one id that touch, corners included; return the region of every run."""
    n_runs = len(start)
    parent = np.arange(n_runs)
    for y in range(1, len(row_first) - 1):
        above = row_first[y - 1]
        for run in range(row_first[y], row_first[y + 1]):
            while above < row_first[y] and stop[above] < start[run]:
                above += 1
            other = above
            while other < row_first[y] and start[other] <= stop[run]:
                if source[other] == source[run]:
                    a, b = other, run
                    while parent[a] != a:
                        parent[a] = parent[parent[a]]
                        a = parent[a]
                    while parent[b] != b:
                        parent[b] = parent[parent[b]]
                        b = parent[b]
                    parent[max(a, b)] = min(a, b)  # the first run in reading order stands for the region
                other += 1
    region = np.empty(n_runs, np.int32)
    n = 0
    for run in range(n_runs):  # a parent comes before its children
        if parent[run] == run:
            region[run] = n
            n += 1
        else:
            region[run] = region[parent[run]]
    return region


@njit(cache=True, nogil=True)
def _measure(
    row_first: np.ndarray, start: np.ndarray, stop: np.ndarray, region: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return area, box, Σ(y, x) and first run of every region."""
    area, moment, first_run = np.zeros(n, np.int64), np.zeros((n, 2)), np.full(n, -1)
    box = np.zeros((n, 4), np.int32)
    box[:, :2] = np.iinfo(np.int32).max
    for y in range(len(row_first) - 1):
        for run in range(row_first[y], row_first[y + 1]):
            r = region[run]
            length = stop[run] - start[run]
            if first_run[r] < 0:
                first_run[r] = run
            area[r] += length
            moment[r, 0] += float(y) * length
            moment[r, 1] += (start[run] + stop[run] - 1) * 0.5 * length
            box[r, 0], box[r, 2] = min(box[r, 0], y), max(box[r, 2], y + 1)
            box[r, 1], box[r, 3] = min(box[r, 1], start[run]), max(box[r, 3], stop[run])
    return area, box, moment, first_run


@njit(cache=True, nogil=True)
def _shared(
    first: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    second: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    n_second: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``region of first · n_second + region of second`` and the pixels of every two runs that overlap."""
    rows_a, start_a, stop_a, region_a = first
    rows_b, start_b, stop_b, region_b = second
    pair = np.empty(len(start_a) + len(start_b), np.int64)  # each step below passes one run
    n_px = np.empty(len(pair), np.int64)
    n = 0
    for y in range(len(rows_a) - 1):
        a, b = rows_a[y], rows_b[y]
        while a < rows_a[y + 1] and b < rows_b[y + 1]:
            shared = min(stop_a[a], stop_b[b]) - max(start_a[a], start_b[b])
            if shared > 0:
                pair[n] = np.int64(region_a[a]) * n_second + region_b[b]
                n_px[n] = shared
                n += 1
            if stop_a[a] < stop_b[b]:
                a += 1
            else:
                b += 1
    return pair[:n].copy(), n_px[:n].copy()


@njit(cache=True, nogil=True)
def _paint(width: int, row_first: np.ndarray, start: np.ndarray, stop: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Write the id of every run into a plane of zeros."""
    plane = np.zeros((len(row_first) - 1, width), ids.dtype)
    for y in range(len(row_first) - 1):
        for run in range(row_first[y], row_first[y + 1]):
            for x in range(start[run], stop[run]):
                plane[y, x] = ids[run]
    return plane
