"""Chunks of the overlay that are changed in memory and written later: a stroke does not wait for files.

The journal is safely on disk before a chunk changes, so that a crash loses nothing of what waits here. Chunks are
replaced, never changed in place: one that is being written by another thread stays as it was, and waits on if it was
replaced meanwhile.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cristae.corrections.disk import sync
from cristae.geometry import Box, Voxels
from cristae.io.stored import times
from cristae.volume import Volume

FEW = 16
"""Boxes of more chunks are read and written at once, and not kept in memory."""
MANY = 512
"""Chunks that wait in memory, at most: a large edit writes on its way."""
KEPT = 64
"""Chunks that are kept in memory after they were written."""


class Chunks:
    """A volume on disk, chunk by chunk, with what is not written yet.

    Parameters
    ----------
    shape, dtype
        Of the volume.
    chunk
        Shape of its chunks.
    empty
        Value of voxels that were never written.
    volume
        The volume on disk, or None where nothing is there yet.
    make
        Makes the volume on disk when something is first written; None to keep all in memory.
    """

    def __init__(
        self, shape: Voxels, dtype: np.dtype[Any], chunk: Voxels, empty: int, make: Callable[[], Volume] | None
    ) -> None:
        self._whole, self._dtype, self._shape, self._empty = Box.of_shape(shape), dtype, chunk, empty
        self._make = make
        self.volume: Volume | None = None
        self._waiting: dict[Voxels, np.ndarray] = {}
        self._kept: OrderedDict[Voxels, np.ndarray] = OrderedDict()
        self._unsynced: set[Voxels] = set()
        self._writing = threading.Lock()  # held while files are written
        self._swapping = threading.RLock()  # held while it changes what waits or is kept; never for long

    @property
    def n_waiting(self) -> int:
        """Number of chunks that are not written yet."""
        return len(self._waiting)

    @property
    def waiting(self) -> list[Box]:
        """Boxes of the chunks that are not written yet."""
        return [self._box(corner) for corner in list(self._waiting)]

    def read(self, box: Box) -> np.ndarray:
        """Return the voxels of a box, a copy."""
        corners = list(self._corners(box))
        few = len(corners) <= FEW
        # What waits is looked at before the files: it may be written, and wait no more, in between.
        chunks = [self._chunk(corner) if few else self._waiting.get(corner) for corner in corners]
        found = np.empty(box.shape, self._dtype) if few else self._stored(box)
        for corner, chunk in zip(corners, chunks, strict=True):
            if chunk is not None:
                whole = self._box(corner)
                part = whole.clip(box)
                found[part.within(box).slices] = chunk[part.within(whole).slices]
        return found

    def present(self, box: Box) -> list[Box]:
        """Return the parts of a box, one per chunk, in which something may have been written."""
        stored = self.folder / "0" / "c" if self.volume is not None else None
        return [
            self._box(corner).clip(box)
            for corner in self._corners(box)
            if corner in self._waiting or (stored and stored.joinpath(*map(str, corner)).is_file())
        ]

    def write(self, box: Box, values: np.ndarray) -> None:
        """Put values into a box; few chunks wait in memory, many are written."""
        corners = list(self._corners(box))
        if len(corners) > FEW and self._make is not None:
            self.flush()
            with self._writing:
                self._on_disk().write(box, values)
                self._unsynced.update(corners)
            with self._swapping:
                for corner in corners:
                    self._kept.pop(corner, None)
            return
        with self._swapping:
            for corner in corners:
                whole = self._box(corner)
                part = whole.clip(box)
                chunk = self._chunk(corner).copy()
                chunk[part.within(whole).slices] = values[part.within(box).slices]
                self._waiting[corner] = chunk
        if len(self._waiting) > MANY and self._make is not None:
            self.flush()

    def flush(self, *, safely: bool = False) -> None:
        """Write all that waits; if `safely`, return when it is on disk, with what was written before."""
        with self._writing:
            with self._swapping:
                batch = dict(self._waiting)
            for corner, chunk in batch.items():
                self._on_disk().write(self._box(corner), chunk)
                self._unsynced.add(corner)
            with self._swapping:
                for corner, chunk in batch.items():
                    if self._waiting.get(corner) is chunk:
                        self._keep(corner, chunk)
                        del self._waiting[corner]
            if safely and self._unsynced:
                self._sync()

    def _sync(self) -> None:
        files = [self.folder / "0" / "c" / "/".join(map(str, corner)) for corner in self._unsynced]
        for file in files:
            if file.is_file():
                sync(file)
        # A file that is gone, or that took the place of another, is known by its folder.
        for folder in {parent for file in files for parent in list(file.parents)[:3] if parent.is_dir()}:
            sync(folder)
        self._unsynced.clear()

    @property
    def folder(self) -> Path:
        """Where the volume is."""
        return Path(getattr(self._on_disk().array, "image"))  # noqa: B009

    def _on_disk(self) -> Volume:
        if self.volume is None:
            assert self._make is not None, "kept in memory"
            self.volume = self._make()
        return self.volume

    def _stored(self, box: Box) -> np.ndarray:
        if self.volume is None:
            return np.full(box.shape, self._empty, self._dtype)
        return np.array(self.volume.read(box))

    def _chunk(self, corner: Voxels) -> np.ndarray:
        with self._swapping:
            found = self._waiting.get(corner)
            if found is None:
                found = self._kept.get(corner)
            if found is None:
                found = self._stored(self._box(corner))
                self._keep(corner, found)
            return found

    def _keep(self, corner: Voxels, chunk: np.ndarray) -> None:
        self._kept[corner] = chunk
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)

    def _box(self, corner: Voxels) -> Box:
        start = times(corner, self._shape)
        stop = (start[0] + self._shape[0], start[1] + self._shape[1], start[2] + self._shape[2])
        return Box(start, stop).clip(self._whole)

    def _corners(self, box: Box) -> Iterator[Voxels]:
        sides = (range(a // n, -(-b // n)) for a, b, n in zip(box.start, box.stop, self._shape, strict=True))
        yield from itertools.product(*sides)
