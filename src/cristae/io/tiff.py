"""TIFF stacks: read slice by slice whatever a microscope or Fiji wrote, written so that the voxel size comes along.

Reading never holds more than the slices that were asked for: uncompressed stacks are mapped into memory, others are
decoded page by page. Writing goes to a temporary name first, so that a file under its final name is always whole.
"""

from __future__ import annotations

import contextlib
import shutil
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from cristae.errors import DataError, UsageError
from cristae.geometry import Box, Nanometres, Voxels
from cristae.volume import Volume

Told = Callable[[int, int], object]
"""Called with the number of slices written and their total."""

READ_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    KeyError,
    RuntimeError,
    struct.error,
    zlib.error,
    tifffile.TiffFileError,
)
"""What decoders raise on damaged files."""

_BIG = 2**32 - 2**25
"""From this many bytes on, offsets no longer fit a classic TIFF."""
_SLAB_BYTES = 2**28
_OME_TYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64")
_NM_PER_UNIT = {
    "pm": 1e-3,
    "Å": 0.1,
    "nm": 1.0,
    "nanometer": 1.0,
    "um": 1e3,
    "µm": 1e3,
    "μm": 1e3,
    "\\u00B5m": 1e3,
    "micron": 1e3,
    "microns": 1e3,
    "micrometer": 1e3,
    "mm": 1e6,
    "cm": 1e7,
    "m": 1e9,
    "inch": 2.54e7,
}


class TiffStack:
    """A TIFF of one or more grey slices, read lazily; an array of shape ``(z, y, x)``.

    Parameters
    ----------
    path
        TIFF, BigTIFF, ImageJ or OME-TIFF. Headers of all pages are read at once, pixels when indexed.

    Attributes
    ----------
    shape, dtype
        As of an array; the type is in native byte order.
    palette, colour, inverted
        Whether the numbers are indices of a colour table, whether there are several samples per pixel (then `shape`
        is that of one sample), and whether the file declares 0 to be white.

    Raises
    ------
    DataError
        If the file is no TIFF, is cut short, or its pages differ in size or type.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            with tifffile.TiffFile(path) as file:
                self._parse(file)
        except READ_ERRORS as error:
            raise damaged(path, error) from error

    def __reduce__(self) -> tuple[Any, ...]:
        return TiffStack, (self.path,)

    def _parse(self, file: tifffile.TiffFile) -> None:
        self._handle = file.filehandle
        series = file.series
        first = series[0]
        self._check_pages_alike(series)
        keyframe = first.keyframe
        self.colour = "S" in first.axes
        self.palette = keyframe.photometric == tifffile.PHOTOMETRIC.PALETTE
        self.inverted = keyframe.photometric == tifffile.PHOTOMETRIC.MINISWHITE
        shape = [n for n, axis in zip(first.shape, first.axes, strict=True) if axis != "S"]
        shape = [n for n in shape[:-2] if n != 1] + shape[-2:]
        if len(shape) < 3:
            shape = [len(series), *shape]
        if len(shape) != 3:
            raise DataError(
                f"{self.path}: expected slices along one axis, got an image of shape {first.shape} with axes "
                f"{first.axes}; save one channel and one time point as a stack"
            )
        self.shape: Voxels = (shape[0], shape[1], shape[2])
        self.dtype = np.dtype(first.dtype).newbyteorder("=")
        self._offset = first.dataoffset if len(series) == 1 else None
        self._stored = np.dtype(first.dtype).newbyteorder(file.byteorder)
        self._pages: list[Any] = []
        if self._offset is None:
            self._pages = [one[i] for one in series for i in range(len(one))]
        self._check_whole(file)

    def _check_pages_alike(self, series: list[Any]) -> None:
        kinds = [(one.shape, one.dtype) for one in series]
        for i, kind in enumerate(kinds):
            if kind != kinds[0] or (i and len(kind[0]) != 2):
                raise DataError(
                    f"{self.path}: expected pages of one size and type, got {_say(kinds[0])} and {_say(kind)}; "
                    "keep only the slices of the stack in the file"
                )

    def _check_whole(self, file: tifffile.TiffFile) -> None:
        """Compare where the pixels should be with the length of the file, before any is decoded."""
        size = file.filehandle.size
        if self._offset is not None:
            end = self._offset + int(np.prod(self.shape)) * self._stored.itemsize * (3 if self.colour else 1)
        else:
            end = 0
            for page in self._pages:
                if page is None:
                    raise DataError(_cut_short(self.path))
                end = max(end, *(o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)))
        n_pages = len(file.pages)  # walks the chain to its end
        width = file.tiff.offsetsize
        file.filehandle.seek(file.pages.next_page_offset or 0)
        following = int.from_bytes(file.filehandle.read(width), "little" if file.byteorder == "<" else "big")
        if end > size or following >= size or n_pages == 0:
            raise DataError(_cut_short(self.path))

    def __getitem__(self, index: tuple[slice, slice, slice]) -> np.ndarray:
        along_z, along_y, along_x = index
        try:
            if self._offset is not None:
                mapped: np.ndarray = np.memmap(self.path, self._stored, "r", self._offset, self.shape)
                return np.array(mapped[index], dtype=self.dtype)
            zs = range(*along_z.indices(self.shape[0]))
            with self._opened():
                slices = [self._page(z)[along_y, along_x] for z in zs]
        except READ_ERRORS as error:
            raise damaged(self.path, error) from error
        if not slices:
            return np.empty(self.shape, self.dtype)[index]
        return np.stack(slices).astype(self.dtype, copy=False)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[None]:
        """Open the file for one reader at a time: pages share its handle, and none stays open in between."""
        with self._lock:
            self._handle.open()
            try:
                yield
            finally:
                self._handle.close()

    def _page(self, z: int) -> np.ndarray:
        per_page = self.shape[0] // len(self._pages)  # one page may hold several slices as planes
        values = self._pages[z // per_page].asarray()
        return values.reshape(per_page, *self.shape[1:])[z % per_page]


def damaged(path: Path, error: Exception) -> DataError:
    """Return the error to raise when `path` cannot be decoded; data errors pass as they are."""
    if isinstance(error, DataError):
        return error
    if isinstance(error, PermissionError):
        return DataError(f"{path} cannot be read: {error.strerror}; check its permissions")
    return DataError(f"{path} is damaged or not what its name says ({error}); copy it again from its origin")


def write_stack(volume: Volume, path: Path, *, overwrite: bool = False, told: Told | None = None) -> Path:
    """Write a volume as one OME-TIFF with its voxel size, BigTIFF where needed; labels are compressed.

    Parameters
    ----------
    volume
        What to write; read slab by slab. Sizes and type are kept.
    path
        File to make.
    overwrite
        Whether a file under that name may be replaced.
    told
        Told after each slice.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    UsageError
        If there is a file already.
    DataError
        If OME-TIFF has no name for the type of the voxels.
    """
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists already; choose another name, or say that it may be overwritten (--force)")
    if volume.dtype.name not in _OME_TYPES:
        raise DataError(f"expected voxels of type {', '.join(_OME_TYPES)} for a TIFF, got {volume.dtype}")
    _make_folder(path.parent)
    partial = path.with_name(f".{path.name}.partial")
    n_bytes = volume.grid.box.n_voxels * volume.dtype.itemsize
    try:
        with tifffile.TiffWriter(partial, bigtiff=n_bytes > _BIG, ome=True) as writer:
            writer.write(
                _slices(volume, told),
                shape=volume.shape,
                dtype=volume.dtype,
                photometric="minisblack",
                compression=_compression(volume),
                metadata={"axes": "ZYX", **_physical_size(volume.grid.voxel_size)},
            )
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def write_folder(
    volume: Volume,
    path: Path,
    stem: str,
    *,
    first: int = 0,
    overwrite: bool = False,
    told: Told | None = None,
) -> Path:
    """Write a volume as a folder of TIFFs, one per slice: ``<stem>_0000.tif`` and so on.

    Parameters
    ----------
    volume
        What to write; read slab by slab. Sizes and type are kept.
    path
        Folder to make.
    stem
        What stands before the number of the slice.
    first
        Number of the first slice.
    overwrite
        Whether files of the same names may be replaced; others in the folder stay.
    told
        Told after each slice.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    UsageError
        If the folder holds anything already.
    """
    if path.exists() and (not path.is_dir() or (not overwrite and any(path.iterdir()))):
        raise UsageError(
            f"{path} holds something already; choose another name, or say that it may be overwritten (--force)"
        )
    _make_folder(path.parent)
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    digits = max(4, len(str(first + volume.shape[0] - 1)))
    try:
        for z, values in enumerate(_slices(volume, told)):
            name = f"{stem}_{first + z:0{digits}}.tif"
            size_z, size_y, size_x = volume.grid.voxel_size
            tifffile.imwrite(
                partial / name,
                values,
                photometric="minisblack",
                compression=_compression(volume),
                resolution=(1e7 / size_x, 1e7 / size_y),
                resolutionunit="CENTIMETER",
                metadata={"spacing_nm": size_z},
            )
        path.mkdir(exist_ok=True)
        for file in sorted(partial.iterdir()):
            file.replace(path / file.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return path


def voxel_size_of(path: Path) -> Nanometres | None:
    """Return the voxel size (z, y, x) in nm that an OME-TIFF or ImageJ stack states, None where it does not.

    Raises
    ------
    DataError
        If the file is no TIFF.
    """
    try:
        with tifffile.TiffFile(path) as file:
            if file.ome_metadata:
                return _ome_voxel_size(file.ome_metadata)
            return _imagej_voxel_size(file) if file.imagej_metadata else None
    except READ_ERRORS as error:
        raise damaged(path, error) from error


def _ome_voxel_size(text: str) -> Nanometres | None:
    pixels = ElementTree.fromstring(text).find(".//{*}Pixels")
    if pixels is None:
        return None
    sizes = [
        # Micrometre is the unit that the OME model assumes where none is written.
        float(pixels.get(f"PhysicalSize{axis}", "0")) * _NM_PER_UNIT.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"), 0)
        for axis in "ZYX"
    ]
    return _stated(sizes)


def _imagej_voxel_size(file: tifffile.TiffFile) -> Nanometres | None:
    facts, tags = file.imagej_metadata or {}, file.pages.first.tags
    nm = _NM_PER_UNIT.get(str(facts.get("unit", "")), 0.0)
    sizes = [float(facts.get("spacing", 0.0)) * nm]
    for name in ("YResolution", "XResolution"):
        number, denominator = tags[name].value if name in tags else (0, 1)
        sizes.append(nm * denominator / number if number else 0.0)
    return _stated(sizes)


def _stated(sizes: list[float]) -> Nanometres | None:
    if not all(0 < size < float("inf") for size in sizes):
        return None
    z, y, x = sizes
    return z, y, x


def _physical_size(voxel_size: Nanometres) -> dict[str, float | str]:
    facts: dict[str, float | str] = {}
    for axis, size in zip("ZYX", voxel_size, strict=True):
        facts |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": "nm"}
    return facts


def _slices(volume: Volume, told: Told | None) -> Iterator[np.ndarray]:
    n_slices, height, width = volume.shape
    step = max(1, min(16, _SLAB_BYTES // max(1, height * width * volume.dtype.itemsize)))
    for start in range(0, n_slices, step):
        slab = volume.read(Box((start, 0, 0), (min(start + step, n_slices), height, width)))
        for z, values in enumerate(slab, start=start):
            if told:
                told(z + 1, n_slices)
            yield np.ascontiguousarray(values)


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise UsageError(f"{path} is a file, so nothing can be written below it; choose another name") from error


def _compression(volume: Volume) -> str | None:
    # Label images shrink a hundredfold; micrographs are noise and would only become slow to open.
    return "zlib" if volume.kind == "labels" else None


def _cut_short(path: Path) -> str:
    return f"{path} is cut short: it ends before its pixels do; copy it again from its origin"


def _say(kind: tuple[tuple[int, ...], Any]) -> str:
    return f"{'×'.join(str(n) for n in kind[0])} {kind[1]}"
