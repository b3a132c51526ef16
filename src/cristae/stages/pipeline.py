"""`cristae run`: all stages in a row; finished ones are skipped, an interrupted one goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cristae.errors import UsageError
from cristae.project import Project, Run
from cristae.stages.anatomy import anatomy, anatomy_settings
from cristae.stages.cells import cells
from cristae.stages.cells_settings import cells_settings
from cristae.stages.evaluate import evaluate, evaluate_settings
from cristae.stages.limits import check_memory
from cristae.stages.measure import measure, measure_settings
from cristae.stages.objects import mask_classes, objects, objects_settings
from cristae.stages.options import Options
from cristae.stages.predict import predict, predict_settings
from cristae.stages.track import track, track_settings
from cristae.stages.train import train
from cristae.stages.train_settings import train_settings

STAGES = ("train", "predict", "cells", "track", "objects", "anatomy", "evaluate", "measure")
"""The computing stages, in the order in which they feed each other."""


def run(project: Project, settings: Mapping[str, Mapping[str, Any]], options: Options | None = None) -> list[Run]:
    """Train and predict; cells, tracks and what lies in them where cells are labelled; evaluate, measure.

    Parameters
    ----------
    project
        With image and labels.
    settings
        Changes by stage, over those of the project file.
    options
        Shared by all stages.

    Returns
    -------
    list of Run
        In the order of the work.

    Raises
    ------
    UsageError
        If a stage is unknown.
    """
    options = options or Options()
    unknown = sorted(set(settings) - set(STAGES))
    if unknown:
        raise UsageError(f"unknown stage {unknown[0]!r} in the settings; there are {', '.join(STAGES)}")
    check_memory(project, settings, options)
    runs = [train(project, train_settings(project, settings.get("train", {})), options)]
    runs.append(predict(project, predict_settings(project, settings.get("predict", {})), options))
    with_cells = any(project.annotations.has_instances(name) for name in project.annotations.classes)
    if with_cells:
        runs.append(cells(project, cells_settings(project, settings.get("cells", {})), options))
        runs.append(track(project, track_settings(project, settings.get("track", {})), options))
    if mask_classes(project, runs[1]):
        runs.append(objects(project, objects_settings(project, settings.get("objects", {})), options))
        if with_cells:
            runs.append(anatomy(project, anatomy_settings(project, settings.get("anatomy", {})), options))
    if project.truth.classes:
        runs.append(evaluate(project, evaluate_settings(project, settings.get("evaluate", {})), options))
    else:
        options.notify(
            "evaluate: no truth to score against; import some with 'cristae import truth', or leave out one labelled "
            "slice at a time with 'cristae evaluate --cross-validate'"
        )
    runs.append(measure(project, measure_settings(project, settings.get("measure", {})), options))
    return runs
