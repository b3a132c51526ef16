"""The meter of effort of a project, from what its runs say."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from unittest import mock

import numpy as np
import pandas as pd

import cristae
from cristae.corrections import tools
from cristae.corrections.journal import Journal
from cristae.stages.effort import effort, effort_in_words, kept_corrections, painting_times
from cristae.stages.labelling import Labelling


def _score(project, stage: str, name: str, ended: float, **facts: object) -> None:
    folder = project.path / "runs" / f"{stage}-{name}"
    folder.mkdir(parents=True)
    (folder / "settings.toml").touch()
    (folder / "manifest.json").write_text(
        json.dumps({"status": "finished", "stage": stage, "started": ended - 1, "ended": ended, **facts})
    )


def _grown(project) -> None:
    for number, (slices, dice) in enumerate((((0, 5), 0.6), ((0, 3, 5), 0.8))):
        at = 1000.0 + 3600 * number
        _score(project, "train", f"{number:012x}", at, labelled_slices={"disc": slices, "dot": slices[:1]})
        _score(project, "predict", f"{number:012x}", at + 1, train_run=f"train-{number:012x}", classes=["disc"])
        inputs = {"predict": f"{number:012x} of {at + 1}"}
        _score(project, "evaluate", f"{number:012x}", at + 2, inputs=inputs, dice_3d={"disc": dice, "dot": None})
    _score(project, "quality", "a" * 12, 5000.0, inputs=inputs, expected_dice_3d={"disc": 0.75})


def _correct(project, times: list[float]) -> None:
    path = project.path / "corrections" / "predict-0" / "disc" / "journal.jsonl"
    path.parent.mkdir(parents=True)
    clock = iter(datetime.fromtimestamp(t, UTC) for t in times)
    with Journal(path, {}) as journal, mock.patch("cristae.corrections.journal.datetime") as now:
        now.now.side_effect = lambda zone: next(clock)
        for _ in times:
            journal.add("paint", "napari")
    with path.open("a") as file:
        file.write('1234abcd {"kind":"pai')


def test_every_score_is_a_row_with_what_there_was_then(small_project):
    _grown(small_project)
    _correct(small_project, [600, 660, 1500])
    found = effort(small_project)
    assert found["dice"].tolist() == [0.6, 0.8, 0.75]
    assert found["n_labelled_slices"].tolist() == [2, 3, 3]
    assert found["basis"].tolist() == ["truth", "truth", "expected"]
    assert found["n_corrections"].tolist() == [2, 3, 3]
    words = effort_in_words(small_project)
    assert (
        words == "3 slices labelled, 3 corrections in 1 min at work, Dice 0.600 → 0.800 (truth), Dice 0.750 (expected)"
    )
    status = {one.stage: one.detail for one in cristae.status(small_project)}
    assert status["effort"] == words


def test_strokes_of_labels_are_no_corrections_and_their_time_is_kept(small_project):
    clock = iter(datetime.fromtimestamp(t, UTC) for t in (0, 60, 9000))
    with mock.patch("cristae.corrections.journal.datetime") as now:
        now.now.side_effect = lambda zone: next(clock)
        with Labelling(small_project, "mito") as labelling:
            for z in (1, 2, 3):
                tools.paint(labelling.corrections, z, [(5, 5), (5, 9)], 1, radius=1)
                labelling.note([z])
            assert kept_corrections(small_project) is None
            during = painting_times(small_project)
    assert len(during) == 3 and np.array_equal(painting_times(small_project), during)  # the draft is gone
    assert "correction" not in effort_in_words(small_project)
    assert " labelled (1 min painting)" in effort_in_words(small_project)
    path = small_project.path / "corrections" / "annotations" / "times.txt"
    with path.open("ab") as file:  # a crash, and what was added later
        file.write(
            b"2026-01-022026-01-02T10:00:00.000+00:00\n2026-99-99T10:00:00.000+00:00\n\xff\n1970-01-01T02:30:01.000"
        )
    assert np.array_equal(painting_times(small_project), during)


def test_what_corrections_bring_to_cells_is_in_the_meter(small_project):
    _grown(small_project)
    for number, dice in enumerate((0.7, 0.9)):
        facts = {"dice_3d": {}, "dice_cells": dice, "class_of_cells": "cell"}
        _score(small_project, "evaluate", f"{number:05x}ce11s", 6000.0 + number, **facts)
    table = effort(small_project)
    assert table.loc[table["class"] == "cell", ["basis", "dice"]].to_numpy().tolist() == [
        ["cells by truth", 0.7],
        ["cells by truth", 0.9],
    ]
    assert effort_in_words(small_project).endswith("Dice 0.700 → 0.900 (cells by truth)")


def test_a_table_of_corrections_may_be_given(small_project):
    _grown(small_project)
    table = pd.DataFrame({"time": [pd.Timestamp(0, tz="UTC")], "kind": ["merge"]})
    assert effort(small_project, table)["n_corrections"].tolist() == [1, 1, 1]


def test_a_project_in_which_nothing_was_done(tmp_path):
    project = cristae.init(tmp_path / "p", voxel_size=(4, 4, 4))
    assert effort(project).empty and kept_corrections(project) is None
    assert "effort" not in {one.stage for one in cristae.status(project)}
