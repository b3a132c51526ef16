"""One look at a whole image: what later stages need to know of every slice, and a digest of the content."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from cristae.blockwise import Progress
from cristae.geometry import Box, Voxels, blocks
from cristae.io.ome_zarr import shard_shape
from cristae.volume import Volume

_BLOCK_BYTES = 2**28
"""A block holds whole slices up to this size, bands of them beyond."""
_EXACT = 2**23
"""So many pixels are counted at a time: the counts are 32-bit floats."""


class Survey:
    """What later stages need to know of an image as a whole, gathered from its blocks in the order z, y.

    Parameters
    ----------
    shape, dtype
        Of the image; unsigned whole numbers.
    """

    def __init__(self, shape: Voxels, dtype: np.dtype[Any]) -> None:
        self._shape = shape
        self._total = hashlib.blake2b(f"{shape} {dtype.name}".encode(), digest_size=16)
        self._open: dict[int, tuple[int, np.ndarray]] = {}
        self._moments: list[tuple[float, float]] = []
        self._highest = 0
        self._blank: list[int] = []

    def add(self, block: Box, values: np.ndarray) -> None:
        """Take the voxels of a block of whole rows; its slices are done with the last of their rows."""
        for z, plane in enumerate(np.ascontiguousarray(values), start=block.start[0]):
            check, counts = self._open.pop(z, (0, np.zeros(0, np.int64)))
            self._open[z] = zlib.crc32(plane.data, check), _add(counts, count_values(plane))
        if block.stop[1] == self._shape[1]:
            for z in range(block.start[0], block.stop[0]):
                self._close(z)

    def _close(self, z: int) -> None:
        check, counts = self._open.pop(z)
        # A checksum beside all counts: other voxels would have to agree in both.
        self._total.update(check.to_bytes(4, "little") + counts.astype("<i8").tobytes())
        self._moments.append(grey_moments(counts))
        if np.count_nonzero(counts) == 1:
            self._blank.append(z)
        self._highest = max(self._highest, len(counts) - 1)

    def facts(self) -> dict[str, Any]:
        """Return the facts once all blocks were there; see `survey`."""
        return {
            "digest": self._total.hexdigest(),
            "slice_mean": [mean for mean, _ in self._moments],
            "slice_std": [deviation for _, deviation in self._moments],
            "highest": self._highest,
            "blank": sorted(self._blank),
        }


def survey(volume: Volume, progress: Progress) -> dict[str, Any]:
    """Return what later stages need to know of an image as a whole, in one pass.

    Returns
    -------
    dict
        ``digest``: the same voxels, the same text. ``slice_mean``, ``slice_std``: one float per slice over voxels
        that are not 0, which is padding; a slice without any, or of one grey value, has deviation 1. ``highest``: the
        largest grey value. ``blank``: slices of one grey value throughout.
    """
    found = Survey(volume.shape, volume.dtype)
    todo = list(blocks(volume.grid.box, whole_shards(volume)))
    for done, block in enumerate(todo, start=1):
        found.add(block.write, volume.read(block.write))
        progress(done, len(todo))
    return found.facts()


def count_values(plane: np.ndarray) -> np.ndarray:
    """Return how often each value occurs, up to the largest that does.

    Parameters
    ----------
    plane
        Unsigned whole numbers ``(y, x)``.

    Returns
    -------
    array
        int64 ``(n,)``: counts of the values 0 to n - 1.
    """
    if plane.dtype not in (np.uint8, np.uint16) or plane.size == 0:
        return np.bincount(plane.ravel())
    n_values, rows = int(np.iinfo(plane.dtype).max) + 1, max(1, _EXACT // plane.shape[1])
    counts = np.zeros(n_values, np.int64)
    for start in range(0, len(plane), rows):
        part = cv2.calcHist([plane[start : start + rows]], [0], None, [n_values], [0, n_values])
        counts += part.ravel().astype(np.int64)
    return counts[: int(np.flatnonzero(counts)[-1]) + 1]


def blank_inside(facts: Mapping[str, Any]) -> list[int]:
    """Return the slices of one grey value throughout that lie between others: lost, while those at an end are padding.

    Parameters
    ----------
    facts
        Of `survey`.
    """
    blank = set(facts["blank"])
    seen = sorted(set(range(len(facts["slice_mean"]))) - blank)
    return sorted(blank & set(range(seen[0], seen[-1]))) if seen else []


def grey_moments(counts: np.ndarray) -> tuple[float, float]:
    """Return mean and standard deviation of grey values that occur `counts` times, without value 0.

    Parameters
    ----------
    counts
        Integer ``(n,)``: how often the values 0 to n - 1 occur.

    Returns
    -------
    tuple of float
        ``(0, 1)`` where nothing is left; a deviation of 0 is given as 1, so that dividing by it is safe.
    """
    weights = counts[1:].astype(np.float64)
    if not weights.sum():
        return 0.0, 1.0
    values = np.arange(1, len(counts), dtype=np.float64)
    mean = float((weights * values).sum() / weights.sum())
    deviation = float(np.sqrt((weights * (values - mean) ** 2).sum() / weights.sum()))
    return mean, deviation or 1.0


def whole_shards(volume: Volume) -> Voxels:
    """Return the shape of blocks that own whole shards and, as far as memory goes, whole slices."""
    depth, rows, columns = shard_shape(volume)
    if (depth, rows, columns) == (1, 1, 1):  # a source on its way in
        depth, rows = 16, 1024
    _, height, width = volume.shape
    row_bytes = max(1, depth * width * volume.dtype.itemsize)
    n_rows = max(1, _BLOCK_BYTES // row_bytes // rows) * rows
    return depth, n_rows if n_rows < height else -(-height // rows) * rows, -(-width // columns) * columns


def _add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    longer, shorter = (a, b) if len(a) >= len(b) else (b, a)
    total = longer.copy()
    total[: len(shorter)] += shorter
    return total
