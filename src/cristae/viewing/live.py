"""Labels under correction as an array that a viewer paints in: what is painted shows at once, and is kept when it ends.

::

    napari --index--> LiveLabels --read--> what was painted since the last `commit` | Corrections
                                 --commit--> one edit in the journal
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cristae.corrections.chunks import Chunks
from cristae.corrections.journal import Entry
from cristae.corrections.overlay import CHUNK
from cristae.corrections.store import Change, Corrections
from cristae.geometry import Box
from cristae.viewing.arrays import cut


class LiveLabels:
    """An array ``(z, y, x)`` of labels; setting voxels is a stroke in flight until `commit`.

    Parameters
    ----------
    corrections
        What is painted in.
    """

    def __init__(self, corrections: Corrections) -> None:
        self.corrections = corrections
        self.shape, self.dtype, self.ndim = corrections.original.shape, corrections.original.dtype, 3
        self.size = math.prod(self.shape)
        self._untouched = int(np.iinfo(self.dtype).max)
        self._stroke = self._none()

    def _none(self) -> Chunks:
        return Chunks(self.shape, self.dtype, CHUNK, self._untouched, None)

    def __getitem__(self, index: Any) -> np.ndarray:
        box, rest = cut(index, self.shape)
        return self.read(box)[rest]

    def __setitem__(self, index: Any, values: Any) -> None:
        box, rest = cut(index, self.shape)
        now = self.read(box)
        then = now.copy()
        then[rest] = values
        other = then != now
        if other.any():
            self._stroke.write(box, np.where(other, then, self._stroke.read(box)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.read(Box.of_shape(self.shape)), dtype)

    @property
    def painting(self) -> bool:
        """Whether a stroke is in flight."""
        return self._stroke.n_waiting > 0

    def read(self, box: Box) -> np.ndarray:
        """Return the labels of a box with the stroke in flight."""
        labels = self.corrections.read(box)
        if not self.painting:
            return labels
        stroke = self._stroke.read(box)
        return np.where(stroke == self._untouched, labels, stroke)

    def commit(self, kind: str | None = None) -> Entry | None:
        """Make the stroke in flight an edit, on disk when this returns; None if it changed nothing.

        Whatever goes wrong, no stroke is in flight afterwards.
        """
        stroke, self._stroke = self._stroke, self._none()
        changes = []
        for box in stroke.waiting:
            labels = stroke.read(box)
            changes.append(Change(box, labels, labels != self._untouched))
        ids = sorted({int(one) for change in changes for one in np.unique(change.labels[change.mask])})
        if kind is None:
            kind = "paint" if any(ids) else "erase"
        return self.corrections.put(kind, changes, [one for one in ids if one]) if changes else None
