"""Small layers of labels in which everything can be corrected, and what the corrections should come to."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cristae.corrections.store import Change, Corrections
from cristae.geometry import Box, Grid
from cristae.io.ome_zarr import Storage, create_volume, open_volume
from cristae.volume import Volume

SHAPE = (5, 24, 30)
HIGH = 2**31 + 7


def cells() -> np.ndarray:
    """Two cells that touch, one with an id above 2³¹, and an island."""
    labels = np.zeros(SHAPE, np.uint32)
    labels[:, 3:15, 2:12] = 3
    labels[:, 3:15, 12:25] = HIGH
    labels[1:3, 18:22, 20:26] = 3
    return labels


def store_layer(path: Path, labels: np.ndarray) -> Volume:
    """Write labels in chunks that are unlike those of the corrections, and open them for reading."""
    storage = Storage(chunk=(2, 8, 16), shard=(4, 16, 16))
    made = create_volume(path, Grid(labels.shape, (30.0, 6.0, 6.0)), labels.dtype, "labels", storage)
    made.write(made.grid.box, labels)
    return open_volume(path)


def everything(volume: Corrections) -> np.ndarray:
    return volume.read(volume.original.grid.box)


def put(corrections: Corrections, mask: np.ndarray, label: int) -> None:
    """Give the voxels of a mask of the whole layer a label."""
    box = Box.of_shape(corrections.original.shape)
    corrections.put("paint", [Change(box, np.full(mask.shape, label, corrections.original.dtype), mask)])
