"""Objects to measure, as many as asked for: dented balls with a few holes, each in a box of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
from scipy.ndimage import gaussian_filter

from cristae.geometry import Box, Grid, blocks
from cristae.io.ome_zarr import create_volume
from cristae.volume import Volume

SIDE = 64
"""Of the box of an object, in voxels."""


def shapes(n: int, seed: int = 0) -> list[np.ndarray]:
    """Return `n` masks ``(SIDE, SIDE, SIDE)``."""
    random = np.random.default_rng(seed)
    z, y, x = (np.linspace(-1, 1, SIDE).reshape(shape) for shape in ((-1, 1, 1), (1, -1, 1), (1, 1, -1)))
    found = []
    for _ in range(n):
        a, b, c = random.uniform(0.45, 0.85, 3)
        rough = gaussian_filter(random.standard_normal((SIDE,) * 3).astype(np.float32), 5)
        mask = (z / a) ** 2 + (y / b) ** 2 + (x / c) ** 2 < 1 + 0.35 * rough / rough.std()
        hole = random.uniform(-0.2, 0.2, 3)
        mask &= (z - hole[0]) ** 2 + (y - hole[1]) ** 2 + (x - hole[2]) ** 2 > 0.1**2
        mask[[0, -1]] = mask[:, [0, -1]] = mask[:, :, [0, -1]] = False
        found.append(mask)
    return found


def places(shape: tuple[int, int, int], n: int) -> Iterator[tuple[int, Box]]:
    """Yield ids from 1 and the boxes of `n` objects."""
    boxes = blocks(Box.of_shape(shape), (SIDE,) * 3)
    for number, block in zip(range(1, n + 1), boxes, strict=False):
        yield number, block.write


def labels(shape: tuple[int, int, int], n: int, seed: int = 0) -> np.ndarray:
    """Return int32 labels of `n` different objects."""
    found = np.zeros(shape, np.int32)
    for (number, box), mask in zip(places(shape, n), shapes(n, seed), strict=True):
        found[box.slices][mask] = number
    return found


def grey(labelled: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return uint8 grey values: grains of some voxels, and noise."""
    random = np.random.default_rng(seed)
    tile = gaussian_filter(random.standard_normal((128,) * 3).astype(np.float32), 1.5, mode="wrap")
    tile = np.clip(128 + 40 * tile / tile.std() + random.normal(0, 8, tile.shape), 0, 255).astype(np.uint8)
    times = [-(-length // 128) for length in labelled.shape]
    return np.tile(tile, times)[tuple(slice(length) for length in labelled.shape)]


def rates(
    work: Callable[[np.ndarray, np.ndarray], None], labelled: np.ndarray, image: np.ndarray
) -> tuple[float, float]:
    """Return the seconds per million voxels of `work` on an eighth of a cube and on all of it, once it is compiled."""
    work(labelled[:64, :64, :64], image[:64, :64, :64])
    found, half = [], len(labelled) // 2
    for side in (half, len(labelled)):
        part = (slice(side),) * 3
        begun = time.perf_counter()
        work(labelled[part], image[part])
        found.append((time.perf_counter() - begun) / (side**3 / 1e6))
    return found[0], found[1]


def stored(path, grid: Grid, n: int, n_shapes: int = 20) -> Volume:  # type: ignore[no-untyped-def]
    """Write `n` objects of `n_shapes` kinds to disk, a piece at a time; return their ids."""
    volume, kinds = create_volume(path, grid, np.uint32, "labels"), shapes(n_shapes)
    boxes = list(places(grid.shape, n))
    for block in blocks(grid.box, (SIDE, 1024, 1024)):
        ids = np.zeros(block.write.shape, np.uint32)
        for number, box in boxes:
            if block.write.contains(box):
                ids[box.within(block.write).slices][kinds[number % n_shapes]] = number
        volume.write(block.write, ids)
    return volume
