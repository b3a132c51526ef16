"""Copying an image into a project: once through its voxels, which are surveyed and reduced on the way."""

from __future__ import annotations

import hashlib
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from cristae.blockwise import Execution, Journal, map_blocks
from cristae.files import write_atomically
from cristae.geometry import Block, Box, Voxels
from cristae.io.images import ImageSource
from cristae.io.levels import LevelStream, Sink, factors_of
from cristae.io.ome_zarr import create_levels, create_volume, enter_levels, is_ome_zarr, open_volume, shard_shape
from cristae.io.opened import reads_parts
from cristae.project import Project
from cristae.stages.options import Options
from cristae.stages.survey import Survey, whole_shards
from cristae.volume import Volume

_BAND_BYTES = 2**26
_LEVEL_BYTES = 2**30
"""Coarser levels are made on the way while a slab of slices has up to so many bytes; a third of it waits in memory."""


def copy_image(project: Project, opened: ImageSource, fingerprint: str, options: Options) -> dict[str, Any] | None:
    """Copy the voxels into the hidden folder, going on where a killed import of the same source stopped.

    Where blocks come in order, the image is surveyed and its coarser levels are written on the way: then the facts are
    returned, else None.
    """
    workplace = project.path / ".importing"
    marker, target = workplace / "source", workplace / "image.ome.zarr"
    resumed = marker.is_file() and marker.read_text() == fingerprint and target.exists()
    if resumed:
        options.notify("going on with an import that was interrupted")
        volume = open_volume(target, mode="r+")
    else:
        if workplace.exists():
            shutil.rmtree(workplace)
        workplace.mkdir()
        volume = create_volume(target, opened.volume.grid, opened.volume.dtype, "image")
        write_atomically(marker, fingerprint)
    block_shape = _bands(volume) if reads_parts(opened.volume.array) else whole_shards(volume)
    plane_bytes = math.prod(volume.shape[1:]) * volume.dtype.itemsize
    at_once = not resumed and options.executor == "serial" and block_shape[0] * plane_bytes <= _LEVEL_BYTES
    stream = LevelStream(factors_of(volume.grid), "image", shard_shape(volume)[0], _level_sink(target, at_once))
    found = Survey(volume.shape, volume.dtype)

    def looked_at(block: Block, values: np.ndarray) -> np.ndarray:
        found.add(block.write, values)
        stream.add_band(values, block.write.start[1], volume.shape[1])
        return values

    execution = Execution(options.executor, options.progress("copying image"), Journal(workplace / "journal"))
    map_blocks(looked_at if at_once else _same, [opened.volume], [volume], block_shape=block_shape, execution=execution)
    if not at_once:
        return None
    stream.end()
    enter_levels(target)
    return found.facts()


def _same(block: Block, values: np.ndarray) -> np.ndarray:
    return values


def _bands(volume: Volume) -> Voxels:
    """Return blocks of whole shards and rows that are small enough to stay in reach of the cores."""
    depth, rows, _ = shard_shape(volume)
    _, height, width = volume.shape
    row_bytes = max(1, depth * width * volume.dtype.itemsize)
    n_rows = max(1, _BAND_BYTES // (row_bytes * rows)) * rows
    return depth, min(n_rows, -(-height // rows) * rows), whole_shards(volume)[2]


def _level_sink(path: Path, wanted: bool) -> Sink:
    """Return what writes slabs of whole slices to the coarser levels of a volume; level 0 has its own writer."""
    levels = create_levels(path) if wanted else []

    def sink(level: int, z: int, values: np.ndarray) -> None:
        if level > 0:
            coarse = levels[level - 1]
            coarse.write(Box((z, 0, 0), (z + len(values), *coarse.shape[1:])), values)

    return sink


def fingerprint_of(source: Path, inside: str, opened: ImageSource, *, inverted: bool) -> str:
    """Hash names, sizes and times of the files, and what is made of them: unchanged, the copy can go on."""
    if is_ome_zarr(source):
        files = sorted(path for path in source.rglob("*") if path.is_file())
    elif source.is_dir():
        files = [source / name for name in opened.files]
    else:
        files = [source]
    total = hashlib.blake2b(f"{opened.volume.grid} {opened.volume.dtype}{inside}".encode(), digest_size=16)
    total.update(b"inverted" if inverted else b"")
    for path in files:
        stat = path.stat()
        total.update(f"{path.relative_to(source)}:{stat.st_size}:{stat.st_mtime_ns};".encode())
    return total.hexdigest()


def few_bits(dtype: np.dtype[Any], highest: int) -> str:
    """Return what to say of 16-bit grey values that come from a camera of fewer bits; empty where they do not."""
    n_bits = highest.bit_length()
    if dtype != np.dtype(np.uint16) or not 8 < n_bits < 16:
        return ""
    return f"grey values go up to {highest} only, as those of {n_bits} bits in 16; they are kept as they are"
