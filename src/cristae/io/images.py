"""Micrographs as people have them, opened as lazily read volumes: folders of slices, files of many formats, OME-Zarr.

Whatever they hold, what comes out are grey values of 8 or 16 bit from 0, and a voxel size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cristae.errors import DataError
from cristae.geometry import Grid, Nanometres, Voxels, blocks
from cristae.io.ome_zarr import is_ome_zarr, open_volume
from cristae.io.opened import reads_parts, stated
from cristae.io.registry import SUFFIXES, format_of, open_format, split_source
from cristae.io.slices import (
    IMAGE_SUFFIXES,
    TIFF_SUFFIXES,
    SliceFiles,
    check_grey,
    list_images,
    open_folder,
    read_header,
)
from cristae.io.tags import Lengths, lengths_of
from cristae.io.tiff import TiffStack
from cristae.volume import ArrayLike, Volume

_UNKNOWN: Lengths = (None, None, None)


@dataclass(frozen=True)
class ImageSource:
    """A micrograph that is ready to be read.

    Parameters
    ----------
    volume
        Grey values, uint8 or uint16, read slice by slice.
    missing
        z of slices that are absent from the source; they read as 0.
    files
        Names of the files it is made of, in the order of z.
    first_number
        Number that the file name of slice 0 carries; 0 where names carry none.
    notes
        Sentences that the user should see.
    stated
        Lengths of a voxel (z, y, x) in nm that the files state, whatever is used; None for each that they do not.
    """

    volume: Volume
    missing: tuple[int, ...] = ()
    files: tuple[str, ...] = ()
    first_number: int = 0
    notes: tuple[str, ...] = ()
    stated: Lengths = (None, None, None)


class Rescaled:
    """Signed or floating-point grey values mapped linearly to uint16: `low` becomes 0, one unit `gain` steps."""

    dtype: np.dtype[Any] = np.dtype(np.uint16)

    def __init__(self, array: ArrayLike, low: float, gain: float) -> None:
        self._array, self._low, self._gain = array, low, gain
        self.shape, self.reads_parts = array.shape, reads_parts(array)

    def __getitem__(self, index: Any) -> np.ndarray:
        values = np.asarray(self._array[index], np.float64)
        return np.rint((values - self._low) * self._gain).clip(0, 65535).astype(np.uint16)


class Shifted:
    """Signed bytes moved up by 128, so that −128 becomes 0; uint8."""

    dtype: np.dtype[Any] = np.dtype(np.uint8)

    def __init__(self, array: ArrayLike) -> None:
        self._array = array
        self.shape, self.reads_parts = array.shape, reads_parts(array)

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.asarray(self._array[index]).view(np.uint8) ^ np.uint8(128)


class Inverted:
    """Grey values taken from the largest of their type; slices at `missing` z, and what fills up others, stay 0."""

    def __init__(self, array: ArrayLike, missing: Sequence[int]) -> None:
        self._array, self._missing = array, frozenset(missing)
        self._extents: Mapping[int, tuple[int, int]] = getattr(array, "extents", {})
        self.shape, self.dtype, self.reads_parts = array.shape, np.dtype(array.dtype), reads_parts(array)

    def __getitem__(self, index: tuple[slice, slice, slice]) -> np.ndarray:
        values = np.asarray(self._array[index])
        inverted = np.iinfo(self.dtype).max - values
        for i, z in enumerate(range(*index[0].indices(self.shape[0]))):
            height, width = (0, 0) if z in self._missing else self._extents.get(z, self.shape[1:])
            first_row, first_column = index[1].indices(self.shape[1])[0], index[2].indices(self.shape[2])[0]
            inverted[i, max(0, height - first_row) :] = 0
            inverted[i, :, max(0, width - first_column) :] = 0
        return inverted


def open_images(
    source: Path | str,
    voxel_size: Nanometres | None,
    *,
    allow_missing: bool = False,
    pad: bool = False,
    invert: bool = False,
) -> ImageSource:
    """Open a folder of slices, a file that holds a volume, or an OME-Zarr as a volume that is read lazily.

    Parameters
    ----------
    source
        Folder of TIFF, PNG or JPEG slices (hidden files and other files are passed over), one such file, an OME-Zarr
        0.4 or 0.5, or a file of a format in `cristae.io.registry`, with a dataset as in ``stack.h5:/volumes/raw``.
    voxel_size
        Size of a voxel (z, y, x) in nm; it counts, whatever the files say. None takes what the files say.
    allow_missing
        Fill slices whose numbers are missing with 0 instead of refusing.
    pad
        Fill slices that are smaller than the largest with 0 instead of refusing.
    invert
        Make dark bright and bright dark; slices that are missing stay 0.

    Returns
    -------
    ImageSource
        The volume (kind ``image``) and what was noticed.

    Raises
    ------
    DataError
        If nothing can be read there, slices differ, are no grey images, are missing, hold NaN, or no voxel size is
        known. The message names the first file at fault.
    """
    path, inside = split_source(source)
    if path.is_dir():
        opened, lengths = _open_folder(path, allow_missing, pad)
    elif path.is_file():
        opened, lengths = _open_file(path, inside)
    else:
        raise DataError(
            f"{path} does not exist; give a folder of slices, an OME-Zarr, or a file that ends in "
            f"{', '.join((*IMAGE_SUFFIXES, *SUFFIXES))}"
        )
    array, notes = _as_grey(opened.volume.array, opened.files, path)
    if invert:
        array = Inverted(array, opened.missing)
    grid, more = _grid(opened.volume.shape, voxel_size, lengths, path)
    seen, told = Volume(array, grid, "image"), (*opened.notes, *notes, *more)
    return replace(opened, volume=seen, notes=told, stated=lengths)


def same_voxel_size(a: Nanometres, b: Nanometres) -> bool:
    """Say whether two voxel sizes differ by less than 1 % along each axis."""
    return all(abs(m - n) <= 0.01 * max(m, n) for m, n in zip(a, b, strict=True))


def _open_folder(source: Path, allow_missing: bool, pad: bool) -> tuple[ImageSource, Lengths]:
    if is_ome_zarr(source) or any((source / name).exists() for name in ("zarr.json", ".zattrs", ".zgroup")):
        return _open_zarr(source)
    paths = list_images(source)
    if len(paths) == 1:
        return _open_file(paths[0], "")
    folder = open_folder(source, paths, allow_missing=allow_missing, pad=pad)
    first = source / folder.files[0]
    lengths = lengths_of(first) if first.suffix.lower() in TIFF_SUFFIXES else _UNKNOWN
    opened = ImageSource(_raw(folder.array), folder.missing, folder.files, folder.first_number, folder.notes)
    return opened, lengths


def _open_file(source: Path, inside: str) -> tuple[ImageSource, Lengths]:
    if format_of(source) is not None:
        found = open_format(source, inside)
        return ImageSource(_raw(found.array), files=(source.name,), notes=found.notes), found.voxel_size or _UNKNOWN
    if source.suffix.lower() not in IMAGE_SUFFIXES:
        raise DataError(
            f"{source} is of a kind that cannot be read; expected a folder or a file that ends in "
            f"{', '.join((*IMAGE_SUFFIXES, *SUFFIXES))}"
        )
    header = read_header(source)
    check_grey(source, header)
    if source.suffix.lower() not in TIFF_SUFFIXES:
        return ImageSource(_raw(SliceFiles([source], header)), files=(source.name,)), _UNKNOWN
    stack = TiffStack(source)
    notes: tuple[str, ...] = ()
    if stack.inverted:
        notes = (f"{source.name} declares 0 to be white; grey values are kept as stored, unless you invert them",)
    return ImageSource(_raw(stack), files=(source.name,), notes=notes), lengths_of(source)


def _open_zarr(source: Path) -> tuple[ImageSource, Lengths]:
    try:
        volume = open_volume(source)
        lengths: Lengths = volume.grid.voxel_size
    except DataError:
        # Metadata without units are common; with a voxel size from the user they are no obstacle.
        volume, lengths = open_volume(source, voxel_size=(1.0, 1.0, 1.0)), _UNKNOWN
    return ImageSource(volume, files=(source.name,)), lengths


def _as_grey(array: ArrayLike, files: Sequence[str], source: Path) -> tuple[ArrayLike, tuple[str, ...]]:
    dtype = np.dtype(array.dtype)
    if 0 in array.shape:
        raise DataError(f"{source} holds no voxels: its shape is {tuple(array.shape)}")
    if dtype in (np.dtype(np.uint8), np.dtype(np.uint16)):
        return array, ()
    if dtype == np.dtype(np.int8):
        return Shifted(array), ("signed 8-bit grey values are moved up by 128, so that -128 becomes 0",)
    if dtype.kind != "f" and dtype != np.dtype(np.int16):
        raise DataError(f"{source}: expected 8- or 16-bit grey values, got {dtype}; convert to 8- or 16-bit grey")
    low, high = _range(array, files, source)
    gain = 65535 / (high - low) if dtype.kind == "f" and high > low else 1.0
    return Rescaled(array, low, gain), (f"{dtype} grey values {low:.6g} to {high:.6g} are mapped to 16 bit from 0",)


def _range(array: ArrayLike, files: Sequence[str], source: Path) -> tuple[float, float]:
    """Find the smallest and largest grey value in one pass, and refuse what is no number."""
    low, high = np.inf, -np.inf
    depth, height, width = array.shape
    step = (16, 1024, 1024) if hasattr(array, "chunks") else (1, height, width)
    for block in blocks(Grid((depth, height, width), (1.0, 1.0, 1.0)).box, step):
        values = np.asarray(array[block.write.slices])
        bad = ~np.isfinite(values)
        if bad.any():
            z = block.write.start[0] + int(np.argmax(bad.any(axis=(1, 2))))
            name = f" ({files[z]})" if len(files) == depth > 1 else ""
            raise DataError(
                f"{source}: slice {z}{name} holds NaN or infinite grey values; expected numbers. Replace them (in "
                "Fiji: Process > Math > NaN Background) or convert to 8- or 16-bit grey"
            )
        low, high = min(low, float(values.min())), max(high, float(values.max()))
    return low, high


def _grid(shape: Voxels, voxel_size: Nanometres | None, lengths: Lengths, source: Path) -> tuple[Grid, tuple[str, ...]]:
    chosen = voxel_size or stated([length or 0.0 for length in lengths])
    if chosen is None:
        raise DataError(f"{source} does not state its voxel size; give it in nm along z, y, x")
    notes: tuple[str, ...] = ()
    known = [(mine, theirs) for mine, theirs in zip(chosen, lengths, strict=True) if theirs]
    if any(abs(mine - theirs) > 0.01 * max(mine, theirs) for mine, theirs in known):
        said = " × ".join(f"{length:.6g}" if length else "?" for length in lengths)
        notes = (f"the file states a voxel size of {said} nm; yours of {_nm(chosen)} nm is used",)
    try:
        return Grid(shape, chosen), notes
    except ValueError as error:
        raise DataError(f"{source}: {error}") from error


def _raw(array: ArrayLike) -> Volume:
    depth, height, width = array.shape
    return Volume(array, Grid((depth, height, width), (1.0, 1.0, 1.0)))


def _nm(size: Nanometres) -> str:
    return " × ".join(f"{length:.6g}" for length in size)
