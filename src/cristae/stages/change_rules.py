"""What a changed slice of a map of classes means for each class: NumPy arrays in, arrays out.

A map shows one class per voxel, a layer per class is what is kept, and layers may overlap. So a voxel that did not
change changes in no layer, and one that did is said anew in those layers that the map can speak of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cristae.annotations import IGNORE, IGNORE_ID


@dataclass(frozen=True)
class MapOfClasses:
    """What the values of a map mean.

    Parameters
    ----------
    values
        Value of each class.
    unseen
        Value that says nobody looked; none where there is none. All other values are background.
    inside
        Per class those in which it lies: where it is painted, they stay as they are.
    """

    values: Mapping[str, int]
    unseen: int | None
    inside: Mapping[str, tuple[str, ...]]

    def within(self, name: str) -> list[int]:
        """Return the values of classes that lie inside of `name`."""
        return [self.values[one] for one, outer in self.inside.items() if name in outer and one in self.values]


@dataclass(frozen=True)
class Count:
    """How many voxels of one class changed on a slice: became it, ceased to be it, became unseen, became looked at."""

    added: int = 0
    removed: int = 0
    unseen: int = 0
    seen: int = 0

    @property
    def total(self) -> int:
        """All of them; none is counted twice."""
        return self.added + self.removed + self.unseen + self.seen


def changed_mask(
    name: str, pages: tuple[np.ndarray, np.ndarray], layer: np.ndarray, meaning: MapOfClasses, *, known: bool
) -> np.ndarray:
    """Return the layer of one class after a change of the map.

    Parameters
    ----------
    name
        Class.
    pages
        Map before and after, ``(y, x)``, whole numbers.
    layer
        uint8 ``(y, x)``: 1 the class, 0 not, 255 nobody looked.
    meaning
        Of the values of the map.
    known
        Whether the class was looked for on this slice at all. If not, background and other classes say nothing of it.

    Returns
    -------
    uint8 (y, x)
        As `layer`, and the same wherever the map is.
    """
    before, after = pages
    changed = before != after
    new = layer.copy()
    spared = np.isin(after, meaning.within(name))
    gone = changed & ~spared
    if not known:
        gone &= before == meaning.values[name]
    new[gone] = 0
    if meaning.unseen is not None:
        new[changed & (after == meaning.unseen)] = IGNORE
    new[changed & (after == meaning.values[name])] = 1
    return new


def vouched_mask(name: str, after: np.ndarray, layer: np.ndarray, meaning: MapOfClasses) -> np.ndarray:
    """Return the layer of one class on a slice where people say that all of the map is right; see `changed_mask`.

    Where a class that lies inside of it covers it, it stays as it was, and is there if nobody had looked.
    """
    covered = np.isin(after, meaning.within(name))
    new = np.where(after == meaning.values[name], 1, 0).astype(np.uint8)
    new[covered] = np.where(layer[covered] == 0, 0, 1)
    if meaning.unseen is not None:
        new[after == meaning.unseen] = IGNORE
    return new


def changed_ids(after: np.ndarray, unseen: int | None) -> np.ndarray:
    """Return ids of objects ``(y, x)`` as they are kept, uint32, of ids as they came."""
    ids = after.astype(np.uint32)
    return np.where(after == unseen, np.uint32(IGNORE_ID), ids) if unseen is not None else ids


def count(old: np.ndarray, new: np.ndarray) -> Count:
    """Count what changed between two states of a layer of masks or ids, ``(y, x)``."""
    ignore = np.iinfo(old.dtype).max
    changed = old != new
    there = changed & (new != 0) & (new != ignore)
    lost = changed & ~there & (old != 0) & (old != ignore)
    unseen = changed & (new == ignore) & (old == 0)
    return Count(int(there.sum()), int(lost.sum()), int(unseen.sum()), int((changed & ~there & ~lost & ~unseen).sum()))
