"""What probabilities mean, learnt from slices that were labelled but left out of a training."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd

from cristae.advice.expected import LEVELS, clump_size, expected_dice, identity, true_shares
from cristae.advice.intervals import radius, scale_of
from cristae.metrics.voxel import IGNORE, count, dice
from cristae.stages.withheld import Withheld


@dataclass(frozen=True)
class Calibration:
    """What is known of the probabilities of one class.

    Parameters
    ----------
    shares
        Share of each level of probability that truly is of the class, float ``(256,)``.
    clump
        Voxels that are right or wrong together.
    left_out
        A row per left-out slice: ``class``, ``z``, ``distance_slices``, ``n_truth``, ``n_predicted``, ``dice`` and
        ``expected_dice``, told from the other slices alone.
    """

    shares: np.ndarray
    clump: float
    left_out: pd.DataFrame

    def reach(self, coverage: float) -> float:
        """Return how many scales around an expected Dice the true one lies, with this probability at least."""
        found = self.left_out["dice"].to_numpy(float), self.left_out["expected_dice"].to_numpy(float)
        return radius(np.abs(found[0] - found[1]) / scale_of(found[1]), coverage)

    @property
    def error(self) -> float:
        """Median absolute difference of expected and true Dice of left-out slices; NaN without any."""
        off = (self.left_out["dice"] - self.left_out["expected_dice"]).abs().dropna()
        return float(off.median()) if len(off) else math.nan


UNCALIBRATED = Calibration(
    identity(),
    1.0,
    pd.DataFrame(
        {name: pd.Series(dtype="float64") for name in ("z", "distance_slices", "n_truth", "n_predicted", "dice")}
        | {"class": pd.Series(dtype="str"), "expected_dice": pd.Series(dtype="float64")}
    ),
)
"""Of a class that no labelled slice was left out of: probabilities are taken at their word."""


@dataclass(frozen=True)
class _Counted:
    """A left-out slice, counted."""

    z: int
    distance: int | None
    voxels: np.ndarray
    true: np.ndarray
    areas: np.ndarray
    n_truth: int
    n_predicted: int
    dice: float


def calibrate(withheld: Iterable[Withheld], threshold: float) -> dict[str, Calibration]:
    """Return what probabilities mean, for each class that was on a left-out slice.

    Parameters
    ----------
    withheld
        From `cristae.stages.withheld.read_withheld`.
    threshold
        Probability from which on a voxel is the class.
    """
    lowest = lowest_level(threshold)
    counted: dict[str, list[_Counted]] = {}
    for one in withheld:
        counted.setdefault(one.name, []).append(_count(one, lowest))
    return {name: _calibration(name, slices, lowest) for name, slices in counted.items()}


def lowest_level(threshold: float) -> int:
    """Return the level of a uint8 probability from which on a voxel is the class, as the prediction marks it."""
    return int(np.ceil(threshold * (LEVELS - 1)))


def _count(one: Withheld, lowest: int) -> _Counted:
    known, painted = one.truth != IGNORE, one.truth == 1
    counts = count(one.probability >= lowest, one.truth)
    _, _, parts, _ = cv2.connectedComponentsWithStats(painted.astype(np.uint8), connectivity=8)
    return _Counted(
        one.z,
        one.distance_slices,
        np.bincount(one.probability[known], minlength=LEVELS),
        np.bincount(one.probability[painted], minlength=LEVELS),
        parts[1:, cv2.CC_STAT_AREA],
        counts.n_truth,
        counts.n_predicted,
        dice(counts),
    )


def _calibration(name: str, slices: list[_Counted], lowest: int) -> Calibration:
    rows = []
    for one in slices:
        others = [other for other in slices if other is not one]
        rows.append(
            {
                "class": name,
                "z": one.z,
                "distance_slices": one.distance,
                "n_truth": one.n_truth,
                "n_predicted": one.n_predicted,
                "dice": one.dice,
                "expected_dice": float(expected_dice(one.voxels, _shares(others), lowest, _clump(others))),
            }
        )
    table = pd.DataFrame(rows).astype({"class": "str", "distance_slices": "Int64"})
    return Calibration(_shares(slices), _clump(slices), table)


def _shares(slices: list[_Counted]) -> np.ndarray:
    if not slices:
        return identity()
    return true_shares(np.stack([one.voxels for one in slices]), np.stack([one.true for one in slices]))


def _clump(slices: list[_Counted]) -> float:
    return clump_size(np.concatenate([one.areas for one in slices]) if slices else np.array([]))
