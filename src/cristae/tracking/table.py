"""The table of all regions of a volume and of all pairs that overlap: what the solvers see instead of pixels.

::

    slice       0          1          2 (empty)   3
    regions     0 1 2      3 4                    5 6     numbered through the volume
    pairs       0-3 1-3    2-4                    3-5 4-6     next: 3-5 and 4-6 pass over the empty slice
                0 - - - - - - - - - - - - - - - - 6           bridge: 0 ends in a merger, 6 comes out of one

Bridges are counted between regions that nothing continues: a cell that disappears in its neighbour's region, because
the two were not separated in a few slices, comes out of it again at the same place. The table grows with the number
of regions (some 200 bytes each), never with the number of pixels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np

from cristae.tracking.overlap import UNSEEN, SliceRegions, count_overlaps, find_regions

NEXT: Final = 0
"""A pair of a good slice and the next good one."""
BRIDGE: Final = 1
"""A pair over a gap, between a region that ends and one that begins."""
BAD: Final = 2
"""A pair of neighbouring slices of which at least one is bad."""

LEAST_BRIDGE_IOU: Final = 0.2
"""Bridges below are not kept; 0.15 to 0.3 track equally well."""
COMPARABLE: Final = 0.25
"""A region that loses or gains a piece of this part of its area may be mistaken for the piece, so it may be bridged."""


class Slice(NamedTuple):
    """What is known of one slice.

    Parameters
    ----------
    regions
        Its regions; where an expert labelled the slice, those of the labels, and where that expert did not look, those
        of the slice itself, with ids from `UNSEEN` on.
    labelled
        Whether an expert labelled it, at least in part.
    island_id
        Id that marks its islands; 0 for none.
    nearest
        Regions of the nearest labelled slice, if cells are to be looked for there.
    """

    regions: SliceRegions
    labelled: bool = False
    island_id: int = 0
    nearest: SliceRegions | None = None


@dataclass(frozen=True)
class Rules:
    """What the regions of a slice count as, besides their shape.

    Parameters
    ----------
    smallest_body_px
        Smaller regions are islands, at least 1.
    longest_gap
        Slices that a bridge may span, from region to region, at least 1 (no bridge).
    bad
        Slices that are not to be trusted; labelled ones always are.
    unassigned_id
        Id that an expert gave to islands of unknown cell; 0 for none.
    """

    smallest_body_px: int = 5000
    longest_gap: int = 16
    bad: Collection[int] = ()
    unassigned_id: int = 0


@dataclass(frozen=True)
class Regions:
    """Every region of every slice, and the pairs that overlap.

    Parameters
    ----------
    first
        int64 (n_slices + 1,), number of the first region of each slice.
    bad
        Bool per slice, whether it is not to be trusted.
    slice_of
        int64 per region, z. Regions are sorted by it.
    source
        int64 per region, its id in its slice.
    anchor
        int64 per region, its final id where an expert drew it, else 0.
    body
        Bool per region: whether it is large enough, and not marked as an island, to be the body of a cell.
    area, box, touches_edge
        As in `SliceRegions`.
    near_id, near_iou
        int64 and float64 per region: the cell of the nearest labelled slice with the highest IoU, and that IoU, if
        asked for in `Slice`; else 0.
    lower, upper
        int64 per pair, its region in the slice of smaller and of larger z.
    overlap
        int64 per pair, shared pixels, above 0.
    kind
        int8 per pair: `NEXT`, `BRIDGE` or `BAD`.
    """

    first: np.ndarray
    bad: np.ndarray
    slice_of: np.ndarray
    source: np.ndarray
    anchor: np.ndarray
    body: np.ndarray
    area: np.ndarray
    box: np.ndarray
    touches_edge: np.ndarray
    near_id: np.ndarray
    near_iou: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    overlap: np.ndarray
    kind: np.ndarray

    @property
    def n_slices(self) -> int:
        """Number of slices."""
        return len(self.first) - 1

    @property
    def n_regions(self) -> int:
        """Number of regions."""
        return len(self.area)

    def of_slice(self, z: int) -> slice:
        """Return the place of the regions of slice `z` among all."""
        return slice(int(self.first[z]), int(self.first[z + 1]))

    @cached_property
    def iou(self) -> np.ndarray:
        """float64 per pair, 0–1: shared over covered pixels (Machireddy et al. 2023, eq. 1)."""
        return np.asarray(self.overlap / (self.area[self.lower] + self.area[self.upper] - self.overlap))

    @cached_property
    def share(self) -> np.ndarray:
        """float64 per pair, 0–1: how much of the smaller region the larger one covers."""
        return np.asarray(self.overlap / np.minimum(self.area[self.lower], self.area[self.upper]))

    @cached_property
    def partners(self) -> tuple[np.ndarray, np.ndarray]:
        """int64 per region: the region of the next and of the previous slice it shares most pixels with, or -1."""
        pairs = self.kind == NEXT
        lower, upper, overlap = self.lower[pairs], self.upper[pairs], self.overlap[pairs]
        return (
            best_partner(lower, upper, overlap, self.n_regions),
            best_partner(upper, lower, overlap, self.n_regions),
        )

    @cached_property
    def mutual(self) -> np.ndarray:
        """Bool per pair: whether it joins neighbours each of which is the other's best partner."""
        after, before = self.partners
        return (self.kind == NEXT) & (after[self.lower] == self.upper) & (before[self.upper] == self.lower)


def best_pair(region: np.ndarray, other: np.ndarray, score: np.ndarray, n: int) -> np.ndarray:
    """Return for each of `n` regions the number of its pair with the highest score, or -1; of equals, lowest other."""
    order = np.lexsort((other, -score, region))[::-1]
    best = np.full(n, -1, np.int64)
    best[region[order]] = order  # of several pairs of a region the last one, the best, stays
    return best


def best_partner(region: np.ndarray, other: np.ndarray, score: np.ndarray, n: int) -> np.ndarray:
    """Return for each of `n` regions the `other` of its best pair, or -1."""
    best = best_pair(region, other, score, n)
    return np.where(best >= 0, np.append(other, -1)[best], -1)


def tabulate(slices: Iterable[Slice], rules: Rules) -> Regions:
    """Collect the regions of all slices and count the overlaps of neighbours.

    Parameters
    ----------
    slices
        Every slice in order of z. The runs of three are held at once, and of those regions of the last
        ``rules.longest_gap`` slices that nothing continues.
    rules
        What makes a body, and which slices and ids mean nothing.

    Raises
    ------
    ValueError
        If the slices differ in shape.
    """
    columns = [_columns(_none(), 0, rules)]
    pairs = [_pairs(*(np.zeros(0, np.int64),) * 3, NEXT)]
    first, flags = [0], list[bool]()
    before: _Placed | None = None
    good: _Placed | None = None
    ended: deque[_Placed] = deque()
    for z, this in enumerate(slices):
        columns.append(_columns(this, z, rules))
        here = _Placed(this.regions, z, first[-1])
        first.append(first[-1] + this.regions.n_regions)
        bad = z in rules.bad and not this.labelled
        flags.append(bad)
        if before and (bad or before is not good):
            pairs.append(_between(before, here, BAD))
        before = here
        if bad or not this.regions.n_regions:
            continue
        while ended and ended[0].z < z - rules.longest_gap:
            ended.popleft()
        if good and good.z >= z - rules.longest_gap:
            found = _between(good, here, NEXT)
            pairs.append(found)
            going, beginning = _loose_ends(good, here, found)
            pairs.extend(_bridges(ended, here, beginning))
            ended.append(good.only(going))
        good = here
    arrays = [np.concatenate(column) for column in zip(*columns, strict=True)]
    return Regions(
        np.array(first),
        np.array(flags, bool),
        *arrays,
        *(np.concatenate(column) for column in zip(*pairs, strict=True)),
    )


Pairs = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class _Placed(NamedTuple):
    """The regions of a slice with its z and the number of its first region."""

    regions: SliceRegions
    z: int
    first: int

    def only(self, kept: np.ndarray) -> _Placed:
        """Return these regions with the runs of those alone that are kept."""
        runs = kept[self.regions.region]
        place = np.concatenate([[0], np.cumsum(runs)])
        thin = replace(
            self.regions,
            row_first=place[self.regions.row_first],
            start=self.regions.start[runs],
            stop=self.regions.stop[runs],
            region=self.regions.region[runs],
        )
        return self._replace(regions=thin)


def _none() -> Slice:
    return Slice(find_regions(np.zeros((0, 0), np.uint8)))


def _columns(this: Slice, z: int, rules: Rules) -> tuple[np.ndarray, ...]:
    """Return what `Regions` has per region, in its order, of one slice."""
    regions = this.regions
    drawn = (regions.source < UNSEEN) & this.labelled
    source = np.where(drawn, regions.source, regions.source % UNSEEN)
    known = drawn & (source != rules.unassigned_id)
    marked = np.where(drawn, ~known, source == this.island_id)
    return (
        np.full(len(source), z, np.int64),
        source,
        np.where(known, source, 0),
        (regions.area >= rules.smallest_body_px) & ~marked,
        regions.area,
        regions.box,
        regions.touches_edge,
        *_nearest_cells(regions, this.nearest),
    )


def _nearest_cells(regions: SliceRegions, nearest: SliceRegions | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the cell with the highest IoU in a labelled slice, and the IoU; 0 where there is none."""
    best_id, best_iou = np.zeros(regions.n_regions, np.int64), np.zeros(regions.n_regions)
    if nearest is None or not nearest.n_regions:
        return best_id, best_iou
    pairs = np.stack(count_overlaps(regions, nearest))
    region, other, overlap = pairs[:, nearest.source[pairs[1]] < UNSEEN]
    cells, cell = np.unique(nearest.source, return_inverse=True)
    area = np.bincount(cell, nearest.area)
    pair, place = np.unique(region * len(cells) + cell[other], return_inverse=True)
    region, of_cell = pair // len(cells), pair % len(cells)
    shared = np.bincount(place, overlap, len(pair))
    iou = shared / (regions.area[region] + area[of_cell] - shared)
    best = best_pair(region, cells[of_cell], iou, regions.n_regions)
    best_id[best >= 0], best_iou[best >= 0] = cells[of_cell][best[best >= 0]], iou[best[best >= 0]]
    return best_id, best_iou


def _pairs(lower: np.ndarray, upper: np.ndarray, overlap: np.ndarray, kind: int) -> Pairs:
    return lower, upper, overlap, np.full(len(lower), kind, np.int8)


def _between(before: _Placed, after: _Placed, kind: int) -> Pairs:
    lower, upper, overlap = count_overlaps(before.regions, after.regions)
    return _pairs(lower + before.first, upper + after.first, overlap, kind)


def _loose_ends(before: _Placed, after: _Placed, pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """Say which regions of the two slices nothing continues in the other, or that may be mistaken for one such."""
    lower, upper, overlap = pairs[0] - before.first, pairs[1] - after.first, pairs[2]
    onward = best_partner(lower, upper, overlap, before.regions.n_regions)
    back = best_partner(upper, lower, overlap, after.regions.n_regions)
    going, beginning = _alone(onward, back), _alone(back, onward)
    area, area_after = before.regions.area, after.regions.area
    inside = 2 * overlap >= np.minimum(area[lower], area_after[upper])
    merging = inside & going[lower] & (area[lower] >= COMPARABLE * area[back[upper]])
    parting = inside & beginning[upper] & (area_after[upper] >= COMPARABLE * area_after[onward[lower]])
    going[back[upper[merging]]] = True
    beginning[onward[lower[parting]]] = True
    return going, beginning


def _alone(partner: np.ndarray, partner_back: np.ndarray) -> np.ndarray:
    """Say which regions have no partner, or one that prefers another."""
    alone = np.ones(len(partner), bool)
    paired = np.flatnonzero(partner >= 0)
    alone[paired] = partner_back[partner[paired]] != paired
    return alone


def _bridges(ended: Iterable[_Placed], here: _Placed, beginning: np.ndarray) -> Iterator[Pairs]:
    """Yield the pairs of regions that ended some slices ago and of those that begin here."""
    begun = here.only(beginning)
    for gone in ended:
        lower, upper, overlap, kind = _between(gone, begun, BRIDGE)
        area = gone.regions.area[lower - gone.first] + here.regions.area[upper - here.first]
        alike = overlap >= LEAST_BRIDGE_IOU * (area - overlap)
        yield lower[alike], upper[alike], overlap[alike], kind[alike]
