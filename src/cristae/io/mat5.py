"""MATLAB files of version 5 to 7: numbers, text and lists of text, read by a strict reader of its own.

SciPy reads them too, but trusts the sizes that they claim. Here every size is checked against what is there before
anything is allocated; objects, structures and sparse matrices are passed over.

MathWorks (2023). MAT-File Format, version 5.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from cristae.errors import DataError

_MATRIX, _COMPRESSED = 14, 15
_CELL, _CHAR = 1, 4
_NUMBERS = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_STORED = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8", 16: "u1", 17: "u2",
    18: "u4",
}  # fmt: skip
_ENCODINGS = {4: "utf-16-le", 16: "utf-8", 17: "utf-16-le", 18: "utf-32-le"}
_RATIO = 1032

Order = Literal["<", ">"]


class _Element(NamedTuple):
    """A tagged piece: its type, its bytes, and where the next one begins."""

    kind: int
    content: memoryview
    stop: int


def is_mat5(path: Path) -> bool:
    """Say whether a file begins as MATLAB files of version 5 to 7 do."""
    with path.open("rb") as file:
        raw = file.read(128)
    return len(raw) == 128 and raw[126:128] in (b"IM", b"MI") and 1 in (raw[124], raw[125])


def read_mat5(path: Path, names: tuple[str, ...] | None = None) -> dict[str, Any]:
    """Return variables of a MATLAB file: arrays as MATLAB indexes them, text as str, cells as lists.

    Parameters
    ----------
    path
        File.
    names
        Which variables; None takes all.

    Raises
    ------
    DataError
        If the file is damaged or cut short.
    """
    raw = memoryview(path.read_bytes())
    order: Order = "<" if bytes(raw[126:128]) == b"IM" else ">"
    found: dict[str, Any] = {}
    at = 128
    while at + 8 <= len(raw):
        element = _element(path, raw, at, order)
        at = element.stop
        content = element.content
        if element.kind == _COMPRESSED:
            content = memoryview(_inflated(path, content))
            inner = _element(path, content, 0, order)
            if inner.kind != _MATRIX:
                continue
            content = inner.content
        elif element.kind != _MATRIX:
            continue
        name, value = _matrix(path, content, order, 0)
        if value is not None and (names is None or name in names):
            found[name] = value
    return found


def _inflated(path: Path, content: memoryview) -> bytes:
    """Inflate one variable, no further than its own first tag says."""
    decoder = zlib.decompressobj()
    head = decoder.decompress(content, 8)
    if len(head) < 8:
        raise DataError(f"{path} is damaged: a compressed variable is empty")
    n_bytes = min(int.from_bytes(head[4:8], "little"), int.from_bytes(head[4:8], "big"))
    if n_bytes > _RATIO * len(content):
        raise DataError(f"{path} is damaged: a variable claims {n_bytes} bytes, more than it can hold")
    rest = decoder.decompress(decoder.unconsumed_tail, max(1, n_bytes))
    decoder.decompress(decoder.unconsumed_tail, 1)  # compares the checksum behind the numbers
    return head + rest


def _element(path: Path, raw: memoryview, at: int, order: Order) -> _Element:
    if at + 8 > len(raw):
        raise DataError(f"{path} is cut short or damaged: a variable ends before its numbers do")
    kind, n_bytes = (int(value) for value in np.frombuffer(raw[at : at + 8], f"{order}u4"))
    start = at + 8
    if kind >> 16:  # a small element: its size is in the upper half of the first word
        kind, n_bytes, start = kind & 0xFFFF, kind >> 16, at + 4
        stop = at + 8
    else:
        stop = start + n_bytes + (-n_bytes % 8 if kind != _COMPRESSED else 0)
    if start + n_bytes > len(raw):
        raise DataError(f"{path} is cut short or damaged: a variable ends before its numbers do")
    return _Element(kind, raw[start : start + n_bytes], stop)


def _matrix(path: Path, content: memoryview, order: Order, depth: int) -> tuple[str, Any]:
    if len(content) == 0:
        return "", np.zeros((0, 0))
    flags = _element(path, content, 0, order)
    dimensions = _element(path, content, flags.stop, order)
    called = _element(path, content, dimensions.stop, order)
    if flags.kind != 6 or len(flags.content) < 8 or dimensions.kind != 5:
        raise DataError(f"{path} is damaged: a variable does not begin as it should")
    word = int(np.frombuffer(flags.content[:4], f"{order}u4")[0])
    kind, is_complex = word & 0xFF, bool(word & 0x800)
    shape = [int(n) for n in np.frombuffer(dimensions.content, f"{order}i4")]
    name = bytes(called.content).decode("latin-1")
    if not 2 <= len(shape) <= 8 or any(n < 0 for n in shape) or is_complex:
        return name, None
    if kind == _CELL:
        return name, _cells(path, content[called.stop :], order, (shape, depth))
    if kind != _CHAR and kind not in _NUMBERS:
        return name, None
    element = _element(path, content, called.stop, order)
    if kind == _CHAR:
        encoding = _ENCODINGS.get(element.kind, "latin-1").replace("le", "le" if order == "<" else "be")
        return name, bytes(element.content[:65536]).decode(encoding, "replace").rstrip("\0")
    values = _numbers(path, element, order, shape)
    return name, values.astype(_NUMBERS[kind], copy=False)


def _numbers(path: Path, element: _Element, order: Order, shape: list[int]) -> np.ndarray:
    if element.kind not in _STORED:
        raise DataError(f"{path} is damaged: numbers of unknown type {element.kind}")
    stored = np.dtype(_STORED[element.kind]).newbyteorder(order)
    n_values = 1
    for n in shape:
        n_values *= n
    if n_values * stored.itemsize != len(element.content):
        raise DataError(f"{path} is damaged: {'×'.join(map(str, shape))} numbers are claimed, others are there")
    return np.frombuffer(element.content, stored).reshape(shape, order="F")


def _cells(path: Path, content: memoryview, order: Order, how: tuple[list[int], int]) -> list[Any] | None:
    shape, depth = how
    n_cells = 1
    for n in shape:
        n_cells *= n
    if depth > 4 or n_cells * 8 > len(content):
        return None
    found, at = [], 0
    for _ in range(n_cells):
        element = _element(path, content, at, order)
        found.append(_matrix(path, element.content, order, depth + 1)[1] if element.kind == _MATRIX else None)
        at = element.stop
    return found
