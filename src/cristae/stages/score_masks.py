"""Scores of masks: how well they agree with the truth, per class, per slice, and by distance to the labels.

Arrays and tables in, tables and scores out; which slices of which files are compared is for the stages that call this.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cristae.files import write_atomically
from cristae.metrics.voxel import (
    Counts,
    count,
    dice,
    iou,
    mean_slice_dice,
    precision,
    recall,
    tolerant_counts,
    total,
)

if TYPE_CHECKING:
    from cristae.stages.evaluate import EvaluateSettings

Pair = tuple[str, int, np.ndarray, np.ndarray]
"""Class, z, predicted bool mask ``(y, x)``, truth ``(y, x)`` of 0, 1 and 255 (nobody looked)."""

_RULES = {
    "one": "slices empty in both truth and prediction count 1; slices with false positives only count 0",
    "skip": "slices empty in both truth and prediction are left out; slices with false positives only count 0",
}
_COUNTS = ("true_positive", "false_positive", "false_negative", "true_negative")
_COLUMNS = {
    "class": "str",
    "z": "int64",
    "labelled": "bool",
    "distance_slices": "Int64",
    "distance_nm": "float64",
    "n_truth": "int64",
    "n_predicted": "int64",
    **dict.fromkeys(_COUNTS, "int64"),
    "dice": "float64",
}
"""Columns of the table of slices with their types, which hold for empty tables too."""


@dataclass(frozen=True)
class Scale:
    """Voxel size as scoring needs it, in nm.

    Parameters
    ----------
    voxel_size
        Along z, y, x.
    tolerance_nm
        Half width of the band around the true outline that tolerant scores leave out; None for no such scores.
    """

    voxel_size: tuple[float, float, float]
    tolerance_nm: float | None = None


def score_slices(pairs: Iterable[Pair], labelled: Mapping[str, Sequence[int]], scale: Scale) -> pd.DataFrame:
    """Score slices one by one; tables of different calls may be put together with ``pandas.concat``.

    Parameters
    ----------
    pairs
        Class, z, predicted bool mask ``(y, x)``, uint8 truth ``(y, x)`` of 0, 1 and 255 (nobody looked).
    labelled
        Per class, the z of the slices that its training saw.
    scale
        Voxel size and the tolerance.

    Returns
    -------
    DataFrame
        One row per pair: ``class``, ``z``, ``labelled`` (training saw it), ``distance_slices`` and ``distance_nm``
        to the nearest labelled slice (missing without any), ``n_truth``, ``n_predicted``, the four counts of
        voxels, ``dice`` (2D; NaN where nobody looked), and with a tolerance the four counts beyond the band with
        the suffix ``_tolerant``. Voxels that nobody looked at are in no number.

    Raises
    ------
    ValueError
        If a mask does not fit its truth.
    """
    rows: list[dict[str, Any]] = []
    for name, z, predicted, truth in pairs:
        counts = count(predicted, truth)
        distance = min((abs(z - other) for other in labelled.get(name, ())), default=None)
        row = {
            "class": name,
            "z": z,
            "labelled": distance == 0,
            "distance_slices": distance,
            "distance_nm": math.nan if distance is None else distance * scale.voxel_size[0],
            "n_truth": counts.n_truth,
            "n_predicted": counts.n_predicted,
            **_as_columns(counts),
            "dice": dice(counts),
        }
        if scale.tolerance_nm is not None:
            beyond = tolerant_counts(predicted, truth, scale.tolerance_nm, scale.voxel_size[1:])
            row |= _as_columns(beyond, "_tolerant")
        rows.append(row)
    return pd.DataFrame(rows, columns=None if rows else list(_COLUMNS)).astype(_COLUMNS)


def summarise(
    table: pd.DataFrame,
    settings: EvaluateSettings,
    labelled: Mapping[str, Sequence[int]],
    protocol: str = "truth",
) -> dict[str, Any]:
    """Return the scores of all classes of a table from `score_slices`, as ``scores.json`` keeps them.

    Parameters
    ----------
    table
        One row per class and slice.
    settings
        Which slices count, and what an empty one does.
    labelled
        Per class, the slices that were painted for training; noted beside the scores.
    protocol
        What was compared with what: ``truth``, or how the left-out labels served as one.

    Returns
    -------
    dict
        ``protocol``, ``n_slices`` (different z) and per class the scores (0–1). A score that cannot be told, for
        instance because every slice with truth was also painted for training, is None.
    """
    classes = {
        str(name): {**_class_scores(rows, settings), "labelled_slices": [int(z) for z in labelled.get(str(name), ())]}
        for name, rows in table.groupby("class", sort=False)
    }
    return {"protocol": protocol, "n_slices": int(table["z"].nunique()), "classes": classes}


def by_distance(table: pd.DataFrame) -> pd.DataFrame:
    """Fold a table from `score_slices` by the distance to the nearest labelled slice.

    Returns
    -------
    DataFrame
        One row per class and distance: ``class``, ``distance_slices``, ``distance_nm``, ``n_slices``, ``n_truth``,
        ``n_predicted``, ``true_positive`` (sums), ``dice`` (of the sums) and ``dice_2d_mean`` (of the slices).
        Empty for classes without labelled slices.
    """
    rows = []
    for (name, _), group in table.dropna(subset="distance_slices").groupby(["class", "distance_slices"], sort=True):
        counts = _counts(group)
        rows.append(
            {
                "class": name,
                "distance_slices": int(group["distance_slices"].iloc[0]),
                "distance_nm": float(group["distance_nm"].iloc[0]),
                "n_slices": len(group),
                "n_truth": counts.n_truth,
                "n_predicted": counts.n_predicted,
                "true_positive": counts.true_positive,
                "dice": dice(counts),
                "dice_2d_mean": mean_slice_dice(_each(group)),
            }
        )
    columns = ["class", "distance_slices", "distance_nm", "n_slices", "n_truth", "n_predicted", "true_positive"]
    return pd.DataFrame(rows, columns=[*columns, "dice", "dice_2d_mean"])


def write_scores(folder: Path, scores: Mapping[str, Any], table: pd.DataFrame) -> None:
    """Write ``slices.parquet``, ``slices.csv``, ``distance.csv`` and ``scores.json`` into a run's folder."""
    table.to_parquet(folder / "slices.parquet", index=False)
    write_atomically(folder / "slices.csv", table.to_csv(index=False))
    write_atomically(folder / "distance.csv", by_distance(table).to_csv(index=False))
    write_atomically(folder / "scores.json", json.dumps(scores, indent=1, allow_nan=False) + "\n")


def _class_scores(rows: pd.DataFrame, settings: EvaluateSettings) -> dict[str, Any]:
    scored = rows[~rows["labelled"]] if settings.exclude_labelled else rows
    counts = _counts(scored)
    tolerant = _counts(scored, "_tolerant") if settings.tolerance_nm is not None else Counts()
    return {
        "dice_3d": _or_none(dice(counts)),
        "dice_3d_all_slices": _or_none(dice(_counts(rows))),
        "dice_2d_mean": _or_none(mean_slice_dice(_each(scored), settings.empty_rule)),
        "dice_2d_rule": _RULES[settings.empty_rule],
        "iou": _or_none(iou(counts)),
        "precision": _or_none(precision(counts)),
        "recall": _or_none(recall(counts)),
        "dice_3d_tolerant": _or_none(dice(tolerant)),
        "tolerance_nm": settings.tolerance_nm,
        "excludes_labelled": settings.exclude_labelled,
        "n_scored_slices": len(scored),
    }


def _as_columns(counts: Counts, suffix: str = "") -> dict[str, int]:
    return {column + suffix: getattr(counts, column) for column in _COUNTS}


def _each(rows: pd.DataFrame, suffix: str = "") -> list[Counts]:
    columns = [rows[column + suffix] for column in _COUNTS]
    return [Counts(*(int(value) for value in values)) for values in zip(*columns, strict=True)]


def _counts(rows: pd.DataFrame, suffix: str = "") -> Counts:
    return total(_each(rows, suffix))


def _or_none(score: float) -> float | None:
    return None if math.isnan(score) else score
