r"""The Dice that a prediction is to be expected to have, from its probabilities alone.

For whoever wants to know how good a slice is that nobody labelled. A mask is all voxels from a probability on; of those
some part is truly of the class, and of the others, too. If the probabilities mean what they say, both parts can be
counted without the truth::

    level of probability   0    ...   |  128   ...   255       U: what is missed, Σ n·q left of the threshold
    voxels n               9e6        |  2e3         8e4       T: what is right, Σ n·q right of it
    truly of the class q   .0004      |  .56         .995      m: what was marked, Σ n right of it

    Dice = 2 T / (m + T + U),   E[Dice] ≈ the same of the means, with the second-order terms of their variances

Networks are seldom that honest, so what share of each level is true (`q`) is first learnt from slices that were
labelled but not shown to the network (`true_shares`): isotonic regression, as B. Zadrozny & C. Elkan (2002, KDD)
calibrate scores. Dice estimated from calibrated confidence, without truth: Z. Li, K. Kamnitsas & B. Glocker (2022,
MICCAI); the terms of second order are ours.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import isotonic_regression

LEVELS = 256
"""Probabilities are stored as uint8: 255 is 1."""


def true_shares(voxels: np.ndarray, true: np.ndarray, prior: float = 1.0) -> np.ndarray:
    """Return which share of the voxels of each level of probability truly is of the class.

    Isotonic: the least-squares fit that never falls with the level (pool adjacent violators).

    Parameters
    ----------
    voxels
        Voxels of each level on slices with truth that the network never saw, ``(256,)``, or ``(n, 256)`` of n slices.
    true
        Of them those that are of the class, the same shape.
    prior
        Voxels per level that are taken to have been seen with a share of level / 255, above 0: what holds where
        nothing was seen.

    Returns
    -------
    float64 (256,)
        0–1, not falling.

    Raises
    ------
    ValueError
        If the shapes are others, or more voxels are true than there are.
    """
    seen, of_class = (np.atleast_2d(np.asarray(one, np.float64)).sum(axis=0) for one in (voxels, true))
    if seen.shape != (LEVELS,) or of_class.shape != (LEVELS,):
        raise ValueError(f"expected counts of {LEVELS} levels, got {np.shape(voxels)} and {np.shape(true)}")
    if (of_class > seen).any() or (of_class < 0).any():
        raise ValueError("expected 0 ≤ true ≤ voxels at each level")
    if not prior > 0:
        raise ValueError(f"expected a prior above 0, got {prior}")
    weights = seen + prior
    share = (of_class + prior * identity()) / weights
    return np.clip(isotonic_regression(share, weights=weights).x, 0, 1)


def identity() -> np.ndarray:
    """Return the shares of a network whose probabilities mean what they say, float64 ``(256,)``."""
    return np.arange(LEVELS) / (LEVELS - 1)


def expected_dice(voxels: np.ndarray, shares: np.ndarray, lowest: int, clump: float = 1.0) -> np.ndarray:
    """Return the expected Dice of masks of which only the numbers of voxels per level of probability are known.

    To second order in the variances of what is right and what is missed. A slice on which nothing is marked has Dice 1
    if there is nothing and else 0, so that its expectation is the probability that nothing was missed.

    Parameters
    ----------
    voxels
        Voxels of each level, ``(256,)`` of one slice or ``(n, 256)``.
    shares
        Share of each level that truly is of the class, ``(256,)`` 0–1, from `true_shares`.
    lowest
        Level from which on a voxel is marked, 0–256.
    clump
        Voxels that are right or wrong together, 1 or more: 1 for independent ones, about the size of an object where
        whole objects are missed.

    Returns
    -------
    float64 () or (n,)
        0–1. Of a slice without voxels 1.

    Raises
    ------
    ValueError
        If shapes or bounds are others.
    """
    counts, share = np.asarray(voxels, np.float64), np.asarray(shares, np.float64)
    if counts.shape[-1:] != (LEVELS,) or share.shape != (LEVELS,):
        raise ValueError(f"expected {LEVELS} levels of voxels and shares, got {counts.shape} and {share.shape}")
    if not 0 <= lowest <= LEVELS or not clump >= 1 or share.min() < 0 or share.max() > 1:
        raise ValueError("expected shares from 0 to 1, a lowest level from 0 to 256 and clumps of 1 voxel or more")
    marked, missed = counts[..., lowest:], counts[..., :lowest]
    right, unseen = share[lowest:], share[:lowest]
    m, t, u = marked.sum(axis=-1), marked @ right, missed @ unseen
    var_t, var_u = clump * (marked @ (right * (1 - right))), clump * (missed @ (unseen * (1 - unseen)))
    whole = np.maximum(m + t + u, 1e-12)
    dice = 2 * t / whole + 2 * (t * var_u - (m + u) * var_t) / whole**3
    with np.errstate(divide="ignore"):
        nothing = np.exp(np.where(missed > 0, missed * np.log1p(-unseen), 0.0).sum(axis=-1) / clump)
    return np.asarray(np.where(m > 0, np.clip(dice, 0, 1), nothing))


def expected_errors(voxels: np.ndarray, shares: np.ndarray, lowest: int) -> np.ndarray:
    """Return how many voxels are to be expected to be wrong, float64 ``()`` or ``(n,)``; parameters as above."""
    counts = np.asarray(voxels, np.float64)
    wrong = np.where(np.arange(LEVELS) >= lowest, 1 - shares, shares)
    return np.asarray(counts @ wrong)


def clump_size(areas: np.ndarray) -> float:
    """Return how many voxels are right or wrong together: the mean area of true objects on a slice, 1 or more.

    Parameters
    ----------
    areas
        Voxels of the objects on labelled slices; none are independent voxels.
    """
    return max(1.0, float(np.mean(areas))) if len(areas) and not math.isnan(float(np.mean(areas))) else 1.0
