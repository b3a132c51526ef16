"""HDF5: a dataset inside a file, as in ``stack.h5:/volumes/raw``. Written with what ilastik, Fiji and CREMI expect.

Only the file itself is ever read: links to other files, and datasets whose voxels lie in other files, are refused.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cristae.errors import DataError, UsageError
from cristae.geometry import Nanometres, Voxels
from cristae.io.opened import NM_PER_UNIT, Opened, check_holds, refusing, stated
from cristae.io.writing import Told, partial_file, slabs
from cristae.volume import Volume

_SPARSE = 2**20
"""Chunks of a single value are often left out; a file may hold that many times fewer bytes than its voxels."""
_MOST_LISTED = 40
_DEEPEST = 32
_MOST_CHANNELS = 4


class StoredDataset:
    """A dataset of three axes (z, y, x) longer than 1, read lazily; others are held at their only index."""

    def __init__(self, path: Path, inside: str, axes: tuple[int, int, int]) -> None:
        self._path, self._inside, self._axes = path, inside, axes
        with h5py.File(path, "r") as file:
            dataset = dataset_at(file, inside, path)
            self._n_axes = len(dataset.shape)
            self.shape: Voxels = (dataset.shape[axes[0]], dataset.shape[axes[1]], dataset.shape[axes[2]])
            self.dtype = np.dtype(dataset.dtype).newbyteorder("=")

    def __getitem__(self, index: tuple[slice, slice, slice]) -> np.ndarray:
        whole: list[Any] = [0] * self._n_axes
        for axis, part in zip(self._axes, index, strict=True):
            whole[axis] = part
        with refusing(self._path), h5py.File(self._path, "r") as file:
            values = np.asarray(dataset_at(file, self._inside, self._path)[tuple(whole)])
        stored = sorted(self._axes)
        return values.transpose([stored.index(axis) for axis in self._axes]).astype(self.dtype, copy=False)


def open_hdf5(path: Path, inside: str = "") -> Opened:
    """Open a dataset in an HDF5 file; without a name, the only one that is a volume.

    Raises
    ------
    DataError
        If it is no HDF5, has no such dataset (those it has are listed), or the dataset is no volume of numbers.
    """
    with refusing(path):
        with h5py.File(path, "r") as file:
            name = inside or _only_volume(file, path)
            dataset = dataset_at(file, name, path)
            check_dataset(dataset, path)
            axes, notes = _axes(dataset, path)
            size = _voxel_size(dataset, axes)
        if not inside:
            notes = (f"{path.name}: dataset {name} is read", *notes)
        return Opened(StoredDataset(path, name, axes), size, notes)


def write_hdf5(
    volume: Volume, path: Path, *, inside: str = "", overwrite: bool = False, told: Told | None = None
) -> Path:
    """Write a volume as a dataset with its voxel size, in chunks; labels are compressed.

    The attributes are ``resolution`` (nm; z, y, x), ``element_size_um`` and the ``axistags`` of ilastik.

    Raises
    ------
    UsageError
        If there is a file already, or `inside` is no name of a dataset.
    """
    name = inside or ("/labels" if volume.kind == "labels" else "/image")
    if ".." in name.split("/") or name.strip("/") == "":
        raise UsageError(f"{name!r} is no name of a dataset; expected one such as /volumes/labels")
    chunks = tuple(max(1, min(64, n)) for n in volume.shape)
    with partial_file(path, overwrite) as partial, new_hdf5(partial) as (file, kept):
        dataset = file.create_dataset(
            name,
            shape=volume.shape,
            dtype=volume.dtype,
            chunks=chunks,
            compression="gzip" if volume.kind == "labels" else None,
            compression_opts=1 if volume.kind == "labels" else None,
        )
        dataset.attrs["resolution"] = np.array(volume.grid.voxel_size)
        dataset.attrs["element_size_um"] = np.array(volume.grid.voxel_size) / 1e3
        dataset.attrs["axistags"] = json.dumps(
            {
                "axes": [
                    {"key": key, "typeFlags": 2, "resolution": size, "description": "nm"}
                    for key, size in zip("zyx", volume.grid.voxel_size, strict=True)
                ]
            }
        )
        for axis, key in enumerate("zyx"):
            dataset.dims[axis].label = key
        for box, values in slabs(volume, told):
            dataset[box.slices] = values
            kept.check()
    return path


class KeptFile:
    """A file for HDF5 to write to that keeps an error instead of raising it.

    HDF5 ends the process when it cannot write while it closes a file, as on a full disk. So it is let to believe that
    it wrote, and the error is raised afterwards, or by `check` before the next slab.
    """

    def __init__(self, raw: FileIO) -> None:
        self._raw = raw
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise the error that was kept."""
        if self._error is not None:
            raise self._error

    def write(self, values: Any) -> int:
        """Write all of it, or keep the error."""
        view = memoryview(values).cast("B")
        done = 0
        while self._error is None and done < len(view):
            try:
                done += self._raw.write(view[done:])
            except OSError as error:
                self._error = error
        return len(view)

    def read(self, n_bytes: int = -1) -> bytes:
        """Read up to so many bytes."""
        return self._raw.read(n_bytes) or b""

    def readinto(self, values: Any) -> int:
        """Read; what is not there is 0."""
        view = memoryview(values).cast("B")
        n_read = self._raw.readinto(view) or 0
        view[n_read:] = bytes(len(view) - n_read)
        return len(view)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place."""
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        """Return the place."""
        return self._raw.tell()

    def truncate(self, size: int | None = None) -> int:
        """Make the file so long, or keep the error."""
        try:
            return self._raw.truncate(size)
        except OSError as error:
            self._error = self._error or error
            return size or 0

    def flush(self) -> None:
        """Nothing waits to be written."""


@contextlib.contextmanager
def new_hdf5(path: Path, **keywords: Any) -> Iterator[tuple[h5py.File, KeptFile]]:
    """Make an HDF5 file; give it, and what it is written through, to be checked on the way.

    Raises
    ------
    OSError
        If the disk is full or cannot be written.
    """
    with path.open("w+b", buffering=0) as raw:
        kept = KeptFile(raw)
        with h5py.File(kept, "w", **keywords) as file:
            yield file, kept
        kept.check()


def dataset_at(file: h5py.File, name: str, path: Path) -> h5py.Dataset:
    """Return the dataset of that name, following no link out of the file.

    Raises
    ------
    DataError
        If there is none; those that are there are listed.
    """
    found: Any = file
    parts = [part for part in name.split("/") if part not in ("", ".")]
    for part in parts:
        link = found.get(part, getlink=True) if isinstance(found, h5py.Group) else None
        if isinstance(link, h5py.ExternalLink):
            raise DataError(
                f"{path}: {name} is a link into another file, {link.filename!r}, which is not followed; give that file"
            )
        if isinstance(link, h5py.SoftLink):
            raise DataError(f"{path}: {name} is a link to {link.path!r} in the same file; give that name")
        found = found[part] if link is not None else None
        if found is None:
            break
    if not isinstance(found, h5py.Dataset):
        raise DataError(f"{path} has no dataset {name!r}; {_listing(file, path)}")
    return found


def list_datasets(file: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yield names and datasets of a file, its groups in turn, following no links but hard ones, and none twice."""
    seen: set[Any] = set()
    todo: list[tuple[str, h5py.Group, int]] = [("", file, 0)]
    while todo:
        prefix, group, depth = todo.pop(0)
        for key in group:
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                continue
            member = group[key]
            address = h5py.h5o.get_info(member.id).addr
            if address in seen:
                continue
            seen.add(address)
            if isinstance(member, h5py.Dataset):
                yield f"{prefix}/{key}", member
            elif isinstance(member, h5py.Group) and depth < _DEEPEST:
                todo.append((f"{prefix}/{key}", member, depth + 1))


def check_dataset(dataset: h5py.Dataset, path: Path) -> None:
    """Raise DataError unless the voxels are numbers, lie in this file, and the file can hold them."""
    if dataset.is_virtual or dataset.external:
        raise DataError(
            f"{path}: the voxels of {dataset.name} lie in other files, which are not read; make it one file"
        )
    if dataset.shape is None or np.dtype(dataset.dtype).kind not in "uifb" or dataset.dtype.shape:
        raise DataError(f"{path}: {dataset.name} holds {dataset.dtype}; expected numbers, one per voxel")
    stored = int(dataset.id.get_storage_size())
    size, itemsize = path.stat().st_size, dataset.dtype.itemsize
    shape = tuple(n for n in dataset.shape if n != 1)
    flat = (1, 1, *shape)[-3:] if len(shape) < 3 else shape
    if stored > size:
        raise DataError(f"{path} is cut short: {dataset.name} should take {stored} bytes; copy it again")
    if stored == 0:  # nobody wrote to it yet: all of it is the fill value
        check_holds(path, (1, 1, int(np.prod(flat, dtype=object))), itemsize, _SPARSE * size)
        return
    if dataset.chunks is None:
        check_holds(path, (1, 1, int(np.prod(flat, dtype=object))), itemsize, size)
        return
    check_holds(path, (1, 1, int(np.prod(dataset.chunks, dtype=object))), itemsize, 1032 * size)
    check_holds(path, (1, 1, int(np.prod(flat, dtype=object))), itemsize, _SPARSE * stored)


def _only_volume(file: h5py.File, path: Path) -> str:
    sizes = {name: _n_long(dataset) for name, dataset in list_datasets(file)}
    found = [name for name, n in sizes.items() if n == 3] or [name for name, n in sizes.items() if n > 3]
    if len(found) != 1:
        raise DataError(
            f"{path} has {len(found) or 'no'} dataset{'s' * (len(found) != 1)} of three axes; name one, as in "
            f"{path.name}:/volumes/raw. {_listing(file, path)}"
        )
    return found[0]


def _n_long(dataset: h5py.Dataset) -> int:
    """Return how many axes are longer than 1; none of what holds no numbers."""
    return sum(n > 1 for n in dataset.shape or ()) if dataset.dtype.kind in "uifb" else 0


def _listing(file: h5py.File, path: Path) -> str:
    found = []
    for name, dataset in list_datasets(file):
        shape = "×".join(map(str, dataset.shape or ()))
        found.append(f"{name} ({shape or 'one value'} {dataset.dtype})")
        if len(found) == _MOST_LISTED:
            found.append("and more")
            break
    return f"there are: {', '.join(found)}" if found else f"{path.name} holds no datasets at all"


def _axes(dataset: h5py.Dataset, path: Path) -> tuple[tuple[int, int, int], tuple[str, ...]]:
    """Return which axes are z, y, x: those that the file names, else the last three."""
    keys = _axis_keys(dataset)
    n = len(dataset.shape)
    if keys and {"y", "x"} <= set(keys):
        places = [keys.index(key) if key in keys else -1 for key in "zyx"]
        if places[0] < 0:
            rest = [i for i in range(n) if i not in places and dataset.shape[i] > 1]
            others = [i for i in range(n) if i not in places]
            if len(rest) > 1 or not others:
                raise DataError(f"{path}: {dataset.name} has axes {''.join(keys)}; expected z, y and x among them")
            places[0] = (rest or others)[0]
    else:
        long = [i for i in range(n) if dataset.shape[i] > 1]
        _refuse_channels(dataset, long, path)
        places = long if len(long) == 3 else list(range(max(0, n - 3), n))
    if len(places) != 3 or len(set(places)) != 3:
        raise DataError(f"{path}: {dataset.name} has {n} axes; expected slices, rows and columns")
    extra = [dataset.shape[i] for i in range(n) if i not in places]
    if any(length != 1 for length in extra):
        shape = "×".join(map(str, dataset.shape))
        raise DataError(
            f"{path}: {dataset.name} has shape {shape}{f' with axes {keys}' if keys else ''}: several channels or "
            "times. Save one of them by itself"
        )
    z, y, x = places
    turned = places != sorted(places)
    notes = (f"{path.name}: axes {keys} are turned to z, y, x",) if turned else ()
    return (z, y, x), notes


def _refuse_channels(dataset: h5py.Dataset, long: list[int], path: Path) -> None:
    """Refuse pictures whose last axis is red, green and blue, and not x."""
    sides = [dataset.shape[i] for i in long]
    if len(sides) >= 3 and sides[-1] <= _MOST_CHANNELS and min(sides[-3:-1]) > _MOST_CHANNELS:
        raise DataError(
            f"{path}: {dataset.name} of shape {'×'.join(map(str, dataset.shape))} ends in {sides[-1]} channels, as "
            "colour pictures do; expected slices, rows and columns. Save one channel by itself, or name the axes"
        )


def _axis_keys(dataset: h5py.Dataset) -> str:
    """Return one letter per axis as ilastik or the labels of HDF5 say; empty where they say nothing usable."""
    tags = dataset.attrs.get("axistags")
    if isinstance(tags, bytes):
        tags = tags.decode("utf-8", "replace")
    if isinstance(tags, str):
        try:
            axes = json.loads(tags)["axes"]
            keys = "".join(str(axis["key"]) for axis in axes)
        except (ValueError, KeyError, TypeError):
            keys = ""
        if len(keys) == len(dataset.shape) == len(set(keys)):
            return keys
    labels = [str(dimension.label) for dimension in dataset.dims]
    keys = "".join(label for label in labels if len(label) == 1)
    return keys if len(keys) == len(dataset.shape) == len(set(keys)) else ""


def _voxel_size(dataset: h5py.Dataset, axes: tuple[int, int, int]) -> Nanometres | None:
    """Return what CREMI (``resolution``, nm), Fiji (``element_size_um``) or ilastik (axis tags) state."""
    for name, unit in (("resolution", "nm"), ("element_size_um", "um")):
        values = dataset.attrs.get(name)
        if isinstance(values, np.ndarray) and values.shape == (3,) and values.dtype.kind in "fiu":
            return stated([float(value) * NM_PER_UNIT[unit] for value in values])
    tags = dataset.attrs.get("axistags")
    try:
        entries: list[Mapping[str, Any]] = json.loads(tags)["axes"] if isinstance(tags, str | bytes) else []
        sizes = [float(entries[axis]["resolution"]) for axis in axes]
        units = {str(entries[axis].get("description", "")) for axis in axes}
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return None
    unit = units.pop() if len(units) == 1 else ""
    return stated([size * NM_PER_UNIT.get(unit, 0.0) for size in sizes])
