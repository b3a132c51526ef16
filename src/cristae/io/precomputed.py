"""Neuroglancer precomputed volumes, written: images raw, labels as compressed segmentation, with all scales.

Unsharded: one file per chunk of 64³ voxels, which any web server can serve. Axes are x, y, z there.

Format: https://github.com/google/neuroglancer/tree/master/src/datasource/precomputed
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from cristae.errors import DataError
from cristae.geometry import Box, Grid, Voxels, blocks
from cristae.io.levels import factors_of, grids_of
from cristae.io.opened import Material
from cristae.io.tiles import write_tiles
from cristae.io.writing import Told, partial_folder
from cristae.volume import Volume

_CHUNK = 64
_BLOCK = 8
_MOST_LEVELS = 4
_TYPES = ("uint8", "uint16", "uint32", "float32")


def write_precomputed(
    volume: Volume,
    path: Path,
    materials: Sequence[Material] = (),
    *,
    overwrite: bool = False,
    told: Told | None = None,
) -> Path:
    """Write a volume as a folder that neuroglancer opens as ``precomputed://``.

    Parameters
    ----------
    volume
        Image or labels.
    path
        Folder to make.
    materials
        Names of the values of labels, shown in the list of segments.
    overwrite, told
        As of all writers.

    Raises
    ------
    UsageError
        If there is something already.
    DataError
        If the format has no type for the voxels.
    """
    labels = volume.kind == "labels"
    if volume.dtype.name not in _TYPES[: 3 if labels else 4]:
        raise DataError(f"expected voxels of type {', '.join(_TYPES)} for precomputed, got {volume.dtype}")
    factors = factors_of(volume.grid, _MOST_LEVELS)
    grids = grids_of(volume.grid, factors)
    keys = [_key(grid) for grid in grids]
    with partial_folder(path, overwrite) as partial:
        for key in keys:
            (partial / key).mkdir()

        def sink(level: int, corner: Voxels, values: np.ndarray) -> None:
            where = Box(corner, _plus(corner, values.shape))
            for block in blocks(where, (_CHUNK, _CHUNK, _CHUNK)):
                part = values[block.write.within(where).slices]
                name = "_".join(f"{low}-{high}" for low, high in _spans(block.write))
                (partial / keys[level] / name).write_bytes(_encoded(part, labels))

        write_tiles(volume, factors, _CHUNK, sink, told)
        info: dict[str, Any] = {
            "@type": "neuroglancer_multiscale_volume",
            "type": "segmentation" if labels else "image",
            "data_type": "uint32" if labels else volume.dtype.name,
            "num_channels": 1,
            "scales": [_scale(grid, key, labels) for grid, key in zip(grids, keys, strict=True)],
        }
        if labels and materials:
            info["segment_properties"] = "segment_properties"
            (partial / "segment_properties").mkdir()
            (partial / "segment_properties" / "info").write_text(json.dumps(_properties(materials)))
        (partial / "info").write_text(json.dumps(info, indent=1))
    return path


def _scale(grid: Grid, key: str, labels: bool) -> dict[str, Any]:
    scale: dict[str, Any] = {
        "key": key,
        "size": list(reversed(grid.shape)),
        "resolution": list(reversed(grid.voxel_size)),
        "voxel_offset": [0, 0, 0],
        "chunk_sizes": [[_CHUNK] * 3],
        "encoding": "compressed_segmentation" if labels else "raw",
    }
    if labels:
        scale["compressed_segmentation_block_size"] = [_BLOCK] * 3
    return scale


def _properties(materials: Sequence[Material]) -> dict[str, Any]:
    return {
        "@type": "neuroglancer_segment_properties",
        "inline": {
            "ids": [str(material.value) for material in materials],
            "properties": [{"id": "label", "type": "label", "values": [material.name for material in materials]}],
        },
    }


def _key(grid: Grid) -> str:
    return "_".join(f"{size:.10g}" for size in reversed(grid.voxel_size))


def _spans(box: Box) -> list[tuple[int, int]]:
    return list(zip(reversed(box.start), reversed(box.stop), strict=True))


def _plus(corner: Voxels, shape: Sequence[int]) -> Voxels:
    z, y, x = (low + n for low, n in zip(corner, shape, strict=True))
    return z, y, x


def _encoded(values: np.ndarray, labels: bool) -> bytes:
    if not labels:
        return np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"), copy=False)).tobytes()
    words = compress_labels(np.ascontiguousarray(values, np.uint32))
    return np.array([1], "<u4").tobytes() + words.astype("<u4", copy=False).tobytes()


@njit(cache=True, nogil=True)
def compress_labels(labels: np.ndarray) -> np.ndarray:
    """Return labels as compressed segmentation of one channel.

    Parameters
    ----------
    labels
        uint32 ``(z, y, x)``.

    Returns
    -------
    array
        uint32 words: for each block of 8³ two that say where its table and its indices are and how many bits an index
        has, then indices and table of each block.
    """
    nz, ny, nx = labels.shape
    gz, gy, gx = (nz + 7) // 8, (ny + 7) // 8, (nx + 7) // 8
    n_blocks = gz * gy * gx
    words = np.zeros(n_blocks * (2 + 256 + 512), np.uint32)
    values, places = np.empty(512, np.uint32), np.empty(512, np.int64)
    end = 2 * n_blocks
    for b in range(n_blocks):
        corner = (8 * (b // (gx * gy)), 8 * (b // gx % gy), 8 * (b % gx))
        n = _gather(labels, corner, values, places)
        table = np.unique(values[:n])
        bits = 0
        while (1 << bits) < len(table):
            bits = 1 if bits == 0 else 2 * bits
        words[2 * b] = np.uint32(end + 16 * bits) | np.uint32(bits << 24)
        words[2 * b + 1] = end
        for i in range(n if bits else 0):
            bit = bits * places[i]
            words[end + bit // 32] |= np.uint32(np.searchsorted(table, values[i]) << (bit % 32))
        end += 16 * bits
        words[end : end + len(table)] = table
        end += len(table)
    return words[:end]


@njit(cache=True, nogil=True)
def _gather(labels: np.ndarray, corner: tuple[int, int, int], values: np.ndarray, places: np.ndarray) -> int:
    """Copy the voxels of a block that lie in the volume, note their places in the block, and return how many."""
    z0, y0, x0 = corner
    n = 0
    for z in range(z0, min(z0 + 8, labels.shape[0])):
        for y in range(y0, min(y0 + 8, labels.shape[1])):
            for x in range(x0, min(x0 + 8, labels.shape[2])):
                values[n] = labels[z, y, x]
                places[n] = (x - x0) + 8 * (y - y0) + 64 * (z - z0)
                n += 1
    return n
