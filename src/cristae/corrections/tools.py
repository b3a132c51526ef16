"""The tools of correcting: paint, erase, fill, split, merge, remove and reassign, each one edit that can be undone.

All work on `Corrections`, in voxels ``(z, y, x)`` of its layer, and touch no more of it than what they change. What
hangs together is found tile by tile; see `cristae.corrections.reach`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cristae.corrections.journal import Entry
from cristae.corrections.reach import Reached, coarse_shape, lay_over, reach
from cristae.corrections.store import Change, Corrections
from cristae.editing.region import bounds
from cristae.editing.split import split_region
from cristae.editing.stroke import stroke
from cristae.errors import UsageError
from cristae.geometry import Box, Grid, Voxels
from cristae.io.stored import triple
from cristae.volume import Volume

LARGEST = 2**33
"""Voxels that are looked at, at most, to see what hangs together; a bit is kept of each."""
AT_ONCE = 2**27
"""Voxels of the largest box in which an object is cut voxel by voxel, in 3 GB in all; others are cut in steps."""

Scope = Literal["slice", "volume"]


def paint(
    corrections: Corrections,
    z: int,
    points: Sequence[Sequence[float]],
    label: int,
    *,
    radius: float,
    only: int | None = None,
) -> Entry | None:
    """Lead a round brush over a slice.

    Parameters
    ----------
    corrections
        What is corrected.
    z
        Slice.
    points
        y and x of the brush, one after another.
    label
        Id that is painted; 0 erases.
    radius
        Of the brush in pixels, at least 0.
    only
        Id that may be painted over, such as 0, the background; None paints over all.

    Returns
    -------
    Entry or None
        The edit; None if nothing changed.

    Raises
    ------
    UsageError
        If the slice or the label cannot be.
    """
    depth, height, width = corrections.original.shape
    if not 0 <= z < depth:
        raise UsageError(f"there is no slice {z}; the layer has 0 to {depth - 1}")
    corrections.check_label(label)
    try:
        (y, x), mask = stroke(np.asarray(points, np.float64), radius, (height, width))
    except ValueError as error:
        raise UsageError(str(error)) from error
    if not mask.size:
        return None
    box = Box((z, y, x), (z + 1, y + mask.shape[0], x + mask.shape[1]))
    meant = mask[None]
    if only is not None:
        meant = meant & (corrections.read(box) == only)
    kind = "paint" if label else "erase"
    return corrections.put(kind, [_filled(corrections, box, meant, label)], [label] if label else [])


def erase(
    corrections: Corrections, z: int, points: Sequence[Sequence[float]], *, radius: float, only: int | None = None
) -> Entry | None:
    """Lead an eraser over a slice: paint background. See `paint`."""
    return paint(corrections, z, points, 0, radius=radius, only=only)


def fill(
    corrections: Corrections, at: Voxels, label: int, scope: Scope = "slice", *, most: int = LARGEST
) -> Entry | None:
    """Give all that hangs together with a voxel, and has its label, another label.

    Parameters
    ----------
    corrections
        What is corrected.
    at
        The voxel.
    label
        New label; 0 erases.
    scope
        Whether what hangs together is looked for in its slice, or in the volume.
    most
        Voxels that are looked at for it, at most.

    Returns
    -------
    Entry or None
        The edit; None if nothing changed.

    Raises
    ------
    UsageError
        If the voxel or the label cannot be, or what hangs together is too large to look at.
    """
    return _relabel(corrections, "fill", at, label, scope, most)


def reassign(
    corrections: Corrections, at: Voxels, label: int, scope: Scope = "volume", *, most: int = LARGEST
) -> Entry | None:
    """Give an island another id: the part of an object that hangs together with a voxel. See `fill`.

    Raises
    ------
    UsageError
        If there is background at the voxel, and as in `fill`.
    """
    if _label_at(corrections, at) == 0:
        raise UsageError(f"there is background at {_said(at)}; name a voxel of the island")
    return _relabel(corrections, "reassign", at, label, scope, most)


def merge(corrections: Corrections, ids: Sequence[int]) -> Entry | None:
    """Make several objects one, with the id of the first; as quick for whole cells as for one slice.

    Raises
    ------
    UsageError
        If these are not two objects at least, or the layer is a mask.
    """
    _check_objects(corrections)
    first, *others = dict.fromkeys(ids)
    if not others:
        raise UsageError("a merge needs the ids of two objects at least; the first is kept")
    return corrections.rename("merge", dict.fromkeys(others, first), ids)


def remove(corrections: Corrections, ids: Sequence[int]) -> Entry | None:
    """Remove whole objects: what they were becomes background.

    Raises
    ------
    UsageError
        If the layer is a mask, or an id is 0.
    """
    _check_objects(corrections)
    return corrections.rename("remove", dict.fromkeys(ids, 0), ids)


def split(
    corrections: Corrections,
    seeds: Sequence[Sequence[Voxels]],
    new_ids: Sequence[int],
    *,
    boundary: Volume | None = None,
    slices: tuple[int, int] | None = None,
    most: int = LARGEST,
) -> Entry:
    """Split one object by marks in its parts; the first part keeps its id. See `cristae.editing.split`.

    An object whose box has more than `AT_ONCE` voxels is cut in steps of two, four… voxels, noted as ``step``.

    Parameters
    ----------
    corrections
        What is corrected.
    seeds
        Voxels of each part, two parts at least; all lie in the object.
    new_ids
        Ids of the second part and those that follow, not in use yet.
    boundary
        Predicted probability of a membrane × 255 on the same grid, if there is one.
    slices
        First and last slice in which the object is split; all of it without.
    most
        Voxels that are looked at to see what hangs together, at most.

    Returns
    -------
    Entry
        The edit.

    Raises
    ------
    UsageError
        If the marks are not in one object, do not hang together, or are too near in an object that is cut in steps, or
        it is too large to be looked at.
    """
    _check_objects(corrections)
    marks = [triple(seed) for part in seeds for seed in part]
    if len(seeds) < 2 or not all(seeds) or len(new_ids) != len(seeds) - 1:
        raise UsageError("a split needs a seed in each of two parts at least, and an id for each part but the first")
    found = {seed: _label_at(corrections, seed) for seed in marks}
    if len(set(found.values())) > 1 or 0 in found.values():
        said = ", ".join(f"{label} at {_said(seed)}" for seed, label in found.items())
        raise UsageError(f"the seeds of a split must lie in one object; there is {said}")
    whole = corrections.original.grid.box
    if slices is not None:
        first, last = slices
        whole = Box((first, 0, 0), (last + 1, *whole.stop[1:])).clip(whole)
        if not all(whole.start[0] <= seed[0] < whole.stop[0] for seed in marks):
            raise UsageError(f"a seed lies outside of slices {first} to {last}, in which the object is to be split")
    reached = reach(corrections.read, marks[0], whole, most)
    for mark in marks[1:]:
        if not reached.holds(mark):
            raise UsageError(
                f"{_said(mark)} and {_said(marks[0])} have one id, but do not hang together; give one of the parts "
                "another id instead (reassign)"
            )
    cut = _cut(reached, seeds, boundary, corrections.original.grid)
    label = found[marks[0]]
    ids = np.array([label, label, *new_ids], corrections.original.dtype)
    note = {"step": list(cut.step)} if max(cut.step) > 1 else {}
    entry = corrections.put("split", cut.changes(reached, ids), [label, *new_ids], **note)
    assert entry is not None, "each part has a seed of its own"
    return entry


@dataclass(frozen=True)
class _Cut:
    """The parts of a split object, one number per `step` voxels of a box."""

    box: Box
    step: Voxels
    parts: np.ndarray

    def changes(self, reached: Reached, ids: np.ndarray) -> Iterator[Change]:
        """Yield, tile by tile, the new ids of all parts but the first."""
        for tile in reached.tiles:
            index = (
                (np.arange(low, high) - first) // n
                for low, high, first, n in zip(tile.start, tile.stop, self.box.start, self.step, strict=True)
            )
            # Of a tile that leaves the box, voxels outside are none of the object.
            inside = (np.clip(one, 0, n - 1) for one, n in zip(index, self.parts.shape, strict=True))
            parts = self.parts[np.ix_(*inside)]
            yield from _change(tile, ids[parts], reached.mask(tile) & (parts > 1))


def _cut(reached: Reached, seeds: Sequence[Sequence[Voxels]], boundary: Volume | None, grid: Grid) -> _Cut:
    """Cut an object at seeds; one whose box is too large for that at once in steps of some voxels."""
    step = _coarseness(reached.box, grid.voxel_size)
    # What is narrow is told by the distance to voxels outside.
    box = reached.box.grow((0, step[1], step[2])).clip(grid.box)
    inside = reached.coarse(box, step)
    planted = np.zeros(inside.shape, np.int32)
    for number, part in enumerate(seeds, start=1):
        for seed in part:
            at = tuple((i - low) // n for i, low, n in zip(seed, box.start, step, strict=True))
            if planted[at] not in (0, number):
                raise UsageError(
                    f"the seed {_said(seed)} is too near to that of another part for an object of this size, which is "
                    f"cut in steps of {_said(step)} voxels; put them farther apart, or work on some slices at a time"
                )
            planted[at] = number
    walls = None
    if boundary is not None:
        walls = np.zeros(inside.shape, np.uint8)
        for tile in reached.tiles:
            place = tile.clip(box)
            lay_over(walls, place, boundary.read(place), box, step)
    return _Cut(box, step, split_region(inside, planted, walls))


def _coarseness(box: Box, voxel_size: Sequence[float]) -> Voxels:
    """Return in which steps an object is cut: single voxels, or, of a large one, some that are as deep as wide."""
    step = [1, 1, 1]
    while math.prod(coarse_shape(box, triple(step))) > AT_ONCE:
        sizes = [n * size if n < side else math.inf for n, size, side in zip(step, voxel_size, box.shape, strict=True)]
        step = [2 * n if size < 1.5 * min(sizes) else n for n, size in zip(step, sizes, strict=True)]
    return triple(step)


def _relabel(corrections: Corrections, kind: str, at: Voxels, label: int, scope: Scope, most: int) -> Entry | None:
    corrections.check_label(label)
    before = _label_at(corrections, at)
    whole = corrections.original.grid.box
    if scope == "slice":
        whole = Box((at[0], 0, 0), (at[0] + 1, *whole.stop[1:]))
    reached = reach(corrections.read, triple(at), whole, most)
    new = np.array(label, corrections.original.dtype)
    changes = (
        one for tile in reached.tiles for one in _change(tile, np.broadcast_to(new, tile.shape), reached.mask(tile))
    )
    return corrections.put(kind, changes, [before, label])


def _change(tile: Box, labels: np.ndarray, mask: np.ndarray) -> Iterator[Change]:
    """Yield a change, as small as what it changes, or none."""
    if mask.any():
        inner = bounds(mask)
        place = Box(triple(s.start for s in inner), triple(s.stop for s in inner)).shift(tile.start)
        yield Change(place, labels[inner], mask[inner])


def _filled(corrections: Corrections, box: Box, mask: np.ndarray, label: int) -> Change:
    return Change(box, np.broadcast_to(np.array(label, corrections.original.dtype), box.shape), mask)


def _label_at(corrections: Corrections, at: Voxels) -> int:
    z, y, x = (int(n) for n in at)
    box = Box((z, y, x), (z + 1, y + 1, x + 1))
    if not corrections.original.grid.box.contains(box):
        raise UsageError(f"there is no voxel {_said(at)}; the layer has {corrections.original.shape} (z, y, x)")
    return int(corrections.read(box)[0, 0, 0])


def _check_objects(corrections: Corrections) -> None:
    if corrections.original.dtype == np.uint8:
        raise UsageError("this layer is a mask, without objects to split, merge or remove; paint, erase or fill it")


def _said(at: Sequence[int]) -> str:
    return ",".join(str(int(n)) for n in at)
