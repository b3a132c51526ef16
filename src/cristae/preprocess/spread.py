"""What is unusual in a row of numbers, one per slice, by statistics that a few bad slices cannot bend.

A slice is set against the line through its neighbours (Theil 1950, Sen 1968: the median of the slopes between all
pairs), and what is left against the spread of all such remainders (median absolute deviation). Tissue and beam change
slowly along z, so that the line takes out what is no fault, and a lively stack raises its own bar.
"""

from __future__ import annotations

import numpy as np

REACH = 5
"""Neighbours on either side that a slice is set against."""
_MAD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""
_STEP_BAR = 1.6
_ROUNDS = 4
_CLIPPED = 3.5
_MOST = 0.6
"""Share of slices that are taken for ordinary, at least."""


def spread_of(values: np.ndarray) -> float:
    """Return the robust standard deviation of float ``(n,)`` without NaN, widened where it rests on few; 0 if empty."""
    known = values[np.isfinite(values)]
    if not len(known):
        return 0.0
    deviation = float(np.median(np.abs(known - np.median(known))))
    return _MAD * deviation * (1 + 4 / len(known))


def remainders(values: np.ndarray, usable: np.ndarray, breaks: tuple[int, ...] = ()) -> np.ndarray:
    """Return how far each value lies off the line through its neighbours.

    Parameters
    ----------
    values
        float ``(n,)``; NaN is no neighbour.
    usable
        bool ``(n,)``: slices that may be neighbours.
    breaks
        Slices from which on another level holds; neighbours beyond are left out.

    Returns
    -------
    float64 (n,)
        NaN where the value is NaN, or there are fewer than two neighbours.
    """
    n = len(values)
    found = np.full(n, np.nan)
    level = np.searchsorted(np.array(sorted(breaks)), np.arange(n), side="right")
    good = usable & np.isfinite(values)
    for z in map(int, np.flatnonzero(np.isfinite(values))):
        near = np.arange(max(0, z - REACH), min(n, z + REACH + 1))
        near = near[good[near] & (near != z) & (level[near] == level[z])]
        if len(near) < 2:
            continue
        found[z] = values[z] - _line(near - z, values[near])
    return found


def usual(values: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """Return the least that one would expect of each value: by the line through those around it, or by their median.

    Two estimates are asked, so that the ends of a stack, where a line runs on into nothing, raise no alarm.

    Parameters
    ----------
    values, usable
        As in `remainders`.
    """
    line = values - remainders(values, usable)
    good = usable & np.isfinite(values)
    middle = np.full(len(values), np.nan)
    for z in range(len(values)):
        near = np.arange(max(0, z - 2 * REACH), min(len(values), z + 2 * REACH + 1))
        near = near[good[near] & (near != z)]
        if len(near):
            middle[z] = np.median(values[near])
    return np.fmin(line, middle)


def outlying(values: np.ndarray, usable: np.ndarray, floor: float, breaks: tuple[int, ...] = ()) -> np.ndarray:
    """Return how unusual each value is: its remainder over the spread of all, or over `floor` if that is larger.

    Parameters
    ----------
    values, usable, breaks
        As in `remainders`.
    floor
        The smallest spread that is believed in: what would not matter if it were a standard deviation.

    Returns
    -------
    float64 (n,)
        With sign; 0 where nothing can be said.
    """
    ordinary = usable
    for _ in range(_ROUNDS):
        left = remainders(values, ordinary, breaks)
        scale = max(spread_of(left[ordinary]), floor)
        # What is unusual is no measure of what is usual.
        kept = usable & (np.nan_to_num(np.abs(left)) <= _CLIPPED * scale)
        if kept.sum() < _MOST * usable.sum() or (kept == ordinary).all():
            break
        ordinary = kept
    return np.nan_to_num(left / scale)


def steps(values: np.ndarray, usable: np.ndarray, floor: float, threshold: float) -> dict[int, float]:
    """Return the slices from which on the level is another, and by how much.

    Medians of `REACH` slices before and behind are compared, so that a single bad slice is no step.

    Parameters
    ----------
    values, usable, floor
        As in `outlying`.
    threshold
        How many spreads a step has at least.
    """
    n = len(values)
    jump = np.full(n, np.nan)
    good = np.where(usable & np.isfinite(values), values, np.nan)
    for z in range(REACH, n - REACH + 1):
        before, behind = good[z - REACH : z], good[z : z + REACH]
        if min(np.isfinite(before).sum(), np.isfinite(behind).sum()) >= REACH - 1:
            jump[z] = np.nanmedian(behind) - np.nanmedian(before)
    scale = max(spread_of(jump), floor) * _STEP_BAR
    found: dict[int, float] = {}
    for z in np.argsort(-np.abs(np.nan_to_num(jump))):
        at = int(z)
        if not abs(jump[at]) > threshold * scale:
            break
        # The level changes within a window of two medians; the place is where neighbours differ most.
        near = [k for k in range(max(1, at - 2), min(n, at + 3)) if np.isfinite(good[k - 1]) and np.isfinite(good[k])]
        place = max(near, key=lambda k: (good[k] - good[k - 1]) * np.sign(jump[at]), default=at)
        sharp = near and (good[place] - good[place - 1]) * np.sign(jump[at]) >= 0.6 * abs(jump[at])
        if sharp and all(abs(place - other) > REACH for other in found):
            found[place] = float(jump[at])
    return found


def _line(places: np.ndarray, values: np.ndarray) -> float:
    """Return the value at place 0 of the line of Theil and Sen."""
    one, other = np.triu_indices(len(places), 1)
    slope = float(np.median((values[other] - values[one]) / (places[other] - places[one])))
    return float(np.median(values - slope * places))
