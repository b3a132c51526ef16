"""Labelling slices by hand: every stroke is on disk at once, and a slice becomes annotations when it is left.

What is painted is a draft, kept as corrections are, ``corrections/annotations/<class>/``: after a crash it is there
again, with what can be undone. Saved slices are ordinary annotations, and the draft goes when all are saved.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

import numpy as np

from cristae.annotations import check_class_name
from cristae.corrections.journal import Journal
from cristae.corrections.store import Corrections
from cristae.errors import UsageError
from cristae.files import writable
from cristae.geometry import Box
from cristae.project import Project
from cristae.stages.draft import DRAFTS, Before, drop_draft, drop_rest, keep_times
from cristae.volume import Volume
from cristae.wording import number_ranges


class Labelling:
    """Labels of one class while they are painted; use it in a ``with`` statement, or call `close`.

    Parameters
    ----------
    project
        Whose slices are labelled.
    name
        The class; need not be known yet.
    instances
        Whether objects have ids, as cells do; of a class that has labels or a draft, what those are.
    by
        Name of the front end.

    Raises
    ------
    DataError
        If the project has no image, or the draft is damaged.
    UsageError
        If the name cannot be one of a class.
    ResourceError
        If another process is labelling this class.
    """

    def __init__(self, project: Project, name: str, *, instances: bool = False, by: str = "python") -> None:
        self.project, self.name, grid = project, check_class_name(name), project.image.grid
        annotations = project.annotations
        folder = project.path / "corrections" / DRAFTS / name
        drafted = Journal(folder / "journal.jsonl", {}, writable=False).header
        if name in annotations.classes:
            instances = annotations.has_instances(name)
        elif drafted:
            instances = drafted.get("dtype") == "uint32"
        self.instances = instances
        if not drafted:
            drop_rest(folder)
        self._before = Before(folder, annotations, name, np.dtype(np.uint32 if instances else np.uint8))
        about = {"layer": f"annotations/{name}", "on": project.file.aligned or ""}
        self.corrections = Corrections(folder, Volume(self._before, grid, "labels"), by=by, about=about)
        self._ticks = self._ticked()
        self.unsaved = self._touched() | set(self._ticks)
        self.recovered = len(self.corrections.standing)
        """Strokes that an earlier session left unsaved."""

    def complete(self, z: int) -> bool:
        """Say whether all of the class is painted on a slice, as it is saved or will be."""
        return self._ticks.get(z, z in self.project.annotations.complete_slices(self.name))

    def tick(self, z: int, *, complete: bool) -> None:
        """Keep in the draft that a slice is complete or is not; it is so when it is next saved."""
        self._check(z)
        self.corrections.remember("tick", slice=z, complete=complete)
        self._ticks[z] = complete
        self.unsaved.add(z)

    @property
    def labelled_slices(self) -> tuple[int, ...]:
        """Slices that have labels of the class; others hold no ids but those in the draft."""
        return self.project.annotations.labelled_slices(self.name)

    def note(self, slices: Iterable[int]) -> None:
        """Note that slices were painted since they were saved."""
        self.unsaved |= set(slices)

    def save(self, z: int, *, complete: bool) -> None:
        """Make a slice annotations: all of it if it is complete, else what was painted.

        Raises
        ------
        ResourceError
            If a stage is at work on the project; the slice stays in the draft.
        UsageError
            If there is no such slice.
        """
        self._check(z)
        _, height, width = self.corrections.original.shape
        plane = Box((z, 0, 0), (z + 1, height, width))
        with self.project.lock():
            known = z in self.project.annotations.labelled_slices(self.name) or self._before.keeps(z)
            if complete or known or self.corrections.read(plane).any():
                self._before.look(z)
                painted = self.corrections.read(plane)[0]
                self._before.save(z, painted if complete else self._partial(z, painted), complete=complete)
                self.project.add_classes((self.name,))
        self.unsaved.discard(z)
        self._ticks.pop(z, None)

    def save_all(self) -> None:
        """Save every slice that was painted, complete as it is now."""
        for z in sorted(self.unsaved):
            self.save(z, complete=self.complete(z))

    def close(self) -> None:
        """Save everything and drop the draft; where that cannot be, the draft stays, and the error is raised."""
        if not self.corrections.open:
            return
        try:
            self.save_all()
        finally:
            self.corrections.close()
        with writable(self.corrections.folder):
            keep_times(self.corrections.folder, self.corrections.entries)
            drop_draft(self.corrections.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def in_words(self) -> str:
        """Return which slices of the class have labels."""
        annotations = self.project.annotations
        labelled, complete = annotations.labelled_slices(self.name), annotations.complete_slices(self.name)
        return f"{self.name}: labels on slices {number_ranges(labelled)}; complete: {number_ranges(complete)}"

    def _partial(self, z: int, painted: np.ndarray) -> np.ndarray:
        """Return labels of a slice on which not all is painted; background that somebody saw stays so."""
        rest = np.where(self._before.seen_background(z), painted.dtype.type(0), painted.dtype.type(self._before.ignore))
        return np.where(painted > 0, painted, rest)

    def _check(self, z: int) -> None:
        depth = self.corrections.original.shape[0]
        if not 0 <= z < depth:
            raise UsageError(f"there is no slice {z}; the image has 0 to {depth - 1}")

    def _ticked(self) -> dict[int, bool]:
        """Return of which slices the draft says that they are complete, or are not, where that is not saved."""
        ticks = {
            entry.note["slice"]: entry.note["complete"] for entry in self.corrections.entries if entry.kind == "tick"
        }
        complete = self.project.annotations.complete_slices(self.name)
        return {z: on for z, on in ticks.items() if on != (z in complete)}

    def _touched(self) -> set[int]:
        """Return the slices that were edited, those too on which all was undone: that may not be saved yet."""
        boxes = [entry.box for entry in self.corrections.entries if entry.is_edit and entry.box]
        return {z for box in boxes for z in range(box.start[0], box.stop[0])}
