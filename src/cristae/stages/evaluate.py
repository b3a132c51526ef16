r"""Evaluate: how well a prediction agrees with the truth, per class, per slice, and by distance to the labels.

For whoever has to decide whether a segmentation can be measured. The headline is the 3D Dice over slices that were
*not* painted for training: a network knows those by heart, and they would flatter it.

::

    Dice  1 |  ^         ^         ^        peaks at the labelled slices (^), dips between them: the picture of
            | / \_     _/ \_     _/ \       over-fitting in Figure 5 of Pagano et al. (2023); `slices.csv` has a row
            |     \___/     \___/           per slice to draw it, `distance.csv` folds it by distance to the labels
            +------------------------ z

Cells are scored as objects: see `cristae.stages.score_cells`. Memory stays bounded: a slab of each layer of the
prediction at a time, and one slice of the truth.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from cristae.annotations import Annotations
from cristae.errors import DataError, UsageError
from cristae.geometry import Box
from cristae.io.ome_zarr import CHUNK, open_volume
from cristae.metrics.voxel import EmptyRule
from cristae.project import Project, Run
from cristae.settings import resolve_settings
from cristae.stages.calibration import Certainty
from cristae.stages.corrected import n_corrections, with_corrections
from cristae.stages.finished import nothing_to_do
from cristae.stages.limits import keep_memory
from cristae.stages.options import Options
from cristae.stages.score_cells import (
    FoundCells,
    cells_inputs,
    find_cells,
    in_short,
    score_cells,
    warn_of_cells,
    write_cell_scores,
)
from cristae.stages.score_masks import Pair, Scale, score_slices, summarise, write_scores
from cristae.volume import Volume

SLAB_BYTES = 2**28
"""Prediction read at once; a slab has at most this many voxels, or one slice."""


class EvaluateSettings(BaseModel):
    """Settings of the evaluate stage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    exclude_labelled: bool = Field(
        True,
        description="leave the slices that were painted for training of a class, or that cells were found from, out of "
        "its headline scores",
    )
    tolerance_nm: float | None = Field(
        None, gt=0, description="also score without a band of this many nm on either side of the true outline, in 2D"
    )
    empty_rule: EmptyRule = Field(
        "one", description="mean 2D Dice: a slice empty in truth and prediction counts 1 ('one') or nothing ('skip')"
    )
    smallest_cell_um3: float = Field(
        2e-4, ge=0, description="least volume, in µm³ on scored slices, of a true cell that enters the Dice of cells"
    )


def evaluate_settings(project: Project, changes: Mapping[str, Any]) -> EvaluateSettings:
    """Return the settings of an evaluation: defaults, then project file, then `changes`."""
    return resolve_settings(EvaluateSettings, project.stage_settings("evaluate"), changes)


def evaluate(project: Project, settings: EvaluateSettings | None = None, options: Options | None = None) -> Run:
    """Score the latest prediction of a project against its truth, and its cells, tracked ones if they are.

    Writes ``scores.json``; of masks ``slices.parquet`` and ``slices.csv`` (one row per class and slice with truth),
    ``distance.csv`` (one row per class and distance to the nearest slice painted for training), ``reliability`` and,
    of two networks, ``calibration`` (see `cristae.stages.calibration`); of cells ``cells_objects`` (one row per true
    cell) and ``cells_slices`` (one row per slice), as Parquet and CSV. Corrected cells are scored as they are with the
    corrections applied last, and without: ``cells_objects_before``, ``cells_slices_before``. Masks are scored as the
    network predicted them.

    Parameters
    ----------
    project
        Needs a truth of at least one predicted class, or of the cells that were found.
    settings
        Defaults with the changes of the project file if not given.
    options
        How to work.

    Returns
    -------
    Run
        Finished; the earlier one if the same results were scored against the same truth already.

    Raises
    ------
    UsageError
        If there are neither a prediction nor cells, or no truth of anything that was found.
    DataError
        If files of the prediction or of the cells are missing, or differ from the truth in size.
    """
    settings, options = settings or evaluate_settings(project, {}), options or Options()
    predicted, cells = project.latest("predict"), find_cells(project, options.notify)
    if predicted is None and cells is None:
        raise UsageError(f"nothing to evaluate: {project.path} has no finished prediction; run cristae predict first")
    classes = _scored_classes(project, predicted, cells, options)
    labelled = _training_slices(project, predicted, classes, options)
    inputs = {
        # done again, it may differ on a GPU
        "predict": predicted.as_input if predicted else "",
        "truth": project.truth.fingerprint(classes or None),
        "labelled": ";".join(f"{name}:{','.join(map(str, slices))}" for name, slices in labelled.items()),
        **cells_inputs(project, cells),
    }
    run = project.run("evaluate", settings, inputs)
    if nothing_to_do(project, run, options):
        return run
    masks = {name: _open_mask(predicted, name, project.truth) for name in classes if predicted}
    size = " × ".join(f"{length:g}" for length in project.truth.grid.voxel_size)
    words = with_corrections(n_corrections(cells.corrected)) if cells else ""
    subjects = [*classes, *([f"{cells.name} ({', '.join(filter(None, ('objects', words)))})"] if cells else [])]
    options.notify(f"evaluate: {', '.join(subjects)}, voxels of {size} nm (z, y, x)")
    settings, options = keep_memory("evaluate", project, settings, options)
    with project.lock(), project.record(run, settings, inputs):
        scale = Scale(project.truth.grid.voxel_size, settings.tolerance_nm)
        pairs, certainty = _pairs(project.truth, masks, options), None
        if predicted:
            certainty = Certainty(predicted, classes, labelled if settings.exclude_labelled else {})
            pairs = certainty.watch(pairs)
        table = score_slices(pairs, labelled, scale)
        scores = summarise(table, settings, labelled)
        if certainty and classes:
            certainty.write(run.path)
            for name, facts in scores["classes"].items():
                facts.update(certainty.scores(name))
        if cells:
            result = score_cells(project, cells, settings.exclude_labelled, settings.smallest_cell_um3, options)
            write_cell_scores(run.path, result)
            scores["cells"] = result.scores
            run.update(cells_scored=cells.run.path.name, **in_short(result.scores))
        write_scores(run.path, scores, table)
        run.update(classes=list(classes), dice_3d={name: facts["dice_3d"] for name, facts in scores["classes"].items()})
    _warn(scores, options)
    return run


def _scored_classes(
    project: Project, predicted: Run | None, cells: FoundCells | None, options: Options
) -> tuple[str, ...]:
    """Return the predicted classes that have truth; there may be none where there are cells to score."""
    found = tuple(str(name) for name in predicted.manifest.get("classes", ())) if predicted else ()
    truth = project.truth
    with_truth = tuple(name for name in found if truth.labelled_slices(name))
    if not truth.classes:
        raise UsageError(
            f"{project.path} has no truth to score against; import one with: cristae import truth {project.path} "
            "SOURCE --class NAME, or score on the labelled slices themselves with: "
            f"cristae evaluate {project.path} --cross-validate"
        )
    if not with_truth and cells is None:
        raise UsageError(
            f"the prediction has the classes {', '.join(found) or 'none'}, the truth {', '.join(truth.classes)}; "
            "expected at least one in both: import the truth under the name of a predicted class, or predict again"
        )
    for name in found:
        if name not in with_truth and not (cells and name in (f"{cells.name}_interior", f"{cells.name}_boundary")):
            options.notify(f"evaluate: class {name} has no truth and is not scored")
    return with_truth


def _training_slices(
    project: Project, predicted: Run | None, classes: Sequence[str], options: Options
) -> dict[str, tuple[int, ...]]:
    """Return, per class, which slices the network was trained on."""
    if predicted is None or not classes:
        return {}
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


def _warn(scores: Mapping[str, Any], options: Options) -> None:
    for name, facts in scores["classes"].items():
        if facts["dice_3d"] is None:
            options.notify(
                f"evaluate: every slice with truth of {name} was also painted for training, so there is nothing to "
                "score; import truth of other slices, or see dice_3d_all_slices"
            )
    if "cells" in scores:
        warn_of_cells(scores["cells"], options)
