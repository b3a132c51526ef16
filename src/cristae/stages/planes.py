"""Slices of a volume one at a time, read from disk in the slabs in which they are stored."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

import numpy as np

from cristae.geometry import Box
from cristae.io.ome_zarr import CHUNK
from cristae.volume import Volume


class Planes:
    """Some consecutive slices of a volume as a sequence of planes; one slab is kept in memory.

    Several threads may ask at once.

    Parameters
    ----------
    volume
        Where they are.
    first, stop
        z of the first slice, and of the one after the last.
    change
        What is done to each plane, given its z.
    thickness
        Slices of a slab.
    """

    def __init__(
        self,
        volume: Volume,
        first: int = 0,
        stop: int | None = None,
        change: Callable[[np.ndarray, int], np.ndarray] | None = None,
        thickness: int = CHUNK[0],
    ) -> None:
        self._volume, self._first, self._change, self._thickness = volume, first, change, thickness
        self._n = (volume.shape[0] if stop is None else stop) - first
        self._start, self._slab = 0, np.empty((0, *volume.shape[1:]), volume.dtype)
        self._lock = Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Planes, (self._volume, self._first, self._first + self._n, self._change, self._thickness)

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, index: int) -> np.ndarray:
        """Return plane ``(y, x)`` number `index`, counted from the first."""
        if not 0 <= index < self._n:
            raise IndexError(f"slice {index} of {self._n}")
        z = self._first + index
        with self._lock:
            if not self._start <= z < self._start + len(self._slab):
                self._load(z)
            plane = self._slab[z - self._start]
        return self._change(plane, z) if self._change else plane

    def _load(self, z: int) -> None:
        depth, height, width = self._volume.shape
        thickness = self._thickness
        self._slab = np.empty(0)  # let go of the last one before the next is read
        self._start = z - z % thickness
        self._slab = self._volume.read(Box((self._start, 0, 0), (min(self._start + thickness, depth), height, width)))
