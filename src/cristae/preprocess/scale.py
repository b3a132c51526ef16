"""How thick slices are, judged by the picture alone: as far apart as they are unlike.

Tissue looks much the same along every axis. Two slices that are as unlike as one slice is to itself moved by five
pixels are cut about five pixels apart (Sporring et al. 2014, who estimate section thickness in this way). Noise lowers
the likeness of a slice to others and to itself moved by a few pixels alike, so that it cancels.
"""

from __future__ import annotations

import numpy as np

_LOWEST = 0.2
"""Likeness below which a correlation says nothing about distance."""


def spacing_px(own: np.ndarray, lags: np.ndarray, chance: float = 0.0) -> float:
    """Return how many pixels apart slices are, as far as likeness can tell.

    Parameters
    ----------
    own
        float ``(distances,)``: likeness of slices to themselves moved by 0, 1, 2... pixels; NaN where unknown.
    lags
        float ``(lags,)``: likeness of slices 1, 2... apart; NaN where unknown.
    chance
        Likeness of slices that have nothing to do with each other; what is less than twice that counts for nothing.

    Returns
    -------
    float
        The median over lags, in the pixels of `own`; NaN if likeness does not fall far enough, or to nothing at once.
    """
    falling = np.minimum.accumulate(np.nan_to_num(own, nan=-1.0))
    stop = int(np.argmax(falling < 0)) if (falling < 0).any() else len(falling)
    curve = falling[:stop]
    if len(curve) < 4:
        return float("nan")
    found = []
    for lag, like in enumerate(lags, start=1):
        # At a pixel or less noise rules, and near 0 everything is equally far.
        if not np.isfinite(like) or not max(_LOWEST, 2 * chance, curve[-1]) < like < curve[2]:
            continue
        found.append(float(np.interp(-like, -curve, np.arange(stop))) / lag)
    if not found and np.isfinite(lags).any():
        last = int(np.flatnonzero(np.isfinite(lags))[-1])
        if lags[last] >= max(curve[2], 2 * chance):  # slices hardly differ: at most so far apart
            return float(np.interp(-lags[last], -curve, np.arange(stop))) / (last + 1)
    return float(np.median(found)) if found else float("nan")
