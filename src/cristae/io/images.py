"""Micrographs as people have them, opened as lazily read volumes: folders of slices, files of many formats, OME-Zarr.

Whatever they hold, what comes out are grey values of 8 or 16 bit from 0, and a voxel size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cristae.errors import DataError
from cristae.geometry import Grid, Nanometres, Voxels
from cristae.io.grey import Inverted, as_grey
from cristae.io.ome_zarr import is_ome_zarr, open_volume
from cristae.io.opened import stated
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
        Make dark bright and bright dark; slices that are missing, and what fills up others, stay 0.

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
    array, notes = as_grey(opened.volume.array, opened.files, path)
    if invert:
        array = Inverted(array)
    grid, more = _grid(opened.volume.shape, voxel_size, lengths, path)
    seen, told = Volume(array, grid, "image"), (*opened.notes, *notes, *more)
    return replace(opened, volume=seen, notes=told, stated=lengths)


def same_voxel_size(a: Nanometres, b: Nanometres) -> bool:
    """Say whether two voxel sizes differ by less than 1 % along each axis."""
    return not any(_differ(m, n) for m, n in zip(a, b, strict=True))


def _differ(a: float, b: float) -> bool:
    return abs(a - b) > 0.01 * max(a, b)


def _open_folder(source: Path, allow_missing: bool, pad: bool) -> tuple[ImageSource, Lengths]:
    if is_ome_zarr(source) or any((source / name).exists() for name in ("zarr.json", ".zattrs", ".zgroup")):
        return _open_zarr(source)
    paths = list_images(source)
    if len(paths) == 1:
        return _open_file(paths[0], "")
    folder = open_folder(source, paths, allow_missing=allow_missing, pad=pad)
    lengths, notes = _lengths_in(source, folder.files)
    told = (*folder.notes, *notes)
    return ImageSource(_raw(folder.array), folder.missing, folder.files, folder.first_number, told), lengths


def _lengths_in(source: Path, files: Sequence[str]) -> tuple[Lengths, tuple[str, ...]]:
    """Return the voxel size that the first slice states, and what to say where others state another."""
    first, *others = (lengths_of(source / name) if _is_tiff(name) else _UNKNOWN for name in files)
    odd = [
        (name, lengths)
        for name, lengths in zip(files[1:], others, strict=True)
        if any(mine and theirs and _differ(mine, theirs) for mine, theirs in zip(first, lengths, strict=True))
    ]
    if not odd:
        return first, ()
    return first, (
        f"{len(odd)} of {len(files)} files state another voxel size than {files[0]}: {_nm(odd[0][1])} nm in "
        f"{odd[0][0]}, not {_nm(first)}",
    )


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
    notes = stack.notes
    if stack.inverted:
        said = f"{source.name} declares 0 to be white; grey values are kept as stored, unless you invert them"
        notes = (*notes, said)
    return ImageSource(_raw(stack), files=(source.name,), notes=notes), lengths_of(source)


def _open_zarr(source: Path) -> tuple[ImageSource, Lengths]:
    try:
        volume = open_volume(source)
        lengths: Lengths = volume.grid.voxel_size
    except DataError:
        # Metadata without units are common; with a voxel size from the user they are no obstacle.
        volume, lengths = open_volume(source, voxel_size=(1.0, 1.0, 1.0)), _UNKNOWN
    return ImageSource(volume, files=(source.name,)), lengths


def _grid(shape: Voxels, voxel_size: Nanometres | None, lengths: Lengths, source: Path) -> tuple[Grid, tuple[str, ...]]:
    chosen = voxel_size or stated([length or 0.0 for length in lengths])
    if chosen is None:
        raise DataError(f"{source} does not state its voxel size; give it in nm along z, y, x")
    notes: tuple[str, ...] = ()
    known = [(mine, theirs) for mine, theirs in zip(chosen, lengths, strict=True) if theirs]
    if any(_differ(mine, theirs) for mine, theirs in known):
        notes = (f"the file states a voxel size of {_nm(lengths)} nm; yours of {_nm(chosen)} nm is used",)
    try:
        return Grid(shape, chosen), notes
    except ValueError as error:
        raise DataError(f"{source}: {error}") from error


def _raw(array: ArrayLike) -> Volume:
    depth, height, width = array.shape
    return Volume(array, Grid((depth, height, width), (1.0, 1.0, 1.0)))


def _nm(size: Lengths) -> str:
    return " × ".join(f"{length:.6g}" if length else "?" for length in size)


def _is_tiff(name: str) -> bool:
    return name.lower().endswith(TIFF_SUFFIXES)
