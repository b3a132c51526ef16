"""Pattern spectrum: how much of an object's grey values sits in grains of each size, bright ones and dark ones.

An opening with a cube of radius n takes away bright grains that no such cube fits into, a closing fills dark ones. What
disappears from one radius to the next is the spectrum.

::

    grey    _|‾|__|‾‾‾|__|‾‾‾‾‾|_      grains of 3, 5 and 9 voxels: radius 1, 2 and 4
    n=2     ______|‾‾‾|__|‾‾‾‾‾|_      what went from n = 1 to 2 is PS_1
    n=3     _____________|‾‾‾‾‾|_      from n = 2 to 3: PS_2

**The mask rule.** The cube must lie inside the object. Erosion by n gives a voxel the smallest value of its cube, and 0
where the cube holds a voxel of another object or of none. Dilation then spreads a value over its cube and no further;
that cube lies inside one object, so nothing ever reaches another one. All objects are therefore opened at once, and
each is measured as if it were alone. Voxels that no cube inside the object covers go to 0: the spectrum of a flat
object is that of its shape.

**Dark grains** are measured exactly as bright ones: a closing of f is an opening of *ceiling* − f, where the ceiling is
the object's largest value. So no term is below 0, and the terms of one side add up to a bounded sum.

**Blocks.** The opening at a voxel depends on erosions up to n away, and these on values up to n further: a halo of
2·radius is enough, and needed. Sums are integers, so they add up over blocks exactly.

Papers: P. Maragos (1989), IEEE Trans. Pattern Anal. Mach. Intell. 11, 701; Machireddy et al. (2023), eq. 16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numba import njit

from cristae.features.definitions import Definition

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Grains:
    """The structuring elements.

    Parameters
    ----------
    radius
        Largest radius n in voxels; an element of radius n is 2n + 1 voxels wide.
    shape
        ``cube``, or ``plane``: a square within each slice, for voxels that are much thicker than wide.
    """

    radius: int = 10
    shape: Literal["cube", "plane"] = "cube"

    def __post_init__(self) -> None:
        if self.radius < 1 or self.shape not in ("cube", "plane"):
            raise ValueError(f"expected a radius of at least 1 and a cube or plane; got {self.radius}, {self.shape!r}")

    @property
    def halo(self) -> tuple[int, int, int]:
        """Voxels around a block (z, y, x) that its sums depend on."""
        across = 2 * self.radius
        return (across if self.shape == "cube" else 0, across, across)


@dataclass(frozen=True)
class SpectrumSums:
    """What openings leave of every object; sums of disjoint blocks add up.

    Parameters
    ----------
    bright
        int64 ``(n_objects, radius + 1)``: sum over the object's voxels of the opening by n of *f* − *floor*.
    dark
        int64 of the same shape: of the opening by n of *ceiling* − *f*, that is of *ceiling* − closing of *f*.
    """

    bright: np.ndarray
    dark: np.ndarray

    def __add__(self, other: SpectrumSums) -> SpectrumSums:
        return SpectrumSums(self.bright + other.bright, self.dark + other.dark)


def add_spectrum(
    labels: np.ndarray, n_objects: int, inner: Box, values: np.ndarray, levels: np.ndarray, grains: Grains
) -> SpectrumSums:
    """Sum the openings and closings of every object over a block, for all radii.

    Parameters
    ----------
    labels
        int32 ``(z, y, x)``, ids 0..n_objects, 0 is background: the block with a halo of ``grains.halo`` voxels,
        less only where the volume ends.
    n_objects
        Number of ids.
    inner
        The part of the block to sum over.
    values
        Integer grey values of the same shape.
    levels
        int64 ``(n_objects, 2)``: floor and ceiling of every object, the same for all blocks. The ceiling is the
        object's largest value. The floor is 0 in the paper; the object's smallest value makes the spectrum blind
        to a constant that is added to all values.
    grains
        Shape and largest radius of the elements.

    Returns
    -------
    SpectrumSums
        Column n belongs to radius n, column 0 to the values themselves.

    Raises
    ------
    ValueError
        If shapes differ, values are not integers, an id is out of range, a value of an object lies outside its
        levels, or levels are more than 65,535 apart.
    """
    _check(labels, n_objects, values, levels)
    sums = SpectrumSums(*(np.zeros((n_objects, grains.radius + 1), np.int64) for _ in range(2)))
    inner = _occupied(labels, inner)
    if not n_objects or any(part.stop <= part.start for part in inner):
        return sums
    labels = _with_halo(labels, inner, grains.halo)
    values = _with_halo(values, inner, grains.halo)
    height = int((levels[:, 1] - levels[:, 0]).max())
    small = np.uint8 if height < 2**8 else np.uint16  # the narrower, the more values fit into one instruction
    bright, dark = np.zeros(labels.shape, small), np.zeros(labels.shape, small)
    if not _lift(labels, values, levels.astype(np.int64), bright, dark):
        raise ValueError("a value lies below its object's floor or above its ceiling; take both from the whole object")
    axes = (0, 1, 2) if grains.shape == "cube" else (1, 2)
    whole = _whole_neighbourhood(labels, axes)
    here = labels[_shrink(labels.shape, grains.halo)]
    for grey, total in ((bright, sums.bright), (dark, sums.dark)):
        _add_up(here, grey[_shrink(grey.shape, grains.halo)], total[:, 0])
        eroded = grey
        for n in range(1, grains.radius + 1):
            for axis in axes:
                eroded = _running(np.minimum, eroded, 3, axis)
            if n == 1:
                eroded *= whole
            if not eroded.any():
                break
            rest = 2 * (grains.radius - n)  # the erosions reach this much further than this radius needs
            opened = eroded[_shrink(eroded.shape, tuple(rest if axis in axes else 0 for axis in range(3)))]
            for axis in axes:
                opened = _running(np.maximum, opened, 2 * n + 1, axis)
            _add_up(here, opened, total[:, n])
    return sums


def tabulate_spectrum(sums: SpectrumSums) -> pd.DataFrame:
    """Return the pattern spectrum of every object and its moments.

    Parameters
    ----------
    sums
        Of all blocks together.

    Returns
    -------
    pd.DataFrame
        One row per object; columns as in `spectrum_definitions`. All terms are NaN where *f* is *floor* everywhere;
        moments are NaN where a side has no grains (a flat object has none that are dark), skew and kurtosis also where
        all grains have one size.
    """
    n_terms = sums.bright.shape[1] - 1
    grey = np.where(sums.bright[:, 0] > 0, sums.bright[:, 0], np.nan)
    columns = {}
    for side, left, first in (("opening", sums.bright, 0), ("closing", sums.dark, 1)):
        lost = left[:, :-1] - left[:, 1:]
        for n in range(n_terms):
            columns[f"ps_{side}_{n + first}"] = lost[:, n] / grey
        columns[f"ps_{side}_rest"] = left[:, -1] / grey
        for name, values in _moments(lost).items():
            columns[f"ps_{side}_{name}"] = np.where(np.isnan(grey), np.nan, values)
    return pd.DataFrame(columns)


def spectrum_definitions(radius: int) -> Mapping[str, Definition]:
    """Return what the columns of `tabulate_spectrum` mean for spectra up to `radius`, in the order of the table."""
    paper = "Machireddy et al. (2023), eq. 16"
    rest = Definition("", "what is left of the grey values at the largest radius", "m(γ_N f) / m(f)", paper)
    closing_rest = Definition("", "what the largest closing leaves dark", "(ceiling · V − m(φ_N f)) / m(f)", paper)
    found: dict[str, Definition] = {}
    for side, first, equation, last in (
        ("opening", 0, "[m(γ_n f) − m(γ_n+1 f)] / m(f)", rest),
        ("closing", 1, "[m(φ_n f) − m(φ_n−1 f)] / m(f)", closing_rest),
    ):
        kind = "bright" if side == "opening" else "dark"
        for n in range(radius):
            meaning = f"share of the grey values in {kind} grains that hold an element of radius {n} and none larger"
            found[f"ps_{side}_{n + first}"] = Definition("", meaning, equation, paper)
        found[f"ps_{side}_rest"] = last
        for name, (unit, meaning, formula) in _MOMENTS.items():
            found[f"ps_{side}_{name}"] = Definition(unit, f"{meaning} of {kind} grains", formula, paper)
    return found


_MOMENTS = {
    "mean": ("voxels", "mean radius r", "Σ p·r, p = PS / Σ PS without the rest"),
    "sd": ("voxels", "standard deviation of the radius", "√ Σ p·(r − mean)²"),
    "skew": ("", "skewness of the radius", "Σ p·(r − mean)³ / sd³"),
    "kurtosis": ("", "kurtosis of the radius (3 for a normal distribution)", "Σ p·(r − mean)⁴ / sd⁴"),
    "entropy": ("bits", "entropy of the radius", "−Σ p·log₂ p"),
}
DEFINITIONS = spectrum_definitions(Grains().radius)


def _moments(lost: np.ndarray) -> dict[str, np.ndarray]:
    """Return mean, sd, skew, kurtosis and entropy of the radius, the columns of `lost` being radius 0, 1, ..."""
    total = lost.sum(axis=1, keepdims=True)
    share = lost / np.where(total > 0, total, np.nan)
    radius = np.arange(lost.shape[1])
    mean = share @ radius
    away = radius - mean[:, None]
    variance = np.einsum("ij,ij->i", share, away**2)
    # One size only: rounding of the mean leaves a variance that is not quite 0.
    sd = np.where((lost > 0).sum(axis=1) > 1, np.sqrt(variance), np.where(np.isnan(mean), np.nan, 0.0))
    scale = np.where(sd > 0, sd, np.nan)
    log = np.log2(np.where(share > 0, share, 1.0))
    return {
        "mean": mean,
        "sd": sd,
        "skew": np.einsum("ij,ij->i", share, away**3) / scale**3,
        "kurtosis": np.einsum("ij,ij->i", share, away**4) / scale**4,
        "entropy": np.abs(np.einsum("ij,ij->i", share, log)),
    }


def _check(labels: np.ndarray, n_objects: int, values: np.ndarray, levels: np.ndarray) -> None:
    if labels.shape != values.shape or labels.ndim != 3:
        raise ValueError(f"expected labels and values of one shape (z, y, x); got {labels.shape} and {values.shape}")
    if values.dtype.kind not in "iu" or labels.dtype.kind not in "iu":
        raise ValueError(f"expected integer labels and grey values; got {labels.dtype} and {values.dtype}")
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) <= n_objects:
        raise ValueError(f"expected ids from 0 to {n_objects}, found {labels.min()} to {labels.max()}")
    if levels.shape != (n_objects, 2):
        raise ValueError(f"expected floor and ceiling of {n_objects} objects, got an array of shape {levels.shape}")
    if n_objects and not 0 <= int((levels[:, 1] - levels[:, 0]).max()) < 2**16:
        raise ValueError("expected floors and ceilings at most 65,535 apart; reduce the image to 16 bits first")


def _occupied(labels: np.ndarray, inner: Box) -> Box:
    """Return the smallest box inside `inner` that holds all its objects; empty if there are none."""
    start = []
    stop = []
    inside = labels[inner] != 0
    for axis, part in enumerate(inner):
        first, end, _ = part.indices(labels.shape[axis])
        occupied = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
        start.append(first + int(occupied[0]) if occupied.size else first)
        stop.append(first + int(occupied[-1]) + 1 if occupied.size else min(first, end))
    z, y, x = (slice(low, high) for low, high in zip(start, stop, strict=True))
    return z, y, x


def _with_halo(block: np.ndarray, inner: Box, halo: tuple[int, int, int]) -> np.ndarray:
    """Cut out `inner` with its halo; beyond the block, where the volume has ended, there is background."""
    low = [part.start - h for part, h in zip(inner, halo, strict=True)]
    high = [part.stop + h for part, h in zip(inner, halo, strict=True)]
    cut = tuple(slice(max(0, a), max(0, b)) for a, b in zip(low, high, strict=True))
    beyond = [(max(0, -a), max(0, b - n)) for a, b, n in zip(low, high, block.shape, strict=True)]
    return np.pad(block[cut], beyond)


def _shrink(shape: tuple[int, ...], by: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(b, n - b) for n, b in zip(shape, by, strict=True))


def _running(extreme: np.ufunc, values: np.ndarray, width: int, axis: int) -> np.ndarray:
    """Return the extreme of every `width` neighbours along an axis that lie wholly inside (width − 1 fewer)."""

    def pairwise(values: np.ndarray, apart: int) -> np.ndarray:
        head, tail = [slice(None)] * 3, [slice(None)] * 3
        head[axis], tail[axis] = slice(None, -apart), slice(apart, None)
        return extreme(values[tuple(head)], values[tuple(tail)])

    reach = 1
    while 2 * reach <= width:
        values = pairwise(values, reach)
        reach *= 2
    return pairwise(values, width - reach) if width > reach else values


def _whole_neighbourhood(labels: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Say for every voxel but the outermost along `axes` whether its neighbours, corners included, have its label."""
    whole = np.ones(labels.shape, bool)
    for axis in axes:
        same = _running(np.equal, labels, 2, axis)
        centre = [slice(None)] * 3
        # The axes before have lost their ends already.
        for done in axes[: axes.index(axis)]:
            centre[done] = slice(1, -1)
        same = _running(np.logical_and, same[tuple(centre)], 2, axis)
        whole = _running(np.logical_and, whole, 3, axis) & same
    return whole


@njit(cache=True, nogil=True)
def _lift(labels: np.ndarray, values: np.ndarray, levels: np.ndarray, bright: np.ndarray, dark: np.ndarray) -> bool:
    """Write how far every value lies above its object's floor and below its ceiling; False if it does not."""
    n_z, n_y, n_x = labels.shape
    for z in range(n_z):
        for y in range(n_y):
            for x in range(n_x):
                label = labels[z, y, x]
                if label != 0:
                    value = np.int64(values[z, y, x])
                    above = value - levels[label - 1, 0]
                    below = levels[label - 1, 1] - value
                    if above < 0 or below < 0:
                        return False
                    bright[z, y, x] = above
                    dark[z, y, x] = below
    return True


@njit(cache=True, nogil=True)
def _add_up(labels: np.ndarray, values: np.ndarray, total: np.ndarray) -> None:
    """Add the values of every object to its total."""
    n_z, n_y, n_x = labels.shape
    for z in range(n_z):
        for y in range(n_y):
            last, run = np.int64(0), np.int64(0)
            for x in range(n_x):
                label = np.int64(labels[z, y, x])
                if label != last:
                    if last != 0:
                        total[last - 1] += run
                    last, run = label, np.int64(0)
                run += np.int64(values[z, y, x])
            if last != 0:
                total[last - 1] += run
