"""`Corrections`: one layer of labels under correction, with undo, redo, and nothing lost in a crash.

An edit goes to the journal first, then into the overlay, whose chunks are written later. After a crash the edits since
the last checkpoint are put into the overlay once more, which changes nothing that was there already::

    corrections/<run>/<layer>/
    ├── journal.jsonl       every edit, undo and redo; see `cristae.corrections.journal`
    ├── changes.ome.zarr    the overlay; see `cristae.corrections.overlay`
    ├── state.json          what of the journal the overlay holds safely; see `cristae.corrections.state`
    └── .lock               held by whoever corrects
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np

from cristae.corrections.disk import hold
from cristae.corrections.history import History
from cristae.corrections.journal import Entry, Journal, Piece, unpack
from cristae.corrections.overlay import Corrected, Overlay
from cristae.corrections.state import State, drop_overlay, note_state, read_state
from cristae.editing.region import bounds
from cristae.errors import CristaeError, DataError, UsageError
from cristae.files import writable
from cristae.geometry import Box
from cristae.io.stored import triple
from cristae.volume import Volume

CHECKPOINT_EVERY = 64
"""Edits after which the overlay is brought safely to disk, while one goes on."""


class Change(NamedTuple):
    """New labels of some voxels: a box, labels of its shape, and which of them are meant."""

    box: Box
    labels: np.ndarray
    mask: np.ndarray


class Corrections:
    """A layer under correction; use it in a ``with`` statement, or call `close`.

    Parameters
    ----------
    folder
        Where the corrections are kept; made when it is missing.
    original
        The layer, level 0; only read.
    by
        Name of the front end, kept with each edit.
    about
        What is corrected: kept in the journal.
    guard
        Called before each edit; raises where the original must not be relied on now.
    read_only
        Look at corrections that another process may be making.

    Raises
    ------
    DataError
        If the journal is damaged, or belongs to another layer.
    ResourceError
        If another process is correcting this layer, or the folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        original: Volume,
        *,
        by: str = "python",
        about: Mapping[str, Any] | None = None,
        guard: Callable[[], object] = dict,
        read_only: bool = False,
    ) -> None:
        self.folder, self.original, self.read_only = folder, original, read_only
        self._by, self._guard = by, guard
        self._busy = threading.RLock()
        self._lock = None if read_only else hold(folder)
        self._history = History()
        self._since = self._drawn = 0
        self._beside: threading.Thread | None = None
        try:
            with writable(folder):
                self._open({**(about or {}), "shape": list(original.shape), "dtype": str(original.dtype)})
        except BaseException:
            self._release()
            raise

    def _open(self, about: Mapping[str, Any]) -> None:
        state = read_state(self.folder)  # before the journal, to which another process may be adding
        self._journal = Journal(self.folder / "journal.jsonl", about, writable=not self.read_only)
        kept = {key: value for key, value in self._journal.header.items() if key != "format"}
        if kept and kept != dict(about):
            said = ", ".join(f"{key} {kept.get(key)} and not {value}" for key, value in about.items())
            raise DataError(f"{self.folder} holds corrections of another layer: {said}; move it elsewhere")
        self._drawn = state.applied if state and state.fits(self._journal) else 0
        if not self._drawn and not self.read_only:
            drop_overlay(self.folder)
        path, stored = self.folder / "changes.ome.zarr", bool(self._drawn)
        self._overlay = Overlay(path, self.original, self._history.names, writable=not self.read_only, stored=stored)
        for entry in self._journal.entries:
            self._note(entry)
            if entry.number > self._drawn:
                self._draw(entry)

    def close(self) -> None:
        """Bring everything to disk, and let others correct."""
        if self._lock is None:
            return
        try:
            if self._beside is not None:
                self._beside.join()
            if self._journal.entries:
                self.checkpoint()
        finally:
            self._release()

    def _release(self) -> None:
        if self._beside is not None:
            self._beside.join()  # it writes chunks, and from here on others may
        if hasattr(self, "_journal"):
            self._journal.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All lines of the journal: edits, what undid them, and what was done with them."""
        return tuple(self._journal.entries)

    @property
    def standing(self) -> tuple[int, ...]:
        """Numbers of the edits that hold."""
        return tuple(self._history.done)

    @property
    def names(self) -> Mapping[int, int]:
        """New id of each original one that has another now; 0 if it was removed."""
        return dict(self._history.names)

    @property
    def open(self) -> bool:
        """Whether edits can be made."""
        return self._lock is not None

    @property
    def can_undo(self) -> bool:
        """Whether an edit can be undone."""
        return bool(self._history.done)

    @property
    def can_redo(self) -> bool:
        """Whether an edit was undone, and nothing was edited since."""
        return bool(self._history.undone)

    def read(self, box: Box) -> np.ndarray:
        """Return the labels of a box as they are now; shape ``box.shape``, type of the layer."""
        return self._overlay.read(box)

    def changed(self, box: Box) -> np.ndarray:
        """Return bool of ``box.shape``: True where somebody gave a voxel, or its whole object, another id."""
        over = self._overlay.read_changes(box) != self._overlay.unchanged
        return over | (self.read(box) != self.original.read(box))

    def volume(self) -> Volume:
        """Return the layer as it is now; edits that follow are not seen in it for certain."""
        if not self.read_only:
            self._overlay.flush()
        array = Corrected(self._overlay.path, self.original, self._history.names)
        return Volume(array, self.original.grid, "labels")

    def put(self, kind: str, changes: Iterable[Change], ids: Iterable[int] = (), **note: Any) -> Entry | None:
        """Give voxels other ids, as one edit.

        Parameters
        ----------
        kind
            What the edit is called.
        changes
            New labels; boxes must not overlap.
        ids
            Objects that are meant.
        note
            What else to keep in the journal.

        Returns
        -------
        Entry or None
            None if every voxel had its label already.

        Raises
        ------
        DataError
            If a box leaves the layer, or the layer is being made anew.
        UsageError
            If a label cannot be stored in the layer.
        ResourceError
            If the disk is full. Then the edit is either not made, or made when the corrections are next opened.
        """
        with self._editing():
            pieces, n_voxels = [], 0
            for change in changes:
                piece, n = self._piece(change)
                if piece is not None:
                    pieces.append(piece)
                    n_voxels += n
            if not pieces:
                return None
            box = _around([piece.box for piece in pieces])
            return self._commit(kind, pieces, box=box, n_voxels=n_voxels, ids=tuple(ids), note=note)

    def rename(self, kind: str, names: Mapping[int, int], ids: Iterable[int] = ()) -> Entry | None:
        """Give whole objects other ids, as one edit; voxels of theirs are not looked for.

        Parameters
        ----------
        kind
            What the edit is called.
        names
            New id of each object; 0 removes it.
        ids
            Objects that are meant.

        Raises
        ------
        DataError, UsageError, ResourceError
            As `put`.
        """
        for label in (*names, *names.values()):
            self.check_label(label)
        if 0 in names:
            raise UsageError("0 is the background, and no object")
        names = {one: other for one, other in names.items() if one != other}
        with self._editing():
            if not names:
                return None
            steps = []
            for original in sorted({*self._history.names, *names}):
                now = self._history.names.get(original, original)
                if now in names:
                    then = names[now]
                    before = self._history.names.get(original)
                    steps.append((original, before, None if then == original else then))
            return self._commit(
                kind, [Piece.of(*piece) for piece in self._overlay.renamed(names)], ids=tuple(ids), names=tuple(steps)
            )

    def undo(self) -> Entry:
        """Take back the last edit that holds, and return it.

        Raises
        ------
        UsageError
            If there is none.
        """
        with self._editing():
            if not self._history.done:
                raise UsageError("there is nothing to undo")
            return self._again("undo", self._history.done[-1])

    def redo(self) -> Entry:
        """Do the edit again that was undone last, and return it.

        Raises
        ------
        UsageError
            If there is none, or something was edited since.
        """
        with self._editing():
            if not self._history.undone:
                raise UsageError("there is nothing to do again")
            return self._again("redo", self._history.undone[-1])

    def remember(self, kind: Literal["fed", "tick"], **note: Any) -> Entry:
        """Keep in the journal what was done with the corrections."""
        with self._editing():
            return self._commit(kind, [], note=note)

    def check_label(self, label: int) -> int:
        """Return a label if it can be stored in the layer.

        Raises
        ------
        UsageError
            If it cannot.
        """
        # A layer of 8 bits is a mask, as everywhere in a project.
        most = 1 if self.original.dtype == np.uint8 else self._overlay.unchanged - 1
        if not 0 <= label <= most:
            raise UsageError(f"ids of this layer are 0 to {most}; got {label}")
        return label

    def checkpoint(self) -> None:
        """Bring the overlay safely to disk, so that nothing need be put into it again when it is next opened."""
        drawn = self._drawn  # an edit that is journaled, and drawn while this goes on, is drawn once more
        with writable(self.folder):
            self._overlay.flush(safely=True)
            note_state(self.folder, State.of(self._journal, drawn))

    def _checkpoint_beside(self) -> None:
        """Begin a checkpoint in another thread; what it cannot do, the next one does, or the closing."""
        if self._beside is None or not self._beside.is_alive():
            self._since = 0
            self._beside = threading.Thread(target=self._try_checkpoint, name="cristae checkpoint")
            self._beside.start()

    def _try_checkpoint(self) -> None:
        with contextlib.suppress(OSError, CristaeError):
            self.checkpoint()

    @contextlib.contextmanager
    def _editing(self) -> Iterator[None]:
        """Edit inside this: one thread at a time, and errors of the disk in words."""
        if self._lock is None:
            raise UsageError(f"the corrections in {self.folder} were opened to look at, or are closed")
        with self._busy, writable(self.folder):
            self._guard()
            yield

    def _piece(self, change: Change) -> tuple[Piece | None, int]:
        """Return what a change does to the overlay, and how many voxels get another id."""
        box, labels, mask = change
        if labels.shape != box.shape or mask.shape != box.shape:
            raise DataError(f"expected labels and mask of {box.shape}, got {labels.shape} and {mask.shape}")
        meant = labels[mask]
        for label in (int(meant.max()), int(meant.min())) if meant.size else ():
            self.check_label(label)
        other = mask & (self.read(box) != labels)
        if not other.any():
            return None, 0
        inner = bounds(other)
        where = Box(triple(s.start for s in inner), triple(s.stop for s in inner)).shift(box.start)
        before = self._overlay.read_changes(where)
        after = np.where(other[inner], labels[inner], before).astype(before.dtype)
        return Piece.of(where, before, after), int(other.sum())

    def _commit(self, kind: str, pieces: list[Piece], **facts: Any) -> Entry:
        entry = self._journal.add(kind, self._by, pieces, **facts)
        self._note(entry)
        self._draw(entry, pieces)
        return entry

    def _again(self, kind: Literal["undo", "redo"], number: int) -> Entry:
        entry = self._journal.add(kind, self._by, of=number)
        self._note(entry)
        self._draw(entry)
        return self._journal.entries[number - 1]

    def _note(self, entry: Entry) -> None:
        self._history.note(entry, self._journal.entries[entry.of - 1] if entry.of else entry)

    def _draw(self, entry: Entry, pieces: Iterable[Piece] | None = None) -> None:
        """Put what a line of the journal says into the overlay; once more is no harm."""
        if pieces is None:
            pieces = self._journal.pieces(entry.of or entry.number)
        try:
            for box, before, after in pieces:
                values = unpack(before if entry.kind == "undo" else after, box, self.original.dtype)
                self._overlay.write_changes(box, values)
        except BaseException:
            self._release()  # the journal is ahead of the overlay: who opens it next puts that right
            raise
        self._drawn = entry.number
        self._since += 1
        if self._since >= CHECKPOINT_EVERY and not self.read_only:
            self._checkpoint_beside()


def _around(boxes: list[Box]) -> Box:
    start = np.min([box.start for box in boxes], axis=0)
    stop = np.max([box.stop for box in boxes], axis=0)
    return Box(triple(start), triple(stop))
