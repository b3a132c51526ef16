"""Agreement object by object: whether voxels that belong together stay together, whatever their ids are.

For every pair of voxels, the truth says whether both lie in one object, and so does the segmentation. Precision is
the part of the pairs joined by the segmentation that belong together (falls with mergers), recall the part of the
pairs that belong together which it joined (falls with splits). The adapted Rand error is 1 − F of the two. The
variation of information asks the same of entropies, so that large objects weigh less: by size, not by size squared.

::

    truth          found
    1 1 1 2 2      5 5 5 5 5      a merger: knowing the found id leaves open which true object it is
    1 1 1 2 2      5 6 6 7 7      a split: knowing the true object leaves open which found id it has

What matches objects one to one is in `cristae.metrics.matching`; both start from a `Contingency`.

Papers: W. M. Rand (1971), J. Am. Stat. Assoc. 66, 846; I. Arganda-Carreras et al. (2015), Front. Neuroanat. 9, 142
(the Rand F-score with equal weights, as in the SNEMI3D and CREMI challenges); M. Meilă (2007), J. Multivar. Anal.
98, 873 (variation of information).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Contingency:
    """How many voxels each object shares with each true object; counts of disjoint parts add up (`add_up`).

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

    @property
    def n_segmentation(self) -> np.ndarray:
        """int64, for every pair the voxels that its object has in all."""
        return _sums_of_each(self.segmentation, self.n_voxels)

    @property
    def n_truth(self) -> np.ndarray:
        """int64, for every pair the voxels that its true object has in all."""
        return _sums_of_each(self.truth, self.n_voxels)


@dataclass(frozen=True)
class RandError:
    """Adapted Rand error (0 perfect, 1 worst) with the precision and recall of pairs that it is made of (0–1)."""

    error: float
    precision: float
    recall: float


@dataclass(frozen=True)
class VariationOfInformation:
    """What splits cost and what mergers cost, in bits per voxel; 0 is perfect."""

    split: float
    merge: float

    @property
    def total(self) -> float:
        """Sum of both: the distance of two labellings, in bits per voxel."""
        return self.split + self.merge


def contingency(segmentation: np.ndarray, truth: np.ndarray) -> Contingency:
    """Count the voxels of every pair of ids; only pairs that occur take memory.

    Parameters
    ----------
    segmentation, truth
        Non-negative integer ids of one shape, below 2⁶³; 0 is background.

    Raises
    ------
    ValueError
        If the shapes differ, the arrays are not of integers, or an id is negative or 2⁶³ and more.
    """
    if segmentation.shape != truth.shape:
        raise ValueError(f"segmentation and truth differ in shape: {segmentation.shape} and {truth.shape}")
    for name, ids in (("segmentation", segmentation), ("truth", truth)):
        if ids.dtype.kind not in "iu":
            raise ValueError(f"expected integer ids in the {name}, got {ids.dtype}")
    found, true = segmentation.ravel(), truth.ravel()
    # Neighbours mostly have the same ids: sorting runs of equal pairs instead of voxels is many times faster.
    starts = np.flatnonzero(np.concatenate([[found.size > 0], (found[1:] != found[:-1]) | (true[1:] != true[:-1])]))
    lengths = np.diff(starts, append=found.size)
    table = _collect(found[starts].astype(np.int64), true[starts].astype(np.int64), lengths)
    for name, ids in (("segmentation", table.segmentation), ("truth", table.truth)):
        if (ids < 0).any():
            raise ValueError(f"expected ids from 0 to 2^63 - 1 in the {name}; it holds others")
    return table


def add_up(tables: Iterable[Contingency]) -> Contingency:
    """Return the table of several disjoint parts from theirs.

    Parameters
    ----------
    tables
        From `contingency`; none give a table without pairs.
    """
    parts = [Contingency(*(np.zeros(0, np.int64),) * 3), *tables]
    return _collect(
        np.concatenate([part.segmentation for part in parts]),
        np.concatenate([part.truth for part in parts]),
        np.concatenate([part.n_voxels for part in parts]),
    )


def within_truth(table: Contingency) -> Contingency:
    """Leave out voxels with truth 0: for a truth in which 0 means that nobody annotated, not that there is nothing."""
    inside = table.truth != 0
    return Contingency(table.segmentation[inside], table.truth[inside], table.n_voxels[inside])


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


def variation_of_information(table: Contingency) -> VariationOfInformation:
    """Return the conditional entropies of found ids given true ones (split) and of true ids given found ones (merge).

    With n voxels in a pair, t in its true object, f in its found object and N in all, the split part is the sum of
    n/N · log₂(t/n) over pairs, the merge part that of n/N · log₂(f/n) (Meilă 2007, in bits as in CREMI).

    Parameters
    ----------
    table
        From `contingency`. Voxels with truth 0 are ignored; those that the segmentation leaves at 0 inside true
        objects are together one object, as in CREMI.

    Returns
    -------
    VariationOfInformation
        In bits. Both parts are 0 where no voxel has a truth.
    """
    table = within_truth(table)
    n = table.n_voxels
    total = max(1, int(n.sum()))
    split = math.fsum(n * np.log2(table.n_truth / n)) / total
    merge = math.fsum(n * np.log2(table.n_segmentation / n)) / total
    return VariationOfInformation(split, merge)


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


def _sums_of_each(ids: np.ndarray, n_voxels: np.ndarray) -> np.ndarray:
    """Return, for every row, the voxels of all rows with its id."""
    _, place = np.unique(ids, return_inverse=True)
    return np.bincount(place, weights=n_voxels).astype(np.int64)[place]


def _pairs(n_voxels: np.ndarray) -> float:
    """Return the number of ordered pairs of different voxels; in floating point, as n² of a large cell overflows."""
    n = n_voxels.astype(np.float64)
    return math.fsum(n * (n - 1))
