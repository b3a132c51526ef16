"""Slices of a class as they were before a draft touched them, so that undoing is undoing after they were saved, too.

::

    corrections/annotations/<class>/before.ome.zarr    slices as they were when they were first saved
                                    saved.ome.zarr     as they were saved last: what is otherwise came from others
                                    saving.json        of each slice, digests of what the last saving replaced and wrote
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cristae.annotations import IGNORE, IGNORE_ID, Annotations, digest_of
from cristae.corrections.journal import Entry
from cristae.files import write_atomically
from cristae.geometry import Box
from cristae.volume import Volume

DRAFTS = "annotations"
"""Folder of the drafts among the corrections of a project; the others are named after runs."""
TIMES = "times.txt"
"""When strokes were painted whose drafts are gone, beside the drafts: a line each, in UTC."""
BEFORE, SAVED, SAVING = "before.ome.zarr", "saved.ome.zarr", "saving.json"


def keep_times(folder: Path, entries: Iterable[Entry]) -> None:
    """Keep when the strokes of a draft were painted that is about to go."""
    with (folder.parent / TIMES).open("a", encoding="utf-8") as file:
        file.writelines(f"{entry.time}\n" for entry in entries if entry.is_edit)


def drop_draft(folder: Path) -> None:
    """Remove a draft of which all is saved; a kill leaves all of it, or nothing that is taken for a draft."""
    gone = folder.with_name(f".{folder.name}.gone")  # no class has such a name
    shutil.rmtree(gone, ignore_errors=True)  # of an attempt that was cut short
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def drop_rest(folder: Path) -> None:
    """Remove what is left of a draft that has no journal: without edits, slices as they once were say nothing."""
    for name in (BEFORE, SAVED):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / SAVING).unlink(missing_ok=True)


class Before:
    """The labels of a class without a draft, as an array ``(z, y, x)`` in which nobody having looked reads as 0.

    Parameters
    ----------
    folder
        Of the draft.
    annotations
        Those of the project, which the draft becomes part of.
    name
        The class; need not have labels yet.
    dtype
        uint32 of instances, uint8 of a mask.
    """

    def __init__(self, folder: Path, annotations: Annotations, name: str, dtype: np.dtype) -> None:
        self._annotations, self._name = annotations, name
        self.shape, self.dtype = annotations.grid.shape, np.dtype(dtype)
        self.ignore = IGNORE if self.dtype == np.uint8 else IGNORE_ID
        self._before = Annotations(folder / BEFORE, annotations.grid)
        self._saved = Annotations(folder / SAVED, annotations.grid)
        self._saving = folder / SAVING
        self._touched = set(self._before.labelled_slices(name))
        self._layers: dict[bool, Volume] = {}

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        depth, height, width = index
        planes = [self._plane(z, height, width) for z in range(depth.start, depth.stop)]
        labels = np.stack(planes) if planes else np.zeros((0, height.stop - height.start, width.stop - width.start))
        labels = labels.astype(self.dtype, copy=False)
        labels[labels == self.ignore] = 0
        return labels

    def keeps(self, z: int) -> bool:
        """Say whether a slice is kept as it was: it was saved, or a kill came between."""
        return z in self._touched

    def look(self, z: int) -> None:
        """Keep a slice as it is before it is saved; of one that was kept, what others have changed since."""
        now, complete = self._slice(self._annotations, z), z in self._annotations.complete_slices(self._name)
        if z not in self._touched:
            self._before.write_slices(self._name, [(z, now)], complete=complete, background_seen=True)
            self._touched.add(z)
        elif self._digest(z) not in (None, *self._savings().get(str(z), ())):  # None: a kill, while it was written
            now = np.where(now != self._slice(self._saved, z), now, self._slice(self._before, z))
            self._before.write_over(self._name, z, now, complete=complete)

    def save(self, z: int, labels: np.ndarray, *, complete: bool) -> None:
        """Make a slice annotations, or one that nobody looked at if that is all that is known of it."""
        # What is ours is noted first: after a kill it must not be taken for what others changed.
        write_atomically(
            self._saving, json.dumps(self._savings() | {str(z): [self._digest(z) or "", digest_of(labels)]})
        )
        self._saved.write_slices(self._name, [(z, labels)], complete=complete, background_seen=True)
        if complete or (labels != self.ignore).any():
            self._annotations.write_slices(self._name, [(z, labels)], complete=complete, background_seen=True)
        else:
            self._annotations.drop_slice(self._name, z)

    def _digest(self, z: int) -> str | None:
        """Return the digest of a slice among the annotations, None where it has no labels."""
        return str(noted["digest"]) if (noted := self._annotations.noted(self._name).get(z)) else None

    def _savings(self) -> dict[str, list[str]]:
        return json.loads(self._saving.read_text()) if self._saving.is_file() else {}

    def seen_background(self, z: int) -> np.ndarray:
        """Return bool ``(y, x)`` of a slice that was kept: where somebody had looked and seen nothing of the class.

        Of a slice that was complete this is nowhere: it tells nothing once the slice is not.
        """
        was_complete = z in self._before.complete_slices(self._name)
        return (self._slice(self._before, z) == 0) & (not was_complete)

    def _plane(self, z: int, height: slice, width: slice) -> np.ndarray:
        kept = z in self._touched
        if kept not in self._layers:
            home = self._before if kept else self._annotations
            if self._name not in home.classes:
                return np.zeros((height.stop - height.start, width.stop - width.start), self.dtype)
            self._layers[kept] = home.layer(self._name)
        return np.array(
            self._layers[kept].read(Box((z, height.start, width.start), (z + 1, height.stop, width.stop)))[0]
        )

    def _slice(self, home: Annotations, z: int) -> np.ndarray:
        if z not in home.labelled_slices(self._name):
            return np.full(self.shape[1:], self.ignore, self.dtype)
        return (home.read_slice if self.dtype == np.uint8 else home.read_ids)(self._name, z)
