"""Tracking as Machireddy et al. (2023) word it: slice by slice, bodies first, then islands.

::

    bodies    every body takes the id of the body of the previous slice with the highest IoU (eq. 1); one that overlaps
              none is new. Labelled slices keep their ids; what lies before the first one is tracked back from it.
    islands   every island takes the id of the region of the previous slice with the highest IoU: of an island, and
              they are one track, or of a body, from which it broke off. When the best of an island in the next slice
              is a body, the two have met, and the whole track takes the body's id, also where it was before.

The first body that a track meets keeps it. Islands that reach no body remain objects of their own.

The code released with the paper differs in the bodies: one takes the id of the cell of the *nearest labelled slice*
with the highest IoU, if that is above 0.3; else it is treated as an island. That is `greedy_nearest`.
"""

from __future__ import annotations

import numpy as np

from cristae.tracking.assign import JOINED, join_pairs, name_groups
from cristae.tracking.table import NEXT, Regions, best_pair

LEAST_NEAREST_IOU = 0.3
"""IoU with a cell of the nearest labelled slice that makes a region its body; of the released code."""


def greedy(regions: Regions) -> tuple[np.ndarray, np.ndarray]:
    """Give every region the id of its object, by the paper's rule.

    Parameters
    ----------
    regions
        From `tabulate`. Bad slices are left out: none of their regions is linked.

    Returns
    -------
    ids, state
        As `assign`.
    """
    body_pairs = _follow_bodies(regions)
    group = _roots(regions, body_pairs)
    fixed = regions.body | (regions.anchor > 0)
    ids, state = _add_islands(regions, np.where(fixed, name_groups(group, regions.anchor[group]), 0))
    state[body_pairs[body_pairs >= 0]] = JOINED
    return ids, state


def greedy_nearest(regions: Regions) -> tuple[np.ndarray, np.ndarray]:
    """Give every region the id of its object, by the rule of the released code.

    Parameters
    ----------
    regions
        From `tabulate`, with ``near_id``. Bad slices are left out of links.

    Returns
    -------
    ids, state
        As `assign`; bodies need no pair for their id.
    """
    found = regions.body & (regions.near_iou > LEAST_NEAREST_IOU)
    return _add_islands(regions, np.where(regions.anchor > 0, regions.anchor, np.where(found, regions.near_id, 0)))


def _add_islands(regions: Regions, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Track what has no id yet; return ids and states."""
    joined, state = join_pairs(regions, _follow_islands(regions, known > 0), known)
    highest = np.zeros(regions.n_regions, np.int64)
    np.maximum.at(highest, joined, known)
    return name_groups(joined, highest[joined]), state


def _follow_bodies(regions: Regions) -> np.ndarray:
    """Return the pair per body through which it gets its id; -1 where it has one or is new."""
    fixed = regions.body | (regions.anchor > 0)
    pairs = np.flatnonzero((regions.kind == NEXT) & fixed[regions.lower] & fixed[regions.upper])
    labelled = np.flatnonzero(regions.anchor > 0)
    start = regions.slice_of[labelled[0]] if labelled.size else 0
    take = np.full(regions.n_regions, -1, np.int64)
    for region, other, chosen in (
        (regions.upper, regions.lower, regions.slice_of[regions.lower[pairs]] >= start),
        (regions.lower, regions.upper, regions.slice_of[regions.upper[pairs]] <= start),
    ):
        among = pairs[chosen]
        best = best_pair(region[among], other[among], regions.iou[among], regions.n_regions)
        take[best >= 0] = among[best[best >= 0]]
    take[regions.anchor > 0] = -1
    return take


def _roots(regions: Regions, pairs: np.ndarray) -> np.ndarray:
    """Return for every region the one at the end of its chain of pairs."""
    other = regions.lower[pairs] + regions.upper[pairs] - np.arange(regions.n_regions) if len(regions.lower) else pairs
    root = np.where(pairs >= 0, other, np.arange(regions.n_regions))
    while True:
        further = root[root]
        if np.array_equal(further, root):
            return root
        root = further


def _follow_islands(regions: Regions, fixed: np.ndarray) -> np.ndarray:
    """Return the pairs that link islands in the order of the rule: slice by slice, back to the last one, then met."""
    pairs = np.flatnonzero(regions.kind == NEXT)
    lower, upper, iou = regions.lower[pairs], regions.upper[pairs], regions.iou[pairs]
    back = best_pair(upper, lower, iou, regions.n_regions)
    back = pairs[back[(back >= 0) & ~fixed]]
    onward = best_pair(lower, upper, iou, regions.n_regions)
    onward = pairs[onward[(onward >= 0) & ~fixed]]
    onward = onward[fixed[regions.upper[onward]]]
    both = np.concatenate([back, onward])
    met = np.repeat([0, 1], [len(back), len(onward)])
    return both[np.lexsort((both, met, regions.slice_of[regions.upper[both]]))]
