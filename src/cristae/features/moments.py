"""Size, place and main directions of objects, from sums of whole numbers that are exact in any order.

A block adds up, for every object, its voxels, their indices and products of indices. Blocks then add, and only the
table turns the sums into nanometres, so the result cannot depend on the blocks::

    x  0 1 2 3 4 5 6 7        one run of the row: voxels 2..5, m = 4
       . . 1 1 1 1 . .        adds m, 2+3+4+5 and 2²+3²+4²+5² at once: a row costs as much as it has runs

Papers: A. Zwanenburg et al. (2020), Radiology 295, 328, and the IBSI reference manual (axis lengths, elongation,
flatness by principal components).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from numba import njit

from cristae.features.definitions import Definition

_IBSI = "Zwanenburg et al. 2020 (IBSI)"
_NOWHERE = np.iinfo(np.int64).max

DEFINITIONS: Mapping[str, Definition] = {
    "n_voxels": Definition("", "voxels of the object"),
    "volume_um3": Definition("µm³", "volume of the voxels", "n_voxels · voxel volume"),
    "equivalent_diameter_um": Definition("µm", "diameter of the ball of that volume", "(6 V / π)^(1/3)"),
    **{
        f"centroid_{axis}_nm": Definition("nm", f"mean {axis} of the voxel centres; 0 is the centre of the first voxel")
        for axis in "zyx"
    },
    **{f"bbox_{axis}_start_px": Definition("px", f"smallest index along {axis}") for axis in "zyx"},
    **{f"bbox_{axis}_stop_px": Definition("px", f"largest index along {axis}, plus one") for axis in "zyx"},
    "touches_edge": Definition("", "whether a voxel lies on the border of the volume, so that the object may be cut"),
    **{
        f"axis_{rank}_nm": Definition(
            "nm",
            f"{name} full axis of the ellipsoid with the object's second moments; every voxel counts as a box",
            f"2 √(5 λ_{rank}), λ of the covariance with s²/12 added along each axis of voxel size s",
            _IBSI,
        )
        for rank, name in ((1, "longest"), (2, "middle"), (3, "shortest"))
    },
    "elongation": Definition(
        "", "middle axis over the longest: 1 for a disc or ball, towards 0 for a rod", "√(λ_2/λ_1)", _IBSI
    ),
    "flatness": Definition(
        "", "shortest axis over the longest: 1 for a ball, towards 0 for a plate or rod", "√(λ_3/λ_1)", _IBSI
    ),
    **{
        f"orientation_{axis}": Definition(
            "",
            f"{axis} of the unit vector along the longest axis; its largest part is positive, empty without a longest",
        )
        for axis in "zyx"
    },
    "grey_min": Definition("", "lowest grey value"),
    "grey_max": Definition("", "highest grey value"),
    "grey_mean": Definition("", "mean grey value", "Σ grey / n_voxels"),
}


@dataclass(frozen=True)
class Moments:
    """Sums over the voxels of every object, row i for object i + 1; disjoint parts add up exactly.

    Parameters
    ----------
    n_voxels
        int64 ``(n,)``.
    first
        int64 ``(n, 3)``, sums of the indices z, y, x in the whole volume.
    second
        int64 ``(n, 6)``, sums of zz, yy, xx, zy, zx, yx.
    low, high
        int64 ``(n, 3)``, smallest and largest index; the largest int64 and −1 where there is no voxel.
    grey
        int64 ``(n, 3)``: minimum, maximum, sum of the grey values; None without an image.
    """

    n_voxels: np.ndarray
    first: np.ndarray
    second: np.ndarray
    low: np.ndarray
    high: np.ndarray
    grey: np.ndarray | None = None

    def __add__(self, other: Moments) -> Moments:
        grey = None
        if self.grey is not None and other.grey is not None:
            a, b = self.grey, other.grey
            grey = np.stack([np.minimum(a[:, 0], b[:, 0]), np.maximum(a[:, 1], b[:, 1]), a[:, 2] + b[:, 2]], axis=1)
        return Moments(
            self.n_voxels + other.n_voxels,
            self.first + other.first,
            self.second + other.second,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            grey,
        )

    def __getitem__(self, rows: np.ndarray) -> Moments:
        """Return the sums of some objects, in that order."""
        grey = None if self.grey is None else self.grey[rows]
        return Moments(self.n_voxels[rows], self.first[rows], self.second[rows], self.low[rows], self.high[rows], grey)

    @classmethod
    def empty(cls, n_objects: int, *, grey: bool = False) -> Self:
        """Return the sums over no voxel at all: what blocks are added to."""
        extremes = np.tile(np.array([_NOWHERE, -1, 0], np.int64), (n_objects, 1)) if grey else None
        return cls(
            np.zeros(n_objects, np.int64),
            np.zeros((n_objects, 3), np.int64),
            np.zeros((n_objects, 6), np.int64),
            np.full((n_objects, 3), _NOWHERE, np.int64),
            np.full((n_objects, 3), -1, np.int64),
            extremes,
        )

    @property
    def centroid_px(self) -> np.ndarray:
        """float64 ``(n, 3)``, mean index (z, y, x); NaN for an object without voxels."""
        with np.errstate(invalid="ignore"):
            return self.first / self.n_voxels[:, None]


def add_moments(
    labels: np.ndarray,
    n_objects: int,
    inner: tuple[slice, slice, slice],
    *,
    start: tuple[int, int, int] = (0, 0, 0),
    image: np.ndarray | None = None,
) -> Moments:
    """Sum up voxels, indices and grey values of the objects in a block. Needs no halo.

    Parameters
    ----------
    labels
        Integers ``(z, y, x)``, 0 background, objects 1 to `n_objects`.
    n_objects
        Number of rows to return.
    inner
        Part of the block to count.
    start
        Index of the block's first voxel in the volume.
    image
        uint8 or uint16 grey values, shaped like the labels.

    Returns
    -------
    Moments
        Of the voxels in `inner`.

    Raises
    ------
    ValueError
        If the image differs in shape, or has another type.
    """
    # An object that fills 6000 × 4000 × 2500 voxels is the largest foreseen: Σzz = 6e10 · 6000²/3 = 7e17, and even
    # 6e10 · 6000² is 2e18; uint16 grey values sum to 4e15. All stay below 2⁶³ = 9e18.
    sums = Moments.empty(n_objects, grey=image is not None)
    offset = np.array([begin + (part.start or 0) for begin, part in zip(start, inner, strict=True)], np.int64)
    if image is not None and (image.shape != labels.shape or image.dtype not in (np.uint8, np.uint16)):
        raise ValueError(
            f"expected an image of uint8 or uint16 and shape {labels.shape}, got {image.dtype} of {image.shape}"
        )
    values = np.zeros((1, 1, 1), np.uint8) if image is None else image[inner]
    grey = np.zeros((0, 3), np.int64) if sums.grey is None else sums.grey
    _add_rows(labels[inner], values, offset, (sums.n_voxels, sums.first, sums.second, sums.low, sums.high, grey))
    return sums


def moments_table(
    moments: Moments, voxel_size: tuple[float, float, float], shape: tuple[int, int, int]
) -> pd.DataFrame:
    """Return size, place and main directions of every object, in physical units.

    Parameters
    ----------
    moments
        Of whole objects.
    voxel_size
        nm (z, y, x).
    shape
        Voxels of the whole volume, for `touches_edge`.

    Returns
    -------
    pd.DataFrame
        One row per object; the columns of `DEFINITIONS`, those of grey values only if there was an image. NaN where an
        object has no voxel, and in the orientation where its two longest axes are equal.
    """
    n = moments.n_voxels
    size = np.asarray(voxel_size, np.float64)
    there = n > 0
    volume = n * size.prod()
    values, vectors = _principal(moments, size)
    with np.errstate(invalid="ignore"):
        ratios = np.sqrt(values / values[:, :1])
    longest = np.where((values[:, 0] - values[:, 1] > 1e-9 * values[:, 0])[:, None], vectors, np.nan)
    low, high = np.where(there[:, None], moments.low, 0), np.where(there[:, None], moments.high + 1, 0)
    columns: dict[str, np.ndarray] = {
        "n_voxels": n,
        "volume_um3": volume * 1e-9,
        "equivalent_diameter_um": np.where(there, np.cbrt(6 * volume / np.pi), np.nan) * 1e-3,
    }
    centroid = moments.centroid_px * size
    columns |= {f"centroid_{axis}_nm": centroid[:, i] for i, axis in enumerate("zyx")}
    columns |= {f"bbox_{axis}_start_px": low[:, i] for i, axis in enumerate("zyx")}
    columns |= {f"bbox_{axis}_stop_px": high[:, i] for i, axis in enumerate("zyx")}
    columns["touches_edge"] = there & ((low == 0) | (high == np.asarray(shape))).any(axis=1)
    columns |= {f"axis_{i + 1}_nm": 2 * np.sqrt(5 * values[:, i]) for i in range(3)}
    columns |= {"elongation": ratios[:, 1], "flatness": ratios[:, 2]}
    columns |= {f"orientation_{axis}": longest[:, i] for i, axis in enumerate("zyx")}
    if moments.grey is not None:
        grey = np.where(there[:, None], moments.grey, np.nan)
        with np.errstate(invalid="ignore"):
            mean = grey[:, 2] / n
        columns |= {"grey_min": grey[:, 0], "grey_max": grey[:, 1], "grey_mean": mean}
    return pd.DataFrame(columns)


def _principal(moments: Moments, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the eigenvalues (n, 3) of the covariance in nm², falling, and the unit vector (n, 3) of the first."""
    n = moments.n_voxels
    first, second = moments.first.astype(object), moments.second.astype(object)
    covariance = np.full((len(n), 3, 3), np.nan)
    for column, (i, j) in enumerate(((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))):
        # Python's integers: far from the origin, N Σij − Σi Σj is the small difference of numbers beyond 2⁶³.
        scatter = n.astype(object) * second[:, column] - first[:, i] * first[:, j]
        with np.errstate(invalid="ignore"):
            covariance[:, i, j] = covariance[:, j, i] = scatter.astype(np.float64) / n / n * (size[i] * size[j])
    covariance += np.diag(size**2 / 12)
    values, vectors = np.full((len(n), 3), np.nan), np.full((len(n), 3), np.nan)
    there = n > 0
    rising, axes = np.linalg.eigh(covariance[there])
    values[there] = rising[:, ::-1]
    first_axis = axes[:, :, 2]
    largest = np.take_along_axis(first_axis, np.abs(first_axis).argmax(axis=1)[:, None], axis=1)
    vectors[there] = first_axis * np.sign(largest)
    return values, vectors


@njit(cache=True, nogil=True)
def _add_rows(labels, image, offset, sums):  # type: ignore[no-untyped-def]
    """Add every run of equal labels in every row."""
    depth, height, width = labels.shape
    for z in range(depth):
        for y in range(height):
            row = labels[z, y]
            x = 0
            while x < width:
                label = row[x]
                end = x + 1
                while end < width and row[end] == label:
                    end += 1
                if label > 0:
                    _add_run(label - 1, (z + offset[0], y + offset[1], x + offset[2]), end - x, sums)
                    if sums[5].size:
                        _add_grey(image[z, y, x:end], sums[5][label - 1])
                x = end


@njit(cache=True, nogil=True)
def _add_run(i, at, m, sums):  # type: ignore[no-untyped-def]
    """Add a run of m voxels along x that begins at `at`."""
    n_voxels, first, second, low, high, _ = sums
    z, y, x = at
    sum_x = m * x + m * (m - 1) // 2
    n_voxels[i] += m
    first[i, 0] += m * z
    first[i, 1] += m * y
    first[i, 2] += sum_x
    second[i, 0] += m * z * z
    second[i, 1] += m * y * y
    second[i, 2] += m * x * x + x * m * (m - 1) + (m - 1) * m * (2 * m - 1) // 6
    second[i, 3] += m * z * y
    second[i, 4] += z * sum_x
    second[i, 5] += y * sum_x
    low[i, 0] = min(low[i, 0], z)
    low[i, 1] = min(low[i, 1], y)
    low[i, 2] = min(low[i, 2], x)
    high[i, 0] = max(high[i, 0], z)
    high[i, 1] = max(high[i, 1], y)
    high[i, 2] = max(high[i, 2], x + m - 1)


@njit(cache=True, nogil=True)
def _add_grey(values, grey):  # type: ignore[no-untyped-def]
    """Add the grey values of a run to minimum, maximum and sum."""
    lowest, highest, total = np.int64(values[0]), np.int64(values[0]), np.int64(0)
    for value in values:
        lowest = min(lowest, np.int64(value))
        highest = max(highest, np.int64(value))
        total += np.int64(value)
    grey[0] = min(grey[0], lowest)
    grey[1] = max(grey[1], highest)
    grey[2] += total
