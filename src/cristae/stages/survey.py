"""One look at a whole image: what later stages need to know of every slice, and a digest of the content."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from cristae.blockwise import Progress
from cristae.geometry import Voxels, blocks
from cristae.io.ome_zarr import shard_shape
from cristae.volume import Volume

_BLOCK_BYTES = 2**28
"""A block holds whole slices up to this size, bands of them beyond."""


def survey(volume: Volume, progress: Progress) -> dict[str, Any]:
    """Return what later stages need to know of an image as a whole, in one pass.

    Returns
    -------
    dict
        ``digest``: the same voxels, the same text. ``slice_mean``, ``slice_std``: one float per slice over voxels
        that are not 0, which is padding; a slice without any, or of one grey value, has deviation 1.
    """
    depth = volume.shape[0]
    counts: dict[int, np.ndarray] = {}
    moments: list[tuple[float, float]] = []
    digests = [hashlib.blake2b(digest_size=16) for _ in range(depth)]
    todo = list(blocks(volume.grid.box, whole_shards(volume)))
    for done, block in enumerate(todo, start=1):
        for z, values in enumerate(volume.read(block.write), start=block.write.start[0]):
            digests[z].update(np.ascontiguousarray(values).data)
            found = np.bincount(values.ravel())
            counts[z] = _add(counts[z], found) if z in counts else found
        if block.write.stop[1:] == volume.shape[1:]:  # counts of 16 bits take half a megabyte a slice
            moments += [grey_moments(counts.pop(z)) for z in sorted(counts)]
        progress(done, len(todo))
    total = hashlib.blake2b(f"{volume.shape} {volume.dtype.name}".encode(), digest_size=16)
    for digest in digests:
        total.update(digest.digest())
    return {
        "digest": total.hexdigest(),
        "slice_mean": [mean for mean, _ in moments],
        "slice_std": [deviation for _, deviation in moments],
    }


def black_slices(slice_mean: Sequence[float]) -> list[int]:
    """Return the slices without a voxel above 0 that lie between others: lost, while those at an end are padding."""
    seen = [z for z, mean in enumerate(slice_mean) if mean > 0]
    return [z for z in range(seen[0], seen[-1]) if slice_mean[z] == 0] if seen else []


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
