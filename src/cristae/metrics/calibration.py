"""Does a sign of doubt find errors, and does a probability mean what it says: exact scores from counts of 256 levels.

Signs and probabilities are stored as uint8, so a histogram of 256 levels per outcome loses nothing, and histograms of
slices, blocks and volumes add up to that of the whole.

::

    level of doubt   0    1    2   ...  255        the most doubtful voxels are on the right; a useful sign has the
    voxels           9e6  2e5  9e4      12         wrong voxels there, too: then whoever proofreads begins on the
    of them wrong    4e3  9e2  7e2      9          right, and finds most errors in few voxels

- Area under the ROC curve: the probability that a wrong voxel, drawn at random, is more doubtful than a right one, a
  tie counted half: 1 for a perfect sign, ½ for a useless one (J. A. Hanley & B. J. McNeil 1982, Radiology 143, 29).
- Expected calibration error: how far a probability is from the share of voxels that really are of the class, averaged
  over bins of probability, each with its share of all voxels (C. Guo et al. 2017, ICML, equation 3; here of the
  probability of one class, as its reliability curve shows it).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numba import njit

from cristae.metrics.voxel import IGNORE

LEVELS = 256
"""Values of a uint8."""


def _nothing() -> np.ndarray:
    return np.zeros((LEVELS, 2, 2), np.int64)


@dataclass(frozen=True, eq=False)
class LevelCounts:
    """How many voxels there are of each level and outcome. Counts of disjoint parts add up to those of the whole.

    Parameters
    ----------
    table
        int64 ``(256, 2, 2)``: level, whether the class was predicted, whether it is true.
    """

    table: np.ndarray = field(default_factory=_nothing)

    def __add__(self, other: LevelCounts) -> LevelCounts:
        return LevelCounts(self.table + other.table)

    @property
    def voxels(self) -> np.ndarray:
        """Voxels that somebody looked at, int64 ``(256,)``."""
        return self.table.sum(axis=(1, 2))

    @property
    def wrong(self) -> np.ndarray:
        """Of them those where prediction and truth differ, int64 ``(256,)``."""
        return self.table[:, 0, 1] + self.table[:, 1, 0]

    @property
    def true(self) -> np.ndarray:
        """Of them those of the class in the truth, int64 ``(256,)``."""
        return self.table[:, :, 1].sum(axis=1)


def count_levels(levels: np.ndarray, predicted: np.ndarray, truth: np.ndarray) -> LevelCounts:
    """Count voxels by level and outcome.

    Parameters
    ----------
    levels
        uint8 array of any shape: doubt, or probability × 255.
    predicted
        bool array of that shape; False is not the class.
    truth
        uint8 array of that shape: 1 the class, 0 not, `cristae.metrics.voxel.IGNORE` not looked at (not counted).

    Raises
    ------
    ValueError
        If shapes or types differ from these, or the truth holds other values.
    """
    if not levels.shape == predicted.shape == truth.shape:
        raise ValueError(
            f"levels, prediction and truth differ in shape: {levels.shape}, {predicted.shape} and {truth.shape}"
        )
    types = [str(array.dtype) for array in (levels, predicted, truth)]
    if types != ["uint8", "bool", "uint8"]:
        raise ValueError(f"expected levels of uint8, a prediction of bool and a truth of uint8, got {', '.join(types)}")
    counts = _nothing()
    one, two, three = (np.ascontiguousarray(array).reshape(-1) for array in (levels, predicted, truth))
    if _count_into(counts, one, two, three, IGNORE):
        raise ValueError(f"expected a truth of 0, 1 and {IGNORE}; it holds other values")
    return LevelCounts(counts)


def relevelled(counts: LevelCounts, levels: np.ndarray) -> LevelCounts:
    """Return counts with another level in place of each.

    Parameters
    ----------
    counts
        Voxels by the first kind of level.
    levels
        uint8 ``(256,)``: the new level of each.
    """
    table = _nothing()
    np.add.at(table, levels, counts.table)
    return LevelCounts(table)


def margin_doubt(threshold: float) -> np.ndarray:
    """Return how doubtful each level of probability is by itself, uint8 ``(256,)``: 255 at the threshold, less away.

    Any network tells this much; where two networks differ has to tell more to be worth its cost.

    Parameters
    ----------
    threshold
        Probability from which on a voxel is the class, 0–1.
    """
    # Half a level below the lowest that is the class, so that both sides are alike; doubled to stay with whole numbers.
    edge = 2 * math.ceil(threshold * (LEVELS - 1)) - 1
    away = np.abs(2 * np.arange(LEVELS) - edge) // 2
    return np.asarray(LEVELS - 1 - away).astype(np.uint8)


def error_auc(counts: LevelCounts) -> float:
    """Return the area under the ROC curve of "the higher the level, the sooner wrong", 0–1; a tie counts half.

    NaN where no voxel, or every voxel, is wrong.
    """
    wrong = [int(n) for n in counts.wrong]  # whole numbers of any size: products of two counts outgrow 64 bits
    right = [int(n) for n in counts.voxels - counts.wrong]
    pairs = sum(wrong) * sum(right)
    if not pairs:
        return math.nan
    below, doubled = 0, 0
    for n_wrong, n_right in zip(wrong, right, strict=True):
        doubled += n_wrong * (2 * below + n_right)
        below += n_right
    return doubled / (2 * pairs)


def errors_found(counts: LevelCounts, share: float) -> float:
    """Return the share of all wrong voxels among the `share` of voxels with the highest levels, 0–1.

    Of the level at which the limit lies, wrong voxels count in proportion: what looking at them in any order finds on
    average. A useless sign gives `share` itself. NaN where no voxel is wrong.

    Raises
    ------
    ValueError
        If `share` is not from 0 to 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"expected a share from 0 to 1, got {share}")
    voxels, wrong = counts.voxels[::-1].astype(np.float64), counts.wrong[::-1].astype(np.float64)
    if not wrong.sum():
        return math.nan
    before = np.concatenate(([0.0], np.cumsum(voxels)[:-1]))
    taken = np.clip((share * voxels.sum() - before) / np.maximum(voxels, 1), 0, 1)
    return float((wrong * taken).sum() / wrong.sum())


def bin_edges(n_bins: int) -> np.ndarray:
    """Return where bins of equally many levels begin, int ``(n_bins + 1,)``; the last is 256."""
    return np.asarray(np.arange(n_bins + 1) * LEVELS // n_bins)


def in_bins(per_level: np.ndarray, n_bins: int) -> np.ndarray:
    """Return sums over bins of levels, ``(n_bins,)``; numbers per level are ``(256,)``."""
    return np.asarray(np.add.reduceat(per_level, bin_edges(n_bins)[:-1]))


def mean_in_bins(counts: LevelCounts, n_bins: int) -> np.ndarray:
    """Return the mean of level / 255 over the voxels of each bin, float64 ``(n_bins,)`` 0–1; NaN without voxels."""
    n = in_bins(counts.voxels, n_bins).astype(np.float64)
    total = in_bins(counts.voxels * np.arange(LEVELS), n_bins) / (LEVELS - 1)
    return np.divide(total, n, out=np.full(n_bins, np.nan), where=n > 0)


def calibration_error(counts: LevelCounts, n_bins: int = 20) -> float:
    """Return the expected calibration error of a probability, 0 (means what it says) to 1 (the opposite).

    The sum over bins of |voxels of the class − sum of their probabilities| / all voxels. Most of a volume is surely
    something else, and counts like everything else. NaN where no voxel was looked at.

    Parameters
    ----------
    counts
        Voxels by probability × 255.
    n_bins
        Bins of equally many levels.
    """
    n = int(counts.voxels.sum())
    if not n:
        return math.nan
    promised = in_bins(counts.voxels * np.arange(LEVELS), n_bins) / (LEVELS - 1)
    return float(np.abs(in_bins(counts.true, n_bins) - promised).sum() / n)


@njit(cache=True, nogil=True)
def _count_into(counts: np.ndarray, levels: np.ndarray, predicted: np.ndarray, truth: np.ndarray, ignored: int) -> bool:
    """Add up to `counts`; say whether the truth holds what it must not."""
    strange = False
    for i in range(levels.size):
        if truth[i] <= 1:
            counts[levels[i], int(predicted[i]), truth[i]] += 1
        elif truth[i] != ignored:
            strange = True
    return strange
