"""Settings in the report: with what they mean, and which were changed."""

from __future__ import annotations

import pytest

from cristae.project import Project
from cristae.report.gather import settings_of
from cristae.stages.adapt import AdaptSettings
from cristae.stages.cells_settings import CellsSettings
from cristae.stages.evaluate import EvaluateSettings
from cristae.stages.measuring.settings import MeasureSettings
from cristae.stages.objects import ObjectsSettings
from cristae.stages.predict import PredictSettings
from cristae.stages.track import TrackSettings
from cristae.stages.train_settings import TrainSettings

STAGES = {
    "train": TrainSettings,
    "crossvalidate": TrainSettings,
    "predict": PredictSettings,
    "evaluate": EvaluateSettings,
    "objects": ObjectsSettings,
    "cells": CellsSettings,
    "track": TrackSettings,
    "measure": MeasureSettings,
}


@pytest.mark.parametrize(("stage", "kind"), [*STAGES.items(), ("train", AdaptSettings)])
def test_settings_of_every_stage_come_with_their_meaning(tmp_path, stage, kind):

    project = Project.create(tmp_path / "p", (4.0, 4.0, 4.0))
    settings = kind()
    run = project.run(stage, settings, {})
    with project.record(run, settings, {}):
        pass
    rows = settings_of(run)
    assert {row.name for row in rows} == set(kind.model_fields)
    assert all(row.meaning for row in rows)
    assert not any(row.changed for row in rows)
