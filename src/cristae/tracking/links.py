"""Why every region has its id: one row per region, and one per object.

The pairs that a solver joined make trees. Ids flow along them from the regions of labelled slices, or in objects that
no labelled slice knows from the largest region; every other region is linked to the one it has its id from.

A link is as strong as the part of the smaller region that lies inside the larger one, and an id as certain as the
weakest link on the strongest chain to where it begins::

    slice        0 (labelled)    1      2      3      4 (labelled)
    share                 .9     .4     .8    1
    certainty    1        .9     .8     1     1      without slice 4 it would be 1 .9 .4 .4 .4

It tells how well regions of neighbouring slices lie on each other, and not whether their outlines are right.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from numba import njit

from cristae.tracking.assign import JOINED, OTHER_CELL
from cristae.tracking.contradictions import find_doubles, find_renamed
from cristae.tracking.shared import Shared
from cristae.tracking.table import Regions

REASONS: Final = (
    "anchor",
    "nearest labelled slice",
    "new body",
    "island",
    "overlap",
    "split",
    "merge",
    "broke off",
    "met body",
    "bridge",
    "shared",
)
"""What a region has its id from.

``anchor``: an expert; ``nearest labelled slice``: its overlap with a cell there; ``new body``, ``island``: nothing, it
is where an object begins that no labelled slice knows, with a body or without; ``overlap``: each is the other's best
partner; ``split``, ``merge``: one of several pieces of the linked region, or the other way round; ``broke off``,
``met body``: the same between an island and a body; ``bridge``: over slices that are missing or bad, or in which
another object's region covers it; ``shared``: it has these pixels of a region of several cells.
"""


@dataclass(frozen=True)
class Tracks:
    """Which object every region belongs to, and why.

    Parameters
    ----------
    regions
        What was tracked.
    ids
        int64 per region, id of its object, above 0.
    state
        int8 per pair, what became of it; see `assign`.
    shared
        Regions that more than one object covers.
    """

    regions: Regions
    ids: np.ndarray
    state: np.ndarray
    shared: Shared

    def of_slice(self, z: int) -> np.ndarray:
        """Return int64 ids of the regions of slice `z`."""
        return self.ids[self.regions.first[z] : self.regions.first[z + 1]]

    def links(self) -> pd.DataFrame:
        """Return a row per region, with what gave it its id, and one more per further object that it covers.

        Columns: ``object``, ``slice``, ``region`` (number in the slice, by first pixel), ``linked_slice`` and
        ``linked_region`` (-1: nothing), ``overlap_px``, ``iou``, ``reason`` (one of `REASONS`), ``share`` (of the
        smaller of the two regions, the part inside the larger one; 0 without a link) and ``certainty`` (0–1: see
        `certainty`; 0 in the rows of further objects, which no link leads to).
        """
        regions, shared = self.regions, self.shared
        pair, other = self._links
        linked = pair >= 0
        here = np.concatenate([np.arange(regions.n_regions), shared.region])
        none = np.full(len(shared.region), -1, np.int64)
        from_slice = np.where(shared.before >= 0, shared.before, shared.after)
        reasons = np.concatenate([self._reasons, none * 0 + REASONS.index("shared")]).astype(np.int8)
        return pd.DataFrame(
            {
                "object": np.concatenate([self.ids, shared.id]),
                "slice": regions.slice_of[here],
                "region": _number(regions, here),
                "linked_slice": np.concatenate([np.where(linked, regions.slice_of[other], -1), from_slice]),
                "linked_region": np.concatenate([np.where(linked, _number(regions, other), -1), none]),
                "overlap_px": np.concatenate([_of_pair(regions.overlap, pair), none * 0]),
                "iou": np.concatenate([_of_pair(regions.iou, pair), none * 0.0]),
                "reason": pd.Categorical.from_codes(reasons, pd.Index(REASONS)),
                "share": np.concatenate([_of_pair(regions.share, pair), none * 0.0]),
                "certainty": np.concatenate([self.certainty, none * 0.0]),
            }
        )

    @cached_property
    def certainty(self) -> np.ndarray:
        """float64 per region, 0–1: the least share of the links on the strongest chain to where its id begins.

        That place itself has 1: a labelled slice, or the largest body of an object that none knows. A region that is
        named by its overlap with a cell of the nearest labelled slice has the IoU of the two. An island that reaches
        no body has 0, as nothing says whose it is.
        """
        regions, code = self.regions, {reason: place for place, reason in enumerate(REASONS)}
        begins = np.isin(self._reasons, [code["anchor"], code["new body"]]).astype(np.float64)
        near = self._reasons == code["nearest labelled slice"]
        begins[near] = regions.near_iou[near]
        graph = _Graph.of(regions, self.state)
        pair, order = _walk(graph.starts, 0, graph.first, graph.others, graph.via)
        return _strongest(order, _other_end(regions, pair), _of_pair(regions.share, pair), begins)

    @cached_property
    def _links(self) -> tuple[np.ndarray, np.ndarray]:
        """Per region the pair through which it gets its id and the region at its other end, or -1 where it begins."""
        pair = flow(self.regions, self.state)
        return pair, _other_end(self.regions, pair)

    @cached_property
    def _reasons(self) -> np.ndarray:
        return _reasons(self.regions, self.ids, self._links[0])

    def objects(self) -> pd.DataFrame:
        """Return a row per object, sorted by ``object``.

        Columns: ``object``, ``kind`` (``labelled``: known from a labelled slice; ``body``; ``island``: reaches no
        body), ``first_slice``, ``last_slice``, ``n_regions``, ``n_voxels`` (a region that several objects cover counts
        for the one it was linked to), ``largest_px`` (area of the largest region), ``touches_edge`` (of a slice)
        and ``certainty`` (0–1: mean over its voxels of the `certainty` of their regions).
        """
        regions = self.regions
        objects, place = np.unique(self.ids, return_inverse=True)
        table = pd.DataFrame(
            {
                "object": place,
                "slice": regions.slice_of,
                "area": regions.area,
                "anchor": regions.anchor > 0,
                "body": regions.body,
                "edge": regions.touches_edge,
                "sure": regions.area * self.certainty,
            }
        ).groupby("object", sort=True)
        kind = np.where(table["anchor"].any(), "labelled", np.where(table["body"].any(), "body", "island"))
        return pd.DataFrame(
            {
                "object": objects,
                "kind": kind,
                "first_slice": table["slice"].min().to_numpy(),
                "last_slice": table["slice"].max().to_numpy(),
                "n_regions": table.size().to_numpy(),
                "n_voxels": table["area"].sum().to_numpy(),
                "largest_px": table["area"].max().to_numpy(),
                "touches_edge": table["edge"].any().to_numpy(),
                "certainty": (table["sure"].sum() / table["area"].sum()).to_numpy(),
            }
        )

    def conflicts(self) -> pd.DataFrame:
        """Return the places where an object changes its id, as labelled slices name it differently; sorted by slice.

        Either one region continues another whose id differs, or an object that one labelled slice knows and the next
        does not hands over half of itself or more, bit by bit, to another that only the next one knows. Columns:
        ``object`` and ``next_object``, ``slice`` and ``next_slice`` (where most is handed over), ``overlap_px`` (in
        all slices) and ``iou`` (of the two regions there).
        """
        regions, ids = self.regions, self.ids
        pairs = np.flatnonzero((self.state == OTHER_CELL) & regions.mutual & (2 * regions.iou >= 1))
        pairs = pairs[regions.body[regions.lower[pairs]] & regions.body[regions.upper[pairs]]]
        overlap = dict(zip(pairs.tolist(), regions.overlap[pairs].tolist(), strict=True))
        names = {(int(ids[regions.lower[pair]]), int(ids[regions.upper[pair]])) for pair in pairs}
        for renamed in find_renamed(regions, ids):
            if (renamed.before, renamed.after) not in names:
                overlap[renamed.pair] = renamed.overlap
        ordered = sorted(overlap, key=lambda pair: (int(regions.slice_of[regions.lower[pair]]), pair))
        pairs = np.array(ordered, np.int64)
        lower, upper = regions.lower[pairs], regions.upper[pairs]
        return pd.DataFrame(
            {
                "object": ids[lower],
                "next_object": ids[upper],
                "slice": regions.slice_of[lower],
                "next_slice": regions.slice_of[upper],
                "overlap_px": np.array([overlap[pair] for pair in ordered], np.int64),
                "iou": regions.iou[pairs],
            }
        )

    def doubles(self) -> pd.DataFrame:
        """Return where a labelled slice gives one id to bodies that lie far apart and never meet; see `find_doubles`.

        Columns: ``object``, ``slice``, ``region`` and ``other_region`` (numbers in the slice, by first pixel) and
        ``apart_px``; sorted by slice and object.
        """
        found = find_doubles(self.regions, self.ids)
        one, other = (np.array([double[side] for double in found], np.int64) for side in (0, 1))
        return pd.DataFrame(
            {
                "object": self.ids[one],
                "slice": self.regions.slice_of[one],
                "region": _number(self.regions, one),
                "other_region": _number(self.regions, other),
                "apart_px": np.array([double.apart for double in found], np.float64),
            }
        )


class _Graph(NamedTuple):
    """The joined pairs by region: regions at which ids may begin, known ones first, and the neighbours of each."""

    starts: np.ndarray
    n_anchors: int
    first: np.ndarray
    others: np.ndarray
    via: np.ndarray

    @classmethod
    def of(cls, regions: Regions, state: np.ndarray) -> _Graph:
        pairs = np.flatnonzero(state == JOINED)
        ends = np.concatenate([regions.lower[pairs], regions.upper[pairs]])
        order = np.argsort(ends, kind="stable")
        first = np.searchsorted(ends[order], np.arange(regions.n_regions + 1))
        via = np.concatenate([pairs, pairs])[order]
        others = np.concatenate([regions.upper[pairs], regions.lower[pairs]])[order]
        anchors = np.flatnonzero(regions.anchor > 0)
        rest = np.lexsort((np.arange(regions.n_regions), -regions.area, ~regions.body))
        return cls(np.concatenate([anchors, rest]), len(anchors), first, others, via)


def flow(regions: Regions, state: np.ndarray) -> np.ndarray:
    """Return int64 per region: the joined pair through which it gets its id, or -1 where the id begins."""
    graph = _Graph.of(regions, state)
    return _walk(graph.starts, graph.n_anchors, graph.first, graph.others, graph.via)[0]


def _other_end(regions: Regions, pair: np.ndarray) -> np.ndarray:
    """Return per region the one at the other end of its pair, or -1."""
    other = _of_pair(regions.lower + regions.upper, pair) - np.arange(regions.n_regions)
    return np.where(pair >= 0, other, -1)


@njit(cache=True, nogil=True)
def _walk(
    starts: np.ndarray, n_together: int, first: np.ndarray, others: np.ndarray, via: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Walk the trees breadth first: from the first starts at once, then from each other one not reached so far.

    Return per region the pair that it was reached by, or -1, and the regions in the order in which they were.
    """
    n = len(first) - 1
    pair = np.full(n, -1, np.int64)
    reached = np.zeros(n, np.bool_)
    queue = np.empty(n, np.int64)
    end = 0
    for start in starts[:n_together]:
        reached[start] = True
        queue[end] = start
        end += 1
    done = 0
    for start in starts:
        if not reached[start]:
            reached[start] = True
            queue[end] = start
            end += 1
        while done < end:
            region = queue[done]
            done += 1
            for k in range(first[region], first[region + 1]):
                if not reached[others[k]]:
                    reached[others[k]] = True
                    pair[others[k]] = via[k]
                    queue[end] = others[k]
                    end += 1
    return pair, queue


@njit(cache=True, nogil=True)
def _strongest(order: np.ndarray, parent: np.ndarray, share: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """Return per region the most certain of all places in its tree, each no surer than the links that lead there.

    Parents (-1: none) come before their children in `order`; `share` is that of the link to the parent.
    """
    certainty = begins.copy()
    for region in order[::-1]:
        if parent[region] >= 0:
            certainty[parent[region]] = max(certainty[parent[region]], min(share[region], certainty[region]))
    for region in order:
        if parent[region] >= 0:
            certainty[region] = max(certainty[region], min(share[region], certainty[parent[region]]))
    return certainty


def _reasons(regions: Regions, ids: np.ndarray, pair: np.ndarray) -> np.ndarray:
    """Return the place in `REASONS` of every region's reason."""
    code = {reason: place for place, reason in enumerate(REASONS)}
    lower, upper = regions.lower, regions.upper
    piece_above = regions.area[upper] < regions.area[lower]
    met = regions.body[lower] != regions.body[upper]
    of_pairs = np.select(
        [regions.mutual, regions.slice_of[upper] - regions.slice_of[lower] > 1, met & piece_above, met, piece_above],
        [code["overlap"], code["bridge"], code["broke off"], code["met body"], code["split"]],
        code["merge"],
    )
    of_pairs[regions.mutual & (regions.slice_of[upper] - regions.slice_of[lower] > 1)] = code["bridge"]
    has_body = np.zeros(ids.max(initial=0) + 1, bool)
    has_body[ids[regions.body]] = True
    start = np.where(has_body[ids], code["new body"], code["island"])
    start[(regions.near_iou > 0) & (ids == regions.near_id)] = code["nearest labelled slice"]
    start[regions.anchor > 0] = code["anchor"]
    return np.where(pair >= 0, np.append(of_pairs, 0)[pair], start)


def _number(regions: Regions, region: np.ndarray) -> np.ndarray:
    """Return the numbers that regions have in their slices."""
    return region - regions.first[regions.slice_of[region]]


def _of_pair(values: np.ndarray, pair: np.ndarray) -> np.ndarray:
    """Return a value per region, that of its pair or 0."""
    return np.where(pair >= 0, np.append(values, 0)[pair], 0)
