"""Regions that cover several cells, because these were not separated in their slices: who shares them, and where.

::

    z            30        31 … 43       44
    cell 2     [ 2 ]  --  [       ]  --  [ 2 ]       31 to 43 are linked to cell 2, whose region they continue;
                          [ 2, 10 ]                  cell 10 goes into them and comes out again: they are shared,
    cell 10    [10 ]  --  [       ]  --  [10 ]       and divided by the shapes the two have before and after

A cell that vanishes in another one's region at its full size and does not come out of it shares that region as far as
it can be followed, unless that is to a labelled slice, which knows that the cell has ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from cristae.tracking.table import NEXT, Regions

LEAST_SHARE: Final = 0.5
"""Part of a body inside the region it goes into."""
TAPERING: Final = 0.75
"""An object that keeps less of its area from one slice to the next is coming to its end."""


@dataclass(frozen=True)
class Shared:
    """Further objects of regions, besides the one a region is linked to; sorted by region and id.

    Parameters
    ----------
    region
        int64, region that is shared.
    id
        int64, further object.
    before, after
        int64, z of the slices that show this object by itself, before and after the shared ones; -1 for none.
    """

    region: np.ndarray
    id: np.ndarray
    before: np.ndarray
    after: np.ndarray

    @classmethod
    def nothing(cls) -> Shared:
        """Return the table of a volume without shared regions."""
        return cls(*(np.zeros(0, np.int64) for _ in range(4)))


def find_shared(regions: Regions, ids: np.ndarray) -> Shared:
    """Find the regions that bodies of several objects share.

    Parameters
    ----------
    regions
        From `tabulate`.
    ids
        int64 per region, as `assign` gives them.
    """
    lower, upper = regions.lower, regions.upper
    bodies = np.flatnonzero((regions.kind == NEXT) & regions.body[lower] & regions.body[upper])
    foreign = bodies[ids[lower[bodies]] != ids[upper[bodies]]]
    up = _Walk(regions, ids, (lower, upper), foreign)
    down = _Walk(regions, ids, (upper, lower), foreign)
    found: dict[tuple[int, int], tuple[int, int]] = {}
    for walk, other in ((up, down), (down, up)):
        for gone, place in walk.entries:
            path, end = walk.follow(gone, place, other)
            span = (int(regions.slice_of[gone]), end)
            for step in path:
                key = step, int(ids[gone])
                found[key] = _closest(found.get(key, (-1, -1)), span if walk is up else span[::-1])
    if not found:
        return Shared.nothing()
    rows = np.array([(*key, *found[key]) for key in sorted(found)], np.int64)
    return Shared(*(np.ascontiguousarray(column) for column in rows.T))


def _closest(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    """Return the later slice before and the earlier one after, of two spans in which -1 is none."""
    after = [z for z in (one[1], other[1]) if z >= 0]
    return max(one[0], other[0]), min(after, default=-1)


class _Walk:
    """Ways through regions in one direction of z, each region continued by its mutual best partner.

    Parameters
    ----------
    regions, ids
        What is walked.
    ends
        Regions of all pairs, those that a step leaves and those it reaches.
    foreign
        Pairs of bodies of two objects.
    """

    def __init__(
        self,
        regions: Regions,
        ids: np.ndarray,
        ends: tuple[np.ndarray, np.ndarray],
        foreign: np.ndarray,
    ) -> None:
        self.regions, self.ids = regions, ids
        leave, reach = ends
        enters = foreign[(regions.anchor[reach[foreign]] == 0) & (regions.share[foreign] >= LEAST_SHARE)]
        self.entries = list(zip(leave[enters].tolist(), reach[enters].tolist(), strict=True))
        self.comes_from = {
            (int(reach[pair]), int(ids[leave[pair]])): (int(regions.slice_of[leave[pair]]), int(regions.overlap[pair]))
            for pair in foreign[np.argsort(regions.overlap[foreign], kind="stable")]  # the largest stays
        }
        self.onward = np.full(regions.n_regions, -1, np.int64)
        self.onward[leave[regions.mutual]] = reach[regions.mutual]

    def follow(self, gone: int, place: int, other: _Walk) -> tuple[list[int], int]:
        """Return the regions shared by what goes into `place`, and the slice that shows it by itself again, or -1."""
        regions, cell, path = self.regions, int(self.ids[gone]), list[int]()
        here = place
        while here >= 0 and not regions.anchor[here]:
            if self.ids[here] == cell:
                return path, int(regions.slice_of[here])
            path.append(here)
            out, overlap = other.comes_from.get((here, cell), (-1, 0))
            if overlap >= LEAST_SHARE * regions.area[gone]:
                return path, out
            here = int(self.onward[here])
        return (path if here < 0 and self._vanishes(gone, place) else []), -1

    def _vanishes(self, gone: int, place: int) -> bool:
        """Say whether most of an object is lost from one slice to the next, and it did not get smaller before."""
        regions, z, following = self.regions, int(self.regions.slice_of[gone]), int(self.regions.slice_of[place])
        earlier = min(max(2 * z - following, 0), regions.n_slices - 1)
        before, now, after = (
            int(regions.area[part][self.ids[part] == self.ids[gone]].sum())
            for part in map(regions.of_slice, (earlier, z, following))
        )
        return now > TAPERING * before and after < LEAST_SHARE * now


def divide(region: np.ndarray, shapes: list[tuple[list[np.ndarray], list[float]]]) -> np.ndarray:
    """Divide a region between the cells that share it.

    A pixel goes to the cell that is nearest to it in the slices before and after, weighted by how near these are;
    so the border moves evenly from where it is before to where it is after.

    Parameters
    ----------
    region
        Bool (y, x).
    shapes
        Of each cell, bool masks (y, x) of it in other slices, each with a pixel at least, and their weights, which
        add up to 1. A cell without masks has what is outside of the others.

    Returns
    -------
    ndarray
        int64 (y, x): place in `shapes` of the cell of each pixel, -1 outside the region. Of equals, the first.
    """
    nearest = np.full(region.shape, np.inf, np.float32)
    cell = np.full(region.shape, -1, np.int64)
    for place, (masks, weights) in enumerate(shapes):
        distance = np.full(region.shape, 0.0 if masks else 0.5, np.float32)
        for mask, weight in zip(masks, weights, strict=True):
            distance += np.float32(weight) * cv2.distanceTransform(
                1 - mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5
            )
        closer = region & (distance < nearest)
        nearest[closer], cell[closer] = distance[closer], place
    return cell
