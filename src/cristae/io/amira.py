"""Amira and Avizo meshes (``.am``): regular lattices as text, as raw bytes, run-length coded or deflated.

No library for them is kept up, so this is a reader of its own: one lattice of numbers on a uniform grid, and the names
and colours of its materials. It is strict: what it does not know it refuses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from cristae.errors import DataError
from cristae.geometry import Nanometres, Voxels
from cristae.io.opened import CompressedPlanes, Mapped, Material, Opened, check_holds, refusing, size_in_nm, text_values
from cristae.volume import ArrayLike

_LONGEST_HEADER = 2**22
_DEEPEST = 16
_MAGIC = re.compile(rb"# ?(?:AmiraMesh|Avizo)(?: 3D)? (BINARY-LITTLE-ENDIAN|BINARY|ASCII) \d\.\d")
_LATTICE = re.compile(rb"^\s*define\s+Lattice\s+(\d+)\s+(\d+)\s+(\d+)\s*$", re.MULTILINE)
_FIELD = re.compile(
    rb"^\s*Lattice\s*\{\s*(\w+)\s+(\w+)\s*\}\s*=?\s*@(\d+)(?:\(\s*(\w+)\s*,\s*(\d+)\s*\))?\s*$", re.MULTILINE
)
_WORD = re.compile(r'"[^"]*"|[{},]|[^\s{},"]+')
_DTYPES = {
    b"byte": "u1",
    b"short": "i2",
    b"ushort": "u2",
    b"int": "i4",
    b"float": "f4",
    b"double": "f8",
}


class _Field(NamedTuple):
    """A lattice of values: its type, where its data are, and how they are coded."""

    dtype: bytes
    name: str
    section: bytes
    codec: bytes
    n_bytes: int


class RunLengthPlanes:
    """Bytes ``(z, y, x)`` in Amira's run-length code; where each slice begins is found in one pass on opening."""

    dtype: np.dtype[Any] = np.dtype(np.uint8)

    def __init__(self, path: Path, shape: Voxels, offset: int, n_bytes: int) -> None:
        self._path, self._offset, self._n_bytes = path, offset, n_bytes
        self.shape = shape
        encoded = self._encoded()
        self._starts = np.empty((shape[0], 2), np.int64)
        n_found = int(_plane_starts(encoded, shape[1] * shape[2], self._starts))
        if n_found != shape[0] * shape[1] * shape[2]:
            raise DataError(
                f"{path} is damaged: its run lengths add up to {n_found} voxels; expected {'×'.join(map(str, shape))}"
            )

    def __getitem__(self, index: tuple[slice, slice, slice]) -> np.ndarray:
        along_z, along_y, along_x = index
        zs = range(*along_z.indices(self.shape[0]))
        with refusing(self._path):
            encoded = self._encoded()
            planes = np.zeros((len(zs), self.shape[1] * self.shape[2]), np.uint8)
            for i, z in enumerate(zs):
                _decode(encoded, self._starts[z, 0], self._starts[z, 1], planes[i])
        return planes.reshape(len(zs), *self.shape[1:])[:, along_y, along_x]

    def _encoded(self) -> np.ndarray:
        return np.memmap(self._path, np.uint8, "r", self._offset, (self._n_bytes,))


def open_amira(path: Path, inside: str = "") -> Opened:
    """Open the first lattice of an Amira mesh, or the one that is named `inside`.

    Raises
    ------
    DataError
        If it is no Amira mesh, holds no regular lattice, is cut short, or is coded in an unknown way.
    """
    with refusing(path):
        with path.open("rb") as file:
            text = file.read(_LONGEST_HEADER)
        magic, lattice = _MAGIC.match(text), _LATTICE.search(text)
        fields = [_Field(m[1], m[2].decode(), m[3], m[4] or b"", int(m[5] or 0)) for m in _FIELD.finditer(text)]
        if not magic or not lattice or not fields:
            raise DataError(f"{path} is no Amira mesh with a regular lattice; expected one that was saved as a volume")
        field = next((field for field in fields if field.name == inside.strip("/")), None) if inside else fields[0]
        if field is None:
            raise DataError(f"{path} has no lattice {inside!r}; there are: {', '.join(one.name for one in fields)}")
        if field.dtype not in _DTYPES:
            raise DataError(f"{path}: lattice {field.name} is of type {field.dtype.decode()}; expected numbers")
        x, y, z = (int(lattice[i]) for i in (1, 2, 3))
        begin = re.compile(rb"^@" + field.section + rb"[ \t\r]*\n", re.MULTILINE).search(text, lattice.end())
        if not begin:
            raise DataError(f"{path} is cut short: section @{field.section.decode()} is missing; copy it again")
        header = text[: text.find(b"\n@", lattice.end())].decode("utf-8", "replace")
        parameters = _parameters(path, header)
        coordinates = _text(parameters, "CoordType")
        if coordinates not in ("", "uniform"):
            raise DataError(f"{path} has {coordinates} coordinates; expected uniform ones")
        array = _values(path, magic[1], field, (z, y, x), begin.end())
        size, notes = _voxel_size(path, parameters, (z, y, x))
        return Opened(array, size, notes, _materials(parameters))


def _values(path: Path, form: bytes, field: _Field, shape: Voxels, offset: int) -> ArrayLike:
    stored = np.dtype(_DTYPES[field.dtype]).newbyteorder(">" if form == b"BINARY" else "<")
    left = path.stat().st_size - offset
    if form == b"ASCII":
        check_holds(path, shape, 2, left + 1)
        with path.open("rb") as file:
            file.seek(offset)
            values = text_values(file.read(), shape[0] * shape[1] * shape[2], stored.newbyteorder("="))
        return values.reshape(shape)
    if field.codec == b"":
        return Mapped(path, stored, shape, offset)
    if field.n_bytes > left:
        raise DataError(f"{path} is cut short: {field.n_bytes} bytes of voxels are missing some; copy it again")
    if field.codec == b"HxByteRLE" and stored.itemsize == 1:
        check_holds(path, shape, 1, 64 * field.n_bytes)  # two bytes stand for 127 at most
        return RunLengthPlanes(path, shape, offset, field.n_bytes)
    if field.codec == b"HxZip":
        return CompressedPlanes(path, stored, shape, "zlib", (offset, 0))
    raise DataError(f"{path} is coded as {field.codec.decode()}; expected raw, HxByteRLE of bytes, or HxZip")


def _parameters(path: Path, header: str) -> Mapping[str, Any]:
    """Return what stands in ``Parameters { … }``: groups as dictionaries, all else as the text behind its name."""
    start = header.find("Parameters")
    if start < 0:
        return {}
    words = iter(_WORD.findall(header[start + len("Parameters") :]))
    if next(words, "") != "{":
        raise DataError(f"{path} has a header that is damaged: expected a brace behind Parameters")
    return _group(path, words, 0)


def _group(path: Path, words: Iterator[str], depth: int) -> dict[str, Any]:
    if depth > _DEEPEST:
        raise DataError(f"{path} has a header that is damaged: its groups are nested too deep")
    found: dict[str, Any] = {}
    name: str = ""
    values: list[str] = []
    for word in words:
        if word == "{":
            # The name of a group may stand behind a value without a comma.
            if values:
                found[name] = " ".join(values[:-1])
                name = values[-1]
            found[name] = _group(path, words, depth + 1)
            name, values = "", []
        elif word in (",", "}"):
            if name:
                found[name] = " ".join(values)
            name, values = "", []
            if word == "}":
                return found
        elif not name:
            name = word
        else:
            name, values = _next_word(found, name, values, word)
    raise DataError(f"{path} is cut short: its header ends within a group")


def _next_word(found: dict[str, Any], name: str, values: list[str], word: str) -> tuple[str, list[str]]:
    """Add a word to a value; a word behind numbers or a text that is none itself begins the next entry."""
    if values and not _is_number(word) and (_is_number(values[-1]) or values[-1].startswith('"')):
        found[name] = " ".join(values)
        return word, []
    return name, [*values, word]


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _text(parameters: Mapping[str, Any], name: str) -> str:
    """Return the text behind a name, without quotes; empty where there is none."""
    found = parameters.get(name, "")
    return found.strip('"') if isinstance(found, str) else ""


def _materials(parameters: Mapping[str, Any]) -> tuple[Material, ...]:
    """Return the materials; a voxel holds the place of its material in the list, the first being the exterior."""
    groups = parameters.get("Materials")
    found = []
    for value, (name, facts) in enumerate(groups.items() if isinstance(groups, Mapping) else ()):
        words = str(facts.get("Color", "")).split() if isinstance(facts, Mapping) else []
        colour = tuple(float(word) for word in words) if len(words) == 3 and all(map(_is_number, words)) else None
        if value > 0:
            found.append(Material(name.strip('"'), value, colour))  # type: ignore[arg-type]
    return tuple(found)


def _voxel_size(path: Path, parameters: Mapping[str, Any], shape: Voxels) -> tuple[Nanometres | None, tuple[str, ...]]:
    """Return the voxel size from the box of voxel centres, if the file says in which unit."""
    corners = [float(word) for word in _text(parameters, "BoundingBox").split() if _is_number(word)]
    if len(corners) != 6:
        return None, ()
    sizes = [
        (corners[2 * i + 1] - corners[2 * i]) / max(1, n - 1) for i, n in ((2, shape[0]), (1, shape[1]), (0, shape[2]))
    ]
    units = parameters.get("Units")
    unit = _text(units, "Coordinates") if isinstance(units, Mapping) else ""
    size = size_in_nm(sizes, unit)
    said = " × ".join(f"{length:.6g}" for length in sizes)
    return size, () if size else (f"{path.name} states voxels of {said} without a known unit",)


@njit(cache=True, nogil=True)
def _plane_starts(encoded: np.ndarray, plane: int, starts: np.ndarray) -> int:
    """Note for each slice its packet and how many voxels of that belong before it; return how many voxels there are."""
    done, at, z = 0, 0, 0
    while at < len(encoded):
        head = encoded[at]
        n = int(head & 127)
        while z < len(starts) and z * plane < done + n:
            starts[z, 0], starts[z, 1] = at, z * plane - done
            z += 1
        at += 1 + n if head & 128 else 2
        done += n
        if at > len(encoded) or n == 0:
            return -1
    return done


@njit(cache=True, nogil=True)
def _decode(encoded: np.ndarray, at: int, skip: int, values: np.ndarray) -> None:
    """Fill `values` from the packet at `at`, of which `skip` voxels belong before them."""
    done = 0
    while done < len(values) and at < len(encoded):
        head = encoded[at]
        n = int(head & 127)
        take = min(n - skip, len(values) - done)
        for i in range(take):
            values[done + i] = encoded[at + 1 + skip + i] if head & 128 else encoded[at + 1]
        done += take
        skip = 0
        at += 1 + n if head & 128 else 2
