"""Where labelled slices contradict each other: two names for one cell, one name for two.

::

    labelled z 0      5 5 5        3 3      3 3       5 and 6: what 5 loses 6 gains, bit by bit, so both are one cell
                      5 5 6         │        │        3: two bodies far apart, and no way from one to the other through
    labelled z 3      6 6 6        3 3      3 3       any slice, so they may be two cells
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cristae.tracking.table import NEXT, Regions

_LEAST_SHARE = 0.5
"""Part of the smaller of two objects that is handed over, and that both have together in every slice."""


class Renamed(NamedTuple):
    """An object that a labelled slice knows and the next calls otherwise.

    Parameters
    ----------
    before, after
        Its ids.
    pair
        The pair of regions by which most is handed over.
    overlap
        Pixels handed over in all slices.
    """

    before: int
    after: int
    pair: int
    overlap: int


class Double(NamedTuple):
    """Two bodies of one id in a labelled slice, numbered through the volume, and how far apart they are in px."""

    region: int
    other: int
    apart: float


def find_renamed(regions: Regions, ids: np.ndarray) -> list[Renamed]:
    """Return the objects that labelled slices seem to name differently, by the slices.

    Parameters
    ----------
    regions
        From `cristae.tracking.table.tabulate`.
    ids
        int64 per region, id of its object.
    """
    lower, upper = regions.lower, regions.upper
    other = np.flatnonzero((regions.kind == NEXT) & (ids[lower] != ids[upper]))
    found = []
    for first, last in pairwise(np.unique(regions.slice_of[regions.anchor > 0]).tolist()):
        (one, named), (two, also_named) = (_ids_of(regions, ids, z) for z in (first, last))
        within = other[(regions.slice_of[lower[other]] >= first) & (regions.slice_of[upper[other]] <= last)]
        ending = np.isin(ids[lower[within]], np.setdiff1d(named, two))
        within = within[ending & np.isin(ids[upper[within]], np.setdiff1d(also_named, one))]
        names = np.stack([ids[lower[within]], ids[upper[within]]])
        for before, after in np.unique(names, axis=1).T.tolist():
            pairs = within[(names == [[before], [after]]).all(axis=0)]
            overlap = int(regions.overlap[pairs].sum())
            least = _LEAST_SHARE * min(_area(regions, ids, first, before), _area(regions, ids, last, after))
            # What is quick to know is asked first.
            if overlap >= least <= _together(regions, ids, range(first, last + 1), (before, after)):
                most = int(pairs[np.argmax(regions.overlap[pairs])])
                found.append(Renamed(before, after, most, overlap))
    return found


def _ids_of(regions: Regions, ids: np.ndarray, z: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids of all objects of a slice, and of those that an expert drew there."""
    here = regions.of_slice(z)
    return ids[here], ids[here][regions.anchor[here] > 0]


def _area(regions: Regions, ids: np.ndarray, z: int, *wanted: int) -> int:
    """Return the pixels that some objects have together in a slice."""
    here = regions.of_slice(z)
    return int(regions.area[here][np.isin(ids[here], wanted)].sum())


def _together(regions: Regions, ids: np.ndarray, slices: range, wanted: tuple[int, int]) -> int:
    """Return the least that two objects have together in any slice that is not bad or empty."""
    good = [z for z in slices if not regions.bad[z] and regions.first[z] < regions.first[z + 1]]
    return min(_area(regions, ids, z, *wanted) for z in good)


def find_doubles(regions: Regions, ids: np.ndarray) -> list[Double]:
    """Return bodies of one id in one labelled slice that lie far apart and never meet, by slice and id.

    Bodies meet where overlaps lead from one to the other through regions of their object, over bridges too. Far apart
    are those between whose boxes the smaller one would fit. Each body is compared with the largest of its id.

    Parameters
    ----------
    regions
        From `cristae.tracking.table.tabulate`.
    ids
        int64 per region, id of its object.
    """
    kept = ids[regions.lower] == ids[regions.upper]
    edges = (np.ones(np.count_nonzero(kept), np.int8), (regions.lower[kept], regions.upper[kept]))
    _, group = connected_components(coo_array(edges, shape=(regions.n_regions, regions.n_regions)), directed=False)
    bodies = np.flatnonzero((regions.anchor > 0) & regions.body)
    bodies = bodies[np.lexsort((-regions.area[bodies], ids[bodies], regions.slice_of[bodies]))]
    key = np.stack([regions.slice_of[bodies], ids[bodies]])
    starts = np.flatnonzero((np.diff(key) != 0).any(axis=0)) + 1
    return [double for same in np.split(bodies, starts) for double in _apart(regions, same, group)]


def _apart(regions: Regions, bodies: np.ndarray, group: np.ndarray) -> Iterator[Double]:
    """Compare the first of some bodies of one slice with the others."""
    for other in bodies[1:]:
        one = bodies[0]
        low = np.maximum(regions.box[one][:2], regions.box[other][:2])
        high = np.minimum(regions.box[one][2:], regions.box[other][2:])
        apart = float(np.hypot(*np.maximum(low - high, 0)))
        if group[one] != group[other] and apart**2 >= regions.area[other]:
            yield Double(int(one), int(other), apart)
