"""The tools of correcting: paint, erase, fill, split, merge, remove and reassign, each one edit that can be undone.

All work on `Corrections`, in voxels ``(z, y, x)`` of its layer, and touch no more of it than what they change. What
hangs together is found in a box that grows until nothing of it is cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from cristae.corrections.journal import Entry
from cristae.corrections.store import Change, Corrections
from cristae.editing.region import bounds, open_faces, region_at
from cristae.editing.split import split_region
from cristae.editing.stroke import stroke
from cristae.errors import UsageError
from cristae.geometry import Box, Voxels
from cristae.io.stored import triple
from cristae.volume import Volume

LARGEST = 2**27
"""Voxels of the largest box that is looked at to see what hangs together: about 2 GB while it is split."""
_FIRST_REACH: Voxels = (8, 256, 256)

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


def fill(corrections: Corrections, at: Voxels, label: int, scope: Scope = "slice") -> Entry | None:
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

    Returns
    -------
    Entry or None
        The edit; None if nothing changed.

    Raises
    ------
    UsageError
        If the voxel or the label cannot be, or what hangs together is too large to look at.
    """
    return _relabel(corrections, "fill", at, label, scope)


def reassign(corrections: Corrections, at: Voxels, label: int, scope: Scope = "volume") -> Entry | None:
    """Give an island another id: the part of an object that hangs together with a voxel. See `fill`.

    Raises
    ------
    UsageError
        If there is background at the voxel, and as in `fill`.
    """
    if _label_at(corrections, at) == 0:
        raise UsageError(f"there is background at {_said(at)}; name a voxel of the island")
    return _relabel(corrections, "reassign", at, label, scope)


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
) -> Entry:
    """Split one object by marks in its parts; the first part keeps its id. See `cristae.editing.split`.

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

    Returns
    -------
    Entry
        The edit.

    Raises
    ------
    UsageError
        If the marks are not in one object, do not hang together, or it is too large to be split at once.
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
    box, inside = _object_around(corrections, marks, whole)
    planted = np.zeros(box.shape, np.int32)
    for number, part in enumerate(seeds, start=1):
        for seed in part:
            planted[tuple(np.subtract(seed, box.start))] = number
    parts = split_region(inside, planted, boundary.read(box) if boundary is not None else None)
    label = found[marks[0]]
    ids = np.array([label, label, *new_ids], corrections.original.dtype)
    entry = corrections.put("split", _slabs(box, ids[parts], parts > 1), [label, *new_ids])
    assert entry is not None, "each part has a seed of its own"
    return entry


def _relabel(corrections: Corrections, kind: str, at: Voxels, label: int, scope: Scope) -> Entry | None:
    corrections.check_label(label)
    before = _label_at(corrections, at)
    whole = corrections.original.grid.box
    if scope == "slice":
        whole = Box((at[0], 0, 0), (at[0] + 1, *whole.stop[1:]))
    box, inside = _object_around(corrections, [at], whole)
    labels = np.broadcast_to(np.array(label, corrections.original.dtype), box.shape)
    return corrections.put(kind, _slabs(box, labels, inside), [before, label])


def _object_around(corrections: Corrections, marks: Sequence[Voxels], whole: Box) -> tuple[Box, np.ndarray]:
    """Return a box, and in it what hangs together with the first mark; others must hang together with it, too."""
    corners = np.array(marks)
    start, stop = corners.min(axis=0), corners.max(axis=0) + 1
    box = Box(triple(start), triple(stop)).grow(_FIRST_REACH).clip(whole)
    while True:
        if box.n_voxels > LARGEST:
            raise UsageError(
                f"what hangs together with {_said(marks[0])} is larger than {LARGEST} voxels ({box.start}–{box.stop} "
                "do not hold it); work on some slices at a time"
            )
        labels = corrections.read(box)
        inside = region_at(labels, _within(marks[0], box))
        larger = _grown(box, open_faces(inside), whole)
        if larger == box:
            break
        box = larger
    for mark in marks[1:]:
        if not inside[_within(mark, box)]:
            raise UsageError(
                f"{_said(mark)} and {_said(marks[0])} have one id, but do not hang together; give one of the parts "
                "another id instead (reassign)"
            )
    around = bounds(inside)
    tight = Box(triple(s.start for s in around), triple(s.stop for s in around))
    tight = tight.grow((0, 1, 1)).clip(Box.of_shape(box.shape))
    return tight.shift(box.start), np.ascontiguousarray(inside[tight.slices])


def _grown(box: Box, cut: Sequence[tuple[bool, bool]], whole: Box) -> Box:
    """Return a box that is twice as long on each side on which something is cut, within the volume."""
    start = tuple(low - n * low_cut for low, n, (low_cut, _) in zip(box.start, box.shape, cut, strict=True))
    stop = tuple(high + n * high_cut for high, n, (_, high_cut) in zip(box.stop, box.shape, cut, strict=True))
    return Box(triple(start), triple(stop)).clip(whole)


def _slabs(box: Box, labels: np.ndarray, mask: np.ndarray, depth: int = 8) -> list[Change]:
    """Return one change per few slices, each as small as what it changes."""
    found = []
    for z in range(0, box.shape[0], depth):
        here = mask[z : z + depth]
        if here.any():
            inner = bounds(here)
            at = Box(triple(s.start for s in inner), triple(s.stop for s in inner))
            place = at.shift((box.start[0] + z, *box.start[1:]))
            found.append(Change(place, labels[z : z + depth][inner], here[inner]))
    return found


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


def _within(at: Voxels, box: Box) -> tuple[int, ...]:
    return tuple(int(i - first) for i, first in zip(at, box.start, strict=True))


def _said(at: Sequence[int]) -> str:
    return ",".join(str(int(n)) for n in at)
