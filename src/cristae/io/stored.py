"""Zarr arrays on disk that are read by the fast codecs, and of which no half-written shard is ever seen."""

from __future__ import annotations

import math
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import numpy as np
import zarr

from cristae.errors import CristaeError, DataError
from cristae.geometry import Box, Voxels, blocks

_PIPELINE = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}
_opening = threading.Lock()
"""The configuration of zarr is one for all threads."""
_LARGEST_CHUNK = 2**31
"""No chunk that is larger than its volume takes more bytes than this."""
_PARTIAL = ".*.partial"
_PARTIAL_METADATA = "zarr.*.partial"
"""What zarr writes before it becomes ``zarr.json``."""


class StoredArray:
    """A Zarr array on disk whose shards are replaced, never changed in place; it is pickled as its path.

    The fast codecs write into the file that is there. A kill or a full disk would leave half a shard, and one that is
    cut short cannot be written again where it sticks out of the volume. So they write beside it, and what is complete
    takes its place::

        0/zarr.json   0/c/0/0/0   0/.<random>.partial/c/0/0/0 --> 0/c/0/0/0

    Nobody waits until shards are on the disk, as a journal of finished blocks does: that would halve the speed of
    copying. A power cut can therefore lose shards of finished blocks; what is torn of them fails its checksum.
    """

    def __init__(self, image: Path, name: str, mode: Literal["r", "r+"]) -> None:
        self.image, self._name, self._mode = image, name, mode
        self._folder = image / name
        self._array = _opened(self._folder, mode)
        self.shape, self.dtype = self._array.shape, self._array.dtype
        self.chunks = self._array.chunks
        self.shard = self._array.shards or self._array.chunks
        n_bytes = math.prod(self.chunks) * self.dtype.itemsize
        if n_bytes > max(_LARGEST_CHUNK, math.prod(self.shape) * self.dtype.itemsize):
            raise DataError(f"{self._folder} claims chunks of {n_bytes} bytes: it is damaged; restore it from a copy")

    def __reduce__(self) -> tuple[Any, ...]:
        return StoredArray, (self.image, self._name, self._mode)

    def __getitem__(self, index: Any) -> Any:
        try:
            return self._array[index]
        except (CristaeError, RuntimeError, OSError):  # of the fast codecs; `Volume` says what they are
            raise
        except Exception as error:  # of codecs of others, anything
            raise DataError(
                f"{self._folder} is damaged ({error!r}); restore it from a copy, or make it again"
            ) from error

    def __setitem__(self, index: tuple[slice, slice, slice], values: np.ndarray) -> None:
        if self._mode == "r":
            raise ValueError(f"{self._folder} was opened for reading")
        box = Box(triple(side.start for side in index), triple(side.stop for side in index))
        partial = self._folder / f".{uuid4().hex}.partial"
        try:
            partial.mkdir()
            shutil.copyfile(self._folder / "zarr.json", partial / "zarr.json")
            shards = dict(self._shards(box))
            for key, covered in shards.items():
                if not covered and (self._folder / key).is_file():
                    (partial / key).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(self._folder / key, partial / key)
            _opened(partial, "r+")[index] = values
            for key in shards:
                self._replace(partial / key, self._folder / key)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _shards(self, box: Box) -> Iterator[tuple[str, bool]]:
        """Yield the file of each shard that a box reaches into, and whether the box covers it."""
        whole, shard = Box.of_shape(triple(self.shape)), triple(self.shard)
        for block in blocks(box, shard):
            corner = triple(low // s for low, s in zip(block.write.start, shard, strict=True))
            covered = Box(times(corner, shard), times(triple(c + 1 for c in corner), shard)).clip(whole)
            yield self._array.metadata.encode_chunk_key(corner), box.contains(covered)

    @staticmethod
    def _replace(new: Path, old: Path) -> None:
        if not new.is_file():  # all of it is the fill value
            old.unlink(missing_ok=True)
            return
        old.parent.mkdir(parents=True, exist_ok=True)
        new.replace(old)


def clear_partial(folder: Path) -> None:
    """Remove what one who was killed left in a group and its arrays; nobody else may be writing there."""
    for pattern in (f"*/{_PARTIAL}", _PARTIAL_METADATA, f"*/{_PARTIAL_METADATA}"):
        for left in folder.glob(pattern):
            _remove(left)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _opened(folder: Path, mode: Literal["r", "r+"]) -> zarr.Array[Any]:
    """Open one array with the fast codec pipeline where that knows the format (Zarr 3)."""
    with _opening, zarr.config.set(_PIPELINE if (folder / "zarr.json").is_file() else {}):
        return zarr.open_array(folder, mode=mode)


def times(corner: Voxels, factor: Voxels) -> Voxels:
    """Return the product along each axis."""
    return triple(c * f for c, f in zip(corner, factor, strict=True))


def triple(values: Any) -> Voxels:
    """Return three values as whole numbers."""
    z, y, x = (int(value) for value in values)
    return z, y, x
