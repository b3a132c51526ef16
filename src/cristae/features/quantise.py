"""Grey levels of objects: what texture is counted on. Levels go from 1 up; 0 is outside of objects.

Every object is divided by its own range, so that its texture does not depend on the brightness of the picture::

    grey values of one object     103  110  118  126  127      minimum 103, maximum 127
    3 bins: (g - 103) / 24 * 3     0    .9   1.9  2.9  3.0
    level                          1    1    2    3    3       the maximum belongs to the last bin

Minimum and maximum come from an earlier pass over the volume and are passed in: with those of a block alone, levels
would depend on the blocks.

Paper: A. Zwanenburg et al. (2020), Radiology 295, 328: the Image Biomarker Standardisation Initiative (IBSI) and its
reference manual, "Intensity discretisation". Fixed bin number: ⌊N (g − min) / (max − min)⌋ + 1, and N for the maximum.
Fixed bin width: ⌊(g − min) / w⌋ + 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit

LARGEST_LEVEL = 65535


@dataclass(frozen=True)
class Quantisation:
    """How grey values become levels.

    Parameters
    ----------
    by
        ``number``: every object's range in `n_bins` equal bins. ``width``: bins of `bin_width` grey values from the
        object's minimum on. ``none``: grey values are whole numbers from 1 and are the levels themselves.
    n_bins
        Bins of an object, 1 to 65535. 32 is our choice: Machireddy et al. (2023) state none.
    bin_width
        Width of a bin in grey values, above 0.

    Raises
    ------
    ValueError
        If `by` is unknown, or a number is out of bounds.
    """

    by: Literal["number", "width", "none"] = "number"
    n_bins: int = 32
    bin_width: float = 8.0

    def __post_init__(self) -> None:
        if self.by not in ("number", "width", "none"):
            raise ValueError(f"expected levels by 'number', 'width' or 'none', got {self.by!r}")
        if not 1 <= self.n_bins <= LARGEST_LEVEL:
            raise ValueError(f"expected 1 to {LARGEST_LEVEL} bins, got {self.n_bins}")
        if not 0 < self.bin_width < float("inf"):
            raise ValueError(f"expected a bin width above 0, got {self.bin_width}")


def highest_level(minimum: np.ndarray, maximum: np.ndarray, quantisation: Quantisation) -> int:
    """Return the highest level that any of the objects can have: the size of their matrices; 0 without objects.

    Parameters
    ----------
    minimum, maximum
        Grey values (n_objects,), smallest and largest of every object, finite.
    quantisation
        How.

    Raises
    ------
    ValueError
        If a range is not one, or levels go beyond 65535.
    """
    low, high = _ranges(minimum, maximum)
    if not low.size:
        return 0
    if quantisation.by == "number":
        return quantisation.n_bins
    by_width = quantisation.by == "width"
    highest = float(np.floor((high - low) / quantisation.bin_width).max()) + 1 if by_width else float(high.max())
    if highest > LARGEST_LEVEL:
        advice = "choose wider bins" if by_width else "quantise by number or width"
        raise ValueError(f"expected at most {LARGEST_LEVEL} grey levels, got {highest:.0f}; {advice}")
    return int(highest)


def quantise(
    labels: np.ndarray, image: np.ndarray, minimum: np.ndarray, maximum: np.ndarray, quantisation: Quantisation
) -> np.ndarray:
    """Return the grey level of every voxel of every object.

    Parameters
    ----------
    labels
        Integer ``(z, y, x)``: dense ids 0..n, 0 is background.
    image
        Integers or floats of the same shape; what lies outside objects is not looked at.
    minimum, maximum
        Grey values (n,): smallest and largest of every object in the whole volume; row i is object i + 1. They may be
        wider than what occurs. An object with one grey value gets level 1.
    quantisation
        How.

    Returns
    -------
    ndarray
        ``(z, y, x)``: levels from 1; 0 outside objects. uint8 if the highest level of all objects is below 256, else
        uint16.

    Raises
    ------
    ValueError
        If shapes differ, ids go beyond the ranges, a grey value lies outside its object's range or is not finite, or
        values that shall be levels are not whole numbers from 1 to 65535.
    """
    if labels.shape != image.shape or labels.ndim != 3:
        raise ValueError(f"expected labels and image of one shape (z, y, x), got {labels.shape} and {image.shape}")
    low, high = _ranges(minimum, maximum)
    first, last = int(labels.min(initial=0)), int(labels.max(initial=0))
    if first < 0 or last > low.size:
        raise ValueError(f"expected ids from 0 to {low.size}, one range for each object; got {first} to {last}")
    top = highest_level(low, high, quantisation)
    levels = np.zeros(labels.shape, np.uint8 if top < 256 else np.uint16)
    if quantisation.by == "number":
        wrong = _by_number(labels, image, low, high, quantisation.n_bins, levels)
    elif quantisation.by == "width":
        wrong = _by_width(labels, image, low, high, quantisation.bin_width, levels)
    else:
        wrong = _as_they_are(labels, image, top, levels)
    if wrong and quantisation.by == "none":
        raise ValueError(f"expected whole numbers from 1 to {top}; {wrong} voxels are not; quantise by number or width")
    if wrong:
        raise ValueError(
            f"expected grey values in the range of their object; {wrong} voxels are not: ranges and image differ"
        )
    return levels


def _ranges(minimum: np.ndarray, maximum: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.asarray(minimum, np.float64), np.asarray(maximum, np.float64)
    if low.ndim != 1 or low.shape != high.shape:
        raise ValueError(f"expected one minimum and one maximum for each object, got {low.shape} and {high.shape}")
    if not (np.isfinite(low) & np.isfinite(high) & (low <= high)).all():
        raise ValueError("expected finite minima that are not above their maxima")
    return low, high


@njit(cache=True, nogil=True)
def _by_number(
    labels: np.ndarray, image: np.ndarray, low: np.ndarray, high: np.ndarray, n_bins: int, levels: np.ndarray
) -> int:
    """Fill `levels`; return how many voxels lie outside their range.

    The quotient is rounded once, so integers up to 32 bits fall into exact bins.
    """
    wrong = 0
    for z in range(labels.shape[0]):
        for y in range(labels.shape[1]):
            for x in range(labels.shape[2]):
                i = np.int64(labels[z, y, x])
                if i == 0:
                    continue
                grey = np.float64(image[z, y, x])
                first, last = low[i - 1], high[i - 1]
                if not first <= grey <= last:
                    wrong += 1
                elif grey == last:
                    levels[z, y, x] = n_bins if last > first else 1
                else:
                    # The minimum keeps the rounding of floats that lie just below the maximum out of bin N + 1.
                    levels[z, y, x] = min(int((grey - first) * n_bins / (last - first)) + 1, n_bins)
    return wrong


@njit(cache=True, nogil=True)
def _by_width(
    labels: np.ndarray, image: np.ndarray, low: np.ndarray, high: np.ndarray, bin_width: float, levels: np.ndarray
) -> int:
    """Fill `levels`; return how many voxels lie outside their range."""
    wrong = 0
    for z in range(labels.shape[0]):
        for y in range(labels.shape[1]):
            for x in range(labels.shape[2]):
                i = np.int64(labels[z, y, x])
                if i == 0:
                    continue
                grey = np.float64(image[z, y, x])
                if low[i - 1] <= grey <= high[i - 1]:
                    levels[z, y, x] = int((grey - low[i - 1]) / bin_width) + 1
                else:
                    wrong += 1
    return wrong


@njit(cache=True, nogil=True)
def _as_they_are(labels: np.ndarray, image: np.ndarray, top: int, levels: np.ndarray) -> int:
    """Fill `levels`; return how many voxels hold no level."""
    wrong = 0
    for z in range(labels.shape[0]):
        for y in range(labels.shape[1]):
            for x in range(labels.shape[2]):
                if labels[z, y, x] == 0:
                    continue
                grey = np.float64(image[z, y, x])
                if 1 <= grey <= top and grey == np.floor(grey):
                    levels[z, y, x] = int(grey)
                else:
                    wrong += 1
    return wrong
