"""Cells between labelled slices, by each method of Table 2 of Machireddy et al., and by ours.

One function, eight methods, which differ in how cells reach a slice and in what the interior mask is cut along there:

=========================== ================================ ==================================================
method                      cells reach a slice              the interior mask is cut along
=========================== ================================ ==================================================
mask                        unmoved                          nothing
mask+boundary               unmoved                          the network's boundary
flow                        carried by composed flow         (no mask: the carried cells are the result)
mask+flow                   carried by composed flow         carried outlines
mask+boundary+flow          carried by composed flow         both; carried outlines only where cells overlap
mask+boundary+flow frames   from the result one slice away   both; carried outlines only where cells overlap
paths, basins               grown in 3D (ours)               the crest of the network's boundary
=========================== ================================ ==================================================

For the last two see `cristae.separation.grow`. What follows is the same for all others: `cristae.separation.combine`.
Each half of the gap is worked off from its labelled slice to the middle; objects that the labelled slice does not know
are followed by overlap from slice to slice, and joined at the middle to what they meet on the other side. So are those
that the maps find on a labelled slice where nobody looked: `cristae.separation.unpainted`.

Paper: A. Machireddy et al. (2023), Front. Bioinform. 3, 1308708, §3.3, §5.5, Table 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import numpy as np

from cristae.errors import DataError, UsageError
from cristae.flow import dense_flow
from cristae.separation.bridge import bridged
from cristae.separation.combine import SeparationSettings, combine
from cristae.separation.gap import Gap
from cristae.separation.grow import Ours
from cristae.separation.paths import grow_through
from cristae.separation.propagate import carried_labels, halves, is_missing, propagate_both
from cristae.separation.runs import Runs, compress, expand, overlaps, unique_ids
from cristae.separation.unpainted import End, find_unpainted
from cristae.warping import warp_labels

_LEAST_OVERLAP = 0.5
"""Share of a new object that must lie on one object across the middle of the gap to be joined to it."""


@dataclass(frozen=True, slots=True)
class _Recipe:
    carried: Literal["unmoved", "flow", "frames"]
    masked: bool = True
    boundary: bool = False
    lines: Literal["none", "all", "selective"] = "none"


TABLE2: Mapping[str, _Recipe] = MappingProxyType(
    {
        "mask": _Recipe("unmoved"),
        "mask+boundary": _Recipe("unmoved", boundary=True),
        "flow": _Recipe("flow", masked=False),
        "mask+flow": _Recipe("flow", lines="all"),
        "mask+boundary+flow": _Recipe("flow", boundary=True, lines="selective"),
        "mask+boundary+flow frames": _Recipe("frames", boundary=True, lines="selective"),
    }
)
"""The rows of Table 2 by name."""
OURS: tuple[Ours, ...] = ("paths", "basins")
"""Methods of cristae by name."""
METHODS = (*TABLE2, *OURS)
"""Names of all methods."""

_Carry = Callable[[int, np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class _Chain:
    """Results of slices from a labelled one on, as runs; the last that is not empty; and the next free number.

    Objects numbered in `beside` are others than the cells `painted`, as all of these were whole on the labelled slice.
    """

    results: list[Runs]
    last: np.ndarray | None
    free: int
    beside: range = range(0)
    painted: frozenset[int] = frozenset()

    def parts(self, one: int, other: int) -> bool:
        """Say whether two numbers are known to be different objects."""
        return one in self.beside and other in self.painted


def separate(gap: Gap, method: str, settings: SeparationSettings) -> Iterator[np.ndarray]:
    """Yield the cells of a gap, slice by slice.

    Results of the whole gap are held as runs (about 1 MB for a slice of 2000 × 6095 pixels) until ids are settled
    across its middle; of everything else a few planes are held at a time.

    Parameters
    ----------
    gap
        Labelled slices, images and maps.
    method
        A name in `METHODS`.
    settings
        Thresholds, sizes and flow.

    Yields
    ------
    integers (y, x)
        In the dtype of the gap, slice 0 first. The labelled slices come out as they went in; only where nobody looked
        (``gap.unseen``) cells come to them, those that the maps find there, and with ``flow`` from both sides those
        that the other side knows. Between them ids are those of the labelled slices, or new ones from
        ``gap.first_new_id`` on without holes; 0 is outside the interior, except for ``flow``, which knows no interior.
        A cell without interior under it ends; a part of the interior that no carried cell meets is a new object.
        Through missing slices cells go on; see `cristae.separation.bridge`.

    Raises
    ------
    UsageError
        If there is no such method.
    DataError
        If a map is absent or differs in size, or new ids would not fit the dtype.
    """
    if method not in METHODS:
        raise UsageError(f"unknown method {method!r}: expected one of {', '.join(METHODS)}")
    for ours in OURS:
        if method == ours:
            return grow_through(bridged(gap), replace(settings, growth=replace(settings.growth, by=ours)))
    recipe = TABLE2[method]
    if recipe.boundary and gap.boundary is None:
        raise DataError(f"{method} needs a boundary map, and there is none; predict one, or choose mask or mask+flow")
    return _separate(bridged(gap), recipe, settings)


def _separate(gap: Gap, recipe: _Recipe, settings: SeparationSettings) -> Iterator[np.ndarray]:
    ids, numbered = _number(gap)
    known = int(ids.size)
    up, down = halves(numbered)
    if _from_both(gap, recipe, settings):
        if not recipe.masked:
            names = np.concatenate([np.zeros(1, gap.dtype), ids])
            yield from (names[both.labels] for both in propagate_both(numbered, settings.flow))
            return
        up, down = range(len(gap) - 1), range(len(gap) - 1, len(gap) - 2, -1)
    front = _follow(numbered, up, recipe, settings, known, known + 1)
    back = _follow(numbered, down, recipe, settings, known, front.free)
    names = _names(gap, ids, _settle(front, back, known))
    for runs in (*front.results, *reversed(back.results)):
        yield expand(Runs(runs.shape, runs.lengths, names[runs.ids]))


def _from_both(gap: Gap, recipe: _Recipe, settings: SeparationSettings) -> bool:
    """Say whether both labelled slices vote on every slice.

    Not where maps find cells on a labelled slice that nobody looked at: as long as the two sides have different names
    for one cell, each must go its own way.
    """
    voted = recipe.carried == "flow" and settings.neighbours == "both" and (gap.seen or not recipe.masked)
    return voted and gap.before is not None and gap.after is not None


def _number(gap: Gap) -> tuple[np.ndarray, Gap]:
    """Return the ids of both labelled slices, sorted, and the gap with its cells numbered from 1 in that order."""
    labelled = [labels for labels in (gap.before, gap.after) if labels is not None]
    ids = np.unique(np.concatenate([unique_ids(labels).astype(gap.dtype) for labels in labelled]))

    def number(labels: np.ndarray | None) -> np.ndarray | None:
        if labels is None:
            return None
        runs = compress(labels)
        places = np.where(runs.ids > 0, np.searchsorted(ids, runs.ids.astype(gap.dtype)) + 1, 0).astype(np.int32)
        return expand(Runs(runs.shape, runs.lengths, places))

    return ids, replace(gap, before=number(gap.before), after=number(gap.after))


def _follow(
    gap: Gap, slices: Sequence[int], recipe: _Recipe, settings: SeparationSettings, known: int, free: int
) -> _Chain:
    """Separate slices one after the other, starting with the labelled one; numbers from `free` on go to new objects."""
    if not slices:
        return _Chain([], None, free)
    start = _start(gap, slices[0], recipe, settings, known, free)
    assert start.last is not None
    results, previous, free = start.results, start.last, start.free
    if len(slices) == 1:  # nothing to carry; a carrier would work through the gap before it says so
        return start
    carry = _carrier(gap, slices, previous, recipe, settings)
    for index in slices[1:]:
        cells = _drop_islands(carry(index, previous), known, settings.smallest_body_px)
        if not recipe.masked:
            results.append(compress(cells))
            continue
        inside = gap.interior_at(index) >= settings.interior_threshold
        boundary = gap.boundary_at(index) >= settings.boundary_threshold if recipe.boundary else None
        result = combine(cells, inside, boundary, recipe.lines, settings)
        free = _name_new(result, previous, known, free)
        results.append(compress(result))
        if result.any():
            previous = result
        elif recipe.carried == "frames":
            previous = cells  # nothing was found, perhaps as the slice is missing: what was carried here goes on
    return replace(start, last=previous, free=free)


def _start(gap: Gap, index: int, recipe: _Recipe, settings: SeparationSettings, known: int, free: int) -> _Chain:
    """Return the chain of a labelled slice alone, with what the maps find on it where nobody looked."""
    end = 0 if index == 0 and gap.before is not None else 1
    labels, unseen = (gap.before, gap.after)[end], gap.unseen[end]
    assert labels is not None
    if unseen is None or not recipe.masked:
        return _Chain([compress(labels)], labels, free)
    inside = gap.interior_at(index) >= settings.interior_threshold
    # A boundary helps here even a method that cuts along none: there is no cell to be carried to this slice.
    boundary = None if gap.boundary is None else gap.boundary_at(index) >= settings.boundary_threshold
    found = find_unpainted(End(labels, unseen, gap.complete[end]), inside, boundary, settings)
    after = _name_new(found, np.zeros_like(found), known, free)
    painted = frozenset[int]() if gap.complete[end] else frozenset(unique_ids(labels).tolist())
    return _Chain([compress(found)], found, after, range(free, after), painted)


def _drop_islands(cells: np.ndarray, known: int, smallest_body_px: int) -> np.ndarray:
    """Return carried cells without new objects that are islands: one that meets a body belongs to it."""
    if cells.max(initial=0) <= known:
        return cells
    numbers = np.arange(cells.max() + 1, dtype=np.int32)
    numbers[(np.bincount(cells.ravel()) < smallest_body_px) & (numbers > known)] = 0
    return numbers[cells]


def _carrier(
    gap: Gap, slices: Sequence[int], labels: np.ndarray, recipe: _Recipe, settings: SeparationSettings
) -> _Carry:
    """Return a function that, asked for one slice after the other, gives the cells carried to it."""
    if recipe.carried == "unmoved":
        return lambda index, previous: labels
    if recipe.carried == "frames":
        return _frames(gap, slices[0], settings)
    carried: Iterator[np.ndarray]
    if _from_both(gap, recipe, settings):
        carried = (both.labels for both in propagate_both(gap, settings.flow))
    else:
        carried = carried_labels(gap, labels, slices, settings.flow)
    next(carried)
    return lambda index, previous: next(carried)


def _frames(gap: Gap, start: int, settings: SeparationSettings) -> _Carry:
    """Return a function that carries the previous result by one slice."""
    last = gap.image_at(start)

    def carry(index: int, previous: np.ndarray) -> np.ndarray:
        nonlocal last
        image = gap.image_at(index)
        if is_missing(image):
            return previous
        moved = previous if is_missing(last) else warp_labels(previous, dense_flow(image, last, settings.flow))
        last = image
        return moved

    return carry


def _name_new(result: np.ndarray, previous: np.ndarray, known: int, free: int) -> int:
    """Give new objects of a slice (−1, −2, …) their numbers, in place; return the next free number.

    One that overlaps new objects of the slice before takes the number of the one it shares most pixels with.
    """
    n_new = -min(0, int(result.min()))
    if n_new == 0:
        return free
    new = np.maximum(-result, 0)
    numbers = np.zeros(n_new + 1, np.int32)
    one, other, n_pixels = overlaps(new, np.where(previous > known, previous, 0))
    for i in np.lexsort((-other, n_pixels)):  # the last one written stays: the largest, of equals the oldest
        numbers[one[i]] = other[i]
    unnamed = np.flatnonzero(numbers[1:] == 0) + 1
    numbers[unnamed] = free + np.arange(unnamed.size)
    place = result < 0
    result[place] = numbers[new[place]]
    return free + int(unnamed.size)


def _settle(front: _Chain, back: _Chain, known: int) -> np.ndarray:
    """Return for each number the one it is the same object as, looking across the middle of the gap."""
    same = np.arange(back.free)
    if front.last is None or back.last is None:
        return same
    for chain, here, there in ((front, front.last, back.last), (back, back.last, front.last)):
        new = np.where(here > known, here, 0)
        area = np.bincount(new.ravel(), minlength=back.free) if new.any() else np.zeros(back.free)
        one, other, n_pixels = overlaps(new, there)
        best = n_pixels >= _LEAST_OVERLAP * area[one]
        for i in np.lexsort((-other, n_pixels)):
            if best[i] and not chain.parts(int(one[i]), int(other[i])):
                same[one[i]] = other[i]
    for number in range(known + 1, back.free):
        seen = [number]
        while same[seen[-1]] not in seen:
            seen.append(int(same[seen[-1]]))
        same[seen] = min(seen)  # the end is a known cell, or a ring of new numbers
    return same


def _names(gap: Gap, ids: np.ndarray, same: np.ndarray) -> np.ndarray:
    """Return the id of each number: that of its cell, or one of the new ids in the order in which they appear."""
    known = ids.size
    new = np.unique(same[same > known])
    first = gap.new_ids_from(new.size)
    names = np.zeros(same.size, gap.dtype)
    names[1 : known + 1] = ids
    names[new] = (np.arange(new.size, dtype=np.uint64) + np.uint64(first)).astype(gap.dtype)
    return names[same]
