"""MRC: the format of electron tomography (IMOD, SerialEM, RELION). Read through a memory map, written slice by slice.

Cell lengths are in ångström. Mode 0 is signed bytes by the standard of 2014, but IMOD wrote unsigned ones for decades
and says so in a flag of its own; both are told apart here.

Cheng, A. et al. (2015). MRC2014: extensions to the MRC format header. J. Struct. Biol. 192, 146-150.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from cristae.errors import DataError
from cristae.io.opened import Mapped, Opened, Turned, refusing, single, stated
from cristae.io.writing import Told, partial_file, reserve, slabs
from cristae.volume import Volume

_TYPE_OF_MODE = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
_NAME_OF_MODE = {3: "complex 16-bit", 4: "complex 32-bit", 16: "colour", 101: "4-bit"}
_MODE_OF_TYPE = {"int8": 0, "int16": 1, "float32": 2, "uint8": 6, "uint16": 6}
_IMOD_STAMP, _IMOD_AT = 1146047817, 40
_ANGSTROM_PER_NM = 10.0


def open_mrc(path: Path, inside: str = "") -> Opened:
    """Open an MRC file.

    Raises
    ------
    DataError
        If it is none, is cut short, or holds no grey values.
    """
    del inside
    with refusing(path):
        with path.open("rb") as file:
            raw = file.read(1024)
        if len(raw) < 1024 or raw[208:211] != b"MAP":
            raise DataError(f"{path} is no MRC file: expected a header of 1024 bytes with MAP in it")
        header = np.frombuffer(raw, HEADER_DTYPE.newbyteorder(_byte_order(raw)))[0]
        mode = int(header["mode"])
        if mode not in _TYPE_OF_MODE:
            raise DataError(
                f"{path} is of mode {mode} ({_NAME_OF_MODE.get(mode, 'unknown')}); expected whole or floating-point "
                "grey values (modes 0, 1, 2, 6, 12). Convert it, in IMOD with: newstack -mode 1"
            )
        stored = np.dtype(_TYPE_OF_MODE[mode]).newbyteorder(_byte_order(raw))
        notes: tuple[str, ...] = ()
        if mode == 0 and not _signed(header):
            stored, notes = np.dtype(np.uint8), (f"{path.name} holds unsigned bytes, as IMOD wrote them",)
        shape = tuple(int(header[name]) for name in ("nz", "ny", "nx"))
        if int(header["nsymbt"]) < 0:
            raise DataError(f"{path} has a header that is damaged: it would extend by {int(header['nsymbt'])} bytes")
        array: Any = Mapped(path, stored, shape, 1024 + int(header["nsymbt"]))
        order = _order(path, header)
        size = _voxel_size(header)
        if order != (0, 1, 2):
            array = Turned(array, order)
            notes = (*notes, f"{path.name} has its axes in another order; they are turned to z, y, x")
    return Opened(array, size, notes)


def write_mrc(volume: Volume, path: Path, *, overwrite: bool = False, told: Told | None = None) -> Path:
    """Write a volume as MRC with its voxel size; bytes become 16 bit, for which MRC has an unsigned mode.

    Raises
    ------
    UsageError
        If there is a file already.
    DataError
        If MRC has no mode for the voxels: whole numbers go up to 65,535.
    """
    peak = 0
    mode = _MODE_OF_TYPE.get(volume.dtype.name)
    if mode is None and volume.dtype.kind == "u":
        peak = max((int(values.max(initial=0)) for _, values in slabs(volume, None)), default=0)
        mode = 6 if peak <= 65535 else None
    if mode is None:
        what = f"the id {peak}" if peak else f"voxels of type {volume.dtype}"
        raise DataError(
            f"MRC holds whole numbers up to 65535 and float32; {what} cannot be written. Take another format: "
            "HDF5 (.h5), NRRD (.nrrd), NIfTI (.nii.gz) or TIFF (.tif)"
        )
    stored = np.dtype(_TYPE_OF_MODE[mode])
    low, high, total, squares = np.inf, -np.inf, 0.0, 0.0
    with (
        partial_file(path, overwrite) as partial,
        mrcfile.new_mmap(partial, shape=volume.shape, mrc_mode=mode, overwrite=True) as made,
    ):
        reserve(partial)
        for box, values in slabs(volume, told):
            for z, plane in enumerate(values, start=box.start[0]):
                exact = plane.astype(np.float64)
                low, high = min(low, float(exact.min())), max(high, float(exact.max()))
                total, squares = total + float(exact.sum()), squares + float((exact**2).sum())
                made.data[z] = plane.astype(stored)
                _let_go(made.data)
        made.voxel_size = tuple(_ANGSTROM_PER_NM * size for size in reversed(volume.grid.voxel_size))
        mean = total / volume.grid.box.n_voxels
        made.header.dmin, made.header.dmax, made.header.dmean = low, high, mean
        made.header.rms = max(0.0, squares / volume.grid.box.n_voxels - mean**2) ** 0.5
        made.header.ispg = 1  # a volume, not a stack of pictures
        made.header.mz = volume.shape[0]
    return path


def _let_go(mapped: Any) -> None:
    """Leave what was put into a shared memory map to the system to write: it would add up to the whole volume."""
    if isinstance(mapped.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.base.madvise(mmap.MADV_DONTNEED)


def _byte_order(raw: bytes) -> Any:
    """Return the byte order by the machine stamp; where that is damaged, by which order makes the mode small."""
    if raw[212:213] in (b"\x44", b"\x11"):
        return "<" if raw[212:213] == b"\x44" else ">"
    return "<" if int.from_bytes(raw[12:16], "little") < 256 else ">"


def _signed(header: Any) -> bool:
    """Say whether bytes are signed: by the flag of IMOD where its stamp is (byte 152), else by their largest value."""
    order = header.dtype["mode"].byteorder
    stamp, flags = (int(value) for value in np.frombuffer(header["extra2"].tobytes(), f"{order}i4", 2, _IMOD_AT))
    return bool(flags & 1) if stamp == _IMOD_STAMP else not float(header["dmax"]) > 127


def _order(path: Path, header: Any) -> tuple[int, int, int]:
    """Return which stored axis (slices, rows, columns) is z, y and x."""
    along = tuple(int(header[name]) for name in ("mapc", "mapr", "maps"))
    if along in ((1, 2, 3), (0, 0, 0)):
        return 0, 1, 2
    if sorted(along) != [1, 2, 3]:
        raise DataError(f"{path} has a header that is damaged: its axes are {along}; expected 1, 2, 3 in some order")
    where = {axis: 2 - i for i, axis in enumerate(along)}  # 1 is x, 2 y, 3 z
    return where[3], where[2], where[1]


def _voxel_size(header: Any) -> Any:
    sizes = []
    for axis in "zyx":
        n, length = int(header[f"m{axis}"]), float(header["cella"][axis])
        sizes.append(single(length / n / _ANGSTROM_PER_NM) if n > 0 else 0.0)
    # One ångström is what writers put there that know nothing better.
    return None if all(size == 0.1 for size in sizes) else stated(sizes)
