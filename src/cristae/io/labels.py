"""Labels as people have them: a few painted slices in files, one structure per file or several by value.

::

    mito/z030.tif, z060.tif ...     the number in the name says which slice
    mito.tif (full depth)           all slices, or those named, or those that are not wholly "ignore"
    mito.tif (5 pages)              with the z of each page

Every value but 0 and the ignore value is the structure, so masks of 0 and 255 and instance ids both fit. With a map
of values one file holds several structures; one value may belong to two, such as a nucleolus inside its nucleus.
Where objects are told apart, as cells are, their ids are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cristae.errors import DataError, UsageError
from cristae.geometry import Box, Voxels
from cristae.io.images import (
    IMAGE_SUFFIXES,
    Header,
    list_images,
    read_header,
    read_slice,
    slice_numbers,
)
from cristae.io.ome_zarr import is_ome_zarr, open_volume
from cristae.io.tiff import TIFF_SUFFIXES, TiffStack


@dataclass(frozen=True)
class LabelRules:
    """How numbers in files become labels.

    Parameters
    ----------
    values
        Per class the values that are it; None takes every value but 0 and `ignore_value`, for one class alone.
    slices
        z in the volume, counted from 0: of each page in order, or which slices of a stack of full depth are labelled.
    first_slice
        Number that the file name of slice 0 of the volume carries.
    ignore_value
        Value that says nobody looked.
    instances
        Whether values are ids of objects, to be kept.
    """

    values: Mapping[str, tuple[int, ...] | None]
    slices: tuple[int, ...] | None = None
    first_slice: int = 0
    ignore_value: int | None = None
    instances: bool = False


class LabelSlice(NamedTuple):
    """One labelled slice: z, and per class ``(y, x)``: 1 or the id of an object, 0, the largest value nobody looked.

    uint8 of masks and uint32 of instances.
    """

    z: int
    layers: dict[str, np.ndarray]


@dataclass(frozen=True)
class LabelSource:
    """Labels that are ready to be read, slice by slice.

    Parameters
    ----------
    source
        Where they come from.
    pages
        z of the volume and page of the source, ascending in z.
    read
        Returns the ids ``(y, x)`` of a page.
    rules
        How ids become labels.
    """

    source: Path
    pages: tuple[tuple[int, int], ...]
    read: Callable[[int], np.ndarray]
    rules: LabelRules

    def slices(self) -> Iterator[LabelSlice]:
        """Yield every labelled slice, ascending in z.

        Without a selection of slices, those that are wholly "ignore" are passed over.

        Raises
        ------
        DataError
            If a value is in no class, or a file is damaged.
        """
        for z, page in self.pages:
            ids = self.read(page)
            if self.rules.slices is None and self._untouched(ids):
                continue
            yield LabelSlice(z, self._layers(ids, z))

    def check(self) -> dict[int, dict[str, int]]:
        """Read everything once and return per z and class how many voxels are labelled.

        Raises
        ------
        DataError
            If a value is in no class, a class has no voxel on any slice, nothing is labelled, or a file is damaged.
        """
        counts = {z: {name: _n_labelled(layer) for name, layer in layers.items()} for z, layers in self.slices()}
        for name in self.rules.values:
            if not any(count[name] for count in counts.values()):
                raise DataError(
                    f"{self.source}: no voxel of class {name!r} on {len(counts)} labelled slices; check the file and "
                    "the values of the class"
                )
        return counts

    def _untouched(self, ids: np.ndarray) -> bool:
        return self.rules.ignore_value is not None and bool((ids == self.rules.ignore_value).all())

    def _layers(self, ids: np.ndarray, z: int) -> dict[str, np.ndarray]:
        ignore = self.rules.ignore_value
        ignored = ids == ignore if ignore is not None else np.zeros(ids.shape, np.bool_)
        layers: dict[str, np.ndarray] = {}
        known = {0} | ({ignore} if ignore is not None else set())
        if ignore is None and not self.rules.instances and None in self.rules.values.values() and _ambiguous(ids):
            raise DataError(
                f"{self.source}: slice {z} holds 0, 1 and 255, and 255 may be the class or mean nobody looked; say "
                "which: name 255 as the ignore value, or give the values of the class, such as NAME=1,255"
            )
        for name, values in self.rules.values.items():
            inside = np.isin(ids, values) if values else (ids != 0) & ~ignored
            known |= set(values or ())
            layers[name] = np.where(ignored, np.uint8(255), inside.astype(np.uint8))
            if self.rules.instances:
                layers[name] = np.where(ignored, np.uint32(2**32 - 1), self._ids(ids, z) * inside)
        if None not in self.rules.values.values():
            unknown = [int(value) for value in np.unique(ids) if int(value) not in known]
            if unknown:
                raise DataError(
                    f"{self.source}: slice {z} holds the value{'s' * (len(unknown) > 1)} "
                    f"{', '.join(map(str, unknown[:10]))}, which no class has; expected {sorted(known)}. "
                    "Add a class for it, or name it as the ignore value"
                )
        return layers

    def _ids(self, ids: np.ndarray, z: int) -> np.ndarray:
        low, high = int(ids.min(initial=0)), int(ids.max(initial=0))
        if low < 0 or high >= 2**32 - 1:
            raise DataError(
                f"{self.source}: slice {z} holds the id {low if low < 0 else high}; expected ids from 0 (none) to "
                f"{2**32 - 2}. Number the objects anew, or name the value as the ignore value"
            )
        return ids.astype(np.uint32)


def _n_labelled(layer: np.ndarray) -> int:
    return int(((layer != 0) & (layer != np.iinfo(layer.dtype).max)).sum())


def _ambiguous(ids: np.ndarray) -> bool:
    """Say whether 1 and 255 occur, and nothing else but 0."""
    one, full = ids == 1, ids == 255
    return bool(one.any() and full.any() and (one | full | (ids == 0)).all())


def open_labels(source: Path, shape: Voxels, rules: LabelRules) -> LabelSource:
    """Open labels of a volume of `shape`; sizes and places are checked, values when read.

    Parameters
    ----------
    source
        Folder of slices with numbers in their names, TIFF stack, single image, or OME-Zarr.
    shape
        Shape (z, y, x) of the volume that the labels belong to.
    rules
        Which pages are which slices, and which values which classes.

    Returns
    -------
    LabelSource
        Read it with `LabelSource.slices`.

    Raises
    ------
    UsageError
        If the rules do not fit each other.
    DataError
        If files cannot be read, are no labels, or have no place in the volume.
    """
    _check_rules(rules)
    if source.is_dir() and not any((source / name).exists() for name in ("zarr.json", ".zattrs", ".zgroup")):
        paths = list_images(source)
        if len(paths) > 1:
            return _from_files(source, paths, shape, rules)
        source = paths[0]
    if source.is_dir():
        return _from_zarr(source, shape, rules)
    if not source.is_file() or source.suffix.lower() not in IMAGE_SUFFIXES:
        raise DataError(
            f"{source} is nothing that labels can be read from; expected a folder of slices, an OME-Zarr, or a file "
            f"that ends in {', '.join(IMAGE_SUFFIXES)}"
        )
    return _from_file(source, shape, rules)


def whole_shape(source: Path) -> Voxels | None:
    """Return the shape of labels in one file or OME-Zarr of more than one slice; None of anything else."""
    if source.is_dir():
        shape = open_volume(source, voxel_size=(1.0, 1.0, 1.0)).shape if is_ome_zarr(source) else None
    else:
        shape = read_header(source).shape if source.suffix.lower() in TIFF_SUFFIXES and source.is_file() else None
    return shape if shape and shape[0] > 1 else None


def _from_files(source: Path, paths: Sequence[Path], shape: Voxels, rules: LabelRules) -> LabelSource:
    for path in paths:
        header = read_header(path)
        _check_header(path, header, shape)
        if header.shape[0] != 1:
            raise DataError(f"{path} holds {header.shape[0]} slices; expected one per file, or a stack by itself")
    names = [path.name for path in paths]
    numbers = slice_numbers(names, dense=False)
    if numbers is not None and (rules.slices is None or len(rules.slices) != len(paths)):
        places = [number - rules.first_slice for number in numbers]
        if rules.slices is not None:
            paths = [path for path, z in zip(paths, places, strict=True) if z in rules.slices]
            if len(paths) != len(rules.slices):
                raise DataError(f"{source}: expected one file for each of slices {rules.slices}, got {len(paths)}")
            names, places = [path.name for path in paths], [z for z in places if z in rules.slices]
    elif rules.slices is not None and len(rules.slices) == len(paths):
        places = list(rules.slices)
    else:
        raise DataError(
            f"{source}: file names carry no slice numbers, as in z030.tif; rename them, or name the slice of each file"
        )
    _check_places(places, names, shape, rules)
    return LabelSource(source, _sorted(places), lambda page: read_slice(paths[page]), rules)


def _from_file(source: Path, shape: Voxels, rules: LabelRules) -> LabelSource:
    header = read_header(source)
    _check_header(source, header, shape)
    if header.shape[0] == 1 and shape[0] > 1 and rules.slices is None:
        numbers = slice_numbers([source.name], dense=False)
        if numbers is None:
            raise DataError(f"{source} is one slice of {shape[0]}, and its name does not say which; name the slice")
        places: tuple[int, ...] = (numbers[0] - rules.first_slice,)
        _check_places(places, [source.name], shape, rules)
    else:
        places = _places(source, header.shape[0], shape, rules)
    if source.suffix.lower() not in TIFF_SUFFIXES:
        return LabelSource(source, _sorted(places), lambda page: read_slice(source), rules)
    stack, everything = TiffStack(source), slice(None)
    pages = _sorted(places) if header.shape[0] == len(places) else tuple((z, z) for z in sorted(places))
    return LabelSource(source, pages, lambda page: stack[slice(page, page + 1), everything, everything][0], rules)


def _from_zarr(source: Path, shape: Voxels, rules: LabelRules) -> LabelSource:
    volume = open_volume(source, voxel_size=(1.0, 1.0, 1.0))
    _check_header(source, Header(volume.shape, volume.dtype, "grey"), shape)
    places = _places(source, volume.shape[0], shape, rules)
    pages = _sorted(places) if volume.shape[0] == len(places) else tuple((z, z) for z in sorted(places))

    def read(page: int) -> np.ndarray:
        return volume.read(Box((page, 0, 0), (page + 1, *volume.shape[1:])))[0]

    return LabelSource(source, pages, read, rules)


def _places(source: Path, n_pages: int, shape: Voxels, rules: LabelRules) -> tuple[int, ...]:
    """Return the z of each page, or the labelled z of a stack of full depth."""
    if rules.slices is None:
        if n_pages != shape[0]:
            raise DataError(
                f"{source} has {n_pages} slices, the image {shape[0]}; name the slices of the image that these are"
            )
        return tuple(range(n_pages))
    names = [f"slice {z}" for z in rules.slices]
    if n_pages not in (len(rules.slices), shape[0]):
        raise DataError(
            f"{source} has {n_pages} slices; expected {len(rules.slices)}, as many as slices are named, or {shape[0]}, "
            "as many as the image has"
        )
    _check_places(rules.slices, names, shape, rules)
    return rules.slices


def _sorted(places: Sequence[int]) -> tuple[tuple[int, int], ...]:
    return tuple(sorted((z, page) for page, z in enumerate(places)))


def _check_rules(rules: LabelRules) -> None:
    if not rules.values:
        raise UsageError("name at least one class that the labels are of")
    if rules.instances and len(rules.values) > 1:
        raise UsageError("ids of objects are of one class; import each class of instances by itself")
    if len(rules.values) > 1 and not all(rules.values.values()):
        raise UsageError("with several classes in one source give the values of each, as in nucleus=1, nucleolus=2")
    taken = {value for values in rules.values.values() for value in values or ()}
    if 0 in taken or rules.ignore_value in taken:
        ignored = "" if rules.ignore_value is None else f" and {rules.ignore_value} is ignored"
        raise UsageError(f"0 is background{ignored}: that cannot be the value of a class")


def _check_header(path: Path, header: Header, shape: Voxels) -> None:
    if header.colour == "colour":
        raise DataError(f"{path} is a colour image; expected labels, one number per voxel. Save it as 8- or 16-bit ids")
    if header.dtype.kind not in "uib":
        raise DataError(f"{path}: expected labels in whole numbers, got {header.dtype}; save it as 8- or 16-bit ids")
    if header.shape[1:] != shape[1:]:
        raise DataError(
            f"{path} has slices of {header.shape[1]}×{header.shape[2]} (y, x); expected {shape[1]}×{shape[2]} as the "
            "image has. Labels must be painted at the full size of the image"
        )


def _check_places(places: Sequence[int], names: Sequence[str], shape: Voxels, rules: LabelRules) -> None:
    seen: dict[int, str] = {}
    for z, name in zip(places, names, strict=True):
        if not 0 <= z < shape[0]:
            raise DataError(
                f"{name} has no matching slice: it would be slice {z}, the image has 0 to {shape[0] - 1} (the first "
                f"slice has number {rules.first_slice}); correct the number, or state that of the first slice"
            )
        if z in seen:
            raise DataError(f"{seen[z]} and {name} are both labels of slice {z}; keep one of them")
        seen[z] = name
