"""`cristae quality`: how good each slice is to be expected to be, without truth, and what looks wrong.

::

    left-out slices (cross-validation) ──> what a probability means ──┐
    probabilities of every slice ─────────────────────────────────────┴──> expected Dice, with an interval
    masks, objects, cells ──> red flags: odd objects, jumps between slices, anatomy that cannot be

    runs/quality-<id>/    slices · classes · left_out · flags (.parquet, .csv) · proofread.md · quality (.svg, .png)

Without a cross-validation probabilities are taken at their word, which flatters, and there is no interval; with few
labelled slices the interval is wide. Both are said.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from cristae.advice.expected import LEVELS, expected_dice, expected_errors
from cristae.advice.intervals import fewest, interval, scale_of
from cristae.errors import DataError
from cristae.files import write_atomically
from cristae.project import Project, Run
from cristae.settings import resolve_settings
from cristae.stages.corrected import corrections_of, layers_of
from cristae.stages.finished import nothing_to_do
from cristae.stages.layers import disagreeing, disagreement_of, open_layer
from cristae.stages.objects import write_table
from cristae.stages.options import Options
from cristae.stages.quality_figure import draw_quality
from cristae.stages.quality_left_out import UNCALIBRATED, Calibration, calibrate, lowest_level
from cristae.stages.quality_words import proofreading
from cristae.stages.red_flags import find_sources, red_flags
from cristae.stages.slabs import measure_slices, read_slab
from cristae.stages.withheld import current_cross_validation, read_withheld


class QualitySettings(BaseModel):
    """Settings of `cristae quality`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    coverage: float = Field(
        0.8, gt=0, lt=1, description="probability with which the true Dice of a slice lies in its interval, at least"
    )
    odd: float = Field(
        4.0, ge=1, description="robust standard deviations from which on an object or a slice is unlike the others"
    )
    jump: float = Field(
        5.0, ge=1, description="robust standard deviations from which on a slice is unlike the slices around"
    )


def quality_settings(project: Project, changes: Mapping[str, Any]) -> QualitySettings:
    """Return the settings of the quality: defaults, then project file, then `changes`."""
    return resolve_settings(QualitySettings, project.stage_settings("quality"), changes)


def quality(project: Project, settings: QualitySettings | None = None, options: Options | None = None) -> Run:
    """Estimate the Dice of every predicted slice without truth, and list what looks wrong.

    Writes as Parquet and CSV ``slices`` (a row per class and slice: ``expected_dice`` with ``dice_low`` and
    ``dice_high``, ``expected_errors`` in voxels, ``disagreement`` of two networks for each voxel marked,
    ``overlap_before``, the Dice with the slice before, ``labelled``, ``distance_slices``, ``distance_nm``,
    ``n_predicted``), ``classes`` (a row per class: expected 3D Dice of slices that are not labelled, its interval, and
    what the calibration rests on), ``left_out`` (expected and true Dice of left-out slices) and ``flags`` (``kind``,
    ``class``, ``object_id``, ``z``, ``severity``, ``reason`` and a box, the worst first), with ``proofread.md`` and a
    figure.

    Raises
    ------
    DataError
        If nothing has been predicted, or the cross-validation is damaged.
    ResourceError
        If the project is in use or the disk is full.
    """
    settings, options = settings or quality_settings(project, {}), options or Options()
    predicted = project.latest("predict")
    if predicted is None:
        raise DataError(
            f"{project.path} has no prediction yet whose quality could be told; predict first: cristae predict "
            f"{project.path}"
        )
    checked, sources = current_cross_validation(project), find_sources(project, predicted, options)
    named = {"predict": predicted, "crossvalidate": checked, **sources.runs}
    inputs = {stage: run.as_input if run else "" for stage, run in named.items()}
    inputs["image"] = project.image_fingerprint
    for source in (sources.objects, sources.track):
        inputs |= corrections_of(project, source, layers_of(source) if source else ())
    run = project.run("quality", settings, inputs)
    if nothing_to_do(project, run, options):
        return run
    options.check()
    with project.lock(), project.record(run, settings, inputs):
        if options.force:
            _clear(run)
        threshold = float(predicted.manifest.get("threshold", 0.5))
        known = calibrate(read_withheld(checked), threshold) if checked else {}
        names = [str(name) for name in predicted.manifest["classes"]]
        tables, summaries = [], []
        for name in names:
            how = known.get(name, UNCALIBRATED), settings.coverage
            table, summary = _class(project, predicted, name, how, run, options)
            tables.append(table)
            summaries.append(summary)
        slices, classes = pd.concat(tables, ignore_index=True), pd.DataFrame(summaries)
        flags = red_flags(project, slices, sources, (settings.odd, settings.jump), run.path, options)
        left_out = pd.concat([known.get(name, UNCALIBRATED).left_out for name in names], ignore_index=True)
        for stem, table in {"slices": slices, "classes": classes, "left_out": left_out, "flags": flags}.items():
            write_table(table, run.path / stem)
        write_atomically(run.path / "proofread.md", proofreading(project.name, classes, slices, flags))
        draw_quality(slices, left_out, flags, names, run.path / "quality.svg", run.path / "quality.png")
        _say(classes, checked, settings, options)
        run.update(
            classes=names,
            expected_dice_3d={one["class"]: _number(one["expected_dice_3d"]) for one in summaries},
            calibrated=checked is not None,
            n_flags={str(kind): int(n) for kind, n in flags["kind"].value_counts().items()},
        )
    _clear(run)
    return run


def _class(
    project: Project,
    predicted: Run,
    name: str,
    how: tuple[Calibration, float],
    run: Run,
    options: Options,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return a row per slice of one class, and what is to be expected of the class."""
    (known, coverage), lowest = how, lowest_level(float(predicted.manifest.get("threshold", 0.5)))
    found = _measure(predicted, name, lowest, run, options)
    voxels, marked = found["voxels"], found["voxels"][:, lowest:].sum(axis=1)
    dice, reach = expected_dice(voxels, known.shares, lowest, known.clump), known.reach(coverage)
    low, high = interval(dice, scale_of(dice), reach)
    labelled = _labelled(project, predicted, name)
    z = np.arange(len(voxels))
    away = np.abs(z[:, None] - np.array(labelled)).min(axis=1) if labelled else None
    distance = pd.Series([None] * len(z) if away is None else away, dtype="Int64")
    lost = list(project.lost_slices)
    before = np.concatenate([[np.nan], marked[:-1]])
    before[[at + 1 for at in lost if at + 1 < len(z)]] = np.nan
    both = marked + before
    table = pd.DataFrame(
        {
            "class": pd.Series([name] * len(z), dtype="str"),
            "z": z,
            "labelled": np.isin(z, labelled),
            "usable": ~np.isin(z, lost),
            "distance_slices": distance,
            "distance_nm": distance.astype("Float64") * project.image.grid.voxel_size[0],
            "n_predicted": marked,
            "expected_dice": dice,
            "dice_low": low,
            "dice_high": high,
            "expected_errors": expected_errors(voxels, known.shares, lowest),
            "disagreement": found["disagreement"] / np.maximum(marked, 1),
            "n_before": before,
            "n_shared": found["n_shared"],
            "overlap_before": np.where(both > 0, 2 * found["n_shared"] / np.maximum(both, 1), np.nan),
        }
    )
    asked = ~np.isin(z, [*labelled, *lost])
    whole = voxels[asked if asked.any() else z].sum(axis=0)
    dice_3d = expected_dice(whole, known.shares, lowest, known.clump)
    low_3d, high_3d = interval(np.atleast_1d(dice_3d), scale_of(np.atleast_1d(dice_3d)), reach)
    return table, {
        "class": name,
        "expected_dice_3d": float(dice_3d),
        "dice_3d_low": float(low_3d[0]),
        "dice_3d_high": float(high_3d[0]),
        "coverage": coverage if math.isfinite(reach) else math.nan,
        "n_left_out": int(known.left_out["dice"].notna().sum()),
        "left_out_error": known.error,
        "clump_px": known.clump,
    }


def _measure(predicted: Run, name: str, lowest: int, run: Run, options: Options) -> dict[str, np.ndarray]:
    """Count levels of probability, disagreement, and what is marked on a slice and on the one before."""
    layer = open_layer(predicted, name)
    differ = open_layer(predicted, disagreement_of(name)) if name in disagreeing(predicted) else None

    def measure(slices: range) -> Mapping[str, np.ndarray]:
        first = max(0, slices.start - 1)
        slab = read_slab(layer, range(first, slices.stop))
        mask = slab >= lowest
        shared = (mask[1:] & mask[:-1]).sum(axis=(1, 2))
        own = slab[slices.start - first :]
        found = {
            "voxels": np.stack([np.bincount(plane.ravel(), minlength=LEVELS) for plane in own]),
            "n_shared": shared if slices.start else np.concatenate([[0], shared]),
            "disagreement": np.full(len(own), np.nan),
        }
        if differ is not None:
            found["disagreement"] = read_slab(differ, slices).sum(axis=(1, 2), dtype=np.float64) / (LEVELS - 1)
        return found

    return measure_slices(measure, layer, run.path / ".slices" / name, f"quality of {name}", options)


def _labelled(project: Project, predicted: Run, name: str) -> list[int]:
    """Return the slices that the network saw labels of."""
    folder = str(predicted.manifest.get("train_run", ""))
    manifests = [run.manifest for run in project.runs("train") if run.path.name == folder]
    noted = manifests[0].get("labelled_slices", {}) if manifests else {}
    return sorted(int(z) for z in noted.get(name, ()))


def _say(classes: pd.DataFrame, checked: Run | None, settings: QualitySettings, options: Options) -> None:
    if checked is None:
        options.notify(
            "quality: there is no cross-validation of these labels, so probabilities are taken at their word, which "
            "flatters, and there is no interval; with --cross-validate it is made first"
        )
    needed = fewest(settings.coverage)
    for row in classes.to_dict("records"):
        if checked is not None and row["n_left_out"] < needed:
            options.notify(
                f"quality: {row['class']}: {row['n_left_out']} left-out slices tell nothing of an interval of "
                f"{settings.coverage:.0%}, which takes {needed}; label {needed - row['n_left_out']} more, or lower "
                "quality.coverage".replace("%", " %")
            )


def _number(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def _clear(run: Run) -> None:
    shutil.rmtree(run.path / ".slices", ignore_errors=True)
