"""What the stages hold that prepare a raw stack: inspection, alignment, equalisation; all of them by whole slices."""

from __future__ import annotations

from cristae.costs.steps import Memory, Step, pyramid_step
from cristae.costs.work import SHARD, Work

LONGEST_MATCHED = 1536
"""Longer slices are reduced before they are matched, by powers of 2."""
MOST_NEIGHBOURS = 8
"""Slices before each one that it can be matched to."""


def check_memory(work: Work) -> Memory:
    """Return what an inspection holds: slabs of slices, and what neighbours are compared by."""
    # A slab while the next is read, and what is compared of 16 slices and of those before them, at most 768 px long.
    looks = 2 * _slab(work) + 6e7
    # A slice as numbers of 4 bytes, where it is padded, and a spectrum.
    return Memory((Step("slabs of slices that are looked at", looks, 8 * work.plane + 5e7),))


def align_memory(work: Work) -> Memory:
    """Return what alignment holds: slabs and what their slices are matched by, then slabs that are warped."""
    slab, reduced = _slab(work), work.plane / matched_reduction(work) ** 2
    # One is worked on, one is read; pyramids have a third more than their finest level.
    matched = 2 * slab + 4 * 4 / 3 * reduced * (SHARD[0] + MOST_NEIGHBOURS)
    matching = Step("slabs of slices that are matched", matched, 60 * reduced + (work.itemsize + 2) * work.plane)
    # Raw and aligned; interpolation holds a slice twice.
    warping = Step("slabs of whole slices that are warped", 0, slab + _written(work) + 3 * work.itemsize * work.plane)
    moving = Step("labels that are moved", 24 * work.plane)
    return Memory((matching, warping, _finishing(work), moving))


def equalise_memory(work: Work) -> Memory:
    """Return what equalisation holds: slabs of slices, old and new."""
    each = _slab(work) + _written(work) + (work.itemsize + 4) * work.plane
    return Memory((Step("slabs of whole slices that are equalised", 0, each), _finishing(work)))


def matched_reduction(work: Work) -> int:
    """Return the power of 2 by which slices are reduced before they are matched."""
    factor = 1
    while max(work.shape[1:]) > LONGEST_MATCHED * factor:
        factor *= 2
    return factor


def _slab(work: Work) -> float:
    return float(min(SHARD[0], work.shape[0]) * work.plane * work.itemsize)


def _written(work: Work) -> float:
    """Return what a slab of whole shards takes on its way to the disk: its voxels, and some shards of them, encoded."""
    return 1.5 * _slab(work)


def _finishing(work: Work) -> Step:
    """Return what follows the writing of an image: coarser levels are made while it is surveyed."""
    pyramid = pyramid_step(work, work.itemsize, labels=False)
    return Step("the survey of the image and its coarser levels", _slab(work) + 8 * work.plane + pyramid.fixed)


def at_once(work: Work) -> int:
    """Return how many slabs are in memory at a time: the serial executor reads ahead, and writes the last."""
    return work.workers or 2
