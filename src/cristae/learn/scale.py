"""From voxels to the pixels a network sees and back: normalise, reduce, enlarge.

Everything here acts slice by slice and depends on global coordinates alone, so that blocks agree with the whole.
"""

from __future__ import annotations

import math

import numpy as np

from cristae.geometry import Grid

LARGEST_SHARE = 0.55
"""A tile spans at most this share of a slice, for a small volume has no far context but detail to lose."""


def reduction(grid: Grid, tile_px: int, context_nm: float) -> int:
    """Return by how much slices are reduced (a whole number ≥ 1) so that a tile of `tile_px` spans `context_nm`.

    The context shrinks to `LARGEST_SHARE` of the longer side of a slice where the volume is small. The papers' 2048 →
    512 px at 4 nm is a context of 8192 nm on tiles of 512: a reduction by 4, a third of their slices. A fraction is
    rounded down, to keep detail rather than context.
    """
    voxel = min(grid.voxel_size[1:])
    extent = max(n * size for n, size in zip(grid.shape[1:], grid.voxel_size[1:], strict=True))
    return max(1, math.floor(min(context_nm, LARGEST_SHARE * extent) / (tile_px * voxel) + 1e-6))


def like_reduction(grid: Grid, pixel_nm: float) -> int:
    """Return the reduction (a whole number ≥ 1) by which pixels come nearest to `pixel_nm`, in ratio."""
    voxel = min(grid.voxel_size[1:])
    below = max(1, math.floor(pixel_nm / voxel + 1e-6))
    # Nearest in ratio: 5 nm for 7 is as wrong as 9.8 nm.
    return below if pixel_nm / (below * voxel) <= (below + 1) * voxel / pixel_nm else below + 1


def normalise(slices: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Return float32 ``(z, y, x)`` with each slice's own mean and standard deviation (``(z,)`` each) taken out."""
    scaled = slices.astype(np.float32)
    scaled -= mean.astype(np.float32)[:, None, None]
    scaled /= deviation.astype(np.float32)[:, None, None]
    return scaled


def reduce_slices(slices: np.ndarray, factor: int) -> np.ndarray:
    """Return means over ``factor × factor`` pixels of each slice as float32; edges are filled by repetition."""
    if factor == 1:
        return slices.astype(np.float32, copy=False)
    _, height, width = slices.shape
    padded = np.pad(slices, ((0, 0), (0, -height % factor), (0, -width % factor)), mode="edge")
    total = np.zeros((slices.shape[0], padded.shape[1] // factor, padded.shape[2] // factor), np.float32)
    for row in range(factor):
        for column in range(factor):
            total += padded[:, row::factor, column::factor]
    return total / np.float32(factor * factor)


def enlarge_slices(slices: np.ndarray, factor: int) -> np.ndarray:
    """Return slices enlarged by `factor` with linear interpolation between pixel centres.

    The first and last half pixel repeat the edge, so callers that work in blocks give one pixel of margin. Weights
    depend on the position within a pixel alone: blocks give the same bits as the whole.
    """
    if factor == 1:
        return slices
    return _enlarge_axis(_enlarge_axis(slices, factor, 1), factor, 2)


def _enlarge_axis(values: np.ndarray, factor: int, axis: int) -> np.ndarray:
    moved = np.moveaxis(values, axis, -1)
    padded = np.concatenate((moved[..., :1], moved, moved[..., -1:]), axis=-1)
    n = moved.shape[-1]
    result = np.empty((*moved.shape[:-1], n * factor), values.dtype)
    for phase in range(factor):
        offset = (phase + 0.5) / factor - 0.5
        first = 0 if offset < 0 else 1
        share = np.asarray(offset % 1.0, values.dtype)
        near, far = padded[..., first : first + n], padded[..., first + 1 : first + 1 + n]
        result[..., phase::factor] = near + share * (far - near)
    return np.moveaxis(result, -1, axis)
