"""NRRD: the format of 3D Slicer and teem. The header is read by pynrrd, the voxels slice by slice."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

import nrrd
import numpy as np

from cristae.errors import DataError
from cristae.geometry import Nanometres
from cristae.io.opened import (
    CompressedPlanes,
    Mapped,
    Opened,
    check_holds,
    refusing,
    size_in_nm,
    text_values,
    three_axes,
)
from cristae.io.writing import Told, partial_file, slabs
from cristae.volume import ArrayLike, Volume

_NAMES = {
    "int8": "int8",
    "uint8": "uint8",
    "int16": "int16",
    "uint16": "uint16",
    "int32": "int32",
    "uint32": "uint32",
    "float32": "float",
    "float64": "double",
}
_DTYPES: dict[str, str] = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    "float": "f4",
    "double": "f8",
}


def open_nrrd(path: Path, inside: str = "") -> Opened:
    """Open a NRRD file; voxels in a file of their own must lie beside it.

    Raises
    ------
    DataError
        If it is none, is cut short, holds no numbers, or its voxels lie in another folder.
    """
    del inside
    with refusing(path):
        with path.open("rb") as file:
            header: dict[str, Any] = nrrd.read_header(file)
            after = file.tell()
        data, offset = _place(path, header, after)
        sizes = [int(n) for n in header["sizes"]]
        shape = three_axes(path, sizes[::-1])
        order: Literal["<", ">"] = "<" if header.get("endian", "little") == "little" else ">"
        name = str(header["type"]).lower()
        if name not in _DTYPES:
            raise DataError(f"{path} holds {name}; expected numbers of up to 32 bits, one per voxel")
        stored = np.dtype(_DTYPES[name]).newbyteorder(order)
        array = _voxels(data, header, stored, (shape, offset))
        size, notes = _voxel_size(path, header, sizes)
        return Opened(array, size, notes)


def write_nrrd(volume: Volume, path: Path, *, overwrite: bool = False, told: Told | None = None) -> Path:
    """Write a volume as NRRD with its voxel size in nm; labels are compressed.

    Raises
    ------
    UsageError
        If there is a file already.
    DataError
        If NRRD has no type for the voxels.
    """
    if volume.dtype.name not in _NAMES:
        raise DataError(f"expected voxels of type {', '.join(_NAMES)} for NRRD, got {volume.dtype}")
    z, y, x = volume.grid.voxel_size
    lines = [
        "NRRD0005",
        f"type: {_NAMES[volume.dtype.name]}",
        "dimension: 3",
        "space dimension: 3",
        f"sizes: {' '.join(str(n) for n in reversed(volume.shape))}",
        f"space directions: ({x!r},0,0) (0,{y!r},0) (0,0,{z!r})",
        "kinds: domain domain domain",
        'space units: "nm" "nm" "nm"',
        "space origin: (0,0,0)",
        "endian: little",
        f"encoding: {'gzip' if volume.kind == 'labels' else 'raw'}",
        "",
        "",
    ]
    with partial_file(path, overwrite) as partial, partial.open("wb") as raw:
        raw.write("\n".join(lines).encode())
        with _body(raw, compressed=volume.kind == "labels") as file:
            for _, values in slabs(volume, told):
                file.write(values.astype(volume.dtype.newbyteorder("<"), copy=False).data)
    return path


@contextmanager
def _body(raw: IO[bytes], *, compressed: bool) -> Iterator[IO[bytes]]:
    if not compressed:
        yield raw
        return
    with gzip.GzipFile("", "wb", 1, raw, 0) as file:
        yield file  # type: ignore[misc]


def _place(path: Path, header: dict[str, Any], after: int) -> tuple[Path, int]:
    """Return the file in which the voxels are, and where its data begin."""
    if any(int(header.get(key, 0)) for key in ("line skip", "lineskip")):
        raise DataError(f"{path} skips lines before its voxels, which is not read; save it as plain NRRD")
    skip = int(header.get("byte skip", header.get("byteskip", 0)))
    name = header.get("data file", header.get("datafile"))
    if name is None:
        return path, after + max(0, skip)
    data = path.parent / str(name)
    if data.resolve().parent != path.resolve().parent or not data.is_file():
        raise DataError(f"{path} has its voxels in {str(name)!r}; expected one file in the same folder")
    return data, max(0, skip)


def _voxels(
    path: Path, header: dict[str, Any], stored: np.dtype[Any], where: tuple[tuple[int, int, int], int]
) -> ArrayLike:
    shape, offset = where
    encoding = str(header["encoding"]).lower()
    if encoding == "raw":
        return Mapped(path, stored, shape, offset)
    if encoding in ("gzip", "gz"):
        return CompressedPlanes(path, stored, shape, "gzip", (offset, 0))
    if encoding in ("bzip2", "bz2"):
        return CompressedPlanes(path, stored, shape, "bzip2", (offset, 0))
    if encoding in ("ascii", "text", "txt"):
        check_holds(path, shape, 2, path.stat().st_size - offset + 1)
        with path.open("rb") as file:
            file.seek(offset)
            values = text_values(file.read(), int(np.prod(shape)), stored.newbyteorder("="))
        return values.reshape(shape)
    raise DataError(f"{path} is encoded as {encoding!r}; expected raw, gzip, bzip2 or ascii")


def _voxel_size(path: Path, header: dict[str, Any], sizes: Sequence[int]) -> tuple[Nanometres | None, tuple[str, ...]]:
    directions = header.get("space directions")
    if directions is not None:
        lengths = [float(np.linalg.norm(row)) for row in np.asarray(directions, float)]
    else:
        lengths = [float(value) for value in header.get("spacings", ())]
    kept = [length for length, n in zip(lengths, sizes, strict=False) if n > 1 or len(lengths) == 3]
    if len(kept) != 3 or not all(np.isfinite(kept)):
        return None, ()
    units = header.get("space units", header.get("units", ()))
    named = {str(unit).strip().strip('"') for unit in units}
    if len(named) != 1:
        return None, (f"{path.name} states its voxel size without a unit: {kept}",)
    return size_in_nm(kept[::-1], named.pop()), ()
