"""The gaps of a project: what is known between one labelled slice and the next, read slice by slice."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from cristae.annotations import IGNORE_ID, Annotations
from cristae.project import Project
from cristae.separation.gap import Gap
from cristae.separation.paths import reduced
from cristae.separation.separate import OURS
from cristae.stages.planes import Planes
from cristae.volume import Volume


@dataclass(frozen=True)
class GapSources:
    """What gaps are cut from.

    Parameters
    ----------
    project
        With image and labelled slices.
    name
        Class of instances.
    interior, boundary
        Predicted maps of it (uint8), as far as there are.
    labelled
        z of the labelled slices to start from, ascending.
    from_truth
        Whether labels are those of the truth, as when methods are compared on slices of it that are left out.
    """

    project: Project
    name: str
    interior: Volume | None
    boundary: Volume | None
    labelled: tuple[int, ...]
    from_truth: bool = False

    @cached_property
    def annotations(self) -> Annotations:
        """Where the labels are."""
        return self.project.truth if self.from_truth else self.project.annotations

    def can(self, method: str) -> bool:
        """Say whether there are the maps that a method needs."""
        has_boundary = self.boundary is not None or ("boundary" not in method and method not in OURS)
        return has_boundary and (self.interior is not None or method == "flow")

    def gaps(self) -> list[tuple[int, int]]:
        """Return first and last slice of every gap; together they cover the volume, labelled slices being shared."""
        last = self.project.image.shape[0] - 1
        ends = sorted({0, *self.labelled, last})
        return list(pairwise(ends)) or [(0, 0)]

    def gap(self, first: int, last: int, factor: int = 1) -> Gap:
        """Return the slices from `first` to `last`, reduced by `factor` along y and x.

        Cells are known on the two slices at its ends, as far as they are labelled.
        """
        facts = self.project.image_facts
        mean, deviation = facts["slice_mean"], facts["slice_std"]
        lost = frozenset(self.project.lost_slices)

        def even(plane: np.ndarray, z: int) -> np.ndarray:
            """Return the image as flow wants it: 8 bit and equally bright; a missing or bad slice is 0 all over."""
            if z in lost or not plane.any():
                return reduced(np.zeros(plane.shape, np.uint8), factor)
            level = (plane.astype(np.float32) - np.float32(mean[z])) * np.float32(40 / deviation[z]) + 128
            return reduced(np.clip(level, 1, 255).astype(np.uint8), factor)

        def planes(volume: Volume | None) -> Planes | None:
            return Planes(volume, first, last + 1, lambda plane, z: reduced(plane, factor)) if volume else None

        complete = self.annotations.complete_slices(self.name)
        before, unseen_before = self._end(first, factor)
        after, unseen_after = self._end(last, factor) if last != first else (None, None)
        return Gap(
            image=Planes(self.project.image, first, last + 1, even),
            interior=planes(self.interior),
            boundary=planes(self.boundary),
            before=before,
            after=after,
            unseen=(unseen_before, unseen_after),
            complete=(first in complete, last in complete),
            missing=frozenset(z - first for z in lost if first <= z <= last),
        )

    def _end(self, z: int, factor: int) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Return the ids at an end of a gap, and where nobody looked; None without labels, or where all was seen."""
        if z not in self.labelled:
            return None, None
        ids = self.ids(z, factor)
        unseen = ids == IGNORE_ID
        return np.where(unseen, 0, ids).astype(np.int64), unseen if unseen.any() else None

    def labels(self, z: int, factor: int = 1) -> np.ndarray:
        """Return the ids of a labelled slice, int64 ``(y, x)``; 0 where there is no cell, or nobody looked."""
        ids = self.ids(z, factor)
        return np.where(ids == IGNORE_ID, 0, ids).astype(np.int64)

    def seen(self, z: int, factor: int = 1) -> np.ndarray:
        """Return where somebody looked on a labelled slice, bool ``(y, x)``."""
        return self.ids(z, factor) != IGNORE_ID

    def ids(self, z: int, factor: int = 1) -> np.ndarray:
        """Return a labelled slice as it is stored, uint32 ``(y, x)``: ids, 0 and `IGNORE_ID`."""
        ids = self.annotations.read_ids(self.name, z)
        if factor == 1:
            return ids
        padded = np.pad(ids, [(0, -n % factor) for n in ids.shape], mode="edge")
        return padded[factor // 2 :: factor, factor // 2 :: factor]
