"""A layer of labels with corrections laid over it: the original is only read, and what was changed lies beside it.

The overlay holds a value of its own, the highest of the type, where nothing was changed, as labels by hand hold
`IGNORE` where nobody looked; chunks of that value take no space. Renamed objects take none at all: their new ids are
put in while reading::

    original    7 7 7 3 3 0        overlay   - - 9 - - -        names   3 → 5        what is read   7 7 9 5 5 0
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cristae.corrections.chunks import Chunks
from cristae.editing.rename import renamed
from cristae.errors import DataError
from cristae.geometry import Box, Voxels
from cristae.io.ome_zarr import Storage, create_volume, open_volume
from cristae.io.stored import times
from cristae.volume import Volume

CHUNK: Voxels = (1, 512, 512)
"""Unit of reading and of writing: a stroke lies in one slice."""


class Overlay:
    """What was changed of a layer.

    Parameters
    ----------
    path
        OME-Zarr of the changes; made when something is first written.
    original
        The layer, level 0, of unsigned integers.
    names
        New ids of original ones; the overlay itself holds final ids. May be changed by the owner.
    writable
        Whether changes are written, by nobody else.
    stored
        Whether what is on disk is to be used, if there is something.
    """

    def __init__(
        self, path: Path, original: Volume, names: dict[int, int], *, writable: bool = True, stored: bool = True
    ) -> None:
        if original.dtype.kind != "u":
            raise DataError(f"expected labels of unsigned integers to correct, got {original.dtype}")
        self.path, self.original, self.names = path, original, names
        make = self._made if writable else None
        self._changes = Chunks(original.shape, original.dtype, CHUNK, self.unchanged, make)
        if not stored or not path.exists():
            return
        volume = self._changes.volume = open_volume(path, mode="r+" if writable else "r")
        if (volume.shape, volume.dtype) != (original.shape, original.dtype):
            raise DataError(
                f"{path} holds corrections of {volume.shape} voxels of {volume.dtype}, the layer has "
                f"{original.shape} of {original.dtype}; move the folder {path.parent} elsewhere to begin anew"
            )

    def _made(self) -> Volume:
        storage = Storage(chunk=CHUNK, shard=CHUNK, fill_value=self.unchanged)
        return create_volume(self.path, self.original.grid, self.original.dtype, "labels", storage)

    @property
    def unchanged(self) -> int:
        """Value of voxels of the overlay that nobody changed."""
        return int(np.iinfo(self.original.dtype).max)

    def read(self, box: Box) -> np.ndarray:
        """Return the labels of a box as they are now."""
        labels = renamed(self.original.read(box), self.names)
        parts = self._changes.present(box)
        if parts:
            labels = np.array(labels)  # it may be the original itself
        for part in parts:
            over, here = self._changes.read(part), labels[part.within(box).slices]
            np.copyto(here, over, where=over != self.unchanged)
        return labels

    def read_changes(self, box: Box) -> np.ndarray:
        """Return the overlay in a box."""
        return self._changes.read(box)

    def write_changes(self, box: Box, values: np.ndarray) -> None:
        """Put values into the overlay; they are on disk after `flush`."""
        self._changes.write(box, values)

    def flush(self, *, safely: bool = False) -> None:
        """Write what waits in memory; if `safely`, return when it is on disk for certain."""
        self._changes.flush(safely=safely)

    def renamed(self, names: Mapping[int, int]) -> Iterator[tuple[Box, np.ndarray, np.ndarray]]:
        """Yield where the overlay itself holds ids that are to be renamed: box, values before, values after."""
        for box in self.written():
            before = self.read_changes(box)
            after = renamed(before, names)
            if (after != before).any():
                yield box, before, after

    def written(self) -> Iterator[Box]:
        """Yield the boxes of all chunks in which something is changed."""
        boxes = set(self._changes.waiting)
        whole = self.original.grid.box
        for file in (self.path / "0" / "c").glob("*/*/*"):
            z, y, x = (int(part) for part in file.parts[-3:])
            start = times((z, y, x), CHUNK)
            boxes.add(Box(start, (start[0] + CHUNK[0], start[1] + CHUNK[1], start[2] + CHUNK[2])).clip(whole))
        yield from sorted(boxes, key=lambda box: box.start)


class Corrected:
    """A layer as it is now, as an array that is cut by three slices; it can be read by other processes."""

    def __init__(self, path: Path, original: Volume, names: Mapping[int, int]) -> None:
        self._path, self._original, self._names = path, original, dict(names)
        self._overlay: Overlay | None = None
        self.shape, self.dtype, self.ndim = original.shape, original.dtype, 3

    def __reduce__(self) -> tuple[Any, ...]:
        return Corrected, (self._path, self._original, self._names)

    def __getitem__(self, index: Any) -> np.ndarray:
        if self._overlay is None:
            self._overlay = Overlay(self._path, self._original, self._names, writable=False)
        z, y, x = index
        return self._overlay.read(Box((z.start, y.start, x.start), (z.stop, y.stop, x.stop)))
