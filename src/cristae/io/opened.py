"""What the reader of a format hands on, and arrays that are read lazily out of files.

Every reader checks first that the file can hold what its header claims. Nothing is allocated before that, and never
more than the slices that were asked for: a header of a few damaged bytes may claim any size.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import threading
import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from cristae.errors import CristaeError, DataError
from cristae.geometry import Nanometres, Voxels
from cristae.volume import ArrayLike

Codec = Literal["gzip", "zlib", "bzip2"]

NM_PER_UNIT = {
    "pm": 1e-3,
    "Å": 0.1,
    "A": 0.1,
    "angstrom": 0.1,
    "nm": 1.0,
    "nanometer": 1.0,
    "nanometers": 1.0,
    "um": 1e3,
    "µm": 1e3,
    "μm": 1e3,
    "\\u00B5m": 1e3,
    "micron": 1e3,
    "microns": 1e3,
    "micrometer": 1e3,
    "micrometers": 1e3,
    "mm": 1e6,
    "millimeter": 1e6,
    "cm": 1e7,
    "m": 1e9,
    "inch": 2.54e7,
}
"""Nanometres in each unit of length that files name."""

IGNORE_NAME = "ignore"
"""Name of the material, in files with names, of voxels that nobody looked at."""

_RATIO: dict[Codec, int] = {"gzip": 1032, "zlib": 1032, "bzip2": 2**17}
"""How many bytes one compressed byte can stand for, at most."""

_MOST_BEHIND = 256
"""Up to so many times 64 kB of a compressed stream are read behind the voxels, to come to its checksum."""


@dataclass(frozen=True)
class Material:
    """A structure that a label file names: the value of its voxels, and a colour (red, green, blue; 0–1) if it has."""

    name: str
    value: int
    colour: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Opened:
    """A volume in a file, ready to be read.

    Parameters
    ----------
    array
        Voxels, ``(z, y, x)``, read lazily, in native byte order.
    voxel_size
        Size of a voxel (z, y, x) in nm as the file states it; None where it does not, or in no known unit.
    notes
        Sentences that the user should see.
    materials
        Structures that the file names, where it holds labels.
    may_be_turned
        Whether the file does not say for sure which of its axes are y and x.
    """

    array: ArrayLike
    voxel_size: Nanometres | None = None
    notes: tuple[str, ...] = ()
    materials: tuple[Material, ...] = ()
    may_be_turned: bool = False


class Mapped:
    """Voxels ``(z, y, x)`` as they lie in a file, uncompressed, mapped into memory."""

    reads_parts = True

    def __init__(self, path: Path, stored: np.dtype[Any], shape: Sequence[int], offset: int) -> None:
        check_holds(path, shape, stored.itemsize, path.stat().st_size - offset)
        self._path, self._stored, self._offset = path, stored, offset
        self.shape: Voxels = (int(shape[0]), int(shape[1]), int(shape[2]))
        self.dtype = stored.newbyteorder("=")

    def __getitem__(self, index: tuple[slice, slice, slice]) -> np.ndarray:
        with refusing(self._path):
            mapped: np.ndarray = np.memmap(self._path, self._stored, "r", self._offset, self.shape)
            return np.array(mapped[index], dtype=self.dtype)


class Turned:
    """An array whose axes are put in another order: axis ``order[i]`` of `array` becomes axis ``i``."""

    def __init__(self, array: ArrayLike, order: Sequence[int]) -> None:
        self._array, self._order = array, tuple(order)
        self.shape = tuple(array.shape[axis] for axis in order)
        self.dtype = np.dtype(array.dtype)

    def __getitem__(self, index: tuple[slice, slice, slice]) -> np.ndarray:
        inner = tuple(index[self._order.index(axis)] for axis in range(len(self._order)))
        return np.asarray(self._array[inner]).transpose(self._order)


class Rescaled:
    """Stored numbers times a slope plus an intercept, as float32."""

    dtype: np.dtype[Any] = np.dtype(np.float32)

    def __init__(self, array: ArrayLike, slope: float, intercept: float) -> None:
        self._array, self._slope, self._intercept = array, slope, intercept
        self.shape = array.shape

    def __getitem__(self, index: Any) -> np.ndarray:
        return (np.asarray(self._array[index], np.float64) * self._slope + self._intercept).astype(np.float32)


class CompressedPlanes:
    """Voxels ``(z, y, x)`` in one compressed stream, decoded slice after slice; going back begins anew.

    Parameters
    ----------
    path
        File.
    stored
        Type of a voxel, with its byte order.
    shape
        Slices, rows and columns.
    codec
        How the stream is compressed.
    span
        Where the stream begins in the file, and how many decoded bytes come before the voxels.
    """

    def __init__(
        self, path: Path, stored: np.dtype[Any], shape: Sequence[int], codec: Codec, span: tuple[int, int] = (0, 0)
    ) -> None:
        n_bytes = path.stat().st_size - span[0]
        check_holds(path, shape, stored.itemsize, _RATIO[codec] * max(0, n_bytes) - span[1])
        self._path, self._stored, self._codec, self._span = path, stored, codec, span
        self.shape: Voxels = (int(shape[0]), int(shape[1]), int(shape[2]))
        self.dtype = stored.newbyteorder("=")
        self._start()

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._stream: _Stream | None = None
        self._next = 0

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_lock", "_stream", "_next")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._start()

    def __getitem__(self, index: tuple[slice, slice, slice]) -> np.ndarray:
        along_z, along_y, along_x = index
        zs = range(*along_z.indices(self.shape[0]))
        with self._lock, refusing(self._path):
            planes = [self._plane(z)[along_y, along_x] for z in zs]
        if not planes:
            return np.empty((0, *self.shape[1:]), self.dtype)[:, along_y, along_x]
        return np.stack(planes).astype(self.dtype, copy=False)

    def _plane(self, z: int) -> np.ndarray:
        if self._stream is None or z < self._next:
            if self._stream is not None:
                self._stream.close()
            self._stream, self._next = _Stream(self._path, self._codec, self._span[0]), 0
            self._stream.take(self._span[1])
        n_bytes = self.shape[1] * self.shape[2] * self._stored.itemsize
        while self._next < z:
            self._stream.skip(n_bytes)
            self._next += 1
        values = np.frombuffer(self._stream.take(n_bytes), self._stored)
        self._next += 1
        if self._next == self.shape[0]:
            self._stream.end()
        return values.reshape(self.shape[1:])


class _Stream:
    """Decoded bytes of a compressed part of a file, from front to back."""

    def __init__(self, path: Path, codec: Codec, offset: int) -> None:
        self._file = path.open("rb")
        self._file.seek(offset)
        self._inner: Any = _Inflated(self._file)
        if codec == "gzip":
            self._inner = gzip.GzipFile(fileobj=self._file)
        elif codec == "bzip2":
            self._inner = bz2.BZ2File(self._file)

    def take(self, n_bytes: int) -> bytes:
        parts, left = [], n_bytes
        while left:
            part = self._inner.read(min(left, 2**22))
            if not part:
                raise EOFError("it ends before its voxels do")
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def skip(self, n_bytes: int) -> None:
        while n_bytes:
            n_bytes -= len(self.take(min(n_bytes, 2**22)))

    def end(self) -> None:
        """Go on to the checksum behind the voxels, for only then is it compared; what follows it may be anything."""
        try:
            for _ in range(_MOST_BEHIND):
                if not self._inner.read(2**16):
                    return
        except gzip.BadGzipFile as error:
            if "Not a gzipped file" not in str(error):
                raise

    def close(self) -> None:
        self._file.close()

    def __del__(self) -> None:
        self._file.close()


class _Inflated:
    """A zlib stream, which the standard library has no file object for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._decoder = file, zlib.decompressobj()

    def read(self, n_bytes: int) -> bytes:
        while not self._decoder.eof:
            encoded = self._decoder.unconsumed_tail or self._file.read(2**16)
            decoded = self._decoder.decompress(encoded, n_bytes)
            if decoded or not encoded:
                return decoded
        return b""


def reads_parts(array: ArrayLike) -> bool:
    """Say whether reading a band of rows costs no more than the band; else whole slices should be read."""
    return bool(getattr(array, "reads_parts", False))


def check_holds(path: Path, shape: Sequence[int], itemsize: int, available: int) -> None:
    """Raise DataError unless a volume of `shape` fits into `available` bytes; nothing is allocated.

    Raises
    ------
    DataError
        If it does not fit, or has no voxels.
    """
    needed = itemsize
    for n in shape:
        needed *= int(n)
    said = "×".join(str(int(n)) for n in shape)
    if len(shape) != 3 or any(int(n) < 1 for n in shape):
        raise DataError(f"{path} claims a shape of {said or 'nothing'}; expected three lengths of at least 1")
    if needed > available:
        raise DataError(
            f"{path} claims {said} voxels of {itemsize} bytes, which is more than it holds: it is cut short or "
            "damaged; copy it again from its origin"
        )


def three_axes(path: Path, shape: Sequence[int]) -> Voxels:
    """Return the shape (z, y, x) without leading axes of length 1.

    Raises
    ------
    DataError
        If more than three axes are longer than 1.
    """
    kept = [int(n) for n in shape]
    while len(kept) > 3 and kept[0] == 1:
        kept = kept[1:]
    while len(kept) < 3:
        kept = [1, *kept]
    if len(kept) != 3:
        raise DataError(
            f"{path} has {len(kept)} axes of {'×'.join(map(str, kept))}; expected slices, rows and columns. Save one "
            "channel and one time point by itself"
        )
    return kept[0], kept[1], kept[2]


def size_in_nm(sizes: Sequence[float], unit: str) -> Nanometres | None:
    """Return three lengths of one unit in nm; None if the unit is unknown or a length is not positive."""
    nm = NM_PER_UNIT.get(unit.strip().strip('"'), 0.0)
    return stated([size * nm for size in sizes])


def single(value: float) -> float:
    """Return the shortest number that a 32-bit float stands for: 0.0046 and not 0.004600000102."""
    return float(str(np.float32(value)))


def stated(sizes: Sequence[float]) -> Nanometres | None:
    """Return a voxel size of three positive finite numbers; None of others."""
    if len(sizes) != 3 or not all(0 < float(size) < float("inf") for size in sizes):
        return None
    z, y, x = (float(size) for size in sizes)
    return z, y, x


@contextlib.contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises on a damaged file into a DataError, and keep its warnings to ourselves."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except CristaeError:
        raise
    except PermissionError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; check its permissions") from error
    except Exception as error:  # libraries raise all sorts, AssertionError and AttributeError too
        said = str(error).strip().splitlines()
        raise DataError(
            f"{path} is damaged or not what its name says ({said[0] if said else type(error).__name__}); "
            "copy it again from its origin"
        ) from error


def text_values(text: bytes, n_values: int, dtype: np.dtype[Any]) -> np.ndarray:
    """Return `n_values` numbers that are written out as text, ``(n_values,)``.

    Raises
    ------
    ValueError
        If there are fewer, or what stands there is no number.
    """
    values = np.empty(min(n_values, len(text) // 2 + 1), dtype)
    done, start = 0, 0
    while done < len(values) and start < len(text):
        stop = min(len(text), start + 2**20)
        while stop < len(text) and not text[stop : stop + 1].isspace():
            stop += 1
        found = text[start:stop].split()[: len(values) - done]
        as_numbers = np.array([float(word) for word in found])
        if not np.isfinite(as_numbers).all() and dtype.kind != "f":
            raise ValueError("whole numbers were expected")
        values[done : done + len(found)] = as_numbers.astype(dtype)
        done, start = done + len(found), stop
    if done != n_values:
        raise ValueError(f"{n_values} numbers were expected, {done} are there")
    return values
