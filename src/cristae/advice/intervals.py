r"""Honest intervals from few left-out slices: split conformal prediction with residuals in units of their scale.

With residuals of n slices that were left out, another one, drawn alike, lies within the k-th smallest of them with
probability k / (n + 1) at least, whatever their distribution: no model is fitted, and few slices give wide
intervals.

Papers: V. Vovk, A. Gammerman & G. Shafer (2005), Algorithmic Learning in a Random World; J. Lei et al. (2018),
JASA 113, 1094, section 5.2 for the scale.
"""

from __future__ import annotations

import math

import numpy as np


def radius(residuals: np.ndarray, coverage: float) -> float:
    """Return what a new residual does not exceed with probability `coverage`; infinity where too few are known.

    Parameters
    ----------
    residuals
        Absolute, over their scale, float ``(n,)``, of slices that were left out. NaN are not known.
    coverage
        Probability, between 0 and 1.

    Raises
    ------
    ValueError
        If the coverage is not between 0 and 1, or a residual is negative.
    """
    if not 0 < coverage < 1:
        raise ValueError(f"expected a coverage between 0 and 1, got {coverage}")
    known = np.sort(np.asarray(residuals, np.float64)[~np.isnan(residuals)])
    if (known < 0).any():
        raise ValueError("expected absolute residuals, got negative ones")
    rank = math.ceil((len(known) + 1) * coverage - 1e-9)
    return float(known[rank - 1]) if rank <= len(known) else math.inf


def fewest(coverage: float) -> int:
    """Return how many left-out slices it takes for an interval narrower than everything."""
    return math.ceil(coverage / (1 - coverage) - 1e-9)


def scale_of(dice: np.ndarray, floor: float = 0.02) -> np.ndarray:
    """Return how far off an expected Dice may be, up to a factor, float ``(n,)``.

    A Dice near 1 cannot be far off, one of ½ can; `floor` is what is never gone below.
    """
    return np.maximum(1 - np.asarray(dice, np.float64), floor)


def interval(dice: np.ndarray, scales: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Return lowest and highest Dice, float ``(n,)`` each, within 0 and 1.

    Parameters
    ----------
    dice
        Expected, float ``(n,)`` 0–1.
    scales
        From `scale_of`, ``(n,)``.
    reach
        From `radius`; infinity gives 0 to 1.
    """
    if math.isinf(reach):
        return np.zeros(len(dice)), np.ones(len(dice))
    return np.clip(dice - reach * scales, 0, 1), np.clip(dice + reach * scales, 0, 1)
