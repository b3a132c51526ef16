"""Agreement voxel by voxel: counts that add up over slices, blocks and volumes, and the scores made of them.

Everything goes through `Counts`, so that a score of a volume never is a mean of scores of its parts unless it says
so: counts of slabs, slices or blocks are added, and the score is taken once at the end.

::

                     truth 1           truth 0           truth 255 (nobody looked)
    predicted    true positive    false positive        not counted
    not          false negative   true negative         not counted

3D Dice is the Dice of the sum of all counts; the mean over slices of 2D Dice weighs a slice with ten voxels like one
with a million, and depends on what is done with empty slices, hence the rule it has to be given.

Papers: L. R. Dice (1945), Ecology 26, 297; Pagano et al. (2023) on why 3D Dice is the one to report.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.ndimage import distance_transform_edt

IGNORE = 255
"""Truth of voxels that nobody looked at; they enter no score."""

EmptyRule = Literal["one", "skip"]


@dataclass(frozen=True, slots=True)
class Counts:
    """How many voxels fall into each cell of the table above. Counts of disjoint parts add up to those of the whole."""

    true_positive: int = 0
    false_positive: int = 0
    false_negative: int = 0
    true_negative: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.true_positive + other.true_positive,
            self.false_positive + other.false_positive,
            self.false_negative + other.false_negative,
            self.true_negative + other.true_negative,
        )

    @property
    def n_truth(self) -> int:
        """Voxels of the class in the truth."""
        return self.true_positive + self.false_negative

    @property
    def n_predicted(self) -> int:
        """Voxels predicted as the class, among those that somebody looked at."""
        return self.true_positive + self.false_positive

    @property
    def n_scored(self) -> int:
        """Voxels that somebody looked at; 0 means that there is nothing to score."""
        return self.n_truth + self.false_positive + self.true_negative


def count(predicted: np.ndarray, truth: np.ndarray) -> Counts:
    """Count agreement and errors of a mask.

    Parameters
    ----------
    predicted
        bool array of any shape; False is not the class.
    truth
        uint8 array of that shape: 1 the class, 0 not, `IGNORE` not looked at.

    Raises
    ------
    ValueError
        If the shapes differ, the prediction is not boolean, or the truth holds other values.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"prediction and truth differ in shape: {predicted.shape} and {truth.shape}")
    if predicted.dtype != np.bool_:
        raise ValueError(f"expected a prediction of booleans, got {predicted.dtype}; apply the threshold first")
    is_class, is_other = truth == 1, truth == 0
    n_truth, n_other = int(np.count_nonzero(is_class)), int(np.count_nonzero(is_other))
    if n_truth + n_other + int(np.count_nonzero(truth == IGNORE)) != truth.size:
        raise ValueError(f"expected a truth of 0, 1 and {IGNORE}; it holds other values")
    true_positive = int(np.count_nonzero(predicted & is_class))
    false_positive = int(np.count_nonzero(predicted & is_other))
    return Counts(true_positive, false_positive, n_truth - true_positive, n_other - false_positive)


def total(counts: Iterable[Counts]) -> Counts:
    """Return the sum of counts of disjoint parts; no parts, no voxels."""
    return sum(counts, Counts())


def dice(counts: Counts) -> float:
    """Return 2 TP / (2 TP + FP + FN), from 0 (nothing in common) to 1 (the same).

    1 when truth and prediction are both empty, 0 when only one of them is, NaN when no voxel was looked at.
    """
    return _ratio(2 * counts.true_positive, counts.n_truth + counts.n_predicted, counts)


def iou(counts: Counts) -> float:
    """Return intersection over union TP / (TP + FP + FN), 0–1; empty and unscored cases as in `dice`."""
    return _ratio(counts.true_positive, counts.n_truth + counts.false_positive, counts)


def precision(counts: Counts) -> float:
    """Return TP / (TP + FP): which part of the prediction is right, 0–1.

    1 when truth and prediction are both empty, 0 when only the prediction is (so that Dice stays the harmonic mean
    of precision and recall), NaN when no voxel was looked at.
    """
    return _ratio(counts.true_positive, counts.n_predicted, counts)


def recall(counts: Counts) -> float:
    """Return TP / (TP + FN): which part of the truth was found, 0–1.

    1 when truth and prediction are both empty, 0 when only the truth is, NaN when no voxel was looked at.
    """
    return _ratio(counts.true_positive, counts.n_truth, counts)


def mean_slice_dice(slices: Sequence[Counts], empty_rule: EmptyRule = "one") -> float:
    """Return the mean of the 2D Dice of slices, 0–1; NaN when no slice is left.

    Parameters
    ----------
    slices
        Counts of one slice each. Slices that nobody looked at never count.
    empty_rule
        What a slice counts on which truth and prediction are both empty: ``one`` counts it as 1, ``skip`` leaves it
        out. A slice with false positives and an empty truth counts 0 under both (the released code of Pagano et al.
        skips those, so that inventing objects on empty slices costs nothing there).
    """
    looked_at = [counts for counts in slices if counts.n_scored]
    kept = [c for c in looked_at if empty_rule == "one" or c.n_truth or c.n_predicted]
    return math.fsum(dice(counts) for counts in kept) / len(kept) if kept else math.nan


def boundary_band(truth: np.ndarray, tolerance: float, spacing: Sequence[float]) -> np.ndarray:
    """Return the voxels near the boundary of the class, where annotations are inexact.

    A voxel is in the band when a voxel of the other kind (0 for 1, 1 for 0) has its centre within `tolerance`.
    The edge of the array and voxels nobody looked at are no boundary.

    Parameters
    ----------
    truth
        uint8 array of 0, 1 and `IGNORE`.
    tolerance
        Width of the band on either side, in the unit of `spacing`; 0 gives an empty band.
    spacing
        Voxel size along the axes (all ones for a tolerance in voxels). With one number less than the array has axes,
        every slice along the first axis is taken by itself (2D); otherwise distances run through the volume (3D).

    Returns
    -------
    np.ndarray
        bool array of the shape of `truth`; True in the band.

    Raises
    ------
    ValueError
        If the tolerance is negative, or the spacing does not fit the array.
    """
    if not tolerance >= 0:
        raise ValueError(f"a tolerance is at least 0, got {tolerance}")
    if len(spacing) == truth.ndim - 1:
        band = np.zeros(truth.shape, bool)
        for z, labels in enumerate(truth):
            band[z] = boundary_band(labels, tolerance, spacing)
        return band
    if len(spacing) != truth.ndim:
        raise ValueError(f"expected {truth.ndim} or {truth.ndim - 1} voxel sizes, got {len(spacing)}")
    is_class, is_other = truth == 1, truth == 0
    if tolerance == 0 or not is_class.any() or not is_other.any():
        return np.zeros(truth.shape, bool)
    reach = tolerance * (1 + 1e-9)  # a voxel at exactly the tolerance is in, whatever the rounding of its distance
    near_class = distance_transform_edt(~is_class, sampling=spacing) <= reach
    near_other = distance_transform_edt(~is_other, sampling=spacing) <= reach
    return np.asarray((is_class & near_other) | (is_other & near_class))


def tolerant_counts(predicted: np.ndarray, truth: np.ndarray, tolerance: float, spacing: Sequence[float]) -> Counts:
    """Count as `count` does, but leave out the band around the boundary of the truth.

    An object thinner than the band vanishes from the truth altogether, so tolerant scores stand beside the exact
    ones, never instead. Parameters and errors as in `count` and `boundary_band`.
    """
    band = boundary_band(truth, tolerance, spacing)
    return count(predicted, np.where(band, np.uint8(IGNORE), truth))


def _ratio(part: int, whole: int, counts: Counts) -> float:
    if whole:
        return part / whole
    if not counts.n_scored:
        return math.nan
    return 0.0 if counts.n_truth or counts.n_predicted else 1.0
