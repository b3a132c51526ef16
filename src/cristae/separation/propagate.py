"""Labels carried by optical flow from the labelled slices into the gap between them.

From the nearest labelled slice, as in the paper: half-way, where one side takes over from the other, outlines jump.
Or from both: where the two disagree, each votes with its trust × √(depth of the pixel in the region that it claims),
so that an outline moves from one to the other bit by bit::

    carried from before   ───────A──────|────B─────────     an outline between A and B is seen at two places; it is
    carried from after    ───A───|───────────B─────────     put between them, nearer to the one that is trusted more
    together              ──────A────|───────B─────────

Papers: A. Machireddy et al. (2023), Front. Bioinform. 3, 1308708, §3.3; S. P. Raya & J. K. Udupa (1990), IEEE Trans.
Med. Imaging 9, 32 (interpolation by depth).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from cristae.flow import Flow, FlowMethod, dense_flow
from cristae.separation.gap import Gap
from cristae.separation.outlines import depth
from cristae.separation.runs import Runs, compress, expand
from cristae.warping import compose, forward_backward_error, warp_labels, warp_map

_COARSE = 4
"""Side (px) of the squares over which trust is averaged while it waits for the other direction."""
_RADIUS = 3
_WINDOW = np.exp(-(np.arange(-_RADIUS, _RADIUS + 1, dtype=np.float32) ** 2) / (2 * 1.5**2))
"""Weights of rows and columns around a pixel when votes are counted: a Gaussian of 1.5 px, which leaves no frays."""


class Propagated(NamedTuple):
    """Labels of a slice, and how far they can be trusted.

    Parameters
    ----------
    labels
        Integer ids ``(y, x)``; 0 is background.
    confidence
        float32 ``(y, x)``, 1 certain to 0: it falls with the distance to the labelled slices and with the
        forward–backward error on the way, and where the two sides disagree.
    """

    labels: np.ndarray
    confidence: NDArray[np.float32]


class _Trusted(NamedTuple):
    labels: np.ndarray
    trust: NDArray[np.float32]


def halves(gap: Gap) -> tuple[range, range]:
    """Return the slices nearest to `before`, going up, and those nearest to `after`, going down.

    Each starts with its labelled slice. The middle slice goes to `before`; a side without labels has no slices.
    """
    n = len(gap)
    if gap.after is None:
        return range(n), range(0)
    last = -1 if gap.before is None else (n - 1) // 2
    return range(last + 1), range(n - 1, last, -1)


def is_missing(image: np.ndarray) -> bool:
    """Say whether an image holds one value throughout: a slice that was lost, which matches nothing."""
    return bool((image == image.flat[0]).all())


def composed_flows(gap: Gap, slices: Sequence[int], method: FlowMethod) -> Iterator[Flow | None]:
    """Yield the flow from each slice to the first of `slices`, by way of all between.

    Parameters
    ----------
    gap
        Its images are read, one after the other.
    slices
        Neighbouring slices, up or down.
    method
        How to match two slices.

    Yields
    ------
    float32 (2, y, x) or None
        None as long as nothing can have moved: at the first slice. Missing slices are left out of the matching, and
        stand where the last one before them stood.
    """
    last: np.ndarray | None = None
    total: Flow | None = None
    for index in slices:
        image = gap.image_at(index)
        if not is_missing(image):
            if last is not None:
                step = dense_flow(image, last, method)
                total = step if total is None else compose(step, total)
            last = image
        yield total


def carried_labels(gap: Gap, labels: np.ndarray, slices: Sequence[int], method: FlowMethod) -> Iterator[np.ndarray]:
    """Yield the labels of the first of `slices` carried to each of them; parameters as in `composed_flows`."""
    for flow in composed_flows(gap, slices, method):
        yield labels if flow is None else warp_labels(labels, flow)


def propagate_nearest(gap: Gap, method: FlowMethod) -> Iterator[np.ndarray]:
    """Yield labels slice by slice, carried from the nearest labelled slice; half-way, from `before`.

    The far half is worked off first, from its end, and waits as runs; of the rest a few planes are held at a time.

    Parameters
    ----------
    gap
        Images and labelled slices.
    method
        How to match two slices.

    Yields
    ------
    integers (y, x)
        Ids in the dtype of the gap; the labelled slices come out as they went in.

    Raises
    ------
    DataError
        If a plane of the gap has another type or size than the labels.
    """
    up, down = halves(gap)
    waiting = []
    if gap.after is not None:
        waiting = [compress(labels) for labels in carried_labels(gap, gap.after.astype(gap.dtype), down, method)]
    if gap.before is not None:
        yield from carried_labels(gap, gap.before.astype(gap.dtype), up, method)
    while waiting:
        yield expand(waiting.pop())


def propagate_both(gap: Gap, method: FlowMethod, tolerance_px: float = 1.0) -> Iterator[Propagated]:
    """Yield labels and confidence slice by slice, carried from both labelled slices and voted on pixel by pixel.

    The trust in a side falls linearly with the distance to its labelled slice, and with the forward–backward error
    that added up on the way from it. With one labelled slice only there is no vote, and the confidence falls to 1/n.
    Where nobody looked on a labelled slice, that side has no vote, and the other one reaches up to that slice.

    Parameters
    ----------
    gap
        Images and labelled slices.
    method
        How to match two slices; it is asked four times per slice.
    tolerance_px
        Sum of forward–backward errors (px) at which trust is halved; above 0.

    Yields
    ------
    Propagated
        Ids in the dtype of the gap; the labelled slices come out as they went in, with confidence 1, but where nobody
        looked.

    Raises
    ------
    DataError
        If a plane of the gap has another type or size than the labels.
    """
    n = len(gap)
    if gap.before is None or gap.after is None:
        yield from _propagate_one_side(gap, method, tolerance_px)
        return
    unknown = 0 if gap.seen else replace(gap, first_new_id=None).new_ids_from(1)
    before, after = (
        (labels if unseen is None else np.where(unseen & (labels == 0), unknown, labels)).astype(gap.dtype)
        for labels, unseen in zip((gap.before, gap.after), gap.unseen, strict=True)
    )
    from_far = range(n - 1, 0 if gap.unseen[0] is None else -1, -1)
    from_near = range(n - 1 if gap.unseen[1] is None else n)
    far_sides = [
        (compress(labels), _coarse(trust)) for labels, trust in _trusted(gap, after, from_far, method, tolerance_px)
    ]
    near_sides = _trusted(gap, before, from_near, method, tolerance_px)
    for index in range(n):
        near = next(near_sides, None)
        far = _waited(far_sides.pop(), gap.shape) if index > 0 or far_sides[n - 1 :] else None
        if index == 0:
            yield _labelled(before, far, unknown, n)
        elif index == n - 1:
            yield _labelled(after, near, unknown, n)
        else:
            assert near is not None
            assert far is not None
            yield _vote(*((near, far) if gap.seen else _filled(near, far, unknown)), index / (n - 1))


def _waited(side: tuple[Runs, np.ndarray], shape: tuple[int, int]) -> _Trusted:
    return _Trusted(expand(side[0]), _fine(side[1], shape))


def _labelled(labels: np.ndarray, other: _Trusted | None, unknown: int, n: int) -> Propagated:
    """Return a labelled slice, and where nobody looked what came to it through all the n slices of the gap."""
    if other is None:
        return Propagated(labels, np.ones(labels.shape, np.float32))
    blank = labels == unknown
    carried = np.where(other.labels == unknown, 0, other.labels)
    confidence = np.where(blank, other.trust / np.float32(n), np.float32(1))
    return Propagated(np.where(blank, carried, labels).astype(labels.dtype), confidence)


def _propagate_one_side(gap: Gap, method: FlowMethod, tolerance_px: float) -> Iterator[Propagated]:
    n = len(gap)
    labels, slices = (gap.before, range(n)) if gap.before is not None else (gap.after, range(n - 1, -1, -1))
    assert labels is not None
    shares = iter(1 - np.arange(n, dtype=np.float32) / n)
    carried = _trusted(gap, labels.astype(gap.dtype), slices, method, tolerance_px)
    if gap.before is not None:
        for (ids, trust), share in zip(carried, shares, strict=True):
            yield Propagated(ids, trust * share)
        return
    waiting = [(compress(ids), _coarse(trust * share)) for (ids, trust), share in zip(carried, shares, strict=True)]
    while waiting:
        runs, coarse = waiting.pop()
        yield Propagated(expand(runs), _fine(coarse, gap.shape))


def _trusted(
    gap: Gap, labels: np.ndarray, slices: Sequence[int], method: FlowMethod, tolerance_px: float
) -> Iterator[_Trusted]:
    """Yield the labels of the first slice carried to each, and a trust of 0–1 from the errors met on the way."""
    last: np.ndarray | None = None
    total: Flow | None = None
    error = np.zeros(gap.shape, np.float32)
    for index in slices:
        image = gap.image_at(index)
        if not is_missing(image):
            if last is not None:
                step = dense_flow(image, last, method)
                total = step if total is None else compose(step, total)
                error = warp_map(error, step)
                error += forward_backward_error(step, dense_flow(last, image, method))
            last = image
        trust = np.reciprocal(1 + error / np.float32(tolerance_px))
        yield _Trusted(labels if total is None else warp_labels(labels, total), trust)


def _coarse(trust: np.ndarray) -> np.ndarray:
    """Return trust as uint8 at a quarter of the size, for a gap of them is held at once; never 0."""
    height, width = (-(-n // _COARSE) for n in trust.shape)
    small = cv2.resize(trust, (width, height), interpolation=cv2.INTER_AREA)
    return np.clip(np.rint(small * 255), 1, 255).astype(np.uint8)


def _fine(coarse: np.ndarray, shape: tuple[int, int]) -> NDArray[np.float32]:
    fine = cv2.resize(coarse.astype(np.float32), shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(fine, np.float32) / np.float32(255)


def _vote(near: _Trusted, far: _Trusted, share: float) -> Propagated:
    """Combine two sides, of which the far one counts for `share` of the whole."""
    trusts = near.trust * np.float32(1 - share), far.trust * np.float32(share)
    depths = _depths(near.labels, far.labels)
    votes = trusts[0] * np.sqrt(depths[0]), trusts[1] * np.sqrt(depths[1])
    labels, confidence = near.labels.copy(), np.empty(near.labels.shape, np.float32)
    _decide((near.labels, far.labels), trusts, votes, labels, confidence)
    return Propagated(labels, confidence)


def _filled(near: _Trusted, far: _Trusted, unknown: int) -> tuple[_Trusted, _Trusted]:
    """Return both sides, each with what the other one says, and no trust, where it knows nothing; 0 where none does."""
    blank = near.labels == unknown, far.labels == unknown
    both = blank[0] & blank[1]
    labels = np.where(blank[0], far.labels, near.labels), np.where(blank[1], near.labels, far.labels)
    trusts = np.where(blank[0], np.float32(0), near.trust), np.where(blank[1], np.float32(0), far.trust)
    return _Trusted(np.where(both, 0, labels[0]).astype(near.labels.dtype), trusts[0]), _Trusted(
        np.where(both, 0, labels[1]).astype(far.labels.dtype), trusts[1]
    )


def _depths(near: np.ndarray, far: np.ndarray) -> list[NDArray[np.float32]]:
    """Return the depths of both; where one is a single region, perhaps empty, as deep as any cell of the other.

    Without an outline it would be deeper than all, and what the other side knows would vanish at once.
    """
    depths = [depth(near), depth(far)]
    single = [bool((labels == labels.flat[0]).all()) for labels in (near, far)]
    for here, there, labels in ((0, 1, far), (1, 0, near)):
        if single[here] and not single[there]:
            depths[here] = np.full_like(depths[here], depths[there][labels > 0].max(initial=1))
    return depths


@njit(cache=True, nogil=True)
def _count(
    labels: np.ndarray, votes: np.ndarray, position: tuple[int, int], one: int, other: int
) -> tuple[np.float32, np.float32]:
    """Return the votes for each of two ids around a pixel."""
    height, width = labels.shape
    for_one, for_other = np.float32(0), np.float32(0)
    for step_y in range(-_RADIUS, _RADIUS + 1):
        y = min(max(position[0] + step_y, 0), height - 1)
        for step_x in range(-_RADIUS, _RADIUS + 1):
            x = min(max(position[1] + step_x, 0), width - 1)
            vote = votes[y, x] * _WINDOW[step_y + _RADIUS] * _WINDOW[step_x + _RADIUS]
            if labels[y, x] == one:
                for_one += vote
            elif labels[y, x] == other:
                for_other += vote
    return for_one, for_other


@njit(cache=True, nogil=True)
def _decide(
    sides: tuple[np.ndarray, np.ndarray],
    trusts: tuple[np.ndarray, np.ndarray],
    votes: tuple[np.ndarray, np.ndarray],
    labels: np.ndarray,
    confidence: np.ndarray,
) -> None:
    """Give each pixel the label with more votes, and note how clear the vote was."""
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            one, other = sides[0][y, x], sides[1][y, x]
            trust, other_trust = trusts[0][y, x], trusts[1][y, x]
            if one == other:
                confidence[y, x] = 1 - (1 - trust) * (1 - other_trust)
                continue
            near_one, near_other = _count(sides[0], votes[0], (y, x), one, other)
            far_one, far_other = _count(sides[1], votes[1], (y, x), one, other)
            for_one, for_other = near_one + far_one, near_other + far_other
            if for_other > for_one:
                labels[y, x] = other
            confidence[y, x] = max(trust, other_trust) * abs(for_one - for_other) / (for_one + for_other)
