"""`cristae evaluate --cross-validate`: how good without truth, by leaving out one labelled slice at a time."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cristae.allocation import keep_freed_memory
from cristae.errors import DataError
from cristae.learn.targets import targets_of
from cristae.project import Project, Run
from cristae.stages.evaluate import evaluate_settings
from cristae.stages.finished import nothing_to_do
from cristae.stages.limits import keep_memory
from cristae.stages.options import Options
from cristae.stages.predict import PredictSettings, predict_settings
from cristae.stages.predict_slices import predict_planes
from cristae.stages.score_masks import Pair, Scale, score_slices, summarise, write_scores
from cristae.stages.start import beginning
from cristae.stages.train import classes_to_learn, learn, remove_checkpoints
from cristae.stages.train_settings import TrainSettings
from cristae.stages.withheld import keep_withheld

PROTOCOL = "leave one labelled slice out"


def cross_validate(project: Project, settings: TrainSettings, options: Options | None = None) -> Run:
    """Train once per labelled slice without it, predict it, and score what was predicted against its labels.

    What comes out has the form of an evaluation; probabilities and labels of the left-out slices are kept, too (see
    `cristae.stages.withheld`). Slices whose turn is over are skipped when an interrupted cross-validation is run again.

    Raises
    ------
    DataError
        If fewer than two slices are labelled.
    """
    options = options or Options()
    classes = classes_to_learn(project, settings)
    painted = {z for name in classes for z in project.annotations.labelled_slices(name)}
    slices = sorted((painted & set(settings.slices or painted)) - {*settings.exclude_slices, *project.lost_slices})
    if len(slices) < 2:
        raise DataError(f"leaving one out takes at least two labelled slices; there are {len(slices)}")
    how = predict_settings(project, {})
    # Every slice scored here was labelled, but never to the network that predicted it.
    rules = evaluate_settings(project, {"exclude_labelled": False})
    inputs = {
        "image": project.image_fingerprint,
        "labels": project.annotations.fingerprint(classes),
        "prediction": how.model_dump_json(),
        "rules": rules.model_dump_json(),
    }
    begun = beginning(project, settings)
    inputs |= begun.inputs
    run = project.run("crossvalidate", begun.anonymous, inputs)
    if nothing_to_do(project, run, options, "cross-validation"):
        return run
    keep_memory("train", project, settings, options)
    how, options = keep_memory("predict", project, how, options)
    keep_freed_memory()
    progress = options.progress("cross-validation")
    with project.lock(), project.record(run, begun.named, inputs):
        tables = []
        for done, z in enumerate(slices, start=1):
            tables.append(
                _fold(project, run.path / f"without-z{z:04d}", z, (begun.settings, how, rules.tolerance_nm), options)
            )
            progress(done, len(slices))
        table = pd.concat(tables, ignore_index=True)
        targets = targets_of(project.annotations, classes, settings.boundary_nm)
        labelled = {one.name: project.annotations.labelled_slices(one.layer) for one in targets}
        scores = summarise(table, rules, labelled, PROTOCOL)
        write_scores(run.path, scores, table)
        run.update(classes=list(labelled), dice_3d={name: one["dice_3d"] for name, one in scores["classes"].items()})
    return run


def _fold(
    project: Project, folder: Path, z: int, how: tuple[TrainSettings, PredictSettings, float | None], options: Options
) -> pd.DataFrame:
    """Score slice z by networks that never saw it; a fold that is on disk is read."""
    stored = folder / "slices.parquet"
    if stored.is_file() and not options.force:
        return pd.read_parquet(stored)
    settings, prediction, tolerance_nm = how
    without = settings.model_copy(update={"exclude_slices": (*settings.exclude_slices, z)})
    learnable = _learnable(project, without)
    if options.force:
        remove_checkpoints(folder)
    folder.mkdir(parents=True, exist_ok=True)
    facts = learn(project, folder, without, learnable, options)
    found = [plane for group in facts["groups"] for plane in predict_planes(project, folder / group, [z], prediction)]
    annotations = project.annotations
    targets = {one.name: one for one in targets_of(annotations, learnable, settings.boundary_nm)}
    pairs: list[Pair] = [
        (name, z, mask, targets[name].read(annotations, z))
        for name, _, _, mask in found
        if z in annotations.labelled_slices(targets[name].layer)
    ]
    truth = {name: labels for name, _, _, labels in pairs}
    keep_withheld(folder, {name: (plane, truth[name]) for name, _, plane, _ in found if name in truth})
    table = score_slices(pairs, facts["labelled_slices"], Scale(project.image.grid.voxel_size, tolerance_nm))
    table.to_parquet(stored, index=False)
    remove_checkpoints(folder)
    return table


def _learnable(project: Project, settings: TrainSettings) -> tuple[str, ...]:
    """Return the classes that still have labelled pixels without the left-out slice."""
    annotations = project.annotations
    kept = tuple(
        name
        for name in classes_to_learn(project, settings)
        if any(
            (annotations.read_slice(name, z) == 1).any()
            for z in annotations.labelled_slices(name)
            if z not in {*settings.exclude_slices, *project.lost_slices} and z in (settings.slices or (z,))
        )
    )
    if not kept:
        raise DataError(f"without slice {settings.exclude_slices[-1]} no class has labels left; label one more slice")
    return kept
