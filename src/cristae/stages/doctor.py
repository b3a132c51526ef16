"""`cristae doctor`: labelled slices whose labels disagree with what the other labelled slices teach.

Rests on the cross-validation: each labelled slice was left out once, and predicted by a network that learnt from the
others::

    runs/doctor-<id>/    labels · places (.parquet, .csv) · doctor.md
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from cristae.advice.doctor import REGION_COLUMNS, sure_disagreement, suspicion
from cristae.errors import DataError
from cristae.files import write_atomically
from cristae.project import Project, Run
from cristae.settings import resolve_settings
from cristae.stages.finished import nothing_to_do
from cristae.stages.objects import write_table
from cristae.stages.options import Options
from cristae.stages.predict import predict_settings
from cristae.stages.quality_left_out import calibrate
from cristae.stages.withheld import current_cross_validation, read_withheld

SUSPICIOUS = 4.0
"""Suspicion from which on a slice is worth a look: robust standard deviations above the other labelled slices."""
FEWEST = 3
"""Labelled slices with which one can stick out."""
_SHOWN = 8
_WORDS = {"forgotten": "looks like one and is not painted", "invented": "is painted and looks like none"}


class DoctorSettings(BaseModel):
    """Settings of `cristae doctor`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sure: float = Field(
        0.9, gt=0.5, lt=1, description="probability from which on a network is sure; below 1 − this it is sure, too"
    )
    band_px: int = Field(3, ge=1, le=100, description="a place has to hold a disc of this radius; outlines never agree")
    smallest_px: int = Field(16, ge=1, description="pixels of a place, at least")


def doctor_settings(project: Project, changes: Mapping[str, Any]) -> DoctorSettings:
    """Return the settings of the label doctor: defaults, then project file, then `changes`."""
    return resolve_settings(DoctorSettings, project.stage_settings("doctor"), changes)


def doctor(project: Project, settings: DoctorSettings | None = None, options: Options | None = None) -> Run:
    """Rank labelled slices by how much their labels disagree with what the others teach.

    Writes ``labels`` (a row per class and labelled slice: ``dice`` of label and network, ``expected_dice`` by the
    network's probabilities, ``shortfall``, ``n_sure_wrong``, ``sure_share``, ``suspicion``; the most suspicious slice
    first) and ``places`` (where the network is sure and the label says otherwise: ``class``, ``z``, ``kind``,
    a box, ``n_pixels``, ``probability``) as Parquet and CSV, and ``doctor.md``. Labels are not changed.

    Raises
    ------
    DataError
        If there is no cross-validation of these labels, or of fewer than three slices.
    ResourceError
        If the project is in use or the disk is full.
    """
    settings, options = settings or doctor_settings(project, {}), options or Options()
    checked = current_cross_validation(project)
    if checked is None:
        raise DataError(
            f"the label doctor rests on a cross-validation of the labels as they are, and {project.path} has none; "
            f"make it first: cristae evaluate {project.path} --cross-validate, or cristae doctor {project.path} "
            "--cross-validate"
        )
    inputs = {"crossvalidate": checked.as_input}
    run = project.run("doctor", settings, inputs)
    if nothing_to_do(project, run, options):
        return run
    with project.lock(), project.record(run, settings, inputs):
        places, n_wrong = [], {}
        for one in read_withheld(checked):
            found = sure_disagreement(
                one.probability,
                one.truth,
                sure=settings.sure,
                band=settings.band_px,
                smallest=settings.smallest_px,
            )
            n_wrong[one.name, one.z] = int(found["n_pixels"].sum())
            found.insert(0, "class", pd.Series([one.name] * len(found), dtype="str"))
            found.insert(1, "z", np.full(len(found), one.z))
            places.append(found)
        if len({z for _, z in n_wrong}) < FEWEST:
            raise DataError(
                f"with fewer than {FEWEST} labelled slices none can stick out; there are {len({z for _, z in n_wrong})}"
            )
        threshold = predict_settings(project, {}).threshold
        left_out = pd.concat([one.left_out for one in calibrate(read_withheld(checked), threshold).values()])
        left_out["n_sure_wrong"] = [n_wrong[key] for key in zip(left_out["class"], left_out["z"], strict=True)]
        table = suspicion(left_out.reset_index(drop=True))
        where = pd.concat(places, ignore_index=True).astype({"class": "str", "z": "int64", **REGION_COLUMNS})
        write_table(table, run.path / "labels")
        write_table(where, run.path / "places")
        write_atomically(run.path / "doctor.md", diagnosis(table, where))
        named = table.loc[table["suspicion"] >= SUSPICIOUS, "z"]
        run.update(slices=list(dict.fromkeys(int(z) for z in named)), n_places=len(where))
    return run


def diagnosis(table: pd.DataFrame, places: pd.DataFrame) -> str:
    """Return what the doctor says, as Markdown: a line per suspicious slice and class, with the largest places."""
    lines = ["# Labels to look at again", ""]
    suspicious = table[table["suspicion"] >= SUSPICIOUS]
    if suspicious.empty:
        lines.append(f"No label of {table['z'].nunique()} slices disagrees with what the others teach.")
    for row in suspicious.to_dict("records"):
        name, z = str(row["class"]), row["z"]
        lines.append(
            f"- [ ] slice {z}, {name}: Dice {row['dice']:.2f} where {row['expected_dice']:.2f} was to be expected; "
            f"suspicion {row['suspicion']:.1f}"
        )
        here = places[(places["z"] == z) & (places["class"] == name)].head(_SHOWN)
        lines += [
            f"  - y {one['y_start']}–{one['y_stop']}, x {one['x_start']}–{one['x_stop']} ({one['n_pixels']} px): "
            f"{_WORDS[str(one['kind'])]}"
            for one in here.to_dict("records")
        ]
    return "\n".join([*lines, ""])
