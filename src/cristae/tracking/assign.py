r"""Global assignment: all links of the volume, the surest first, until every region has its cell.

Regions are joined as in a maximum spanning forest, so that each is joined to the cell that reaches it over the chain
whose weakest link is strongest, from either side::

    z          0     1     2     3     4          pairs in order of evidence:
    cell 7     A =====A=====A=====A=====A          body with body (=), about 1
                                / .5               the island with itself (-), .9
    island           i -.9- i -'                   the island with the body it grows into (/), .5: i is cell 7
                            \ .3
    cell 9     B =====B=====B=====B=====B          refused: the island has its cell, and 7 and 9 are different ones

Refused is what would join two ids of labelled slices, and two bodies that only an island connects. A body that goes
into another body's region and comes out of it again is not joined to it (see `table`). Nothing depends on the
direction of z or on names.

The evidence of a pair is the mean of two shares, each 0–1: of the pixels of the two that overlap anything in the
other's slice, those they have in common (their intersection over union, Machireddy et al. 2023, eq. 1, with a
sideways shift forgiven where nothing else competes, but not over a bridge), and of the smaller region, the part
inside the larger one.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from cristae.tracking.table import BAD, BRIDGE, NEXT, Regions

LEAST_SHARE = 0.5
"""Part of the smaller region that must lie inside the larger one, unless each is the other's best partner."""
SAME_BODY_IOU = 0.5
"""Bodies on both sides of a merger that overlap so well are one body that came out of it again."""

UNUSED, JOINED, WITHIN, OTHER_CELL, TWO_BODIES = range(5)
"""What became of a pair: not looked at; a link; of one object anyway; refused as of two cells, or of two bodies."""


def assign(regions: Regions) -> tuple[np.ndarray, np.ndarray]:
    """Give every region the id of its object.

    Parameters
    ----------
    regions
        From `tabulate`.

    Returns
    -------
    ids
        int64 per region. Ids of labelled slices stay; other objects are numbered on from the highest of these, in
        the order of their first region.
    state
        int8 per pair, what became of it: `UNUSED`, `JOINED`, `WITHIN`, `OTHER_CELL` or `TWO_BODIES`.
    """
    n = regions.n_regions
    window = _windows(regions)
    strong = _strong(regions, window)
    order = _order(regions)
    order = order[strong[order]]
    waits = window[order, 1] >= 0
    order = np.concatenate([order[~waits], order[waits]])
    root, state = _join(
        order,
        (regions.lower, regions.upper),
        window,
        _bodies_meet(regions),
        (regions.anchor.copy(), regions.body.copy(), regions.slice_of.copy(), regions.slice_of.copy()),
    )
    anchor = np.zeros(n, np.int64)
    np.maximum.at(anchor, root, regions.anchor)
    return name_groups(root, anchor[root]), state


def join_pairs(regions: Regions, order: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Join the pairs one after the other, except where that would join two objects with different known ids.

    Parameters
    ----------
    order
        Numbers of the pairs.
    known
        int64 per region, id of its object; 0 where it is to be found.

    Returns
    -------
    root, state
        int64 per region, the first region of its group; int8 per pair, as in `assign`.
    """
    n_pairs = len(regions.lower)
    no_window, z = np.full((n_pairs, 2), -1, np.int64), regions.slice_of
    groups = (known.copy(), np.zeros(len(z), bool), z.copy(), z.copy())
    return _join(order, (regions.lower, regions.upper), no_window, np.ones(n_pairs, bool), groups)


def name_groups(group: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return int64 ids per region: the known one, or for groups without (0) new ones above all that are known.

    Parameters
    ----------
    group
        int64 per region, the same for regions of one object.
    known
        int64 per region, id of its group, 0 where none is known.
    """
    ids = known.copy()
    new = np.flatnonzero(known == 0)
    _, first, place = np.unique(group[new], return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    ids[new] = known.max(initial=0) + 1 + rank[place]
    return ids


def evidence(regions: Regions) -> np.ndarray:
    """Return float64 per pair, 0–1, how surely its two regions belong together (see the module)."""
    competing = _total(regions, regions.lower, regions.upper) + _total(regions, regions.upper, regions.lower)
    common = np.where(regions.kind == BRIDGE, regions.iou, regions.overlap / (competing - regions.overlap))
    return np.asarray((common + regions.share) / 2)


def _total(regions: Regions, these: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return per pair the pixels that a region shares with all regions of the other's slice."""
    _, place = np.unique(these * regions.n_slices + regions.slice_of[others], return_inverse=True)
    return np.asarray(np.bincount(place, regions.overlap)[place])


def _order(regions: Regions) -> np.ndarray:
    """Return the pairs, surest first; equal ones by closeness to a labelled slice, then in an order that mirrors.

    Equal evidence is the rule in a volume whose slices are copies of each other. Labels then meet half-way between
    labelled slices, and to turn the volume around turns the result around.
    """
    lower, upper = regions.lower, regions.upper
    distance = _distance_to(np.unique(regions.slice_of[regions.anchor > 0]), regions.n_slices)
    number = np.arange(regions.n_regions) - regions.first[regions.slice_of]
    z_low, z_high = regions.slice_of[lower], regions.slice_of[upper]
    close = np.minimum(distance[z_low], distance[z_high])
    if _reads_forward(regions, number):
        place = (number[upper], number[lower], z_high, z_low)
    else:
        place = (number[lower], number[upper], -z_low, -z_high)
    return np.lexsort((*place, close, -evidence(regions)))


def _distance_to(labelled: np.ndarray, n_slices: int) -> np.ndarray:
    """Return per slice how far the nearest labelled one is, of those at these z; 0 if there are none."""
    if not labelled.size:
        return np.zeros(n_slices, np.int64)
    z = np.arange(n_slices)
    after = np.minimum(np.searchsorted(labelled, z), len(labelled) - 1)
    return np.minimum(abs(labelled[after] - z), abs(z - labelled[np.maximum(after - 1, 0)]))


def _reads_forward(regions: Regions, number: np.ndarray) -> bool:
    """Say in which direction of z the volume comes first in an alphabet of regions: a choice that mirrors with it."""
    turned = np.lexsort((number, -regions.slice_of))
    for column in (regions.anchor, regions.area, *regions.box.T):
        differ = np.flatnonzero(column != column[turned])
        if differ.size:
            return bool(column[differ[0]] < column[turned[differ[0]]])
    return True


def _strong(regions: Regions, window: np.ndarray) -> np.ndarray:
    """Say which pairs are evidence at all: half of the smaller one inside, or best partners, one of them an island."""
    island = ~(regions.body[regions.lower] & regions.body[regions.upper])
    waits = window[:, 1] >= 0
    return (regions.share >= LEAST_SHARE) | (island & (regions.mutual | ((regions.kind == BAD) & waits)))


def _bodies_meet(regions: Regions) -> np.ndarray:
    """Say which pairs may join two groups that both have a body: body with body, or a body that thins out."""
    return (regions.body[regions.lower] & regions.body[regions.upper]) | regions.mutual | (regions.kind == BRIDGE)


def _windows(regions: Regions) -> np.ndarray:
    """Return int64 (n_pairs, 2): -1, or slices between which one of the pair's groups must lie for it to be joined.

    Such pairs are looked at last. Regions of bad slices are given to an object and never join two. What two bodies
    share while they are not separated is given to one of them, and joins neither to the other.
    """
    window = np.full((len(regions.lower), 2), -1, np.int64)
    low, high = regions.slice_of[regions.lower], regions.slice_of[regions.upper]
    bounds = np.concatenate([[-1], np.flatnonzero(~regions.bad), [regions.n_slices]])
    bad = np.flatnonzero(regions.kind == BAD)
    window[bad, 0] = bounds[np.searchsorted(bounds, low[bad], "right") - 1]
    window[bad, 1] = bounds[np.searchsorted(bounds, high[bad], "left")]
    _returning(regions, window)
    return window


def _returning(regions: Regions, window: np.ndarray) -> None:
    """Set the window of the pairs through which a body goes into a merger it comes out of again.

    Of two bodies that merge, the smaller one is not continued by the merged region. Where the sizes change order in
    between, that is so for the one before the merger and for the other one after it; hence either end will do.
    """
    body = regions.body[regions.lower] & regions.body[regions.upper]
    bridges = np.flatnonzero((regions.kind == BRIDGE) & body & (regions.iou >= SAME_BODY_IOU))
    gap = regions.slice_of[regions.upper[bridges]] - regions.slice_of[regions.lower[bridges]]
    bridges = bridges[np.lexsort((-gap, regions.iou[bridges]))]  # of several that a region has, the best is set last
    gone, back = regions.lower[bridges], regions.upper[bridges]
    after, before = regions.partners
    swallowed = (after[gone] >= 0) & (before[after[gone]] != gone)
    released = (before[back] >= 0) & (after[before[back]] != back)
    gone, back = gone[swallowed | released], back[swallowed | released]
    returns, left = np.full(regions.n_regions, -1), np.full(regions.n_regions, -1)
    returns[gone], left[back] = regions.slice_of[back], regions.slice_of[gone]
    into = np.flatnonzero((regions.kind == NEXT) & body & (returns[regions.lower] >= 0))
    window[into, 0], window[into, 1] = regions.slice_of[regions.lower[into]], returns[regions.lower[into]]
    out = np.flatnonzero((regions.kind == NEXT) & body & (left[regions.upper] >= 0))
    window[out, 0], window[out, 1] = left[regions.upper[out]], regions.slice_of[regions.upper[out]]


@njit(cache=True, nogil=True)
def _join(
    order: np.ndarray,
    pairs: tuple[np.ndarray, np.ndarray],
    window: np.ndarray,
    bodies_meet: np.ndarray,
    groups: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Join groups pair by pair; return the first region of each region's group, and what became of each pair.

    `groups` are id, has a body, first and last slice of the group of each region, and are overwritten.
    """
    lower, upper = pairs
    anchor, body, begin, end = groups
    n = len(anchor)
    parent = np.arange(n)
    state = np.zeros(len(lower), np.int8)
    for pair in order:
        a = lower[pair]
        while parent[a] != a:
            parent[a] = parent[parent[a]]
            a = parent[a]
        b = upper[pair]
        while parent[b] != b:
            parent[b] = parent[parent[b]]
            b = parent[b]
        low, high = window[pair]
        if a == b:
            state[pair] = WITHIN
        elif anchor[a] != 0 and anchor[b] != 0 and anchor[a] != anchor[b]:
            state[pair] = OTHER_CELL
        elif (body[a] and body[b] and not bodies_meet[pair]) or not (
            high < 0 or (begin[a] > low and end[a] < high) or (begin[b] > low and end[b] < high)
        ):
            state[pair] = TWO_BODIES
        else:
            state[pair] = JOINED
            first, other = min(a, b), max(a, b)
            parent[other] = first
            anchor[first] = max(anchor[first], anchor[other])
            body[first] = body[first] or body[other]
            begin[first], end[first] = min(begin[first], begin[other]), max(end[first], end[other])
    root = np.empty(n, np.int64)
    for region in range(n):  # the parent of a region comes before it
        root[region] = region if parent[region] == region else root[parent[region]]
    return root, state
