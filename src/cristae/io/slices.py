"""Folders of slices, one file each: TIFF, PNG or JPEG, in the order of the numbers in their names.

All headers are checked before any pixel is decoded, so that a folder with one odd slice is refused in seconds and
not after an hour of copying. Numbers in file names are slice numbers: what is missing there is missing in the tissue,
and closing the gap would shift every slice behind it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from natsort import natsorted
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from cristae.errors import DataError
from cristae.geometry import Voxels
from cristae.io.tiff import READ_ERRORS, TiffStack, damaged

TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")
IMAGE_SUFFIXES = (*TIFF_SUFFIXES, ".png", ".jpg", ".jpeg")

# The plug-ins are called directly: `PIL.Image.open` refuses slices of more than 179 megapixels as an attack.
_PLUGINS: dict[str, Any] = {".png": PngImageFile, ".jpg": JpegImageFile, ".jpeg": JpegImageFile}
_TYPE_OF_MODE = {
    "1": "bool", "L": "uint8", "P": "uint8", "I;16": "uint16", "I;16L": "uint16", "I;16B": "uint16", "I": "int32",
}  # fmt: skip
Colour = Literal["grey", "palette", "colour"]
_DIGITS = re.compile(r"\d+")
_MOST_PER_BYTE = 8 * 1032
"""Pixels that a byte of a PNG or JPEG can stand for, at most."""
_STRAYS = 0.1
"""At most this share of the files of a folder may be passed over as strays."""


@dataclass(frozen=True)
class Header:
    """What an image file says of itself before its pixels are decoded: slices, rows, columns, type and colour.

    Whether 0 is white does not make two files differ.
    """

    shape: Voxels
    dtype: np.dtype[Any]
    colour: Colour
    inverted: bool = field(default=False, compare=False)


class SliceFiles:
    """An array ``(z, y, x)`` with one file per slice; None is a missing slice, which reads as 0.

    Files that are smaller are filled up with 0 at the bottom and at the right. `extents` says by z how many rows and
    columns there are of slices that are not whole.
    """

    def __init__(
        self, paths: Sequence[Path | None], header: Header, extents: Mapping[int, tuple[int, int]] | None = None
    ) -> None:
        self._paths = tuple(paths)
        self.extents = dict(extents or {})
        self.shape: Voxels = (len(self._paths), *header.shape[1:])
        self.dtype = header.dtype

    @property
    def reads_parts(self) -> bool:
        """Whether a band of rows is read without the rest of its slice, as far as the first file tells."""
        first = next(path for path in self._paths if path is not None)
        return first.suffix.lower() in TIFF_SUFFIXES and TiffStack(first).reads_parts

    def __getitem__(self, index: tuple[slice, slice, slice]) -> np.ndarray:
        along_z, along_y, along_x = index
        zs = range(*along_z.indices(self.shape[0]))
        rows, columns = (len(range(*part.indices(n))) for part, n in zip(index[1:], self.shape[1:], strict=True))
        values = np.empty((len(zs), rows, columns), self.dtype)
        for i, z in enumerate(zs):
            path = self._paths[z]
            if path is None:
                values[i] = 0
            elif not _read_straight(path, along_y.indices(self.shape[1])[0], values[i], self.shape[1:]):
                values[i] = self._whole(read_slice(path), path)[along_y, along_x]
        return values

    def _whole(self, pixels: np.ndarray, path: Path) -> np.ndarray:
        if pixels.shape == self.shape[1:]:
            return pixels
        if pixels.ndim != 2 or any(n > most for n, most in zip(pixels.shape, self.shape[1:], strict=True)):
            raise DataError(f"{path} has changed since it was looked at; run the same command again")
        whole = np.zeros(self.shape[1:], self.dtype)
        whole[: pixels.shape[0], : pixels.shape[1]] = pixels
        return whole


@dataclass(frozen=True)
class Folder:
    """Slices of a folder: their array, z of those that are missing, names, first number, and what was noticed."""

    array: SliceFiles
    missing: tuple[int, ...]
    files: tuple[str, ...]
    first_number: int
    notes: tuple[str, ...]


def open_folder(source: Path, paths: Sequence[Path], *, allow_missing: bool = False, pad: bool = False) -> Folder:
    """Open the slices `paths` of a folder as an array that is read lazily.

    Parameters
    ----------
    source, paths
        Folder, and the image files in it in natural order.
    allow_missing
        Fill slices whose numbers are missing with 0 instead of refusing.
    pad
        Fill slices that are smaller than the largest with 0 at the bottom and right instead of refusing.

    Raises
    ------
    DataError
        If slices differ, are no grey images, are missing, or have one number. The message names the first at fault.
    """
    headers = {path: read_header(path) for path in paths}
    paths, notes = _without_strays(paths, headers)
    header = _common(paths, headers, pad)
    if header.inverted:
        notes = (*notes, "the files declare 0 to be white; grey values are kept as stored, unless you invert them")
    if pad and any(headers[path].shape != header.shape for path in paths):
        notes = (*notes, f"slices of several sizes are filled up with 0 to {_describe(header)}")
    names = tuple(path.name for path in paths)
    numbers = slice_numbers(names, dense=True)
    if numbers is None:
        order: list[Path | None] = list(paths)
        unnumbered = "file names carry no slice numbers that can be told apart: slices are in the order of the names"
        return Folder(SliceFiles(order, header, _extents(order, headers, header)), (), names, 0, (*notes, unnumbered))
    by_number = _by_number(paths, numbers)
    first, last = min(by_number), max(by_number)
    missing = tuple(number - first for number in range(first, last + 1) if number not in by_number)
    if missing:
        _refuse_gaps(source, [z + first for z in missing], len(paths), allow_missing)
        lost = few([z + first for z in missing])
        notes = (*notes, f"filled with 0: {len(missing)} missing slices, numbers {lost}")
    order = [by_number.get(number) for number in range(first, last + 1)]
    files = tuple(path.name for path in order if path is not None)
    return Folder(SliceFiles(order, header, _extents(order, headers, header)), missing, files, first, notes)


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
        colour: Colour = "colour" if stack.colour else "palette" if stack.palette else "grey"
        return Header(stack.shape, stack.dtype, colour, stack.inverted)
    try:
        with path.open("rb") as file:
            image = _PLUGINS[path.suffix.lower()](file, str(path))
            (width, height), mode = image.size, image.mode
    except READ_ERRORS as error:
        raise damaged(path, error) from error
    if width * height > _MOST_PER_BYTE * path.stat().st_size:
        raise DataError(f"{path} claims {width}×{height} pixels, more than it can hold: it is damaged")
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


def _read_straight(path: Path, first_row: int, rows: np.ndarray, whole: tuple[int, int]) -> bool:
    """Read rows of a slice into their place, if it is a TIFF whose pixels lie there as they are; say whether it was."""
    if path.suffix.lower() not in TIFF_SUFFIXES:
        return False
    stack = TiffStack(path)
    return stack.shape == (1, *whole) and stack.read_into(0, first_row, rows)


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


def few(numbers: Sequence[int]) -> str:
    """Return up to ten numbers as text, and how many more there are."""
    shown = ", ".join(str(number) for number in numbers[:10])
    return shown if len(numbers) <= 10 else f"{shown} and {len(numbers) - 10} more"


def _without_strays(paths: Sequence[Path], headers: dict[Path, Header]) -> tuple[Sequence[Path], tuple[str, ...]]:
    """Pass over files that are named unlike the slices and are unlike them too, such as a thumbnail."""
    forms = {path: _DIGITS.sub("#", path.name) for path in paths}
    usual, n_usual = Counter(forms.values()).most_common(1)[0]
    model = next(headers[path] for path in paths if forms[path] == usual)
    strays = [path for path in paths if forms[path] != usual and headers[path] != model]
    others = [path for path in paths if forms[path] != usual]
    if not strays or len(strays) != len(others) or len(strays) > max(1, _STRAYS * n_usual) or n_usual < 2:
        return paths, ()
    said = ", ".join(f"{path.name} ({_describe(headers[path])})" for path in strays)
    note = f"passed over, for name and size are unlike those of the {n_usual} slices of {_describe(model)}: {said}"
    return [path for path in paths if forms[path] == usual], (note,)


def _common(paths: Sequence[Path], headers: dict[Path, Header], pad: bool) -> Header:
    """Return the header that all slices share, or when they are filled up, that of the largest."""
    first = headers[paths[0]]
    for path in paths:
        header = headers[path]
        check_grey(path, header)
        if header.shape[0] != 1:
            raise DataError(f"{path} holds {header.shape[0]} slices; expected one per file, or a stack by itself")
        if header != first and not (pad and header.dtype == first.dtype):
            advice = "" if header.dtype != first.dtype else ". Fill smaller ones up with 0: --set import.pad=true"
            raise DataError(
                f"{path} differs from {paths[0].name}: expected {_describe(first)}, got {_describe(header)}; "
                f"slices of one volume have one size and type{advice}"
            )
        if header.inverted != first.inverted:
            mine, theirs = ("white", "black") if header.inverted else ("black", "white")
            raise DataError(
                f"{path} declares 0 to be {mine}, {paths[0].name} to be {theirs}; slices of one volume have one "
                "contrast. Invert those that are unlike the others, or save all of them alike"
            )
    height, width = (max(headers[path].shape[axis] for path in paths) for axis in (1, 2))
    return replace(first, shape=(1, height, width))


def _extents(
    order: Sequence[Path | None], headers: Mapping[Path, Header], header: Header
) -> dict[int, tuple[int, int]]:
    """Return rows and columns of the slices that are smaller than the largest, or missing."""
    shapes = [headers[path].shape if path is not None else (1, 0, 0) for path in order]
    return {z: (height, width) for z, (_, height, width) in enumerate(shapes) if (height, width) != header.shape[1:]}


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
    raise DataError(f"{source}: {len(missing)} slices are missing from the numbering: {few(missing)}; {advice}")


def _colour(mode: str) -> Colour:
    if mode == "P":
        return "palette"
    return "grey" if mode in _TYPE_OF_MODE else "colour"


def _describe(header: Header) -> str:
    return f"{header.shape[1]}×{header.shape[2]} {header.dtype}"
