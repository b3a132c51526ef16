"""Boxes, grids and blocks: the geometry that every stage speaks, in pure Python.

Every triple is ``(z, y, x)``. Boxes count voxels and are half-open; nanometres appear in `Grid` alone.

::

    a block of work            +-----------------------+  read box: what the function is given
                               |   +---------------+   |
    halo on every side ------> |<->|   write box   |   |  write box: what it may write; the write boxes
                               |   +---------------+   |  of all blocks tile the domain without overlap
                               +-----------------------+
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

Voxels = tuple[int, int, int]
Nanometres = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Box:
    """A half-open box of voxels: ``start`` is inside, ``stop`` is not. A box may be empty, never inside out."""

    start: Voxels
    stop: Voxels

    def __post_init__(self) -> None:
        if len(self.start) != 3 or len(self.stop) != 3:
            raise ValueError(f"a box has three axes (z, y, x); got start {self.start} and stop {self.stop}")
        if any(high < low for low, high in zip(self.start, self.stop, strict=True)):
            raise ValueError(f"a box must not stop before it starts; got start {self.start} and stop {self.stop}")

    @classmethod
    def of_shape(cls, shape: Voxels) -> Box:
        """Return the box from the origin to `shape`."""
        return cls((0, 0, 0), shape)

    @property
    def shape(self) -> Voxels:
        """Extent along z, y, x in voxels."""
        z, y, x = (high - low for low, high in zip(self.start, self.stop, strict=True))
        return z, y, x

    @property
    def n_voxels(self) -> int:
        """Number of voxels; 0 for an empty box."""
        z, y, x = self.shape
        return z * y * x

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Index that cuts this box out of an array whose first voxel is the origin."""
        z, y, x = (slice(low, high) for low, high in zip(self.start, self.stop, strict=True))
        return z, y, x

    def grow(self, halo: Voxels) -> Box:
        """Return the box widened by `halo` voxels on both sides of each axis; it may leave the volume."""
        return Box(
            _triple(low - h for low, h in zip(self.start, halo, strict=True)),
            _triple(high + h for high, h in zip(self.stop, halo, strict=True)),
        )

    def clip(self, other: Box) -> Box:
        """Return the part of this box inside `other`; empty when they do not meet."""
        start = _triple(max(a, b) for a, b in zip(self.start, other.start, strict=True))
        stop = _triple(max(s, min(a, b)) for s, a, b in zip(start, self.stop, other.stop, strict=True))
        return Box(start, stop)

    def shift(self, offset: Voxels) -> Box:
        """Return the box moved by `offset` voxels."""
        return Box(
            _triple(low + o for low, o in zip(self.start, offset, strict=True)),
            _triple(high + o for high, o in zip(self.stop, offset, strict=True)),
        )

    def within(self, other: Box) -> Box:
        """Return this box in the coordinates of `other`, that is with ``other.start`` as the origin."""
        return self.shift(_triple(-low for low in other.start))

    def contains(self, other: Box) -> bool:
        """Say whether every voxel of `other` lies in this box."""
        return other.n_voxels == 0 or self.clip(other) == other


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the voxels of a volume lie: how many, how large (nm), and where the centre of the first one is (nm)."""

    shape: Voxels
    voxel_size: Nanometres
    origin: Nanometres = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or any(n < 0 for n in self.shape):
            raise ValueError(f"a grid's shape is three non-negative numbers (z, y, x); got {self.shape}")
        if len(self.voxel_size) != 3 or not all(0 < size < float("inf") for size in self.voxel_size):
            raise ValueError(f"the voxel size is three positive numbers of nanometres (z, y, x); got {self.voxel_size}")

    @property
    def box(self) -> Box:
        """The box of all voxels."""
        return Box.of_shape(self.shape)

    def coarsened(self, factor: Voxels) -> Grid:
        """Return the grid of blocks of `factor` voxels: shape rounded up, origin at the centre of the first block."""
        return Grid(
            _triple(-(-n // f) for n, f in zip(self.shape, factor, strict=True)),
            _floats(size * f for size, f in zip(self.voxel_size, factor, strict=True)),
            _floats(
                first + size * (f - 1) / 2 for first, size, f in zip(self.origin, self.voxel_size, factor, strict=True)
            ),
        )


class Block(NamedTuple):
    """One unit of work: the box to read and the box to write."""

    read: Box
    write: Box


def blocks(domain: Box, block_shape: Voxels, halo: Voxels = (0, 0, 0)) -> Iterator[Block]:
    """Yield blocks whose write boxes tile `domain` in z, y, x order.

    Write boxes start at multiples of `block_shape` (counted from the origin of the volume, so that they stay
    aligned with storage chunks whatever the domain) and are cut to the domain; read boxes are grown by `halo`
    and cut to the domain too.

    Raises
    ------
    ValueError
        If a block has no extent along some axis, or the halo is negative.
    """
    if any(n < 1 for n in block_shape) or any(h < 0 for h in halo):
        raise ValueError(f"a block needs a positive shape and a halo of at least 0; got {block_shape} and {halo}")
    if domain.n_voxels == 0:
        return
    starts = (
        range(low - low % step, high, step)
        for low, high, step in zip(domain.start, domain.stop, block_shape, strict=True)
    )
    for z, y, x in itertools.product(*starts):
        write = Box((z, y, x), (z + block_shape[0], y + block_shape[1], x + block_shape[2])).clip(domain)
        yield Block(write.grow(halo).clip(domain), write)


def _triple(values: Iterator[int]) -> Voxels:
    z, y, x = values
    return z, y, x


def _floats(values: Iterator[float]) -> Nanometres:
    z, y, x = values
    return z, y, x
