r"""Evaluate: how well a prediction agrees with the truth, per class, per slice, and by distance to the labels.

For whoever has to decide whether a segmentation can be measured. The headline is the 3D Dice over slices that were
*not* painted for training: a network knows those by heart, and they would flatter it.

::

    Dice  1 |  ^         ^         ^        peaks at the labelled slices (^), dips between them: the picture of
            | / \_     _/ \_     _/ \       over-fitting in Figure 5 of Pagano et al. (2023); `slices.csv` has a row
            |     \___/     \___/           per slice to draw it, `distance.csv` folds it by distance to the labels
            +------------------------ z

Memory stays bounded: a slab of the prediction at a time, and one slice of the truth.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from cristae.annotations import Annotations
from cristae.errors import DataError, UsageError
from cristae.files import write_atomically
from cristae.geometry import Box
from cristae.io.ome_zarr import CHUNK, open_volume
from cristae.metrics.voxel import (
    Counts,
    EmptyRule,
    count,
    dice,
    iou,
    mean_slice_dice,
    precision,
    recall,
    tolerant_counts,
    total,
)
from cristae.project import Project, Run
from cristae.settings import resolve_settings
from cristae.stages.options import Options
from cristae.volume import Volume

SLAB_BYTES = 2**28
"""Prediction read at once; a slab has at most this many voxels, or one slice."""

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


class EvaluateSettings(BaseModel):
    """Settings of the evaluate stage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    exclude_labelled: bool = Field(
        True, description="leave the slices that were painted for training of a class out of its headline scores"
    )
    tolerance_nm: float | None = Field(
        None, gt=0, description="also score without a band of this many nm on either side of the true outline, in 2D"
    )
    empty_rule: EmptyRule = Field(
        "one", description="mean 2D Dice: a slice empty in truth and prediction counts 1 ('one') or nothing ('skip')"
    )


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


def evaluate_settings(project: Project, changes: Mapping[str, Any]) -> EvaluateSettings:
    """Return the settings of an evaluation: defaults, then project file, then `changes`."""
    return resolve_settings(EvaluateSettings, project.stage_settings("evaluate"), changes)


def evaluate(project: Project, settings: EvaluateSettings | None = None, options: Options | None = None) -> Run:
    """Score the latest prediction of a project against its truth.

    Writes ``scores.json``, ``slices.parquet`` and ``slices.csv`` (one row per class and slice with truth) and
    ``distance.csv`` (one row per class and distance to the nearest slice painted for training).

    Parameters
    ----------
    project
        Needs a finished prediction and a truth of at least one predicted class.
    settings
        Defaults with the changes of the project file if not given.
    options
        How to work.

    Returns
    -------
    Run
        Finished; the earlier one if the same prediction was scored against the same truth already.

    Raises
    ------
    UsageError
        If there is no prediction, or no truth of any predicted class.
    DataError
        If files of the prediction are missing, or differ from the truth in size.
    """
    settings, options = settings or evaluate_settings(project, {}), options or Options()
    predicted = project.latest("predict")
    if predicted is None:
        raise UsageError(f"nothing to evaluate: {project.path} has no finished prediction; run cristae predict first")
    classes = _scored_classes(project, predicted, options)
    labelled = _training_slices(project, predicted, classes, options)
    inputs = {
        "predict": f"{predicted.id} of {predicted.manifest['ended']}",  # done again, it may differ on a GPU
        "truth": project.truth.fingerprint(classes),
        "labelled": ";".join(f"{name}:{','.join(map(str, slices))}" for name, slices in labelled.items()),
    }
    run = project.run("evaluate", settings, inputs)
    if run.finished and not options.force:
        project.ask_again(run)
        options.notify(f"evaluate: nothing to do, {run.path.name} is finished (do it again with --force)")
        return run
    masks = {name: _open_mask(predicted, name, project.truth) for name in classes}
    size = " × ".join(f"{length:g}" for length in project.truth.grid.voxel_size)
    options.notify(f"evaluate: {', '.join(classes)}, voxels of {size} nm (z, y, x)")
    with project.lock(), project.record(run, settings, inputs):
        scale = Scale(project.truth.grid.voxel_size, settings.tolerance_nm)
        table = score_slices(_pairs(project.truth, masks, options), labelled, scale)
        scores = summarise(table, settings, labelled)
        write_scores(run.path, scores, table)
        run.update(classes=list(classes), dice_3d={name: facts["dice_3d"] for name, facts in scores["classes"].items()})
    _warn(scores, options)
    return run


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


def _scored_classes(project: Project, predicted: Run, options: Options) -> tuple[str, ...]:
    """Return the predicted classes that have truth."""
    found = tuple(str(name) for name in predicted.manifest.get("classes", ()))
    truth = project.truth
    with_truth = tuple(name for name in found if truth.labelled_slices(name))
    if not truth.classes:
        raise UsageError(
            f"{project.path} has no truth to score against; import one with: cristae import truth {project.path} "
            "SOURCE --class NAME, or score on the labelled slices themselves with: "
            f"cristae evaluate {project.path} --cross-validate"
        )
    if not with_truth:
        raise UsageError(
            f"the prediction has the classes {', '.join(found) or 'none'}, the truth {', '.join(truth.classes)}; "
            "expected at least one in both: import the truth under the name of a predicted class, or predict again"
        )
    for name in found:
        if name not in with_truth:
            options.notify(f"evaluate: class {name} has no truth and is not scored")
    return with_truth


def _training_slices(
    project: Project, predicted: Run, classes: Sequence[str], options: Options
) -> dict[str, tuple[int, ...]]:
    """Return, per class, which slices the network was trained on."""
    folder = str(predicted.manifest.get("train_run", ""))
    manifests = [run.manifest for run in project.runs("train") if run.path.name == folder]
    noted = manifests[0].get("labelled_slices") if manifests else None
    if not isinstance(noted, Mapping):
        options.notify(
            f"evaluate: the training run {folder or '(unknown)'} of this prediction is gone; the slices labelled now "
            "are taken as those it was trained on"
        )
        noted = {name: project.annotations.labelled_slices(name) for name in classes}
    return {name: tuple(sorted(int(z) for z in noted.get(name, ()))) for name in classes}


def _open_mask(predicted: Run, name: str, truth: Annotations) -> Volume:
    path = predicted.path / f"{name}.ome.zarr" / "labels" / name
    if not path.is_dir():
        raise DataError(f"{path} is missing, so the prediction is incomplete; run cristae predict again with --force")
    mask = open_volume(path)
    if mask.shape != truth.grid.shape:
        raise DataError(
            f"the prediction of {name} has shape {mask.shape} but the image {truth.grid.shape}; predict again"
        )
    return mask


def _pairs(truth: Annotations, masks: Mapping[str, Volume], options: Options) -> Iterator[Pair]:
    """Yield every slice with truth, reading predictions slab by slab as they are chunked."""
    _, height, width = truth.grid.shape
    depth = max(1, min(CHUNK[0], SLAB_BYTES // max(1, height * width)))
    slices = {name: truth.labelled_slices(name) for name in masks}
    n_slices, done = sum(map(len, slices.values())), 0
    progress = options.progress("evaluate")
    for name, mask in masks.items():
        for start in sorted({z - z % depth for z in slices[name]}):
            wanted = [z for z in slices[name] if start <= z < start + depth]
            first = wanted[0]
            slab = mask.read(Box((first, 0, 0), (wanted[-1] + 1, height, width)))
            for z in wanted:
                yield name, z, slab[z - first] != 0, truth.read_slice(name, z)
                done += 1
                progress(done, n_slices)


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


def _warn(scores: Mapping[str, Any], options: Options) -> None:
    for name, facts in scores["classes"].items():
        if facts["dice_3d"] is None:
            options.notify(
                f"evaluate: every slice with truth of {name} was also painted for training, so there is nothing to "
                "score; import truth of other slices, or see dice_3d_all_slices"
            )
