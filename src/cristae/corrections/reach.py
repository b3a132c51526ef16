"""What hangs together with a voxel, found tile by tile: one bit is kept of each voxel of the tiles that it lies in.

::

    +------+------+------+
    |   ##########|#     |      from the tile of the voxel over the faces of tiles into those beside, until nothing
    |   # a|      |#  ###|      goes on; a tile is looked at again when the object comes back into it
    +---#--+------+#--#--+
    |   #  |      |####  |
    +------+------+------+
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cristae.components import label_parts
from cristae.editing.region import bounds, pooled
from cristae.errors import UsageError
from cristae.geometry import Box, Voxels
from cristae.io.stored import times, triple

TILE: Voxels = (8, 512, 512)
"""Unit of reading; the result does not depend on it."""


@dataclass(frozen=True)
class Reached:
    """Voxels that hang together.

    Parameters
    ----------
    tiles
        The boxes in which some of them lie, each with one bit per voxel, as `numpy.packbits` makes them.
    """

    tiles: Mapping[Box, np.ndarray]

    def mask(self, tile: Box) -> np.ndarray:
        """Return bool of the shape of one of the tiles."""
        return np.unpackbits(self.tiles[tile], count=tile.n_voxels).view(np.bool_).reshape(tile.shape)

    @cached_property
    def box(self) -> Box:
        """The smallest box around all."""
        around = [(tile, bounds(self.mask(tile))) for tile in self.tiles]
        start = np.min([[a + s.start for a, s in zip(tile.start, sides, strict=True)] for tile, sides in around], 0)
        stop = np.max([[a + s.stop for a, s in zip(tile.start, sides, strict=True)] for tile, sides in around], 0)
        return Box(triple(start), triple(stop))

    def holds(self, at: Voxels) -> bool:
        """Say whether a voxel is one of them."""
        voxel = Box(at, (at[0] + 1, at[1] + 1, at[2] + 1))
        tile = next((one for one in self.tiles if one.contains(voxel)), None)
        return tile is not None and bool(self.mask(tile)[voxel.within(tile).slices].item())

    def coarse(self, box: Box, step: Voxels) -> np.ndarray:
        """Return bool: per `step` voxels of a box that holds them all, whether some of them are there."""
        found = np.zeros(coarse_shape(box, step), np.bool_)
        for tile in self.tiles:
            part = tile.clip(box)
            lay_over(found, part, self.mask(tile)[part.within(tile).slices], box, step)
        return found


def coarse_shape(box: Box, step: Voxels) -> Voxels:
    """Return how many steps it takes along each side of a box."""
    return triple([-(-n // s) for n, s in zip(box.shape, step, strict=True)])


def lay_over(found: np.ndarray, part: Box, values: np.ndarray, box: Box, step: Voxels) -> None:
    """Put the highest of every `step` voxels of a part of a box into an array of the coarse box."""
    offset = part.within(box).start
    small = pooled(values, offset, step)
    place = tuple(slice(at // s, at // s + n) for at, s, n in zip(offset, step, small.shape, strict=True))
    np.maximum(found[place], small, out=found[place])


def reach(read: Callable[[Box], np.ndarray], at: Voxels, whole: Box, most: int) -> Reached:
    """Find what has the label of a voxel and hangs together with it over faces.

    Parameters
    ----------
    read
        Returns the labels ``(z, y, x)`` of a box.
    at
        The voxel.
    whole
        Where to look; the voxel lies in it.
    most
        Voxels that are looked at, at most.

    Raises
    ------
    UsageError
        If more would have to be looked at.
    """
    first = triple([i // n for i, n in zip(at, TILE, strict=True)])
    found: dict[Voxels, np.ndarray] = {}
    taken: dict[Voxels, set[int]] = {}
    waiting: dict[Voxels, list[tuple[Any, Any]]] = {first: []}
    label, n_seen = 0, 0
    while waiting:
        place = next(iter(waiting))
        entries, box = waiting.pop(place), _tile(place, whole)
        if place not in taken:
            n_seen += box.n_voxels
            if n_seen > most:
                raise UsageError(
                    f"what hangs together with {','.join(map(str, at))} is larger than the {most} voxels that are "
                    "looked at for it, at most; work on some slices at a time"
                )
        labels = read(box)
        if place == first and first not in taken:
            inner = tuple(i - low for i, low in zip(at, box.start, strict=True))
            label = int(labels[inner])
            entries.append((inner, np.True_))
        parts = label_parts(labels == label, 6)
        ids = {int(one) for index, here in entries for one in np.unique(parts[index][here])} - {0}
        new = ids - taken.setdefault(place, set())
        if not new:
            continue
        taken[place] |= new
        wanted = np.zeros(int(parts.max()) + 1, np.bool_)
        wanted[list(new)] = True
        mask = wanted[parts]
        bits = np.packbits(mask)
        found[place] = bits | found[place] if place in found else bits
        for beside, entry in _beyond(place, mask, whole):
            waiting.setdefault(beside, []).append(entry)
    return Reached({_tile(place, whole): bits for place, bits in found.items()})


def _beyond(place: Voxels, mask: np.ndarray, whole: Box) -> list[tuple[Voxels, tuple[Any, np.ndarray]]]:
    """Return the tiles beside into which a mask goes on: index of the plane where it comes in, and where there."""
    found: list[tuple[Voxels, tuple[Any, np.ndarray]]] = []
    for axis in range(3):
        for here, there, step in ((0, -1, -1), (-1, 0, 1)):
            plane = mask.take(here, axis)
            beside = triple([n + step * (i == axis) for i, n in enumerate(place)])
            if plane.any() and min(beside) >= 0 and _tile(beside, whole).n_voxels:
                index = tuple(there if i == axis else slice(None) for i in range(3))
                found.append((beside, (index, plane)))
    return found


def _tile(place: Voxels, whole: Box) -> Box:
    start = times(place, TILE)
    return Box(start, triple([a + n for a, n in zip(start, TILE, strict=True)])).clip(whole)
