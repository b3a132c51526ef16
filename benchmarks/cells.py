"""What the rows of cells share: densely labelled volumes, a few slices shown, all others scored by id."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile

import cristae
from benchmarks.result import Result
from benchmarks.sets import data_folder, spread, unlabelled
from cristae.allocation import keep_freed_memory
from cristae.io.ome_zarr import open_volume
from cristae.metrics.instance import adapted_rand_error, contingency
from cristae.metrics.matching import dice_by_match, summarise_dice

SMALLEST = 200
"""Cells of fewer voxels on the scored slices are not scored."""
TRAIN = {"network": "resunet", "neighbours": 2, "updates": 1000, "learning_rate": 3e-3, "boundary_nm": 20.0}
"""No free rotation or scaling: both blur by parts of a pixel where an outline lies."""
PREDICT = {"views": 4, "axes": "all", "smooth_z": 0.0}
CELLS = {"smallest_body_um2": 0.0, "edge_nm": 0.0, "flow_reduction": 1}


def cells_row(name: str, folder: str, gap: int, targets: tuple[float, float | None], quick: bool) -> Result:
    """Train on every `gap`-th slice of a volume of dense cells, find the cells of the others, and score them."""
    keep_freed_memory()
    raw, truth = (tifffile.imread(data_folder() / folder / f"{part}.tif") for part in ("raw", "labels_cells"))
    labelled = tuple(range(0, len(raw), gap))
    scored = unlabelled(len(raw), labelled)
    tile = min(128, 32 * (min(raw.shape[1:]) // 32))
    train = TRAIN | {"tile_px": tile, "context_nm": tile * 10.0} | ({"updates": 10} if quick else {})
    seeds = (0,) if quick else (0, 1, 2)
    found: list[dict[str, Any]] = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as place:
            project = _project(Path(place), raw, truth, labelled)
            begun = time.monotonic()
            cristae.train(project, **train, seed=seed)
            cristae.predict(project, **PREDICT)
            learnt = time.monotonic()
            run = cristae.cells(project, **CELLS)
            labels, facts = open_volume(run.path / "cell.ome.zarr").read(), run.manifest
            ended = time.monotonic()
        scores = score_cells(labels, truth, labelled, scored)
        found.append(
            {
                **scores,
                "method": facts["method"],
                "tried": facts.get("tried", {}),
                "network_s": learnt - begun,
                "cells_s": ended - learnt,
            }
        )
    baseline = score_cells(copy_nearest(truth, labelled), truth, labelled, scored)
    least, most = targets
    figure = "dice_met" if most is None else "dice"
    dice, error = (float(np.mean([one[key] for one in found])) for key in (figure, "arand"))
    words = f"mean cell Dice ≥{least:g}" + (
        f" and ARAND ≤{most:g}" if most else " of cells that a labelled slice meets"
    )
    reached = dice >= least and (most is None or error <= most)
    return Result(
        name,
        dice,
        "mean Dice of cells",
        words,
        None if quick else reached,
        baseline[figure],
        dice / baseline[figure],
        seeds,
        f"labelled z {', '.join(map(str, labelled))}; score the other {len(scored)} slices, cells ≥{SMALLEST} voxels",
        {
            "dice_of_cells": spread([one["dice"] for one in found]),
            "spread_over_cells": [one["sd"] for one in found],
            "dice_of_cells_that_a_labelled_slice_meets": spread([one["dice_met"] for one in found]),
            "arand": spread([one["arand"] for one in found]),
            "n_cells": found[0]["n"],
            "n_cells_that_no_labelled_slice_meets": found[0]["n_unmet"],
            "method_chosen": [one["method"] for one in found],
            "mean_dice_on_left_out_slices": found[0]["tried"],
            "seconds": {key: spread([one[key] for one in found]) for key in ("network_s", "cells_s")},
            "copy_nearest": baseline,
        },
    )


def copy_nearest(truth: np.ndarray, labelled: Sequence[int]) -> np.ndarray:
    """Return the nearest labelled slice at every z, the simplest of all baselines."""
    return truth[[min(labelled, key=lambda known, z=z: abs(known - z)) for z in range(len(truth))]]


def score_cells(
    found: np.ndarray, truth: np.ndarray, labelled: Sequence[int], scored: Sequence[int]
) -> dict[str, float]:
    """Return the cell Dice by id (cells that no labelled slice meets: by best match) and the adapted Rand error."""
    table = contingency(found[list(scored)], truth[list(scored)])
    known = np.unique(truth[list(labelled)])
    rows = dice_by_match(table, SMALLEST, known[known > 0])
    met = rows["object_id"].isin(known)
    every, those_met = summarise_dice(rows), summarise_dice(rows[met])
    return {
        "dice": every.mean,
        "sd": every.sd,
        "worst": every.worst,
        "dice_met": those_met.mean,
        "n": every.n_objects,
        "n_unmet": int((~met).sum()),
        "arand": adapted_rand_error(table).error,
    }


def figures(rows: pd.DataFrame, left_out: int) -> dict[str, Any]:
    """Return what is worth keeping of the Dice of cells, without one true id."""
    scores = summarise_dice(rows[rows["object_id"] != left_out])
    return {
        "dice": scores.mean,
        "sd": scores.sd,
        "worst": scores.worst,
        "worst_id": scores.worst_id,
        "n": scores.n_objects,
    }


def _project(place: Path, raw: np.ndarray, truth: np.ndarray, labelled: Sequence[int]) -> cristae.Project:
    tifffile.imwrite(place / "raw.tif", raw, photometric="minisblack", metadata={"axes": "ZYX"})
    tifffile.imwrite(place / "cells.tif", truth, photometric="minisblack", metadata={"axes": "ZYX"})
    project = cristae.init(place / "project", voxel_size=(10.0, 10.0, 10.0))
    cristae.import_image(project, place / "raw.tif")
    cristae.import_labels(project, place / "cells.tif", classes={"cell": None}, slices=tuple(labelled), instances=True)
    return project
