"""Models of Microscopy Image Browser (``.model``): labels with the names and colours of their materials, both ways.

MIB keeps a volume as rows, columns, slices, the way of MATLAB, in files of version 7.3, which are HDF5; scripts of its
users write version 5 too. The box around it is that of the voxel centres, in micrometres. ::

    mibModel              uint8, uint16 or uint32 (y, x, z)        modelVariable  its name
    modelMaterialNames    one text per material                   modelType      most materials: 63, 255, 65535, 2³²−1
    modelMaterialColors   (materials, 3), 0–1                     BoundingBox    xmin xmax ymin ymax zmin zmax

Belevich, I. et al. (2016). Microscopy Image Browser. PLoS Biol. 14, e1002340.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cristae.errors import DataError
from cristae.geometry import Nanometres, Voxels
from cristae.io.hdf5 import StoredDataset, check_dataset, dataset_at, list_datasets, new_hdf5
from cristae.io.mat5 import is_mat5, read_mat5
from cristae.io.opened import Material, Opened, Turned, refusing, stated
from cristae.io.writing import Told, partial_file, slabs
from cristae.volume import ArrayLike, Volume

_VARIABLE = ("modelVariable", "model_var")
_NAMES = ("modelMaterialNames", "material_list")
_COLOURS = ("modelMaterialColors", "color_list")
_BOX = ("BoundingBox", "bounding_box")
_TEXTS = "labelText"
_MOST_NAMES = 65535
_LONGEST_NAME = 4096
_TYPES = ((63, "uint8"), (255, "uint8"), (65535, "uint16"), (4294967295, "uint32"))
_SIGNATURE = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, written by cristae, HDF5 schema 1.00 ."


def open_mib(path: Path, inside: str = "") -> Opened:
    """Open a model of MIB; `inside` names its variable where the file does not.

    Raises
    ------
    DataError
        If it is no MATLAB file, holds no volume of labels, or is damaged.
    """
    with refusing(path):
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                facts = {name: _value(file, path, name) for name in _known() if name in file}
                wanted = inside.strip("/") or str(_first(facts, _VARIABLE) or "mibModel")
                if wanted not in file:
                    wanted = _only_variable(file, path)
                dataset = dataset_at(file, wanted, path)
                check_dataset(dataset, path)
                array: ArrayLike = _of_three(path, dataset, wanted)
        elif is_mat5(path):
            facts = read_mat5(path)
            array = _of_version5(path, facts, inside.strip("/"))
        else:
            raise DataError(f"{path} is no MATLAB file; expected a model as MIB saves it")
        if np.dtype(array.dtype).kind not in "uib":
            raise DataError(f"{path} holds {array.dtype}; expected labels, whole numbers")
        named = _first(facts, _NAMES) is not None
        # MIB itself takes files without names for columns, rows, slices.
        array = Turned(array, (0, 2, 1)) if named else array
        size = _voxel_size(_first(facts, _BOX), tuple(array.shape))
        return Opened(array, size, _notes(path, facts), _materials(path, facts), may_be_turned=True)


def write_mib(
    volume: Volume,
    path: Path,
    materials: Sequence[Material] = (),
    *,
    overwrite: bool = False,
    told: Told | None = None,
) -> Path:
    """Write labels as a model of MIB, with the names and colours of its materials and the voxel size.

    Parameters
    ----------
    volume
        Whole numbers, 0 background.
    path
        File to make.
    materials
        What the values 1, 2 … are; without them the model is one of numbered objects.
    overwrite, told
        As of all writers.

    Raises
    ------
    UsageError
        If there is a file already.
    DataError
        If it holds no labels, or ids above 2³² − 1.
    """
    if volume.dtype.kind not in "ub":
        raise DataError(f"a MIB model holds labels, whole numbers from 0; got {volume.dtype}")
    peak = max((int(values.max(initial=0)) for _, values in slabs(volume, None)), default=0)
    if peak > 4294967295:
        raise DataError(f"a MIB model holds ids up to 4294967295, got {peak}; number the objects anew")
    peak = max(peak, *(material.value for material in materials), 1)
    kind, dtype = next((most, name) for most, name in _TYPES if peak <= most)
    names, colours = _lists(materials, peak)
    depth, rows, columns = volume.shape
    with partial_file(path, overwrite) as partial:
        with new_hdf5(partial, userblock_size=512, libver=("earliest", "v110")) as (file, kept):
            dataset = file.create_dataset(
                "mibModel",
                shape=(depth, columns, rows),
                dtype=dtype,
                chunks=(1, min(columns, 512), min(rows, 512)),
                compression="gzip",
                compression_opts=1,
            )
            _call(dataset, dtype)
            for box, values in slabs(volume, told):
                dataset[box.slices[0]] = values.astype(dtype).transpose(0, 2, 1)
                kept.check()
            _put_numbers(file, "BoundingBox", np.array([_box(volume.grid.voxel_size, volume.shape)]))
            _put_numbers(file, "modelType", np.array([[float(kind)]]))
            _put_numbers(file, "modelMaterialColors", np.array(colours).reshape(-1, 3))
            _put_text(file, "modelVariable", "mibModel")
            _put_cell(file, "modelMaterialNames", names)
        with partial.open("r+b") as raw:
            raw.write(_SIGNATURE.ljust(116) + bytes(8) + b"\x00\x02IM")
    return path


def _known() -> tuple[str, ...]:
    return (*_VARIABLE, *_NAMES, *_COLOURS, *_BOX, "modelType", _TEXTS)


def _first(facts: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((facts[name] for name in names if facts.get(name) is not None), None)


def _value(file: h5py.File, path: Path, name: str) -> Any:
    """Return a small variable: text, a list of texts, or an array as MATLAB indexes it."""
    dataset = dataset_at(file, name, path)
    if dataset.dtype == h5py.ref_dtype:
        if dataset.size > _MOST_NAMES:
            raise DataError(f"{path} is damaged: {name} claims {dataset.size} entries")
        return [_text(file, reference) for reference in np.asarray(dataset).ravel()]
    check_dataset(dataset, path)
    if dataset.size > 3 * _MOST_NAMES:
        raise DataError(f"{path} is damaged: {name} claims {dataset.size} numbers")
    values = np.asarray(dataset).T
    if dataset.attrs.get("MATLAB_class") == b"char" or values.dtype == np.uint16:
        return "".join(chr(int(code)) for code in values.ravel("F"))
    return None if "MATLAB_empty" in dataset.attrs else values


def _text(file: h5py.File, reference: Any) -> str:
    found = file[reference] if reference else None
    if not isinstance(found, h5py.Dataset) or found.size > _LONGEST_NAME or np.dtype(found.dtype).kind not in "ui":
        return ""
    if "MATLAB_empty" in found.attrs or found.external or found.is_virtual:
        return ""
    return "".join(chr(int(code)) for code in np.asarray(found).ravel())


def _only_variable(file: h5py.File, path: Path) -> str:
    found = [
        name.strip("/")
        for name, dataset in list_datasets(file)
        if not name.startswith("/#") and len(dataset.shape or ()) in (2, 3) and dataset.dtype.kind in "uib"
        and name.strip("/") not in _known()
    ]  # fmt: skip
    if len(found) != 1:
        raise DataError(
            f"{path} does not say which variable is the model; there are: {', '.join(found) or 'none'}. "
            f"Name it, as in {path.name}:/mibModel"
        )
    return found[0]


def _of_three(path: Path, dataset: h5py.Dataset, name: str) -> ArrayLike:
    shape = dataset.shape
    if len(shape) == 2:
        raise DataError(f"{path}: {name} is a single slice of {shape[1]}×{shape[0]}; expected a model of a volume")
    if len(shape) != 3:
        raise DataError(f"{path}: {name} has {len(shape)} axes; expected a model of one volume at one time")
    return StoredDataset(path, name, (0, 1, 2))


def _of_version5(path: Path, facts: dict[str, Any], inside: str) -> ArrayLike:
    wanted = inside or str(_first(facts, _VARIABLE) or "mibModel")
    found = {
        name: value
        for name, value in facts.items()
        if isinstance(value, np.ndarray) and value.ndim == 3 and value.dtype.kind in "uib"
    }
    if wanted not in found and len(found) == 1:
        wanted = next(iter(found))
    if wanted not in found:
        said = ", ".join(found) or "none"
        raise DataError(f"{path} holds no model {wanted!r}; volumes of whole numbers in it: {said}")
    return found[wanted].transpose(2, 1, 0)


def _materials(path: Path, facts: dict[str, Any]) -> tuple[Material, ...]:
    names, colours = _first(facts, _NAMES), _first(facts, _COLOURS)
    if not isinstance(names, list):
        return ()
    kind = facts.get("modelType")
    if isinstance(kind, np.ndarray) and kind.size and float(kind.ravel()[0]) > 255:
        return ()  # numbered objects: the names are numbers that were at hand
    table = colours if isinstance(colours, np.ndarray) and colours.ndim == 2 and colours.shape[1] == 3 else None
    found = []
    for i, name in enumerate(names):
        if not isinstance(name, str):
            raise DataError(f"{path} is damaged: a material has no name of letters")
        row = table[i].astype(float) if table is not None and i < len(table) else None
        colour = (float(row[0]), float(row[1]), float(row[2])) if row is not None else None
        found.append(Material(name, i + 1, colour))
    return tuple(found)


def _notes(path: Path, facts: dict[str, Any]) -> tuple[str, ...]:
    texts = facts.get(_TEXTS)
    n = len(texts) if isinstance(texts, list) else 0
    if n == 0:
        return ()
    return (f"{path.name}: {n} annotation{'s' * (n > 1)} (texts at points) {'are' if n > 1 else 'is'} not imported",)


def _voxel_size(corners: Any, shape: tuple[int, ...]) -> Nanometres | None:
    if not isinstance(corners, np.ndarray) or corners.size != 6 or corners.dtype.kind not in "fiu":
        return None
    box = corners.ravel().astype(float)
    z, y, x = shape
    sizes = [(box[2 * i + 1] - box[2 * i]) * 1e3 / max(1, n - 1) for i, n in ((2, z), (1, y), (0, x))]
    return stated(sizes)


def _box(voxel_size: Nanometres, shape: Voxels) -> list[float]:
    corners: list[float] = []
    for i in (2, 1, 0):
        corners += [0.0, max(1, shape[i] - 1) * voxel_size[i] / 1e3]
    return corners


def _lists(materials: Sequence[Material], peak: int) -> tuple[list[str], list[tuple[float, float, float]]]:
    """Return a name and a colour for each value; models of numbered objects carry two numbers as names."""
    if not materials and peak > 255:
        return ["1", "2"], [_hue(1), _hue(2)]
    by_value = {material.value: material for material in materials}
    n = max(by_value, default=0) if materials else peak
    names = [by_value[i].name if i in by_value else str(i) for i in range(1, n + 1)]
    return names, [(by_value[i].colour if i in by_value else None) or _hue(i) for i in range(1, n + 1)]


def _hue(value: int) -> tuple[float, float, float]:
    """Return a colour that neighbouring values do not share: hues a golden section apart."""
    hue = 6 * (value * 0.618034 % 1)
    red, green, blue = (min(1.0, max(0.0, abs((hue + shift) % 6 - 3) - 1)) for shift in (0, 4, 2))
    return 0.25 + 0.7 * red, 0.25 + 0.7 * green, 0.25 + 0.7 * blue


def _call(dataset: h5py.Dataset, matlab_class: str) -> None:
    dataset.attrs["MATLAB_class"] = np.bytes_(matlab_class)


def _put_numbers(file: h5py.File, name: str, values: np.ndarray) -> None:
    _call(file.create_dataset(name, data=np.asarray(values, np.float64).T), "double")


def _put_text(place: h5py.Group, name: str, text: str) -> h5py.Dataset:
    codes = np.frombuffer(text.encode("utf-16-le"), np.uint16)
    if len(codes) == 0:
        dataset = place.create_dataset(name, data=np.array([0, 0], np.uint64))
        dataset.attrs["MATLAB_empty"] = np.uint8(1)
    else:
        dataset = place.create_dataset(name, data=codes[:, None])
        dataset.attrs["MATLAB_int_decode"] = np.int32(2)
    _call(dataset, "char")
    return dataset


def _put_cell(file: h5py.File, name: str, texts: Sequence[str]) -> None:
    folder = file.require_group("#refs#")
    references = [_put_text(folder, f"{name}_{i}", text).ref for i, text in enumerate(texts)]
    # A column of cells, (n, 1) in MATLAB, is (1, n) here.
    dataset = file.create_dataset(name, (1, len(references)), h5py.ref_dtype)
    dataset[0, :] = references
    _call(dataset, "cell")
