"""Agreement object by object: whether voxels that belong together stay together, whatever their ids are.

For every pair of voxels, the truth says whether both lie in one object, and so does the segmentation. Precision is
the part of the pairs joined by the segmentation that belong together (falls with mergers), recall the part of the
pairs that belong together which it joined (falls with splits). The adapted Rand error is 1 − F of the two.

Papers: W. M. Rand (1971), J. Am. Stat. Assoc. 66, 846; I. Arganda-Carreras et al. (2015), Front. Neuroanat. 9, 142
(the Rand F-score with equal weights, as in the SNEMI3D and CREMI challenges).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Contingency:
    """How many voxels each object shares with each true object; counts of disjoint parts add up.

    Parameters
    ----------
    segmentation, truth
        int64 ids of the pairs that occur, each pair once; 0 is background.
    n_voxels
        int64, voxels per pair, above 0.
    """

    segmentation: np.ndarray
    truth: np.ndarray
    n_voxels: np.ndarray

    def __add__(self, other: Contingency) -> Contingency:
        return _collect(
            np.concatenate([self.segmentation, other.segmentation]),
            np.concatenate([self.truth, other.truth]),
            np.concatenate([self.n_voxels, other.n_voxels]),
        )


@dataclass(frozen=True)
class RandError:
    """Adapted Rand error (0 perfect, 1 worst) with the precision and recall of pairs that it is made of (0–1)."""

    error: float
    precision: float
    recall: float


def contingency(segmentation: np.ndarray, truth: np.ndarray) -> Contingency:
    """Count the voxels of every pair of ids; only pairs that occur take memory.

    Parameters
    ----------
    segmentation, truth
        Non-negative integer ids of one shape; 0 is background.

    Raises
    ------
    ValueError
        If the shapes differ or the arrays are not of integers.
    """
    if segmentation.shape != truth.shape:
        raise ValueError(f"segmentation and truth differ in shape: {segmentation.shape} and {truth.shape}")
    for name, ids in (("segmentation", segmentation), ("truth", truth)):
        if ids.dtype.kind not in "iu":
            raise ValueError(f"expected integer ids in the {name}, got {ids.dtype}")
    ones = np.ones(segmentation.size, np.int64)
    return _collect(segmentation.ravel().astype(np.int64), truth.ravel().astype(np.int64), ones)


def adapted_rand_error(table: Contingency, background: Literal["singletons", "one_object"] = "singletons") -> RandError:
    """Return the adapted Rand error of a segmentation, over pairs of different voxels that the truth covers.

    Parameters
    ----------
    table
        From `contingency`. Voxels with truth 0 are ignored.
    background
        What voxels are that the segmentation leaves at 0 inside a true object: objects of one voxel each
        (``singletons``, as in SNEMI3D and CREMI) or together one object (``one_object``, as in scikit-image).

    Returns
    -------
    RandError
        Precision and recall are 1 where there is no pair to judge, so that an empty truth has error 0.
    """
    inside = table.truth != 0
    joined = inside & (table.segmentation != 0) if background == "singletons" else inside
    both = _pairs(table.n_voxels[joined])
    in_segmentation = _pairs(_sums(table.segmentation[joined], table.n_voxels[joined]))
    in_truth = _pairs(_sums(table.truth[inside], table.n_voxels[inside]))
    found_right = both / in_segmentation if in_segmentation else 1.0
    found = both / in_truth if in_truth else 1.0
    f_score = 2 * both / (in_segmentation + in_truth) if in_segmentation + in_truth else 1.0
    return RandError(1 - f_score, found_right, found)


def _collect(segmentation: np.ndarray, truth: np.ndarray, n_voxels: np.ndarray) -> Contingency:
    """Sort by pair and add up equal ones."""
    order = np.lexsort((segmentation, truth))
    segmentation, truth, n_voxels = segmentation[order], truth[order], n_voxels[order]
    if not order.size:
        return Contingency(segmentation, truth, n_voxels)
    new = np.concatenate([[True], (np.diff(segmentation) != 0) | (np.diff(truth) != 0)])
    return Contingency(segmentation[new], truth[new], np.add.reduceat(n_voxels, np.flatnonzero(new)))


def _sums(ids: np.ndarray, n_voxels: np.ndarray) -> np.ndarray:
    """Add up the voxels of equal ids."""
    _, place = np.unique(ids, return_inverse=True)
    return np.bincount(place, weights=n_voxels)


def _pairs(n_voxels: np.ndarray) -> float:
    """Return the number of ordered pairs of different voxels; in floating point, as n² of a large cell overflows."""
    n = n_voxels.astype(np.float64)
    return math.fsum(n * (n - 1))
