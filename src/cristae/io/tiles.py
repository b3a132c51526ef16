"""All levels of a volume on disk, tile by tile, in memory that does not grow with the volume.

A tile is 1024 × 1024 voxels wide and as deep as the volume. It is worked off in slabs along z, so that coarser levels
come while it is read, and every level is cut at whole chunks::

    tile (y, x) --> slab of z --> level 0 --> level 1 --> …
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from cristae.geometry import Box, Voxels
from cristae.io.levels import LevelStream
from cristae.io.writing import Told
from cristae.volume import Volume

TILE = 1024
"""Side of a tile in voxels of the finest level; a power of two, so that it is whole at every level."""

Sink = Callable[[int, Voxels, np.ndarray], object]
"""Takes a level, the corner (z, y, x) at that level, and the voxels that begin there."""


def write_tiles(volume: Volume, factors: Sequence[Voxels], depth: int, sink: Sink, told: Told | None) -> None:
    """Hand all levels of `volume` to `sink`, in pieces of `depth` slices whose corners are those of tiles.

    Parameters
    ----------
    volume
        What is read, once.
    factors
        From each level to the next.
    depth
        Slices per piece at every level.
    sink
        Takes the pieces.
    told
        Told after each piece of the finest level.
    """
    n_slices, height, width = volume.shape
    corners = [(y, x) for y in range(0, height, TILE) for x in range(0, width, TILE)]
    n_slabs = -(-n_slices // depth)
    for i, (y, x) in enumerate(corners):
        stream = LevelStream(factors, volume.kind, depth, _at(sink, factors, (y, x)))
        for slab in range(n_slabs):
            z = slab * depth
            box = Box((z, y, x), (min(z + depth, n_slices), min(y + TILE, height), min(x + TILE, width)))
            stream.add(volume.read(box))
            if told:
                told(i * n_slabs + slab + 1, len(corners) * n_slabs)
        stream.end()


def _at(sink: Sink, factors: Sequence[Voxels], corner: tuple[int, int]) -> Callable[[int, int, np.ndarray], None]:
    scale = [(1, 1)]
    for _, along_y, along_x in factors:
        scale.append((scale[-1][0] * along_y, scale[-1][1] * along_x))

    def place(level: int, z: int, values: np.ndarray) -> None:
        along_y, along_x = scale[level]
        sink(level, (z, corner[0] // along_y, corner[1] // along_x), values)

    return place
