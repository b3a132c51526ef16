"""Labels as people have them: a few painted slices in files, one structure per file or several by value.

::

    mito/z030.tif, z060.tif ...     the number in the name says which slice
    mito.tif (full depth)           all slices, or those named, or those that are not wholly "ignore"
    mito.tif (5 pages)              with the z of each page
    dataset/mito                    a layer of a WebKnossos dataset

Every value but 0 and the ignore value is the structure, so masks of 0 and 255 and instance ids both fit. With a map
of values one file holds several structures; one value may belong to two, such as a nucleolus inside its nucleus.
Where objects are told apart, as cells are, their ids are kept.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cristae.errors import DataError
from cristae.geometry import Box, Voxels
from cristae.io.label_rules import LabelRules, LabelSource, check_rules
from cristae.io.ome_zarr import is_ome_zarr, open_volume
from cristae.io.opened import IGNORE_NAME, Material, Opened, Turned
from cristae.io.registry import SUFFIXES, format_of, open_format, split_source
from cristae.io.slices import (
    IMAGE_SUFFIXES,
    TIFF_SUFFIXES,
    Header,
    list_images,
    read_header,
    read_slice,
    slice_numbers,
)
from cristae.io.tiff import TiffStack
from cristae.io.webknossos_layer import is_webknossos, open_webknossos


def open_labels(source: Path | str, shape: Voxels, rules: LabelRules) -> LabelSource:
    """Open labels of a volume of `shape`; sizes and places are checked, values when read.

    Parameters
    ----------
    source
        Folder of slices with numbers in their names, TIFF stack, single image, OME-Zarr, layer of a WebKnossos dataset,
        or a file of a format in `cristae.io.registry`.
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
    source, inside = split_source(source)
    if is_webknossos(source):
        return _from_opened(source, open_webknossos(source), shape, rules)
    if format_of(source) is not None and not source.is_dir():
        return _from_opened(source, open_format(source, inside), shape, rules)
    check_rules(rules)
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
            f"that ends in {', '.join((*IMAGE_SUFFIXES, *SUFFIXES))}"
        )
    return _from_file(source, shape, rules)


def whole_shape(source: Path | str) -> Voxels | None:
    """Return the shape of labels in one file or OME-Zarr of more than one slice; None of anything else."""
    source, inside = split_source(source)
    shape: Voxels | None
    if format_of(source) is not None and source.is_file():
        shape = _triple(open_format(source, inside).array.shape)
    elif source.is_dir():
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

    def read(page: int) -> np.ndarray:
        return stack[slice(page, page + 1), everything, everything][0]

    return LabelSource(source, pages, read, rules, stack.notes)


def _from_zarr(source: Path, shape: Voxels, rules: LabelRules) -> LabelSource:
    volume = open_volume(source, voxel_size=(1.0, 1.0, 1.0))
    _check_header(source, Header(volume.shape, volume.dtype, "grey"), shape)
    places = _places(source, volume.shape[0], shape, rules)
    pages = _sorted(places) if volume.shape[0] == len(places) else tuple((z, z) for z in sorted(places))

    def read(page: int) -> np.ndarray:
        return volume.read(Box((page, 0, 0), (page + 1, *volume.shape[1:])))[0]

    return LabelSource(source, pages, read, rules)


def _from_opened(source: Path, opened: Opened, shape: Voxels, rules: LabelRules) -> LabelSource:
    """Open labels in a file of one of the many formats; what it names need not be given by value."""
    rules = replace(rules, **_named(source, opened.materials, rules))
    check_rules(rules)
    array, notes = opened.array, opened.notes
    stored = _triple(array.shape)
    if opened.may_be_turned and stored[1:] != shape[1:] and (stored[2], stored[1]) == shape[1:]:
        array, stored = Turned(array, (0, 2, 1)), (stored[0], stored[2], stored[1])
        notes = (*notes, f"{source.name}: rows and columns are exchanged, so that the labels fit the image")
    _check_header(source, Header(stored, np.dtype(array.dtype), "grey"), shape)
    places = _places(source, stored[0], shape, rules)
    pages = _sorted(places) if stored[0] == len(places) else tuple((z, z) for z in sorted(places))
    everything = slice(None)

    def read(page: int) -> np.ndarray:
        return np.asarray(array[slice(page, page + 1), everything, everything])[0]

    return LabelSource(source, pages, read, rules, notes, opened.materials, opened.voxel_size)


def _named(source: Path, materials: Sequence[Material], rules: LabelRules) -> dict[str, Any]:
    """Return the rules with the values that the file gives to classes of the same name, and to ``ignore``."""
    if not materials or rules.instances:
        return {}
    by_name = {plain_name(material.name): material.value for material in materials}
    ignore = by_name.get(IGNORE_NAME) if rules.ignore_value is None else rules.ignore_value
    values = dict(rules.values)
    for name, given in rules.values.items():
        if given is not None:
            continue
        if plain_name(name) in by_name:
            values[name] = (by_name[plain_name(name)],)
        elif len([material for material in materials if material.value != ignore]) > 1:
            said = ", ".join(f"{material.name} ({material.value})" for material in materials)
            raise DataError(
                f"{source} has no material {name!r}; there are: {said}. Name one of them, or give its value, as in "
                f"{name}={materials[0].value}"
            )
    if all(given is None for given in rules.values.values()):
        # Nobody named values: what the file holds beside the classes asked for is simply not wanted.
        return {"values": values, "ignore_value": ignore, "others": True}
    return {"values": values, "ignore_value": ignore}


def plain_name(name: str) -> str:
    """Return a name without what people write in different ways: capitals, blanks, dashes, underscores."""
    return re.sub(r"[\W_]+", " ", name).strip().lower()


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


def _triple(shape: Sequence[int]) -> Voxels:
    z, y, x = (int(n) for n in shape)
    return z, y, x


def _sorted(places: Sequence[int]) -> tuple[tuple[int, int], ...]:
    return tuple(sorted((z, page) for page, z in enumerate(places)))


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
