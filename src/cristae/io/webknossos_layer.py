"""Layers of WebKnossos datasets, read: ``dataset/annotations``, or ``dataset`` where it has one segmentation.

Zarr 2 and 3 with any order of axes, and one channel; the magnification that is not reduced. WKW, the older way to store
voxels, is not read: download the dataset as Zarr.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from cristae.errors import DataError
from cristae.geometry import Voxels
from cristae.io.opened import NM_PER_UNIT, Opened, refusing, stated

_PROPERTIES = "datasource-properties.json"


class ZarrLayer:
    """A Zarr array as ``(z, y, x)``, read lazily; other axes are held at their only index."""

    def __init__(self, path: Path, axes: tuple[int, int, int], corner: Voxels, shape: Voxels) -> None:
        self._path, self._axes, self._corner = path, axes, corner
        self._array = zarr.open_array(path, mode="r")
        self.shape = shape
        self.dtype = np.dtype(self._array.dtype).newbyteorder("=")

    def __getitem__(self, index: tuple[slice, slice, slice]) -> np.ndarray:
        whole: list[Any] = [0] * self._array.ndim
        wanted = []
        for axis, part, low, n in zip(self._axes, index, self._corner, self.shape, strict=True):
            start, stop, _ = part.indices(n)
            whole[axis] = slice(low + start, low + stop)
            wanted.append(max(0, stop - start))
        with refusing(self._path):
            values = np.asarray(self._array[tuple(whole)])
        stored = sorted(self._axes)
        found = values.transpose([stored.index(axis) for axis in self._axes])
        if found.shape == tuple(wanted):
            return found.astype(self.dtype, copy=False)
        # What lies beyond the array was never painted on.
        padded = np.zeros(wanted, self.dtype)
        padded[tuple(slice(0, n) for n in found.shape)] = found
        return padded


def is_webknossos(path: Path) -> bool:
    """Say whether a folder is a WebKnossos dataset or a layer of one."""
    return path.is_dir() and any((folder / _PROPERTIES).is_file() for folder in (path, path.parent))


def open_webknossos(path: Path) -> Opened:
    """Open a layer of a dataset by its folder, or the only segmentation of a dataset.

    Raises
    ------
    DataError
        If there is no such layer, or it is stored in a way that is not read.
    """
    root = path if (path / _PROPERTIES).is_file() else path.parent
    try:
        properties = json.loads((root / _PROPERTIES).read_text(encoding="utf-8"))
        layers = {str(entry["name"]): entry for entry in properties["dataLayers"]}
        segmentations = [name for name, entry in layers.items() if entry.get("category") == "segmentation"]
        if root == path and len(segmentations) != 1:
            raise DataError(f"{path} has {len(segmentations)} segmentations; give the folder of one: {_list(layers)}")
        name = segmentations[0] if root == path else path.name
        if name not in layers:
            raise DataError(f"{root} has no layer {name!r}; there are: {_list(layers)}")
        entry = layers[name]
        if entry.get("dataFormat") not in ("zarr", "zarr3"):
            raise DataError(f"{root}: layer {name} is stored as {entry.get('dataFormat')}; expected zarr or zarr3")
        mag = next(one for one in entry["mags"] if _triple(one["mag"]) == (1, 1, 1))
        order = {axis: int(place) for axis, place in mag["axisOrder"].items()}
        box = entry["boundingBox"]
        low = _triple(box["topLeft"])
        size = (int(box["width"]), int(box["height"]), int(box["depth"]))
        voxel_size = _voxel_size(properties["scale"])
        place = (root / str(mag.get("path") or f"{name}/1")).resolve()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        raise DataError(f"{root / _PROPERTIES} is damaged or of another version ({error!r})") from error
    if not place.is_relative_to(root.resolve()):
        raise DataError(f"{root}: layer {name} lies at {place}, outside of the dataset, and is not read")
    with refusing(place):
        axes = (order["z"], order["y"], order["x"])
        array = ZarrLayer(place, axes, _turned(low), _turned(size))
    return Opened(array, voxel_size)


def _triple(values: Any) -> Voxels:
    if isinstance(values, int):
        return values, values, values
    x, y, z = (int(value) for value in values)
    return x, y, z


def _turned(values: Voxels) -> Voxels:
    x, y, z = values
    return z, y, x


def _voxel_size(scale: Any) -> tuple[float, float, float] | None:
    factor, unit = (scale["factor"], scale.get("unit", "nanometer")) if isinstance(scale, dict) else (scale, "nm")
    x, y, z = (float(value) * NM_PER_UNIT.get(str(unit), 0.0) for value in factor)
    return stated([z, y, x])


def _list(layers: dict[str, Any]) -> str:
    return ", ".join(layers) or "none"
