"""Equalisation of grey values, slice by slice: by rank, in tiles, or like a reference. Padding (0) never counts.

Every method is a table from old grey values to new ones, drawn up from counts alone::

    counts of a slice ──▸ share c(v) of pixels darker than v, half of those of v itself included
    histogram    v → 1 + round((L - 1) c(v))             all grey values equally common; L = 255 or 65535
    match        v → grey value of the reference at which the share is c(v)
    clahe        a histogram table per tile, its counts cut at a limit; in between tables are mixed bilinearly

Counting half of the pixels of one's own grey value makes the table fair to dark and bright ones alike. It depends on
the order of grey values only: what changes grey values but not their order, and makes no two equal, leaves the result
as it was, bit for bit. 0 stays 0, and nothing else becomes 0.

Papers: R. C. Gonzalez and R. E. Woods (2018), Digital Image Processing, §3.3 (equalisation and specification);
K. Zuiderveld (1994), Graphics Gems IV, 474 (CLAHE).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

Counts = NDArray[np.int64]

_BINS = 1024
"""Most classes of grey values in a tile."""


def grey_counts(plane: np.ndarray) -> Counts:
    """Return how often each grey value occurs.

    Parameters
    ----------
    plane
        uint8 or uint16, of any shape.

    Returns
    -------
    int64 (256,) or (65536,)
        The first is that of 0, which is no data.

    Raises
    ------
    ValueError
        If the plane is of another type.
    """
    counts = np.zeros(_levels(plane.dtype), np.int64)
    _count(np.ascontiguousarray(plane).ravel(), counts)
    return counts


def equalising_table(counts: Counts) -> np.ndarray:
    """Return the table that makes all grey values equally common.

    Parameters
    ----------
    counts
        From `grey_counts`.

    Returns
    -------
    uint8 (256,) or uint16 (65536,)
        New grey value of each old one: 0 for 0, else 1 and up. One grey value alone becomes the middle one.
    """
    top = len(counts) - 1
    table = 1 + np.floor((top - 1) * _shares(counts) + 0.5)
    return _table(table, top)


def matching_table(counts: Counts, reference: Counts) -> np.ndarray:
    """Return the table that gives a slice the distribution of a reference.

    Parameters
    ----------
    counts, reference
        From `grey_counts`, of one type. Without any pixel in one of them nothing is changed.

    Returns
    -------
    uint8 (256,) or uint16 (65536,)
        New grey value of each old one: 0 for 0, else one that lies within those of the reference. Between the shares
        of two grey values of the reference it lies on a straight line.

    Raises
    ------
    ValueError
        If the counts differ in length.
    """
    if len(counts) != len(reference):
        raise ValueError(f"expected counts of one type of grey values, got {len(counts)} and {len(reference)} of them")
    top = len(counts) - 1
    found = np.flatnonzero(reference[1:]) + 1
    if not len(found) or not counts[1:].any():
        return np.arange(top + 1).astype(_dtype(top))
    table = np.interp(_shares(counts), _shares(reference)[found], found.astype(np.float64))
    return _table(np.floor(table + 0.5), top)


def apply_table(plane: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Return a plane with every grey value replaced by its entry in the table."""
    if plane.dtype == np.uint8 and plane.ndim == 2:
        return cv2.LUT(plane, table)
    return table[plane]


@dataclass(frozen=True, slots=True)
class Tiles:
    """How CLAHE cuts a slice.

    Parameters
    ----------
    side
        Of a tile in pixels, about: a slice is cut into equal ones.
    limit
        Times the mean count (over all classes from the darkest to the brightest grey value of the slice) that a class
        may reach in a tile. 1 changes little, large values are equalisation.

    Raises
    ------
    ValueError
        If the side is below 8 px or the limit below 1.
    """

    side: int = 256
    limit: float = 3.0

    def __post_init__(self) -> None:
        if self.side < 8 or not self.limit >= 1:
            raise ValueError(f"expected tiles of at least 8 px and a limit of at least 1, got {self}")


def clahe(plane: np.ndarray, tiles: Tiles | None = None) -> np.ndarray:
    """Equalise in tiles, contrast limited; padding counts in no tile.

    Parameters
    ----------
    plane
        uint8 or uint16 ``(y, x)``; 0 is no data. Grey values from the darkest to the brightest are put into classes of
        equal width, at most 1024.
    tiles
        How.

    Returns
    -------
    (y, x) of the dtype of `plane`
        0 where there are no data; nowhere else.
    """
    tiles = tiles or Tiles()
    _levels(plane.dtype)
    if not plane.any():
        return plane.copy()
    known = plane[plane > 0]
    low, high = int(known.min()), int(known.max())
    n_classes = min(_BINS, high - low + 1)
    spread, origin = (high - low + 1) / n_classes, low
    rows, columns = (max(1, round(length / tiles.side)) for length in plane.shape)
    counts = np.zeros((rows, columns, n_classes), np.int64)
    _count_tiles(np.ascontiguousarray(plane), origin, spread, counts)
    tables, full = np.zeros(counts.shape, np.float32), counts.sum(2) > 0
    for place in zip(*np.nonzero(full), strict=True):
        limited = _limited(counts[place], tiles.limit)
        tables[place] = np.cumsum(limited) - 0.5 * limited
        tables[place] /= limited.sum()
    new = np.zeros(plane.shape, plane.dtype)
    _mix(np.ascontiguousarray(plane), (origin, spread), tables, full, new)
    return new


def _levels(dtype: np.dtype) -> int:
    if dtype not in (np.uint8, np.uint16):
        raise ValueError(f"expected grey values of uint8 or uint16, got {dtype}")
    return 256 if dtype == np.uint8 else 65536


def _dtype(top: int) -> type[np.uint8] | type[np.uint16]:
    return np.uint8 if top == 255 else np.uint16


def _shares(counts: Counts) -> NDArray[np.float64]:
    """Return for each grey value the share of pixels that are darker, half of its own included; padding left out."""
    known = counts.astype(np.float64)
    known[0] = 0
    return (np.cumsum(known) - 0.5 * known) / max(1.0, known.sum())


def _table(values: NDArray[np.float64], top: int) -> np.ndarray:
    table = np.clip(values, 1, top).astype(_dtype(top))
    table[0] = 0
    return table


def _limited(counts: Counts, limit: float) -> NDArray[np.float64]:
    """Cut counts at a limit and spread what was cut evenly; the limit holds before spreading, as in the paper."""
    most = limit * counts.sum() / len(counts)
    cut = np.minimum(counts, most)
    return cut + (counts.sum() - cut.sum()) / len(counts)


@njit(cache=True, nogil=True)
def _count(values: np.ndarray, counts: np.ndarray) -> None:
    for i in range(values.shape[0]):
        counts[values[i]] += 1


@njit(cache=True, nogil=True)
def _count_tiles(plane: np.ndarray, origin: int, spread: float, counts: np.ndarray) -> None:
    height, width = plane.shape
    rows, columns, last = counts.shape[0], counts.shape[1], counts.shape[2] - 1
    for y in range(height):
        row = y * rows // height
        for x in range(width):
            if plane[y, x] > 0:
                bin_ = min(int((plane[y, x] - origin) / spread), last)
                counts[row, x * columns // width, bin_] += 1


@njit(cache=True, nogil=True)
def _mix(plane: np.ndarray, classes: tuple[int, float], tables: np.ndarray, full: np.ndarray, new: np.ndarray) -> None:
    """Mix the tables of the four tiles whose centres are nearest; those of tiles without data do not count."""
    height, width = plane.shape
    rows, columns, n_classes = tables.shape
    origin, spread = classes
    top = 255 if plane.itemsize == 1 else 65535
    for y in range(height):
        at_y = (y + 0.5) * rows / height - 0.5
        row = int(np.floor(at_y))
        down = at_y - row
        for x in range(width):
            value = plane[y, x]
            if value == 0:
                continue
            bin_ = min(int((value - origin) / spread), n_classes - 1)
            at_x = (x + 0.5) * columns / width - 0.5
            column = int(np.floor(at_x))
            right = at_x - column
            total = weights = 0.0
            for i in range(2):
                tile_y = min(max(row + i, 0), rows - 1)
                part = down if i else 1 - down
                for j in range(2):
                    tile_x = min(max(column + j, 0), columns - 1)
                    if full[tile_y, tile_x]:
                        weight = part * (right if j else 1 - right)
                        total += weight * tables[tile_y, tile_x, bin_]
                        weights += weight
            share = total / weights if weights > 0 else 0.5
            new[y, x] = 1 + int((top - 1) * share + 0.5)
