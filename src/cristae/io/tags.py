"""What TIFFs say of the size of their pixels: OME, ImageJ, FEI/Thermo, Zeiss, or plain resolution tags."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import tifffile

from cristae.geometry import Nanometres
from cristae.io.opened import NM_PER_UNIT, stated
from cristae.io.tiff import READ_ERRORS, damaged

_COARSEST_NM = 1e4
"""Plain resolution tags above this many nm per pixel are those of a screen or a page."""

Lengths = tuple[float | None, float | None, float | None]


def voxel_size_of(path: Path) -> Nanometres | None:
    """Return the voxel size (z, y, x) in nm that a TIFF states, None where it does not state all three.

    Raises
    ------
    DataError
        If the file is no TIFF.
    """
    lengths = lengths_of(path)
    return stated([length or 0.0 for length in lengths])


def lengths_of(path: Path) -> Lengths:
    """Return the lengths of a voxel (z, y, x) in nm that a TIFF states; None for each that it does not.

    Raises
    ------
    DataError
        If the file is no TIFF.
    """
    try:
        with tifffile.TiffFile(path) as file:
            return _lengths(file)
    except READ_ERRORS as error:
        raise damaged(path, error) from error


def _lengths(file: tifffile.TiffFile) -> Lengths:
    if file.ome_metadata:
        return _of_ome(file.ome_metadata)
    if file.imagej_metadata:
        return _of_imagej(file)
    if isinstance(file.fei_metadata, Mapping):
        return _of_fei(file.fei_metadata)
    if isinstance(file.sem_metadata, Mapping):
        return _of_zeiss(file.sem_metadata)
    return _of_tags(file)


def _of_ome(text: str) -> Lengths:
    pixels = ElementTree.fromstring(text).find(".//{*}Pixels")
    if pixels is None:
        return None, None, None
    # Micrometre is the unit that the OME model assumes where none is written.
    units = [NM_PER_UNIT.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"), 0.0) for axis in "ZYX"]
    sizes = [float(pixels.get(f"PhysicalSize{axis}", "0")) for axis in "ZYX"]
    z, y, x = (_positive(size * nm) for size, nm in zip(sizes, units, strict=True))
    return z, y, x


def _of_imagej(file: tifffile.TiffFile) -> Lengths:
    facts = file.imagej_metadata or {}
    nm = NM_PER_UNIT.get(str(facts.get("unit", "")), 0.0)
    y, x = (_per_resolution(file, name, nm) for name in ("YResolution", "XResolution"))
    return _positive(float(facts.get("spacing", 0.0)) * nm), y, x


def _of_fei(facts: Mapping[str, Any]) -> Lengths:
    """Return what FEI and Thermo Fisher write: pixels in metres, under the kind of scan."""
    for section in ("Scan", "EScan", "IScan"):
        scan = facts.get(section)
        if isinstance(scan, Mapping) and "PixelWidth" in scan:
            height = scan.get("PixelHeight", scan["PixelWidth"])
            return None, _positive(_number(height) * 1e9), _positive(_number(scan["PixelWidth"]) * 1e9)
    return None, None, None


def _of_zeiss(facts: Mapping[str, Any]) -> Lengths:
    for name in ("ap_image_pixel_size", "ap_pixel_size"):
        entry = facts.get(name)
        if isinstance(entry, tuple) and len(entry) == 3:
            size = _positive(_number(entry[1]) * NM_PER_UNIT.get(str(entry[2]), 0.0))
            return None, size, size
    return None, None, None


def _of_tags(file: tifffile.TiffFile) -> Lengths:
    tags = file.pages.first.tags
    unit = int(tags["ResolutionUnit"].value) if "ResolutionUnit" in tags else 0
    nm = {2: NM_PER_UNIT["inch"], 3: NM_PER_UNIT["cm"]}.get(unit, 0.0)
    y, x = (_per_resolution(file, name, nm) for name in ("YResolution", "XResolution"))
    if not (y and x and max(y, x) < _COARSEST_NM):
        return None, None, None
    facts = (file.shaped_metadata or ({},))[0]
    spacing = facts.get("spacing_nm", 0.0) if isinstance(facts, Mapping) else 0.0
    return _positive(_number(spacing)), y, x


def _per_resolution(file: tifffile.TiffFile, name: str, nm: float) -> float | None:
    tags = file.pages.first.tags
    number, denominator = tags[name].value if name in tags else (0, 1)
    return _positive(nm * denominator / number) if number else None


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _positive(length: float) -> float | None:
    return length if 0 < length < float("inf") else None
