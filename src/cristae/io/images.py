"""Micrographs as people have them, opened as lazily read volumes: folders of slices, TIFF stacks, OME-Zarr.

All headers are checked before any pixel is decoded, so that a folder with one odd slice is refused in seconds and
not after an hour of copying. Numbers in file names are slice numbers: what is missing there is missing in the tissue,
and closing the gap would shift every slice behind it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from natsort import natsorted
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from cristae.errors import DataError
from cristae.geometry import Grid, Nanometres, Voxels, blocks
from cristae.io.microscope import Stated, stated_by
from cristae.io.ome_zarr import is_ome_zarr, open_volume
from cristae.io.tiff import READ_ERRORS, TIFF_SUFFIXES, TiffStack, damaged, voxel_size_of
from cristae.volume import ArrayLike, Volume

IMAGE_SUFFIXES = (*TIFF_SUFFIXES, ".png", ".jpg", ".jpeg")

# The plug-ins are called directly: `PIL.Image.open` refuses slices of more than 179 megapixels as an attack.
_PLUGINS: dict[str, Any] = {".png": PngImageFile, ".jpg": JpegImageFile, ".jpeg": JpegImageFile}
_TYPE_OF_MODE = {
    "1": "bool", "L": "uint8", "P": "uint8", "I;16": "uint16", "I;16L": "uint16", "I;16B": "uint16", "I": "int32",
}  # fmt: skip
_DIGITS = re.compile(r"\d+")


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
        Voxel size (z, y, x) in nm that the files state, whatever is used; z is None where they know pixels only.
    """

    volume: Volume
    missing: tuple[int, ...] = ()
    files: tuple[str, ...] = ()
    first_number: int = 0
    notes: tuple[str, ...] = ()
    stated: Stated | None = None


@dataclass(frozen=True)
class Header:
    """What an image file says of itself before its pixels are decoded: slices, rows, columns, type and colour."""

    shape: Voxels
    dtype: np.dtype[Any]
    colour: Literal["grey", "palette", "colour"]


class SliceFiles:
    """An array ``(z, y, x)`` with one file per slice; None is a missing slice, which reads as 0."""

    def __init__(self, paths: Sequence[Path | None], header: Header) -> None:
        self._paths = tuple(paths)
        self.shape: Voxels = (len(self._paths), *header.shape[1:])
        self.dtype = header.dtype

    def __getitem__(self, index: tuple[slice, slice, slice]) -> np.ndarray:
        along_z, along_y, along_x = index
        zs = range(*along_z.indices(self.shape[0]))
        plane = np.empty(self.shape[1:], np.bool_)[along_y, along_x].shape
        values = np.zeros((len(zs), *plane), self.dtype)
        for i, z in enumerate(zs):
            path = self._paths[z]
            if path is not None:
                values[i] = read_slice(path)[along_y, along_x]
        return values


class Rescaled:
    """Signed or floating-point grey values mapped linearly to uint16: `low` becomes 0, one unit `gain` steps."""

    dtype: np.dtype[Any] = np.dtype(np.uint16)

    def __init__(self, array: ArrayLike, low: float, gain: float) -> None:
        self._array, self._low, self._gain = array, low, gain
        self.shape = array.shape

    def __getitem__(self, index: Any) -> np.ndarray:
        values = np.asarray(self._array[index], np.float64)
        return np.rint((values - self._low) * self._gain).clip(0, 65535).astype(np.uint16)


def open_images(source: Path, voxel_size: Nanometres | None, *, allow_missing: bool = False) -> ImageSource:
    """Open a folder of slices, a TIFF stack or an OME-Zarr as a volume that is read lazily.

    Parameters
    ----------
    source
        Folder of TIFF, PNG or JPEG slices (hidden files and other files are passed over), one such file, or an
        OME-Zarr 0.4 or 0.5.
    voxel_size
        Size of a voxel (z, y, x) in nm; it counts, whatever the files say. None takes what the files say.
    allow_missing
        Fill slices whose numbers are missing with 0 instead of refusing.

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
    if source.is_dir():
        opened, stated = _open_folder(source, allow_missing)
    elif source.is_file():
        opened, stated = _open_file(source)
    else:
        raise DataError(f"{source} does not exist; give a folder of slices, a TIFF stack or an OME-Zarr")
    array, notes = _as_grey(opened.volume.array, opened.files, source)
    grid, more = _grid(opened.volume.shape, voxel_size, stated, source)
    seen = Volume(array, grid, "image")
    return replace(
        opened, volume=seen, notes=(*opened.notes, *notes, *more), stated=stated or stated_by(source, opened.files)
    )


def list_images(folder: Path) -> list[Path]:
    """Return the image files of a folder in natural order, without hidden ones.

    Raises
    ------
    DataError
        If there are none.
    """
    try:
        found = [
            path
            for path in folder.iterdir()
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
        ]
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}; check its permissions") from error
    if not found:
        raise DataError(f"{folder} holds no images; expected files that end in {', '.join(IMAGE_SUFFIXES)}")
    return natsorted(found, key=lambda path: path.name)


def read_header(path: Path) -> Header:
    """Return size, type and colour of an image file without decoding its pixels.

    Raises
    ------
    DataError
        If the file is damaged or cut short.
    """
    if path.suffix.lower() in TIFF_SUFFIXES:
        stack = TiffStack(path)
        return Header(stack.shape, stack.dtype, "colour" if stack.colour else "palette" if stack.palette else "grey")
    try:
        with path.open("rb") as file:
            image = _PLUGINS[path.suffix.lower()](file, str(path))
            (width, height), mode = image.size, image.mode
    except READ_ERRORS as error:
        raise damaged(path, error) from error
    name = _TYPE_OF_MODE.get(mode)
    return Header((1, height, width), np.dtype(name or np.uint8), _colour(mode))


def read_slice(path: Path) -> np.ndarray:
    """Return the pixels ``(y, x)`` of a file with one slice; those of a palette image are its indices.

    Raises
    ------
    DataError
        If the file is damaged or cut short.
    """
    if path.suffix.lower() in TIFF_SUFFIXES:
        everything = slice(None)
        return TiffStack(path)[slice(0, 1), everything, everything][0]
    try:
        with path.open("rb") as file:
            return np.array(_PLUGINS[path.suffix.lower()](file, str(path)))
    except READ_ERRORS as error:
        raise damaged(path, error) from error


def slice_numbers(names: Sequence[str], *, dense: bool) -> list[int] | None:
    """Return the slice number in each file name, None where names carry none that can be told.

    That is the last group of digits that varies. Where all slices should be there (`dense`) it is among those the
    group with the fewest gaps, the last one of equals: some microscopes write positions or times behind the number.
    The only name has one if it has one group of digits.
    """
    stems = [name.rpartition(".")[0] or name for name in names]
    found = [[int(digits) for digits in _DIGITS.findall(stem)] for stem in stems]
    if len({_DIGITS.sub("#", stem) for stem in stems}) > 1 or not found[0]:
        return None
    groups = [list(group) for group in zip(*found, strict=True)]
    varying = groups if len(names) == 1 else [group for group in groups if len(set(group)) > 1]
    if not varying or (len(names) == 1 and len(varying) > 1):
        return None
    unique = [group for group in varying if len(set(group)) == len(group)]
    if not dense or not unique:
        return (unique or varying)[-1]
    return min(reversed(unique), key=lambda group: max(group) - min(group))


def check_grey(path: Path, header: Header) -> None:
    """Raise DataError unless `header` is that of a grey image with one slice."""
    if header.colour != "grey":
        kind = "a colour image" if header.colour == "colour" else "a palette (indexed colour) image"
        raise DataError(
            f"{path} is {kind}; expected grey values. Convert to 8- or 16-bit grey (in Fiji: Image > Type > 8-bit)"
        )


def same_voxel_size(a: Nanometres, b: Nanometres) -> bool:
    """Say whether two voxel sizes differ by less than 1 % along each axis."""
    return all(abs(m - n) <= 0.01 * max(m, n) for m, n in zip(a, b, strict=True))


def _open_folder(source: Path, allow_missing: bool) -> tuple[ImageSource, Nanometres | None]:
    if is_ome_zarr(source) or any((source / name).exists() for name in ("zarr.json", ".zattrs", ".zgroup")):
        return _open_zarr(source)
    paths = list_images(source)
    if len(paths) == 1:
        return _open_file(paths[0])
    header = _check_headers(paths)
    names = tuple(path.name for path in paths)
    numbers = slice_numbers(names, dense=True)
    if numbers is None:
        order: list[Path | None] = list(paths)
        notes = ("file names carry no slice numbers that can be told apart: slices are in the order of the names",)
        return ImageSource(_raw(SliceFiles(order, header)), (), names, notes=notes), None
    by_number = _by_number(paths, numbers)
    first, last = min(by_number), max(by_number)
    missing = tuple(number - first for number in range(first, last + 1) if number not in by_number)
    if missing:
        _refuse_gaps(source, [z + first for z in missing], len(paths), allow_missing)
    order = [by_number.get(number) for number in range(first, last + 1)]
    files = tuple(path.name for path in order if path is not None)
    notes = (f"filled with 0: {len(missing)} missing slices, numbers {_few([z + first for z in missing])}",)
    return ImageSource(_raw(SliceFiles(order, header)), missing, files, first, notes if missing else ()), None


def _open_file(source: Path) -> tuple[ImageSource, Nanometres | None]:
    if source.suffix.lower() not in IMAGE_SUFFIXES:
        raise DataError(
            f"{source} is of a kind that cannot be read; expected a folder or a file that ends in "
            f"{', '.join(IMAGE_SUFFIXES)}"
        )
    header = read_header(source)
    check_grey(source, header)
    if source.suffix.lower() not in TIFF_SUFFIXES:
        return ImageSource(_raw(SliceFiles([source], header)), files=(source.name,)), None
    stack = TiffStack(source)
    notes = (f"{source.name} declares 0 to be white; grey values are kept as stored",) if stack.inverted else ()
    return ImageSource(_raw(stack), files=(source.name,), notes=notes), voxel_size_of(source)


def _open_zarr(source: Path) -> tuple[ImageSource, Nanometres | None]:
    try:
        volume = open_volume(source)
        stated: Nanometres | None = volume.grid.voxel_size
    except DataError:
        # Metadata without units are common; with a voxel size from the user they are no obstacle.
        volume, stated = open_volume(source, voxel_size=(1.0, 1.0, 1.0)), None
    return ImageSource(volume, files=(source.name,)), stated


def _check_headers(paths: Sequence[Path]) -> Header:
    first: Header | None = None
    for path in paths:
        header = read_header(path)
        check_grey(path, header)
        if header.shape[0] != 1:
            raise DataError(f"{path} holds {header.shape[0]} slices; expected one per file, or a stack by itself")
        first = first or header
        if header != first:
            raise DataError(
                f"{path} differs from {paths[0].name}: expected {_describe(first)}, got {_describe(header)}; "
                "slices of one volume have one size and type"
            )
    assert first is not None
    return first


def _by_number(paths: Sequence[Path], numbers: Sequence[int]) -> dict[int, Path]:
    found: dict[int, Path] = {}
    for path, number in zip(paths, numbers, strict=True):
        if number in found:
            raise DataError(f"{found[number]} and {path.name} both carry slice number {number}; keep one of them")
        found[number] = path
    return found


def _refuse_gaps(source: Path, missing: Sequence[int], n_files: int, allow_missing: bool) -> None:
    if allow_missing and len(missing) <= n_files:
        return
    advice = "find them, or fill them with 0 and have them stood in for: --allow-missing"
    if len(missing) > n_files:
        advice = "so many gaps are no accident; renumber the files if they are to be neighbours"
    raise DataError(f"{source}: {len(missing)} slices are missing from the numbering: {_few(missing)}; {advice}")


def _as_grey(array: ArrayLike, files: Sequence[str], source: Path) -> tuple[ArrayLike, tuple[str, ...]]:
    dtype = np.dtype(array.dtype)
    if 0 in array.shape:
        raise DataError(f"{source} holds no voxels: its shape is {tuple(array.shape)}")
    if dtype in (np.dtype(np.uint8), np.dtype(np.uint16)):
        return array, ()
    if dtype.kind != "f" and dtype != np.dtype(np.int16):
        raise DataError(f"{source}: expected 8- or 16-bit grey values, got {dtype}; convert to 8- or 16-bit grey")
    low, high = _range(array, files, source)
    gain = 65535 / (high - low) if dtype.kind == "f" and high > low else 1.0
    return Rescaled(array, low, gain), (f"{dtype} grey values {low:.6g} to {high:.6g} are mapped to 16 bit from 0",)


def _range(array: ArrayLike, files: Sequence[str], source: Path) -> tuple[float, float]:
    """Find the smallest and largest grey value in one pass, and refuse what is no number."""
    low, high = np.inf, -np.inf
    depth, height, width = array.shape
    step = (1, height, width) if isinstance(array, SliceFiles | TiffStack) else (16, 1024, 1024)
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


def _grid(
    shape: Voxels, voxel_size: Nanometres | None, stated: Nanometres | None, source: Path
) -> tuple[Grid, tuple[str, ...]]:
    chosen = voxel_size or stated
    if chosen is None:
        raise DataError(f"{source} does not state its voxel size; give it in nm along z, y, x")
    notes: tuple[str, ...] = ()
    if stated and not same_voxel_size(chosen, stated):
        notes = (f"the file states a voxel size of {_nm(stated)} nm; yours of {_nm(chosen)} nm is used",)
    try:
        return Grid(shape, chosen), notes
    except ValueError as error:
        raise DataError(f"{source}: {error}") from error


def _raw(array: ArrayLike) -> Volume:
    depth, height, width = array.shape
    return Volume(array, Grid((depth, height, width), (1.0, 1.0, 1.0)))


def _colour(mode: str) -> Literal["grey", "palette", "colour"]:
    if mode == "P":
        return "palette"
    return "grey" if mode in _TYPE_OF_MODE else "colour"


def _describe(header: Header) -> str:
    return f"{header.shape[1]}×{header.shape[2]} {header.dtype}"


def _nm(size: Nanometres) -> str:
    return " × ".join(f"{length:.6g}" for length in size)


def _few(numbers: Sequence[int]) -> str:
    shown = ", ".join(str(number) for number in numbers[:10])
    return shown if len(numbers) <= 10 else f"{shown} and {len(numbers) - 10} more"
