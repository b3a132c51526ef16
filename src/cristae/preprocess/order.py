"""Whether slices stand in the order in which they were cut: shuffled ones, strangers, and gaps that nobody noted.

The likeness of two slices falls with the distance at which they were cut. In a stack in order each slice is likest to
its neighbours, and the likeness at lag 1, 2, 3... is a ruler: a pair of neighbours as unlike as slices usually are
at lag 3 has two slices missing between them. A slice that is bad in itself is unlike to all, which is no question of
order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from cristae.preprocess.spread import spread_of, usual

_INNER = 4
"""Slices that are put in every order, between two that stay."""
_SWAPPED = 0.8
"""Gain of another order, in steps of likeness from lag 1 to lag 2, from which on it is believed; a swap gains 2."""
_LOST = 0.75
"""Slices that seem to be lost from which on a gap is believed."""
_UNLIKE = 0.1
"""Likeness below which two slices have nothing in common, or twice that of chance where this is more."""


@dataclass(frozen=True)
class Gap:
    """Slices that are lacking before slice `z`; `n_lost` is None where it cannot be told how many."""

    z: int
    n_lost: int | None
    score: float


@dataclass(frozen=True)
class Stranger:
    """A slice that fits neither neighbour, though these fit each other, and the slice it may belong beside, if any."""

    z: int
    beside: int | None
    score: float


def ruler(likeness: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """Return the likeness of slices at each lag, made to fall: float64 ``(lags,)``, NaN where it is unknown.

    Parameters
    ----------
    likeness
        float ``(n, lags)``: of each slice to the slices 1, 2... before; NaN for unknown.
    usable
        bool ``(n,)``: slices that are good in themselves.
    """
    found = np.full(likeness.shape[1], np.nan)
    for k in range(min(likeness.shape[1], len(usable) - 1)):
        pairs = likeness[k + 1 :, k][usable[k + 1 :] & usable[: len(usable) - k - 1]]
        pairs = pairs[np.isfinite(pairs)]
        if len(pairs):
            found[k] = np.median(pairs)
    known = np.isfinite(found)
    found[known] = np.minimum.accumulate(found[known])
    return found


def shuffled(likeness: np.ndarray, usable: np.ndarray, lags: np.ndarray) -> list[tuple[tuple[int, ...], float]]:
    """Return groups of slices that stand in another order than they were cut in, and the gain of that order.

    `_INNER` slices at a time are put in every order between the two beside them; that with the largest sum of
    likenesses of neighbours is right, if it gains clearly.

    Parameters
    ----------
    likeness, usable
        As in `ruler`.
    lags
        What `ruler` returned.

    Returns
    -------
    list of (slices, gain)
        Slices as they should follow each other; the gain in steps from lag 1 to lag 2.
    """
    if len(lags) < 2 or not np.isfinite(lags[:2]).all():
        return []
    step = max(float(lags[0] - lags[1]), 0.01)
    order = [int(z) for z in np.flatnonzero(usable)]
    inner = min(_INNER, len(order) - 2)
    if inner < 2:
        return []
    orders = list(permutations(range(1, inner + 1)))
    cut, gains, start = list(order), dict.fromkeys(order, 0.0), 0
    n_left = 4 * len(order)  # likenesses that contradict each other could go round in circles
    while start + inner + 2 <= len(order) and n_left:
        window = order[start : start + inner + 2]
        new, gain = _best_order(window, likeness, orders)
        if gain > _SWAPPED * step:
            order[start : start + inner + 2] = new
            for z in new:
                gains[z] += gain / step
            start = max(0, start - inner)  # a slice may have to go on to an earlier window
            n_left -= 1
        else:
            start += 1
    return [(group, max(gains[z] for z in group)) for group in _exchanged(cut, order)]


def _exchanged(before: Sequence[int], after: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the shortest runs of `after` that hold the same as `before` there, in another order."""
    found, first, ahead = [], 0, set[int]()
    for i, (one, other) in enumerate(zip(before, after, strict=True)):
        ahead ^= {one}
        ahead ^= {other}
        if not ahead:
            run = tuple(after[first : i + 1])
            if run != tuple(before[first : i + 1]):
                found.append(tuple(z for z, old in zip(run, before[first : i + 1], strict=True) if z != old))
            first = i + 1
    return found


def strangers(
    likeness: np.ndarray, usable: np.ndarray, lags: np.ndarray, grid: np.ndarray, threshold: float
) -> list[Stranger]:
    """Return slices that fit neither neighbour although these fit each other.

    Parameters
    ----------
    likeness, usable, lags
        As in `shuffled`.
    grid
        float ``(n, y, x)``: coarse pictures of the slices, by which a place farther away is looked for.
    threshold
        How many spreads the misfit has at least.
    """
    n = len(usable)
    if n < 5 or len(lags) < 3 or not np.isfinite(lags[:3]).all():
        return []
    misfit, own = np.full(n, np.nan), np.full(n, np.nan)
    for z in range(1, n - 1):
        if usable[z - 1 : z + 2].all():
            own[z] = max(likeness[z, 0], likeness[z + 1, 0])
            misfit[z] = likeness[z + 1, 1] - own[z]
    scale = max(spread_of(misfit), 0.01)
    # Neighbours fit each other worse than either fits the slice between them, unless that is a stranger.
    chosen = [
        z
        for z in np.flatnonzero(np.nan_to_num(misfit) > threshold * scale)
        if own[z] < lags[2] and misfit[z] > 0.3 * (lags[0] - lags[2])
    ]
    return [Stranger(int(z), _beside(int(z), usable, grid), float(misfit[z] / scale)) for z in chosen]


def gaps(
    likeness: np.ndarray, usable: np.ndarray, lags: np.ndarray, settled: Sequence[int], bars: tuple[float, float]
) -> list[Gap]:
    """Return where slices are lacking that nobody noted.

    The pair on both sides of a gap, and the pairs that reach over it, are less alike than elsewhere. A slice that is
    bad in itself lowers its own pairs only.

    Parameters
    ----------
    likeness, usable, lags
        As in `shuffled`.
    settled
        Slices of which something else is known already; nothing is said of gaps beside them.
    bars
        How many spreads a gap has at least, and the likeness below which slices have nothing in common.
    """
    threshold, lowest = bars
    if not np.isfinite(lags[:2]).all():
        return []
    lost = _slices_lost(likeness, usable, lags)
    taken = {z + side for z in settled for side in (0, 1)}
    # The smallest of three numbers is mostly below 0: what is above shows how far chance goes.
    scale = 1.4826 * float(np.median(lost[lost > 0])) if (lost > 0).any() else 0.0
    found = []
    # Beside slices that are alike, two with nothing in common are a gap in a stack of any length.
    torn = (np.nan_to_num(likeness[:, 0], nan=1.0) < lowest) & (lags[0] > 4 * lowest)
    for z in np.flatnonzero((np.nan_to_num(lost) > max(_LOST, 0.9 * threshold * scale)) | (torn & np.isfinite(lost))):
        place = int(z)
        near = lost[max(0, place - 2) : place + 3]
        if place in taken or (lost[place] < np.nanmax(near) and not torn[place]):
            continue
        here, known = float(likeness[place, 0]), lags[np.isfinite(lags)]
        far = here < max(lowest, float(known[-1]) * 0.9) if len(known) > 1 else True
        n_lost = None if far else max(1, int(np.argmin(np.abs(known - here))))
        found.append(Gap(place, n_lost, float(lost[place] / max(scale, _LOST / threshold))))
    return found


def unlike(lags: np.ndarray, chance: float) -> bool:
    """Say whether neighbouring slices have nothing in common, so that nothing can be said of their order."""
    return bool(len(lags) and np.isfinite(lags[0]) and lags[0] < nothing_in_common(chance))


def nothing_in_common(chance: float) -> float:
    """Return the likeness below which two slices have nothing in common."""
    return max(_UNLIKE, 1.5 * chance)


def _best_order(
    window: Sequence[int], likeness: np.ndarray, orders: Sequence[tuple[int, ...]]
) -> tuple[list[int], float]:
    size = len(window)
    pair = np.zeros((size, size))
    for a in range(size):
        for b in range(a):
            later, lag = max(window[a], window[b]), abs(window[a] - window[b])
            value = likeness[later, lag - 1] if lag <= likeness.shape[1] else np.nan
            # Unknown is as unlike as can be: no reason to bring slices together.
            pair[a, b] = pair[b, a] = value if np.isfinite(value) else 0.0

    def total(inside: Sequence[int]) -> float:
        path = (0, *inside, size - 1)
        return float(pair[path[:-1], path[1:]].sum())

    best = max(orders, key=total)
    return [window[0], *(window[i] for i in best), window[-1]], total(best) - total(range(1, size - 1))


def _slices_lost(likeness: np.ndarray, usable: np.ndarray, lags: np.ndarray) -> np.ndarray:
    """Return, for the place before each slice, how many slices seem to be lost there; NaN where it is unknown."""
    n = len(usable)
    drop = np.full((n, 2), np.nan)
    for k in range(2):
        if likeness.shape[1] <= k or len(lags) <= k + 1 or not np.isfinite(lags[k + 1]):
            below = 0.5 * lags[k] if len(lags) > k else np.nan
        else:
            below = lags[k + 1]
        step = max(float(lags[k] - below), 0.01) if np.isfinite(below) else np.nan
        pairs = np.zeros(n, np.bool_)
        pairs[k + 1 :] = usable[k + 1 :] & usable[: max(0, n - k - 1)]
        if pairs.sum() >= 2:
            values = np.where(pairs, likeness[:, k], np.nan)
            drop[:, k] = (usual(values, pairs) - values) / step
    lost = np.full(n, np.nan)
    for z in range(1, n):
        over = [drop[z, 1] if z >= 2 else np.nan, drop[z + 1, 1] if z + 1 < n else np.nan]
        if np.isfinite(drop[z, 0]):
            lost[z] = np.nanmin([drop[z, 0], *over])
    return lost


def _beside(z: int, usable: np.ndarray, grid: np.ndarray) -> int | None:
    """Return the slice, not near to it, whose coarse picture is likest to that of a stranger."""
    flat = grid.reshape(len(grid), -1).astype(np.float64)
    flat = flat - flat.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(flat, axis=1)
    like = flat @ flat[z] / np.maximum(norm * norm[z], 1e-9)
    near = np.abs(np.arange(len(grid)) - z) <= 2
    here = float(like[near & (np.arange(len(grid)) != z)].max())
    like[near | ~usable] = -1
    best = int(np.argmax(like))
    return best if like[best] > here + 0.25 * (1 - here) else None
