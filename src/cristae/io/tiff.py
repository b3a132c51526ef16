"""TIFF stacks: read slice by slice whatever a microscope or Fiji wrote, written so that the voxel size comes along.

Reading never holds more than the slices that were asked for: uncompressed stacks are mapped into memory, others are
decoded page by page. Writing goes to a temporary name first, so that a file under its final name is always whole.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from cristae.errors import DataError, UsageError
from cristae.geometry import Nanometres, Voxels
from cristae.io.writing import Told, alone, partial_file, remove, slabs
from cristae.volume import Volume

READ_ERRORS = (Exception,)
"""What decoders raise on damaged files: anything, from ZeroDivisionError to errors of their own."""

TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")
_BIG = 2**32 - 2**25
"""From this many bytes on, offsets no longer fit a classic TIFF."""
_RATIO = {1: 1, 5: 4096, 7: 512, 8: 1032, 32773: 128, 32946: 1032}
"""How many bytes one byte of a page can stand for, at most, by the number of its compression."""
_LARGEST_RATIO = 2**15
_OME_TYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64")


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
        sides = [(n, axis) for n, axis in zip(first.shape, first.axes, strict=True) if axis != "S"]
        sides = [(n, axis) for n, axis in sides[:-2] if n != 1] + sides[-2:]
        if len(sides) < 3:
            sides = [(len(series), "I"), *sides]
        if len(sides) != 3:
            raise DataError(
                f"{self.path}: expected slices along one axis, got an image of shape {first.shape} with axes "
                f"{first.axes}; save one channel and one time point as a stack"
            )
        self.notes = _said_of_axis(self.path.name, *sides[0])
        self.shape: Voxels = (sides[0][0], sides[1][0], sides[2][0])
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
            self._check_decoded(self._pages[0].keyframe, sum(map(_n_stored, self._pages)))
        n_pages = len(file.pages)  # walks the chain to its end
        width = file.tiff.offsetsize
        file.filehandle.seek(file.pages.next_page_offset or 0)
        following = int.from_bytes(file.filehandle.read(width), "little" if file.byteorder == "<" else "big")
        if end > size or following >= size or n_pages == 0:
            raise DataError(_cut_short(self.path))

    def _check_decoded(self, page: Any, n_stored: int) -> None:
        """Compare what pages claim to be decoded with what they are stored in."""
        unpacked = 8 * self._stored.itemsize / int(page.bitspersample)  # eight voxels of a mask may share a byte
        most = _RATIO.get(int(page.compression), _LARGEST_RATIO) * n_stored * max(1.0, unpacked)
        claimed = max(math.prod(self.shape), math.prod(int(n) for n in page.chunks)) * self._stored.itemsize
        if claimed > most + 2**20:
            raise DataError(f"{self.path} claims {claimed} bytes of pixels, more than it can hold: it is damaged")

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

    @property
    def reads_parts(self) -> bool:
        """Whether a band of rows is read without the rest of its slice."""
        return self._offset is not None

    def read_into(self, z: int, first_row: int, rows: np.ndarray) -> bool:
        """Read whole rows of a slice straight into an array; say whether the file lies so that this can be done."""
        if self._offset is None or self._stored != rows.dtype or rows.shape[1] != self.shape[2]:
            return False
        if not rows.flags.c_contiguous or rows.size == 0:
            return False
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(self._offset + (z * self.shape[1] + first_row) * self.shape[2] * self._stored.itemsize)
                done, view = 0, rows.reshape(-1).view(np.uint8).data
                while done < len(view):
                    n_read = file.readinto(view[done:])
                    if not n_read:
                        raise DataError(_cut_short(self.path))
                    done += n_read
        except READ_ERRORS as error:
            raise damaged(self.path, error) from error
        return True

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


def _said_of_axis(name: str, n: int, axis: str) -> tuple[str, ...]:
    """Return what to say of a stack whose axis is not called z. Python's writers call it channels unless told."""
    called = {"C": "channels", "T": "points in time"}.get(axis)
    if called is None or n == 1:
        return ()
    return (f"{name}: its {n} {called} are taken for slices; if they are none, save one of them by itself",)


def _n_stored(page: Any) -> int:
    return int(sum(page.databytecounts))


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
    ResourceError
        If someone else is writing there.
    DataError
        If OME-TIFF has no name for the type of the voxels.
    """
    if volume.dtype.name not in _OME_TYPES:
        raise DataError(f"expected voxels of type {', '.join(_OME_TYPES)} for a TIFF, got {volume.dtype}")
    n_bytes = volume.grid.box.n_voxels * volume.dtype.itemsize
    with (
        partial_file(path, overwrite) as partial,
        tifffile.TiffWriter(partial, bigtiff=n_bytes > _BIG, ome=True) as writer,
    ):
        writer.write(
            _slices(volume, told),
            shape=volume.shape,
            dtype=volume.dtype,
            photometric="minisblack",
            compression=_compression(volume),
            metadata={"axes": "ZYX", **_physical_size(volume.grid.voxel_size)},
        )
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
    ResourceError
        If someone else is writing there.
    """
    with alone(path):
        if path.exists() and (not path.is_dir() or (not overwrite and any(path.iterdir()))):
            raise UsageError(
                f"{path} holds something already; choose another name, or say that it may be overwritten (--force)"
            )
        partial = path.with_name(f".{path.name}.partial")
        remove(partial)
        partial.mkdir()
        try:
            _write_slices(volume, partial, (stem, first), told)
            path.mkdir(exist_ok=True)
            for file in sorted(partial.iterdir()):
                file.replace(path / file.name)
        finally:
            remove(partial)
    return path


def _write_slices(volume: Volume, folder: Path, name: tuple[str, int], told: Told | None) -> None:
    """Write each slice to a file of its own; `name` is what stands before the number, and the first number."""
    stem, first = name
    digits = max(4, len(str(first + volume.shape[0] - 1)))
    size_z, size_y, size_x = volume.grid.voxel_size
    for z, values in enumerate(_slices(volume, told)):
        tifffile.imwrite(
            folder / f"{stem}_{first + z:0{digits}}.tif",
            values,
            photometric="minisblack",
            compression=_compression(volume),
            resolution=(1e7 / size_x, 1e7 / size_y),
            resolutionunit="CENTIMETER",
            metadata={"spacing_nm": size_z},
        )


def _physical_size(voxel_size: Nanometres) -> dict[str, float | str]:
    facts: dict[str, float | str] = {}
    for axis, size in zip("ZYX", voxel_size, strict=True):
        facts |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": "nm"}
    return facts


def _slices(volume: Volume, told: Told | None) -> Iterator[np.ndarray]:
    for box, slab in slabs(volume, None):
        for z, values in enumerate(slab, start=box.start[0]):
            if told:  # before it is handed on: who writes may not ask again after the last one
                told(z + 1, volume.shape[0])
            yield values


def _compression(volume: Volume) -> str | None:
    # Label images shrink a hundredfold; micrographs are noise and would only become slow to open.
    return "zlib" if volume.kind == "labels" else None


def _cut_short(path: Path) -> str:
    return f"{path} is cut short: it ends before its pixels do; copy it again from its origin"


def _say(kind: tuple[tuple[int, ...], Any]) -> str:
    return f"{'×'.join(str(n) for n in kind[0])} {kind[1]}"
