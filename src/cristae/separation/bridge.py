"""Missing slices inside a gap: the maps of the nearest slice that is there stand in for theirs.

::

    slice       2      3      4      5      6
    image      seen   lost   lost   lost   seen
    maps        2      2      2      6      6       cells go on through what nobody saw

A network says nothing of a slice that was lost, and without a word from it every cell would end there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cristae.separation.gap import Gap, Planes
from cristae.separation.propagate import is_missing


@dataclass(frozen=True)
class _StoodIn:
    """Planes some of which are others."""

    planes: Planes
    stand_in: Mapping[int, int]

    def __len__(self) -> int:
        return len(self.planes)

    def __getitem__(self, index: int) -> Any:
        return self.planes[self.stand_in.get(index, index)]


def bridged(gap: Gap) -> Gap:
    """Return a gap whose missing slices have the maps of the nearest slice that is there, of two the lower one.

    Only slices between others that are there are bridged: what is empty at an end of the volume is its padding. The
    image stays as it is, as methods of flow pass missing slices over by themselves.

    Parameters
    ----------
    gap
        With the numbers of its missing slices; if these are not known its image is looked at. A labelled slice is
        never missing.
    """
    lost = _lost(gap)
    seen = [index for index in range(len(gap)) if index not in lost]
    between = [index for index in lost if seen and seen[0] < index < seen[-1]]
    if not between:
        return gap
    stand_in = {index: _nearest(index, seen) for index in between}

    def stood_in(planes: Planes | None) -> Planes | None:
        return None if planes is None else _StoodIn(planes, stand_in)

    return replace(gap, interior=stood_in(gap.interior), boundary=stood_in(gap.boundary))


def _lost(gap: Gap) -> frozenset[int]:
    labelled = {0} if gap.before is not None else set()
    if gap.after is not None:
        labelled.add(len(gap) - 1)
    lost = gap.missing
    if lost is None:
        lost = frozenset(index for index in range(len(gap)) if is_missing(gap.image_at(index)))
    return lost - labelled


def _nearest(index: int, seen: Sequence[int]) -> int:
    return min(seen, key=lambda other: (abs(other - index), other))
