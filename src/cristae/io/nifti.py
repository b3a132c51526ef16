"""NIfTI (``.nii``, ``.nii.gz``): the format of nnU-Net and medical viewers. Lengths are written in micrometres."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import nibabel
import numpy as np

from cristae.errors import DataError
from cristae.io.opened import CompressedPlanes, Mapped, Opened, Rescaled, refusing, single, size_in_nm, three_axes
from cristae.io.writing import Told, partial_file, slabs
from cristae.volume import ArrayLike, Volume

_TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
_LONGEST_NIFTI1 = 32767


def open_nifti(path: Path, inside: str = "") -> Opened:
    """Open a NIfTI-1 or -2 file; its axes x, y, z are z, y, x here, unturned by its transform.

    Raises
    ------
    DataError
        If it is none, is cut short, or holds no numbers.
    """
    del inside
    with refusing(path), _quiet():
        loaded: Any = nibabel.load(path)
        header = loaded.header
        shape = three_axes(path, tuple(reversed(header.get_data_shape())))
        stored = np.dtype(header.get_data_dtype())
        if stored.kind not in "uif":
            raise DataError(f"{path} holds {stored}; expected whole or floating-point numbers, one per voxel")
        offset = int(loaded.dataobj.offset)
        if offset < 0:
            raise DataError(f"{path} has a header that is damaged: its voxels would begin at byte {offset}")
        array: ArrayLike
        if path.name.lower().endswith(".gz"):
            array = CompressedPlanes(path, stored, shape, "gzip", (0, offset))
        else:
            array = Mapped(path, stored, shape, offset)
        slope, intercept = loaded.dataobj.slope, loaded.dataobj.inter
        if (slope, intercept) != (1.0, 0.0):
            array = Rescaled(array, float(slope), float(intercept))
        unit = {"micron": "um", "mm": "mm", "meter": "m"}.get(str(header.get_xyzt_units()[0]), "")
        zooms = [single(zoom) for zoom in header.get_zooms()[:3]]
        notes: tuple[str, ...] = ()
        if not unit:
            notes = (f"{path.name} states its voxel size without a unit: {zooms}",)
        return Opened(array, size_in_nm(zooms[::-1], unit), notes)


def write_nifti(
    volume: Volume, path: Path, *, unit: str = "micron", overwrite: bool = False, told: Told | None = None
) -> Path:
    """Write a volume as NIfTI with its voxel size, compressed if the name ends in ``.gz``.

    NIfTI-1, or NIfTI-2 where an axis is longer than 32,767. Lengths are 32-bit floats in the format, so that the voxel
    size is exact to seven digits.

    Raises
    ------
    UsageError
        If there is a file already.
    DataError
        If NIfTI has no type for the voxels.
    """
    if volume.dtype.name not in _TYPES:
        raise DataError(f"expected voxels of type {', '.join(_TYPES)} for NIfTI, got {volume.dtype}")
    long = max(volume.shape) > _LONGEST_NIFTI1
    header: Any = nibabel.Nifti2Header() if long else nibabel.Nifti1Header()  # type: ignore[no-untyped-call]
    header.set_data_shape(tuple(reversed(volume.shape)))
    header.set_data_dtype(volume.dtype)
    header.set_xyzt_units(unit)
    per_unit = {"micron": 1e3, "mm": 1e6}[unit]
    zooms = [size / per_unit for size in reversed(volume.grid.voxel_size)]
    header.set_zooms(zooms)
    affine = np.diag([*zooms, 1.0])
    header.set_sform(affine, code="scanner")
    header.set_qform(affine, code="scanner")
    header.set_slope_inter(1, 0)
    header["magic"] = b"n+2" if long else b"n+1"
    header.set_data_offset(544 if long else 352)
    with partial_file(path, overwrite) as partial, _opened(partial) as file:
        file.write(header.binaryblock)
        file.write(bytes(4))  # no extensions
        for _, values in slabs(volume, told):
            file.write(values.astype(volume.dtype.newbyteorder("<"), copy=False).data)
    return path


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    if path.name.lower().endswith(".gz"):
        # No name and no time: the same volume gives the same bytes.
        with path.open("wb") as raw, gzip.GzipFile("", "wb", 1, raw, 0) as file:
            yield file  # type: ignore[misc]
        return
    with path.open("wb") as plain:
        yield plain


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what nibabel logs about odd headers to itself."""
    logger = logging.getLogger("nibabel.global")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
