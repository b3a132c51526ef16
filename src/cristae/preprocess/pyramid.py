"""What a slice is matched by: flattened, in halving sizes.

Flattened is a slice whose grey values were divided by their local contrast, after the local mean was taken off.
Strong edges then count no more than faint texture does. That matters, for among few cells edges lean one way or the
other, and alignment would stand them up; texture leans nowhere. Pixels without data (0) are NaN.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
Pyramid = tuple[Plane, ...]

FINEST = 1536
"""Longest side (px) of the finest level that is matched; wider slices are reduced by whole numbers first."""
_COARSEST = 128
"""A level whose longer side is at most this is the last."""
_FINE_SIGMA, _WIDE, _FLOOR = 1.0, 5, 0.3
"""Width (px) of the smoothing that structure is seen through; side of the squares that mean and contrast are taken of;
contrast, relative to the median of the slice, below which texture is not raised."""
_STRIPE = 129
"""Length (px) along y over which what stays the same is taken for a milling stripe, which moves with the microscope."""
_SMALLEST = 32
"""Slices (px, after reduction) with a shorter side cannot be matched."""
_CLIP = 3.0
"""Grey values further than so many deviations from the mean are cut: bright specks must not decide."""


def reduction(shape: tuple[int, int]) -> int:
    """Return the whole number that slices of this shape are reduced by before they are matched: a power of 2."""
    factor = 1
    while max(shape) > FINEST * factor:
        factor *= 2
    return factor


def build_pyramid(plane: np.ndarray) -> Pyramid:
    """Return what a slice is matched by: flattened, of deviation 1, in halving sizes.

    Parameters
    ----------
    plane
        uint8 or uint16 ``(y, x)``; 0 is no data.

    Returns
    -------
    tuple of float32 (y, x)
        From the finest, at most `FINEST` px long, to the coarsest. NaN where there are no data. Empty where a slice has
        none, or no contrast, or is too small.
    """
    factor = reduction((plane.shape[0], plane.shape[1]))
    size = (max(1, plane.shape[1] // factor), max(1, plane.shape[0] // factor))
    cut = np.ascontiguousarray(plane[: size[1] * factor, : size[0] * factor])
    small = cv2.resize(cut, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    known = _known(cut, size)
    if min(size) < _SMALLEST or not known.any():
        return ()
    level = _flattened(small, known)
    spread = float(np.nanstd(level)) if np.isfinite(level).any() else 0.0
    if not spread > 1e-6:
        return ()
    level = np.clip(level / np.float32(spread), -_CLIP, _CLIP)
    levels = [level]
    while max(level.shape) > _COARSEST and min(level.shape) >= 2 * _SMALLEST:
        half = (level.shape[1] // 2, level.shape[0] // 2)
        level = cv2.resize(level[: 2 * half[1], : 2 * half[0]], half, interpolation=cv2.INTER_AREA)
        levels.append(level)  # a mean with NaN in it is NaN
    return tuple(levels)


def _known(plane: np.ndarray, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Say which reduced pixels come from pixels with data alone."""
    if plane.all():
        return np.ones((size[1], size[0]), np.bool_)
    seen = np.where(plane == 0, np.uint8(0), np.uint8(255))
    # A few lost pixels among many with data do not spoil a reduced one.
    return cv2.resize(seen, size, interpolation=cv2.INTER_AREA) > 230


def _flattened(plane: Plane, known: NDArray[np.bool_]) -> Plane:
    """Return a plane less its local mean and over its local contrast; NaN where there are no data, and just beside."""
    weight = known.astype(np.float32)
    filled = np.where(known, plane, np.float32(0))
    share = np.maximum(_local_mean(weight), np.float32(1e-3))
    near = cv2.GaussianBlur(weight, (0, 0), _FINE_SIGMA)
    band = cv2.GaussianBlur(filled, (0, 0), _FINE_SIGMA) - _local_mean(filled) / share
    band = np.where(near > 0.999, band, np.float32(0))
    contrast = np.sqrt(np.maximum(_local_mean(band * band) / share, 0))
    typical = float(np.median(contrast[known]))
    if not typical > 1e-6:
        return np.full(plane.shape, np.nan, np.float32)
    flat = band / np.maximum(contrast, np.float32(_FLOOR * typical))
    column = (1, min(_STRIPE, plane.shape[0] // 2))
    flat = flat - cv2.blur(flat, column) / np.maximum(cv2.blur(weight, column), np.float32(0.1))
    return np.where(near > 0.999, flat, np.float32(np.nan))


def _local_mean(plane: np.ndarray) -> np.ndarray:
    """Return means of squares, a little smoothed, with straight lines in between."""
    height, width = plane.shape
    size = (max(1, width // _WIDE), max(1, height // _WIDE))
    means = cv2.GaussianBlur(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), (0, 0), 0.7)
    return cv2.resize(means, (width, height), interpolation=cv2.INTER_LINEAR)
