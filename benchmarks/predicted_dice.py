"""Is the Dice that `cristae quality` tells without truth the true one: per slice, on the phantom and on `vnc_sstem`.

Seven and four evenly spaced labelled slices; calibrated by leaving out one of them at a time, and compared with the
truth on all slices that are not labelled. The baseline takes the probabilities at their word.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

import cristae
from benchmarks.result import Result
from benchmarks.studies import RECIPE, SETS, project_of, split
from cristae.advice.expected import LEVELS, expected_dice, identity
from cristae.io.ome_zarr import open_volume

UPDATES = 500
"""Updates of each training: one with all labelled slices, and one without each."""
NAMES = ("phantom", "vnc")


def run(quick: bool) -> Result:
    """Predict, tell the Dice, and compare it with the truth."""
    found = {name: compared(name, quick) for name in (NAMES[:1] if quick else NAMES)}
    value = float(found["phantom"]["off"].median())
    believed = float(found["phantom"]["off_uncalibrated"].median())
    return Result(
        "predicted_dice",
        value,
        "|predicted − true| Dice, median over unlabelled slices and classes of the phantom",
        "≤0.03 on the phantom; vnc_sstem reported",
        None if quick else value <= 0.03,
        believed,
        value / believed if believed else None,
        (0,),
        "; ".join(split(name) for name in found),
        {
            "updates": UPDATES,
            **{
                name: {
                    "by_class": {str(kind): _facts(rows) for kind, rows in table.groupby("class")},
                    "all": _facts(table),
                }
                for name, table in found.items()
            },
        },
    )


def compared(name: str, quick: bool) -> pd.DataFrame:
    """Return a row per class and unlabelled slice with the Dice that was told and the true one."""
    project = project_of(name)
    train = {**RECIPE, **SETS[name].train, "updates": 5 if quick else UPDATES}
    train["context_nm"] = train["tile_px"] * SETS[name].pixel
    cristae.train(project, **train)
    predicted = cristae.predict(project)
    cristae.cross_validate(project, **train)
    told = pd.read_parquet(cristae.quality(project).path / "slices.parquet")
    true = pd.read_parquet(cristae.evaluate(project).path / "slices.parquet")
    table = told.merge(true[["class", "z", "dice"]], on=["class", "z"])
    table = table[~table["labelled"]].reset_index(drop=True)
    table["off"] = (table["expected_dice"] - table["dice"]).abs()
    believed = []
    for kind, z in zip(table["class"], table["z"], strict=True):
        plane = open_volume(predicted.path / f"{kind}.ome.zarr").read()[z]
        believed.append(float(expected_dice(np.bincount(plane.ravel(), minlength=LEVELS), identity(), 128)))
    table["off_uncalibrated"] = (np.array(believed) - table["dice"]).abs()
    table["held"] = table["dice"].between(table["dice_low"], table["dice_high"])
    table["width"] = table["dice_high"] - table["dice_low"]
    return table


def _facts(table: pd.DataFrame) -> dict[str, float]:
    return {
        "median_error": float(table["off"].median()),
        "mean_error": float(table["off"].mean()),
        "median_error_uncalibrated": float(table["off_uncalibrated"].median()),
        "share_in_interval_of_80_percent": float(table["held"].mean()),
        "mean_width_of_interval": float(table["width"].mean()),
        "mean_true_dice": float(table["dice"].mean()),
        "n": len(table),
    }
