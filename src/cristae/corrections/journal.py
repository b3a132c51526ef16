"""The journal of corrections: one line per edit, on disk before anything else happens.

::

    journal.jsonl    8 hex digits of CRC-32, a blank, one JSON object      header: what is corrected
                     "                                                     1  paint   box, n_voxels, pieces
                     "                                                     2  merge   ids, names
                     "                                                     3  undo    of 2

A piece is a box of voxels with their values in the overlay before and after, as runs. Lines are only ever added. One
that a crash cut short is the last, fails its check, and is dropped; a bad line before a good one is damage.
"""

from __future__ import annotations

import base64
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from cristae.corrections.disk import sync
from cristae.errors import DataError
from cristae.geometry import Box
from cristae.separation.runs import compress

FORMAT = 1
"""Version of the journal; one with a larger number was written by a newer cristae."""


class Piece(NamedTuple):
    """Voxels of the overlay that an edit changed: a box, and what is in it before and after, packed."""

    box: Box
    before: str
    after: str

    @classmethod
    def of(cls, box: Box, before: np.ndarray, after: np.ndarray) -> Piece:
        """Pack values ``(z, y, x)``: an edit of many pieces takes little memory then."""
        return cls(box, pack(before), pack(after))


@dataclass(frozen=True)
class Entry:
    """What is known of one line of the journal without its voxels.

    Parameters
    ----------
    number
        Of the line, from 1.
    kind
        ``paint``, ``erase``, ``fill``, ``split``, ``merge``, ``remove``, ``reassign``, ``undo``, ``redo``, ``fed`` or
        ``tick``.
    time
        When, in UTC.
    by
        With which front end; nothing about the person.
    box
        Where; None where whole objects are renamed, wherever they are.
    n_voxels
        How many voxels got another id; None where they were not counted.
    ids
        Objects that were meant.
    of
        Number of the edit that is undone or done again; 0 for others.
    names
        Per original id, its name before and after; None for the id itself.
    note
        What else is to be kept.
    """

    number: int
    kind: str
    time: str
    by: str
    box: Box | None = None
    n_voxels: int | None = None
    ids: tuple[int, ...] = ()
    of: int = 0
    names: tuple[tuple[int, int | None, int | None], ...] = ()
    note: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_edit(self) -> bool:
        """Whether it can be undone."""
        return self.kind not in ("undo", "redo", "fed", "tick")


class Journal:
    """The lines on disk, checked when opened.

    Parameters
    ----------
    path
        The file; made by the first line.
    header
        What is corrected, for a new journal. An old one keeps its own; see `Journal.header`.
    writable
        Whether a torn last line is cut off, and lines may be added.

    Attributes
    ----------
    checksums
        CRC-32 of the header and that many lines: of none, of the first, of the first two…

    Raises
    ------
    DataError
        If a line is damaged that is not the last, or a newer cristae wrote it.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], *, writable: bool = True) -> None:
        self.path, self.entries, self.checksums = path, list[Entry](), list[int]()
        self._places: list[tuple[int, int]] = []
        self.header: dict[str, Any] = {}
        end = self._scan()
        self._file: int | None = None
        if not writable:
            return
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        if os.fstat(self._file).st_size > end:
            os.ftruncate(self._file, end)
        self._end = end
        if not self.header:
            self._write({"format": FORMAT, **header})
            self.header = {"format": FORMAT, **header}
            sync(path.parent)

    def close(self) -> None:
        """Give the file back."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, kind: str, by: str, pieces: Sequence[Piece] = (), **facts: Any) -> Entry:
        """Put an edit on disk, and return it; when this returns, no crash loses it.

        Raises
        ------
        OSError
            If the disk is full; the journal is then as it was.
        """
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        entry = Entry(len(self.entries) + 1, kind, time, by, **facts)
        line: dict[str, Any] = {
            "number": entry.number,
            "kind": kind,
            "time": entry.time,
            "by": by,
            "box": [*entry.box.start, *entry.box.stop] if entry.box else None,
            "n_voxels": entry.n_voxels,
            "ids": list(entry.ids),
            "of": entry.of,
            "names": [list(name) for name in entry.names],
            "note": dict(entry.note),
            "pieces": [[*box.start, *box.stop, before, after] for box, before, after in pieces],
        }
        self._places.append(self._write(line))
        self.entries.append(entry)
        return entry

    def pieces(self, number: int) -> list[Piece]:
        """Return what an edit changed in the overlay, read from disk."""
        first, length = self._places[number - 1]
        with self.path.open("rb") as file:
            file.seek(first)
            content = json.loads(file.read(length)[9:])
        return [
            Piece(Box(tuple(corners[:3]), tuple(corners[3:])), before, after)
            for *corners, before, after in content["pieces"]
        ]

    def _write(self, content: Mapping[str, Any]) -> tuple[int, int]:
        assert self._file is not None, "opened for reading"
        text = json.dumps(content, separators=(",", ":")).encode()
        line = b"%08x %s\n" % (zlib.crc32(text), text)
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
        except BaseException:
            os.ftruncate(self._file, self._end)
            raise
        place = (self._end, len(line))
        self._end += len(line)
        self._sum_up(line)
        return place

    def _sum_up(self, line: bytes) -> None:
        self.checksums.append(zlib.crc32(line, self.checksums[-1] if self.checksums else 0))

    def _scan(self) -> int:
        """Read all good lines, and return where the last of them ends."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return 0
        at, line_number = 0, 0
        while at < len(content):
            newline = content.find(b"\n", at)
            stop = newline + 1 if newline >= 0 else len(content)
            line_number += 1
            found = _checked(content[at:stop])
            if found is None:
                if _good_line_after(content, stop):
                    raise DataError(
                        f"line {line_number} of {self.path} is damaged, and others follow it; restore the file from a "
                        f"copy, or move the folder {self.path.parent} elsewhere to begin anew"
                    )
                return at
            self._take(found, at, stop - at)
            self._sum_up(content[at:stop])
            at = stop
        return at

    def _take(self, content: dict[str, Any], at: int, length: int) -> None:
        if not self.header:
            if int(content.get("format", 0)) > FORMAT:
                raise DataError(
                    f"{self.path} was written by a newer cristae (format {content['format']}, this version reads up to "
                    f"{FORMAT}); update cristae: pip install --upgrade cristae"
                )
            self.header = content
            return
        box = content["box"]
        self._places.append((at, length))
        self.entries.append(
            Entry(
                content["number"],
                content["kind"],
                content["time"],
                content["by"],
                Box(tuple(box[:3]), tuple(box[3:])) if box else None,
                content["n_voxels"],
                tuple(content["ids"]),
                content["of"],
                tuple((one, before, after) for one, before, after in content["names"]),
                content["note"],
            )
        )


def pack(labels: np.ndarray) -> str:
    """Return labels ``(z, y, x)`` as text: their runs, compressed."""
    runs = compress(labels.reshape(-1, labels.shape[-1]))
    lengths, ids = runs.lengths.astype("<u4"), runs.ids.astype(runs.ids.dtype.newbyteorder("<"))
    return base64.b64encode(zlib.compress(lengths.tobytes() + ids.tobytes(), 1)).decode()


def unpack(text: str, box: Box, dtype: np.dtype[Any]) -> np.ndarray:
    """Return the labels ``(z, y, x)`` of a box that were packed."""
    content = zlib.decompress(base64.b64decode(text))
    n_runs = len(content) // (4 + dtype.itemsize)
    lengths = np.frombuffer(content, "<u4", n_runs)
    ids = np.frombuffer(content, dtype.newbyteorder("<"), n_runs, 4 * n_runs)
    return np.repeat(ids, lengths).astype(dtype).reshape(box.shape)


def _checked(line: bytes) -> dict[str, Any] | None:
    """Return the content of a line, None if it is not whole."""
    if not line.endswith(b"\n") or line[8:9] != b" " or b"%08x" % zlib.crc32(line[9:-1]) != line[:8]:
        return None
    return dict(json.loads(line[9:]))


def _good_line_after(content: bytes, at: int) -> bool:
    return any(_checked(line) is not None for line in content[at:].splitlines(keepends=True))
