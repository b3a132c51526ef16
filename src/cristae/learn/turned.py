"""A volume seen along another of its axes, so that a network for z-slices can be applied to y- and x-slices too.

Where voxels are isotropic, tissue looks alike from all sides, and what a boundary hides when cut at a slant shows in
the slices across it. Three looks at every voxel are averaged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cristae.geometry import Box, Grid, Voxels
from cristae.learn.patches import View
from cristae.learn.scale import normalise
from cristae.volume import ArrayLike, Volume

Order = tuple[int, int, int]
ORDERS: dict[str, Order] = {"z": (0, 1, 2), "y": (1, 0, 2), "x": (2, 0, 1)}
"""By the axis that slices follow: which axis of the volume each axis of the turned one is."""


def turn(image: Volume, view: View, axis: str) -> tuple[Volume, View]:
    """Return a volume as it looks along `axis`, read lazily, and how a network sees that.

    Brightness is evened out before turning, for it jumps from z-slice to z-slice; missing z-slices are filled with
    the nearest other one.

    Parameters
    ----------
    image
        The volume.
    view
        How a network sees its z-slices.
    axis
        ``z`` (returned as it is), ``y`` or ``x``.
    """
    if axis == "z":
        return image, view
    order = ORDERS[axis]
    turned = Volume(_Turned(_Even(image, view), order), _turned_grid(image.grid, order))
    n_slices = turned.shape[0]
    return turned, View(view.reduction, view.neighbours, np.zeros(n_slices), np.ones(n_slices), curve=view.curve)


def turn_back(turned: Volume, axis: str) -> Volume:
    """Return a volume made from a turned one as it looks along z again, read lazily."""
    if axis == "z":
        return turned
    z, y, x = (ORDERS[axis].index(i) for i in range(3))
    back = (z, y, x)
    return Volume(_Turned(turned.array, back), _turned_grid(turned.grid, back), turned.kind)


def _turned_grid(grid: Grid, order: Order) -> Grid:
    return Grid(_permuted(grid.shape, order), _permuted(grid.voxel_size, order), _permuted(grid.origin, order))


def _permuted(values: Any, order: Order) -> Any:
    return tuple(values[i] for i in order)


@dataclass(frozen=True)
class _Turned:
    """An array with its axes in another order."""

    array: ArrayLike
    order: Order

    @property
    def shape(self) -> Voxels:
        return _permuted(self.array.shape, self.order)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.array.dtype)

    def __getitem__(self, index: tuple[slice, slice, slice]) -> np.ndarray:
        straight = tuple(index[self.order.index(i)] for i in range(3))
        return np.asarray(self.array[straight]).transpose(self.order)


@dataclass(frozen=True)
class _Even:
    """An image with mean 0 and deviation 1 in each slice, as float32."""

    image: Volume
    view: View

    @property
    def shape(self) -> Voxels:
        return self.image.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32)

    def __getitem__(self, index: tuple[slice, slice, slice]) -> np.ndarray:
        z, y, x = index
        wanted = [self.view.standing_in(k, self.shape[0]) for k in range(z.start, z.stop)]
        if not wanted:
            return np.empty((0, y.stop - y.start, x.stop - x.start), np.float32)
        low, high = min(wanted), max(wanted) + 1
        planes = self.image.read(Box((low, y.start, x.start), (high, y.stop, x.stop)))
        chosen = planes[[k - low for k in wanted]]
        return normalise(chosen, self.view.mean[wanted], self.view.deviation[wanted])
