"""Agreement object by object: which found object stands for which true one, and how well it covers it.

Three ways to say who stands for whom, for three questions:

::

    by id         the found object of the same id      did ids travel right, as in Table 2 of Machireddy et al.?
    one to one    the pairing with the most Dice        is each cell there at all, whatever it is called?
    IoU > 1/2     at most one can overlap that much     how many are found, missed, invented? (PQ, AP)

Everything starts from a `Contingency`, which adds up over disjoint blocks. Where truth 0 means that nobody annotated,
give `within_truth` of it: found objects then count only where there is a truth, and those wholly outside not at all.

Papers: Machireddy et al. (2023), Table 2 (Dice of cells); H. W. Kuhn (1955), Nav. Res. Logist. Q. 2, 83 (assignment);
A. Kirillov et al. (2019), CVPR, Panoptic Segmentation, eqs. 1–2 (PQ, SQ, RQ); J. C. Caicedo et al. (2019), Nat. Methods
16, 1247 (Data Science Bowl 2018: average precision without confidences, as StarDist and Cellpose report it too).
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import cc3d
import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from cristae.metrics.instance import Contingency


@dataclass(frozen=True)
class DiceSummary:
    """Dice over objects, each counted once whatever its size.

    Parameters
    ----------
    n_objects
        Objects scored.
    mean, sd
        Mean and sample standard deviation (n − 1); NaN with fewer than one and two objects.
    worst, worst_id
        Lowest Dice and the true object that has it (of several the smallest id); NaN and 0 without objects.
    """

    n_objects: int
    mean: float
    sd: float
    worst: float
    worst_id: int


@dataclass(frozen=True)
class Detections:
    """How many objects were found, where found means that IoU is above a threshold of at least 1/2.

    Parameters
    ----------
    n_matched
        True objects with a found object of such an IoU (true positives); no object has two.
    n_missed, n_invented
        The other true objects (false negatives) and the other found ones (false positives).
    sum_iou
        Sum of IoU over the matched pairs.
    """

    n_matched: int
    n_missed: int
    n_invented: int
    sum_iou: float

    @property
    def recognition_quality(self) -> float:
        """RQ = TP / (TP + FP/2 + FN/2), which is F₁; 1 when there are no objects at all."""
        n_wrong = self.n_missed + self.n_invented
        return self.n_matched / (self.n_matched + n_wrong / 2) if self.n_matched + n_wrong else 1.0

    @property
    def segmentation_quality(self) -> float:
        """SQ, mean IoU of the matched pairs; without any, 1 when there are no objects at all and else 0."""
        if self.n_matched:
            return self.sum_iou / self.n_matched
        return 0.0 if self.n_missed + self.n_invented else 1.0

    @property
    def panoptic_quality(self) -> float:
        """PQ = SQ × RQ (0–1; Kirillov et al., eq. 2), as defined for a threshold of 1/2."""
        return self.segmentation_quality * self.recognition_quality

    @property
    def average_precision(self) -> float:
        """TP / (TP + FP + FN), 0–1; 1 when there are no objects at all. AP50 at threshold 0.5, AP75 at 0.75.

        This is the precision of the Data Science Bowl, which needs no confidences; it is not the area under a curve
        of precision and recall that COCO calls by the same name.
        """
        n_objects = self.n_matched + self.n_missed + self.n_invented
        return self.n_matched / n_objects if n_objects else 1.0


def dice_by_id(table: Contingency, smallest: int = 1) -> pd.DataFrame:
    """Return the Dice of every true object with the found object of the same id: the cell Dice of the paper.

    Parameters
    ----------
    table
        From `contingency`.
    smallest
        True objects with fewer voxels are left out.

    Returns
    -------
    pd.DataFrame
        One row per true object, by id: ``object_id``, ``n_voxels`` (true), ``found_id`` (0 where no found object of
        that id meets it), ``n_found_voxels``, ``n_shared_voxels`` (int64), ``dice`` (0–1). See `summarise_dice`.
    """
    return _scores(table, table.segmentation == table.truth, smallest)


def dice_by_match(table: Contingency, smallest: int = 1, known: Collection[int] = ()) -> pd.DataFrame:
    """Return the Dice of every true object with the found object that stands for it, whatever its id.

    Ids in `known` (those of labelled slices, say) keep their meaning: such a true object is compared with the found
    object of its id as in `dice_by_id`. The other true objects share out the other found ones, each to one at most,
    so that the sum of Dice is the largest there is. Small objects take part in that, so that nothing depends on
    `smallest` but the rows that are returned.

    Parameters
    ----------
    table, smallest
        As in `dice_by_id`.
    known
        Ids that truth and segmentation agree on. Empty: all are matched.

    Returns
    -------
    pd.DataFrame
        As from `dice_by_id`; ``found_id`` is 0 where nothing was left for an object.
    """
    agreed = np.fromiter(known, np.int64, len(known))
    is_known = np.isin(table.truth, agreed)
    matched = is_known & (table.segmentation == table.truth)
    free = _both_objects(table) & ~is_known & ~np.isin(table.segmentation, agreed)
    matched[free] = _one_to_one(table.truth[free], table.segmentation[free], _dice(table)[free])
    return _scores(table, matched, smallest)


def smeared_ids(table: Contingency, known: Collection[int], smallest: int = 1) -> np.ndarray:
    """Return the ids in `known` that were found, with `smallest` voxels or more, where the truth has none of them.

    No Dice of a true object tells of them, as there is no such object: they ended before, and were carried on.

    Returns
    -------
    np.ndarray
        int64, rising.
    """
    return _smeared(table, known, smallest)[0]


def smeared_objects(table: Contingency, known: Collection[int], smallest: int = 1) -> float:
    """Return how many true objects `smeared_ids` are as large as: each counts by its size, and as one at most.

    A rest of a few voxels is not as wrong as a whole cell. What is as large as the median of the true objects in
    `known`, or larger, counts as one; without true objects everything does.
    """
    sizes = _smeared(table, known, smallest)[1]
    true, at = np.unique(table.truth, return_index=True)
    there = table.n_truth[at][np.isin(true, np.fromiter(known, np.int64, len(known))) & (true != 0)]
    typical = float(np.median(there)) if there.size else 1.0
    return math.fsum(np.minimum(sizes / typical, 1.0))


def _smeared(table: Contingency, known: Collection[int], smallest: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and sizes of the objects of `smeared_ids`."""
    found, at = np.unique(table.segmentation, return_index=True)
    sizes = table.n_segmentation[at]
    gone = np.isin(found, np.fromiter(known, np.int64, len(known))) & ~np.isin(found, table.truth)
    chosen = (sizes >= smallest) & gone & (found != 0)
    return found[chosen], sizes[chosen]


def summarise_dice(scores: pd.DataFrame) -> DiceSummary:
    """Summarise a table of `dice_by_id` or `dice_by_match`, or some rows of it."""
    dice = scores["dice"].to_numpy(np.float64)
    if not dice.size:
        return DiceSummary(0, math.nan, math.nan, math.nan, 0)
    mean = math.fsum(dice) / dice.size
    sd = math.sqrt(math.fsum((dice - mean) ** 2) / (dice.size - 1)) if dice.size > 1 else math.nan
    worst = int(np.lexsort((scores["object_id"], dice))[0])
    return DiceSummary(dice.size, mean, sd, float(dice[worst]), int(scores["object_id"].iloc[worst]))


def detections(table: Contingency, threshold: float = 0.5) -> Detections:
    """Count found, missed and invented objects; panoptic quality and average precision are properties of the result.

    Parameters
    ----------
    table
        From `contingency`.
    threshold
        IoU that a pair has to exceed, from 0.5 to below 1. From one half on, no object has two partners.

    Raises
    ------
    ValueError
        If the threshold is outside that range.
    """
    if not 0.5 <= threshold < 1:
        raise ValueError(f"expected a threshold of IoU from 0.5 to below 1, got {threshold}")
    n_true, n_found = (np.setdiff1d(ids, 0).size for ids in (table.truth, table.segmentation))
    iou = (table.n_voxels / (table.n_truth + table.n_segmentation - table.n_voxels))[_both_objects(table)]
    matched = iou[iou > threshold]
    return Detections(matched.size, n_true - matched.size, n_found - matched.size, math.fsum(matched))


def named_as_truth(table: Contingency, scores: pd.DataFrame, known: Collection[int] = ()) -> Contingency:
    """Rename found objects by the true ones that they stand for, so that what is counted by id counts matches.

    Parameters
    ----------
    table
        From `contingency`, also of a part of the volume, such as one slice or the islands.
    scores
        From `dice_by_match` of the whole: ``object_id`` and ``found_id``.
    known
        The ids that were given to it: they keep their meaning also where `scores` has no row for them.

    Returns
    -------
    Contingency
        A found object that stands for a true one has its id. Others have the negative of their own, so that they
        equal no true one; 0 stays 0. Different found objects stay different.
    """
    pairs = scores[(scores["found_id"] > 0) & ~scores["object_id"].isin(list(known))]
    names = dict(zip(pairs["found_id"].tolist(), pairs["object_id"].tolist(), strict=True))
    names |= {int(name): int(name) for name in known}
    ids, place = np.unique(table.segmentation, return_inverse=True)
    renamed = np.array([names.get(name, -name) for name in ids.tolist()], np.int64)
    return Contingency(renamed[place], table.truth, table.n_voxels)


def islands(labels: np.ndarray) -> np.ndarray:
    """Mark the parts of objects in a slice that are apart from the largest part of their object in that slice.

    Protrusions run in and out of a slice: what lies apart from the body there is an island, and its home is known in
    3D only.

    Parameters
    ----------
    labels
        Non-negative integer ids ``(y, x)``; 0 is background. Pixels that touch at a corner are of one part.

    Returns
    -------
    np.ndarray
        bool ``(y, x)``. Of parts of one size, the one met first along the rows counts as the largest.
    """
    parts, n_parts = cc3d.connected_components(np.ascontiguousarray(labels), connectivity=8, return_N=True)
    area = np.bincount(parts.ravel(), minlength=n_parts + 1)[1:]
    id_of = np.zeros(n_parts + 1, labels.dtype)
    id_of[parts.ravel()] = labels.ravel()
    by_id = np.lexsort((-np.arange(n_parts), area, id_of[1:]))  # of each id the largest part comes last
    ids = id_of[1:][by_id]
    is_largest = np.append(ids[1:] != ids[:-1], True)[:n_parts]
    apart = np.ones(n_parts + 1, np.bool_)
    apart[0] = False
    apart[1:][by_id[is_largest]] = False
    return np.asarray(apart[parts])


def island_share(table: Contingency) -> float:
    """Return the share of the voxels of protrusion islands that went to the right cell, that is have its id (0–1).

    Parameters
    ----------
    table
        From `contingency` of the voxels of islands alone (``contingency(found[islands], truth[islands])``). Voxels
        with truth 0 are ignored.

    Returns
    -------
    float
        NaN without island voxels.
    """
    inside = table.truth != 0
    right = inside & (table.segmentation == table.truth)
    n_voxels = int(table.n_voxels[inside].sum())
    return int(table.n_voxels[right].sum()) / n_voxels if n_voxels else math.nan


def _both_objects(table: Contingency) -> np.ndarray:
    """Mark the pairs (bool) in which neither id is background."""
    return (table.truth != 0) & (table.segmentation != 0)


def _dice(table: Contingency) -> np.ndarray:
    """Return the Dice of every pair."""
    return 2 * table.n_voxels / (table.n_truth + table.n_segmentation)


def _scores(table: Contingency, matched: np.ndarray, smallest: int) -> pd.DataFrame:
    """Return the table of true objects: the pairs marked in `matched`, and Dice 0 for objects in none of them."""
    ids, first, row = np.unique(table.truth, return_index=True, return_inverse=True)
    scores = pd.DataFrame({"object_id": ids, "n_voxels": table.n_truth[first]})
    of_partner = {
        "found_id": table.segmentation,
        "n_found_voxels": table.n_segmentation,
        "n_shared_voxels": table.n_voxels,
        "dice": _dice(table),
    }
    for name, values in of_partner.items():
        scores[name] = np.zeros(ids.size, values.dtype)
        scores.loc[row[matched], name] = values[matched]
    return scores[(ids != 0) & (scores["n_voxels"] >= smallest)].reset_index(drop=True)


def _one_to_one(object_id: np.ndarray, found_id: np.ndarray, dice: np.ndarray) -> np.ndarray:
    """Mark the pairs (bool) of the pairing that has the largest sum of Dice and uses no object twice."""
    if not dice.size:
        return np.zeros(0, bool)
    row = np.unique(object_id, return_inverse=True)[1]
    column = np.unique(found_id, return_inverse=True)[1]
    n_rows, n_columns = int(row.max()) + 1, int(column.max()) + 1
    # SciPy matches every row: one more column for each stands for "no partner". All costs are 1 higher than they need
    # be, which changes nothing but that a perfect match is not 0, which a sparse matrix would not hold.
    nobody = np.arange(n_rows)
    cost = np.concatenate([2 - dice, np.full(n_rows, 2.0)])
    edges = (np.concatenate([row, nobody]), np.concatenate([column, n_columns + nobody]))
    chosen = min_weight_full_bipartite_matching(csr_array((cost, edges), (n_rows, n_rows + n_columns)))[1]
    return np.asarray(chosen[row] == column)
