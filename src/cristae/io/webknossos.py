"""WebKnossos datasets, written: a folder with layers of Zarr 3 and ``datasource-properties.json``.

::

    dataset/datasource-properties.json    voxel size, layers, their magnifications; axes are x, y, z
    dataset/<layer>/1, 2-2-1, …           Zarr arrays (c, x, y, z), sharded, chunks of 32³

Format: https://docs.webknossos.org/webknossos/data/zarr.html
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import TransposeCodec, ZstdCodec

from cristae.errors import DataError, UsageError
from cristae.files import write_atomically
from cristae.geometry import Grid, Voxels
from cristae.io.levels import factors_of, grids_of
from cristae.io.tiles import TILE, write_tiles
from cristae.io.writing import Told, is_new, make_folder, partial_folder
from cristae.volume import Volume

_CHUNK = 32
_MOST_LEVELS = 4
_TYPES = ("uint8", "uint16", "uint32", "float32")
_PROPERTIES = "datasource-properties.json"


def write_webknossos(
    volume: Volume, path: Path, layer: str, *, overwrite: bool = False, told: Told | None = None
) -> Path:
    """Write a volume as a layer of a WebKnossos dataset, which is made or added to.

    Parameters
    ----------
    volume
        Image (a colour layer there) or labels (a segmentation layer).
    path
        Folder of the dataset.
    layer
        Name of the layer.
    overwrite
        Whether a layer of that name may be replaced.
    told
        Told as the work goes on.

    Raises
    ------
    UsageError
        If the layer is there already, or the folder is something else.
    ResourceError
        If someone else is writing this layer.
    DataError
        If the format has no type for the voxels, or the dataset has another voxel size.
    """
    if volume.dtype.name not in _TYPES[: 3 if volume.kind == "labels" else 4]:
        raise DataError(f"expected voxels of type {', '.join(_TYPES)} for WebKnossos, got {volume.dtype}")
    properties = _properties(path, volume.grid)
    if any(entry["name"] == layer for entry in properties["dataLayers"]) and not overwrite:
        raise UsageError(f"{path} has a layer {layer!r} already; say that it may be replaced (--force)")
    make_folder(path)
    # At once, so that the folder is known for what it is if this is not brought to its end.
    write_atomically(path / _PROPERTIES, json.dumps(properties, indent=4))
    zarr.open_group(path, mode="a", zarr_format=3)
    # A layer that is not in the list is what a kill left just before it was entered.
    with partial_folder(path / layer, overwrite=True) as partial:
        mags, largest = _write(volume, partial, told)
    entry = _entry(volume, layer, mags)
    if volume.kind == "labels":
        entry["largestSegmentId"] = largest
    properties = _properties(path, volume.grid)  # others may have been added meanwhile
    properties["dataLayers"] = [*(one for one in properties["dataLayers"] if one["name"] != layer), entry]
    write_atomically(path / _PROPERTIES, json.dumps(properties, indent=4))
    return path


def _properties(path: Path, grid: Grid) -> dict[str, Any]:
    """Return the properties of the dataset that is there, or of a new one."""
    factor = list(reversed(grid.voxel_size))
    file = path / _PROPERTIES
    if not file.is_file():
        if not is_new(path):
            raise UsageError(f"{path} holds something that is no WebKnossos dataset; choose another name")
        scale = {"factor": factor, "unit": "nanometer"}
        return {"id": {"name": path.name, "team": ""}, "scale": scale, "dataLayers": [], "version": 1}
    try:
        properties: dict[str, Any] = json.loads(file.read_text())
        known = [float(size) for size in properties["scale"]["factor"]]
        names = [str(entry["name"]) for entry in properties["dataLayers"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} is damaged; remove the dataset, or choose another name") from error
    if not np.allclose(known, factor, rtol=1e-6):
        raise DataError(
            f"{path} has layers {', '.join(names)} of voxels of {known} nm (x, y, z), not {factor}; choose another"
        )
    return properties


def _write(volume: Volume, folder: Path, told: Told | None) -> tuple[list[Voxels], int]:
    """Write all magnifications, and return them (x, y, z) with the largest value."""
    factors = factors_of(volume.grid, _MOST_LEVELS)
    grids = grids_of(volume.grid, factors)
    scales: list[Voxels] = [(1, 1, 1)]
    for z, y, x in factors:
        scales.append((scales[-1][0] * z, scales[-1][1] * y, scales[-1][2] * x))
    mags: list[Voxels] = [(x, y, z) for z, y, x in scales]
    zarr.open_group(folder, mode="w-", zarr_format=3)
    arrays = [_create(folder, mag, grid, volume.dtype) for mag, grid in zip(mags, grids, strict=True)]
    largest = 0

    def sink(level: int, corner: Voxels, values: np.ndarray) -> None:
        nonlocal largest
        if level == 0 and volume.kind == "labels":
            largest = max(largest, int(values.max(initial=0)))
        z, y, x = (slice(low, low + n) for low, n in zip(corner, values.shape, strict=True))
        arrays[level][0, x, y, z] = values.transpose(2, 1, 0)

    write_tiles(volume, factors, _CHUNK, sink, told)
    return mags, largest


def _create(folder: Path, mag: Voxels, grid: Grid, dtype: np.dtype[Any]) -> Any:
    z, y, x = grid.shape
    along_x, along_y = (max(_CHUNK, TILE // mag[i]) for i in (0, 1))
    shard = (1, *(min(-(-n // _CHUNK) * _CHUNK, side) for n, side in ((x, along_x), (y, along_y))), _CHUNK)
    return zarr.create_array(
        folder / mag_name(mag),
        shape=(1, x, y, z),
        dtype=dtype,
        chunks=(1, _CHUNK, _CHUNK, _CHUNK),
        shards=shard,
        filters=[TransposeCodec(order=(3, 2, 1, 0))],
        compressors=[ZstdCodec(level=1, checksum=True)],
        fill_value=0,
        zarr_format=3,
        dimension_names=("c", "x", "y", "z"),
    )


def mag_name(mag: Voxels) -> str:
    """Return what a magnification (x, y, z) is called: ``4`` or ``2-2-1``."""
    return str(mag[0]) if len(set(mag)) == 1 else "-".join(map(str, mag))


def _entry(volume: Volume, layer: str, mags: list[Voxels]) -> dict[str, Any]:
    z, y, x = volume.shape
    return {
        "name": layer,
        "category": "segmentation" if volume.kind == "labels" else "color",
        "boundingBox": {"topLeft": [0, 0, 0], "width": x, "height": y, "depth": z},
        "dataFormat": "zarr3",
        "mags": [
            {"mag": list(mag), "path": f"./{layer}/{mag_name(mag)}", "axisOrder": {"c": 0, "x": 1, "y": 2, "z": 3}}
            for mag in mags
        ],
        "numChannels": 1,
        "elementClass": "float" if volume.dtype.name == "float32" else volume.dtype.name,
    }
