"""Cells that labelled slices name differently: one id ends in a gap just where another one begins.

::

    labelled slice      5 5 5 5     7 7
    the gap             5 5 5 5     7 7
                        5 5 6 6      7      from one slice to the next, 4 px of cell 5 become cell 6, and the two
                        6 6 6 6             together never grow small: they are one cell
    labelled slice      6 6 6 6             cell 7 ends: nothing takes its place

A cell that ends while another begins elsewhere hands nothing over.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cristae.separation.runs import Runs, compress, expand, overlaps, unique_ids

_LEAST_SHARE = 0.5
"""Part of the smaller of two cells that one takes over from the other, and that both have together in every slice."""
_ALIKE = 0.3
"""Part of the larger one that is taken over."""


class Handover(NamedTuple):
    """A cell that has one id on the first labelled slice of a gap and another one on the last.

    Parameters
    ----------
    before, after
        The two ids.
    share
        Pixels handed over, as a part of the larger of the two cells where they are labelled; 1 where all are.
    """

    before: int
    after: int
    share: float


class Handovers:
    """Looks on while a gap is separated, slice by slice, and counts what one id hands over to another.

    Parameters
    ----------
    before, after
        Ids of the labelled slices at the ends of the gap, integers ``(y, x)``; None where there is none.
    """

    def __init__(self, before: np.ndarray | None, after: np.ndarray | None) -> None:
        empty = np.zeros(0, np.int64)
        one = empty if before is None else unique_ids(before).astype(np.int64)
        other = empty if after is None else unique_ids(after).astype(np.int64)
        self._ending, self._beginning = np.setdiff1d(one, other), np.setdiff1d(other, one)
        if not (self._ending.size and self._beginning.size):
            self._ending = self._beginning = empty
            return
        assert before is not None
        assert after is not None
        self._areas = _areas(before, self._ending), _areas(after, self._beginning)
        self._handed = np.zeros((self._ending.size + 1, self._beginning.size + 1), np.int64)
        self._last = np.zeros(before.shape, np.int32)
        self._together = np.full(self._handed.shape, np.iinfo(np.int64).max)

    def see(self, labels: np.ndarray) -> None:
        """Take the next slice: integer ids ``(y, x)``."""
        if not self._ending.size:
            return
        here = _places(labels, self._beginning)
        ending, beginning, n_pixels = overlaps(self._last, here)
        self._handed[ending, beginning] += n_pixels
        self._last = _places(labels, self._ending)
        sizes = _sizes(self._last, self._ending.size)[:, None] + _sizes(here, self._beginning.size)[None, :]
        np.minimum(self._together, sizes, out=self._together)

    def found(self) -> list[Handover]:
        """Return the cells that seem to have two ids, by the first of them."""
        if not self._ending.size:
            return []
        first, second = self._areas[0][:, None], self._areas[1][None, :]
        handed, together = self._handed[1:, 1:], self._together[1:, 1:]
        same = np.minimum(handed, together) >= _LEAST_SHARE * np.minimum(first, second)
        same &= handed >= _ALIKE * np.maximum(first, second)
        share = handed / np.maximum(first, second)
        return [
            Handover(int(self._ending[i]), int(self._beginning[k]), float(share[i, k])) for i, k in np.argwhere(same)
        ]


def _places(labels: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return a plane int32 in which the given ids (sorted) are numbered from 1, and all else is 0."""
    runs = compress(labels)
    values = runs.ids.astype(np.int64)
    place = np.minimum(np.searchsorted(ids, values), ids.size - 1)
    return expand(Runs(runs.shape, runs.lengths, np.where(ids[place] == values, place + 1, 0).astype(np.int32)))


def _areas(labels: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return the pixels of each id (sorted)."""
    return _sizes(_places(labels, ids), ids.size)[1:]


def _sizes(places: np.ndarray, n: int) -> np.ndarray:
    return np.bincount(places.ravel(), minlength=n + 1)
