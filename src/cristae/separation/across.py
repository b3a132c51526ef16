"""Objects on both sides of a labelled slice: two gaps that know nothing of each other gave them two ids.

::

    a gap            7 7   3 3      the labelled slice belongs to both gaps; where nobody looked on it, each has cells
    labelled slice   7 7   3 3      of its own there, and those that lie on each other are one
                     8 8   3 3
    the next gap     8 8   3 3      8 becomes 7

A chain of such slices gives one cell one id, but never joins two ids that people gave.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from cristae.separation.runs import overlaps

_LEAST_SHARE = 0.5
"""Part of the larger of two objects that lies on the other one."""


class Shared(NamedTuple):
    """A labelled slice as the gaps before and after it have it.

    Parameters
    ----------
    before, after
        Integer ids ``(y, x)``; 0 where somebody looked.
    whole
        Ids of cells that were painted on this slice as a whole: what lies beside them is others.
    """

    before: np.ndarray
    after: np.ndarray
    whole: np.ndarray


def one_id(slices: Iterable[Shared], highest: int) -> dict[int, int]:
    """Return what objects are to be called that have another id on the other side of a labelled slice.

    Parameters
    ----------
    slices
        Labelled slices, in any order.
    highest
        Of the ids that people gave; those above were given to objects of one gap each.

    Returns
    -------
    dict
        New id → the id that people gave the same object, or the lowest of its new ids; new ids that stay are left out.
        On one slice an object is joined to one other at most: the one that has most in common with it.
    """
    pairs = sorted(pair for shared in slices for pair in _partners(shared, highest))
    root: dict[int, int] = {}

    def root_of(one: int) -> int:
        while root.get(one, one) != one:
            one = root[one]
        return one

    for _, one, other in pairs:  # the surest first
        first, second = sorted((root_of(one), root_of(other)))
        if first < second > highest:
            root[second] = first
    return {one: root_of(one) for one in sorted(root)}


def _partners(shared: Shared, highest: int) -> list[tuple[float, int, int]]:
    """Return pairs of ids, each in one pair only, of one object, with minus the share of the larger that both have."""
    one, other, n_pixels = overlaps(shared.before, shared.after)
    sizes = [dict(zip(*np.unique(ids, return_counts=True), strict=True)) for ids in (shared.before, shared.after)]
    ordered = sorted(
        (-n / max(sizes[0][a], sizes[1][b]), a, b)
        for a, b, n in zip(one.tolist(), other.tolist(), n_pixels.tolist(), strict=True)
    )
    found, taken = [], (set[int](), set[int]())
    for share, a, b in ordered:
        if -share < _LEAST_SHARE or a in taken[0] or b in taken[1]:
            continue
        taken[0].add(a)
        taken[1].add(b)
        if a != b and max(a, b) > highest and not np.isin([a, b], shared.whole).any():
            found.append((float(share), a, b))
    return found
