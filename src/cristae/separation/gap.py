"""The gap between two labelled slices: what is known of it, read one slice at a time.

::

    slice      0        1        2   ...   n-2       n-1
            labelled   image, interior, boundary   labelled
            before ──> carried forward   carried back <── after

At an end of the volume the gap has a labelled slice on one side only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from cristae.errors import DataError


class Planes(Protocol):
    """A stack that gives one plane at a time: an array ``(z, y, x)``, or anything that reads planes from disk."""

    def __len__(self) -> int:
        """Return the number of slices."""
        ...

    def __getitem__(self, index: int, /) -> Any:
        """Return the plane ``(y, x)`` of that slice."""
        ...


@dataclass(frozen=True)
class Gap:
    """The slices from one labelled slice to the next.

    Parameters
    ----------
    image
        n planes uint8 ``(y, x)`` for the flow. A plane of one value throughout is a missing slice.
    interior
        n planes uint8: probability × 255 that a pixel lies inside a cell. None where there is no such map.
    boundary
        n planes uint8: probability × 255 that a pixel lies on the boundary of a cell. None where there is no such map.
    before, after
        Integer ids ``(y, x)`` of the labelled slices 0 and n−1; 0 is background. None at an end of the volume.
    first_new_id
        The first id to give to objects that neither labelled slice knows. None: one above the highest id of both.
    unseen
        Where nobody looked on the first and on the last slice, bool ``(y, x)``: there, 0 may be a cell too. None:
        nowhere, so that every 0 is background.
    complete
        Whether every cell that somebody looked at is labelled on the first and on the last slice. Where not, those
        that are labelled are whole, and what lies beside them is other cells.
    missing
        Slices that were lost. None: those whose image holds one value throughout.

    Raises
    ------
    DataError
        If there is no labelled slice, ids are negative or not integers, or anything differs in size.
    """

    image: Planes
    interior: Planes | None
    boundary: Planes | None
    before: np.ndarray | None
    after: np.ndarray | None
    first_new_id: int | None = None
    unseen: tuple[np.ndarray | None, np.ndarray | None] = (None, None)
    complete: tuple[bool, bool] = (True, True)
    missing: frozenset[int] | None = None

    def __post_init__(self) -> None:
        labelled = [labels for labels in (self.before, self.after) if labels is not None]
        if not labelled:
            raise DataError("expected a labelled slice at one end of the gap at least; label one and try again")
        if len(self) < len(labelled):
            raise DataError(f"expected at least {len(labelled)} slices between the labelled ones, got {len(self)}")
        stacks = {"interior": self.interior, "boundary": self.boundary}
        for name, stack in stacks.items():
            if stack is not None and len(stack) != len(self):
                raise DataError(f"expected as many slices everywhere: the image has {len(self)}, {name} {len(stack)}")
        for labels in labelled:
            if labels.dtype.kind not in "iu" or labels.ndim != 2 or not labels.size:
                raise DataError(f"expected labels as integers (y, x), got {labels.dtype} of shape {labels.shape}")
            if labels.min() < 0:
                raise DataError(f"expected ids of 0 (background) and above, got {labels.min()}")
            if labels.shape != self.shape:
                raise DataError(f"the labelled slices differ in size: {self.shape} and {labels.shape}")
        self._check_unseen()
        if self.dtype.kind not in "iu":
            raise DataError(f"no integer holds the ids of both slices: {[str(labels.dtype) for labels in labelled]}")

    def _check_unseen(self) -> None:
        for unseen in self.unseen:
            if unseen is not None and (unseen.dtype != np.bool_ or unseen.shape != self.shape):
                raise DataError(f"expected bool of {self.shape} where nobody looked, got {unseen.dtype} {unseen.shape}")

    def __len__(self) -> int:
        return len(self.image)

    @property
    def shape(self) -> tuple[int, int]:
        """Size ``(y, x)`` of a slice in pixels."""
        labels = self.before if self.before is not None else self.after
        assert labels is not None
        height, width = labels.shape
        return height, width

    @property
    def dtype(self) -> np.dtype[Any]:
        """Integers that hold the ids of both labelled slices."""
        return np.result_type(*(labels for labels in (self.before, self.after) if labels is not None))

    @property
    def seen(self) -> bool:
        """Whether somebody looked everywhere on the labelled slices."""
        return all(unseen is None for unseen in self.unseen)

    def new_ids_from(self, n: int) -> int:
        """Return the first of n new ids.

        Raises
        ------
        DataError
            If it is not above all ids of the labelled slices, or the last does not fit the dtype.
        """
        labelled = [int(labels.max()) for labels in (self.before, self.after) if labels is not None]
        highest = max(labelled)
        first = self.first_new_id if self.first_new_id is not None else highest + 1
        if first <= highest:
            raise DataError(
                f"expected a first new id above all ids of the labelled slices (up to {highest}), got {first}"
            )
        if first + n - 1 > np.iinfo(self.dtype).max:
            raise DataError(f"{n} new ids from {first} on do not fit {self.dtype}; give labels as a larger integer")
        return first

    def image_at(self, index: int) -> np.ndarray:
        """Return the uint8 image of a slice; raise DataError if it has another type or size."""
        return self._plane("image", self.image, index)

    def interior_at(self, index: int) -> np.ndarray:
        """Return the uint8 interior map of a slice; raise DataError if there is none, or of another type or size."""
        if self.interior is None:
            raise DataError("this method needs an interior map, and there is none; predict one, or choose flow")
        return self._plane("interior map", self.interior, index)

    def boundary_at(self, index: int) -> np.ndarray:
        """Return the uint8 boundary map of a slice; raise DataError if there is none, or of another type or size."""
        if self.boundary is None:
            raise DataError(
                "this method needs a boundary map, and there is none; predict one, or choose another method"
            )
        return self._plane("boundary map", self.boundary, index)

    def _plane(self, name: str, stack: Planes, index: int) -> np.ndarray:
        plane = np.ascontiguousarray(stack[index])
        if plane.dtype != np.uint8 or plane.shape != self.shape:
            expected = f"expected uint8 of shape {self.shape}, the size of the labels"
            raise DataError(f"{name} of slice {index} of the gap: {expected}; got {plane.dtype} of {plane.shape}")
        return plane
