"""What microscopes write into the tags of a TIFF about the size of its pixels.

Thermo Fisher (FEI) and Zeiss keep it in tags of their own, others in the resolution that TIFF has for printers. Such
files know the pixel of a slice and not how thick it is, so that part of the answer may be None::

    OME, ImageJ     z y x        FEI, Zeiss, resolution     – y x        what cristae wrote     z y x
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tifffile

from cristae.errors import DataError
from cristae.io.tiff import READ_ERRORS, TIFF_SUFFIXES, damaged, voxel_size_of

Stated = tuple[float | None, float, float]
"""Size of a voxel along z, y, x in nm, as far as a file states it."""

_NM_PER_INCH, _NM_PER_CM = 2.54e7, 1e7
_LARGEST = 1000.0
"""Pixels of more nm are those of a printer (72 per inch), not of an electron microscope."""
_NM_PER = {"pm": 1e-3, "nm": 1.0, "µm": 1e3, "um": 1e3, "mm": 1e6, "m": 1e9}


def stated_size(path: Path) -> Stated | None:
    """Return the voxel size that a TIFF states, None where it states none.

    Raises
    ------
    DataError
        If the file is no TIFF.
    """
    whole = voxel_size_of(path)
    if whole is not None:
        return whole
    try:
        with tifffile.TiffFile(path) as file:
            pixel = _fei(file.fei_metadata) or _zeiss(file.sem_metadata) or _resolution(file)
            z = _spacing(file.shaped_metadata)
    except READ_ERRORS as error:
        raise damaged(path, error) from error
    return (z, *pixel) if pixel else None


def stated_by(source: Path, files: Sequence[str]) -> Stated | None:
    """Return the voxel size that a source states by its first TIFF; what cannot be understood states nothing.

    Parameters
    ----------
    source
        A file, or a folder of slices.
    files
        Names of the slices of a folder.
    """
    first = source / files[0] if source.is_dir() and files else source
    if first.suffix.lower() not in TIFF_SUFFIXES or not first.is_file():
        return None
    try:
        return stated_size(first)
    except DataError:
        return None


def _fei(facts: Mapping[str, Any] | None) -> tuple[float, float] | None:
    scan = (facts or {}).get("Scan", {})
    return _pair(scan.get("PixelHeight"), scan.get("PixelWidth"), 1e9)


def _zeiss(facts: Mapping[str, Any] | None) -> tuple[float, float] | None:
    for key in ("ap_image_pixel_size", "ap_pixel_size"):
        entry = (facts or {}).get(key, ())
        if len(entry) == 3:
            return _pair(entry[1], entry[1], _NM_PER.get(str(entry[2]), 0.0))
    return None


def _resolution(file: tifffile.TiffFile) -> tuple[float, float] | None:
    tags = file.pages.first.tags
    unit = {2: _NM_PER_INCH, 3: _NM_PER_CM}.get(int(tags.valueof("ResolutionUnit", 1)))
    found = [tags.valueof(name, (0, 1)) for name in ("YResolution", "XResolution")]
    if unit is None or not all(number and below for number, below in found):
        return None
    y, x = (below / number for number, below in found)
    return _pair(y, x, unit)


def _spacing(facts: Any) -> float | None:
    for entry in facts or ():
        if isinstance(entry, Mapping) and "spacing_nm" in entry:
            pair = _pair(entry["spacing_nm"], entry["spacing_nm"], 1.0)
            return pair[0] if pair else None
    return None


def _pair(y: Any, x: Any, nm: float) -> tuple[float, float] | None:
    """Return two lengths in nm if they are such as an electron microscope has."""
    try:
        sizes = float(y) * nm, float(x) * nm
    except (TypeError, ValueError):
        return None
    return sizes if all(0 < size < _LARGEST for size in sizes) else None
