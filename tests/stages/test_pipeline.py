from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import cristae
from cristae.errors import DataError, UsageError
from cristae.stages import cross_validate as cross_validation
from cristae.stages.options import Options
from cristae.stages.pipeline import run

HOW = {"device": "cpu", "views": 1}


@pytest.fixture
def settings(tiny):
    return {"train": tiny | {"updates": 10, "classes": ("disc",)}, "predict": HOW}


def stopping(task_to_stop):
    """Options that press Ctrl-C at the first progress of one task."""

    def progress(task):
        def told(done, total, **facts):
            if task.startswith(task_to_stop):
                raise KeyboardInterrupt

        return told

    return Options(progress=progress)


def conditions(project):
    return {entry.stage: entry.condition for entry in cristae.status(project)}


def times(project):
    return {path: path.stat().st_mtime_ns for path in (project.path / "runs").rglob("*")}


def test_all_stages_run_in_a_row_and_a_second_call_does_nothing(small_project, settings):
    runs, words = run(small_project, settings), []
    assert [one.stage for one in runs] == ["train", "predict", "objects", "evaluate", "measure"]
    assert all(one.finished for one in runs)
    assert runs[1].manifest["train_run"] == runs[0].path.name
    assert runs[3].manifest["inputs"]["predict"].startswith(runs[1].id)
    assert runs[4].manifest["inputs"]["objects"].startswith(runs[2].id)
    scores = json.loads((runs[3].path / "scores.json").read_text())
    assert scores["classes"]["disc"]["labelled_slices"] == [0, 3, 5]
    before = times(small_project)
    assert run(small_project, settings, Options(notify=words.append)) == runs
    assert times(small_project) == before
    assert sum("nothing to do" in said for said in words) == 5


def test_going_back_to_earlier_settings_goes_back_to_their_results(small_project, settings):
    other = settings | {"train": settings["train"] | {"seed": 1}}
    first, second = run(small_project, settings), run(small_project, other)
    assert {one.id for one in first} & {one.id for one in second} == set()
    assert run(small_project, settings) == first
    assert [small_project.latest(one.stage) for one in first] == first
    assert conditions(small_project)["evaluate"] == "done"


def test_a_change_of_one_stage_leaves_those_before_it_alone(small_project, settings):
    first = run(small_project, settings)
    second = run(small_project, settings | {"predict": HOW | {"threshold": 0.4}})
    assert first[0] == second[0]
    assert first[1] != second[1]
    assert first[2] != second[2]


def test_without_truth_the_evaluation_is_left_out_and_said(make_small, settings):
    project, words = make_small("bare", truth=False), []
    runs = run(project, settings, Options(notify=words.append))
    assert [one.stage for one in runs] == ["train", "predict", "objects", "measure"]
    (said,) = [said for said in words if said.startswith("evaluate")]
    assert "cristae import truth" in said
    assert "--cross-validate" in said


def test_an_unknown_stage_is_named(small_project, settings):
    with pytest.raises(
        UsageError, match=r"unknown stage 'trian'.*train, predict, cells, track, objects, anatomy, evaluate, measure"
    ):
        run(small_project, settings | {"trian": {}})
    assert not (small_project.path / "runs").exists()


def test_the_status_follows_the_work(small_project, settings):
    def now(*stages):
        return [conditions(small_project)[stage] for stage in stages]

    rests = ("train", "predict", "evaluate")
    assert now("import image", "import labels", "import truth", *rests) == ["done"] * 3 + ["missing"] * 3
    run(small_project, settings)
    assert now(*rests, "measure", "crossvalidate") == ["done"] * 4 + ["missing"]
    small_project.annotations.write_slice("disc", 1, np.ones((64, 64), np.uint8))
    assert now(*rests, "measure") == ["stale"] * 4
    with pytest.raises(KeyboardInterrupt):
        run(small_project, settings, stopping("train"))
    assert now(*rests) == ["interrupted", "stale", "stale"]
    cristae.train(small_project, **settings["train"])
    assert now(*rests) == ["done", "stale", "stale"]
    with pytest.raises(KeyboardInterrupt):
        run(small_project, settings, stopping("predict"))
    assert now(*rests) == ["done", "interrupted", "stale"]
    run(small_project, settings)
    assert now(*rests) == ["done"] * 3
    small_project.truth.write_slice("disc", 1, np.ones((64, 64), np.uint8))
    assert now(*rests, "measure") == ["done", "done", "stale", "done"]


def test_labels_of_a_class_that_was_not_learnt_make_nothing_stale(small_project, settings):
    run(small_project, settings)
    small_project.annotations.write_slice("dot", 1, np.zeros((64, 64), np.uint8))
    assert {conditions(small_project)[stage] for stage in ("train", "predict", "evaluate")} == {"done"}


def test_the_status_of_an_empty_project_names_the_next_step(tmp_path):
    project = cristae.init(tmp_path / "empty", voxel_size=(8, 8, 8))
    (entry,) = cristae.status(project)
    assert (entry.stage, entry.condition) == ("import image", "missing")
    assert "cristae import image" in entry.detail


def test_work_of_another_process_shows_as_running(small_project, settings):
    found = []

    def progress(task):
        return lambda done, total, **facts: found.append(conditions(small_project)["train"])

    run(small_project, settings, Options(progress=progress))
    assert found[0] == "running"


# Cross-validation


def test_each_labelled_slice_is_scored_by_networks_that_never_saw_it(small_project, settings, monkeypatch):
    learn, seen = cross_validation.learn, []

    def noting(project, folder, *rest):
        facts = learn(project, folder, *rest)
        seen.append((folder.name, facts["labelled_slices"]["disc"]))
        return facts

    monkeypatch.setattr(cross_validation, "learn", noting)
    found = cristae.cross_validate(small_project, **settings["train"])
    assert seen == [("without-z0000", [3, 5]), ("without-z0003", [0, 5]), ("without-z0005", [0, 3])]
    table = pd.read_parquet(found.path / "slices.parquet")
    assert table["z"].tolist() == [0, 3, 5]
    assert not table["labelled"].any()
    assert table["distance_slices"].tolist() == [3, 2, 2]
    scores = json.loads((found.path / "scores.json").read_text())
    assert scores["protocol"] == "leave one labelled slice out"
    assert scores["classes"]["disc"]["dice_3d"] == found.manifest["dice_3d"]["disc"]
    assert conditions(small_project)["crossvalidate"] == "done"
    cristae.cross_validate(small_project, **settings["train"])
    assert len(seen) == 3


def test_an_interrupted_cross_validation_keeps_its_folds(make_small, settings, monkeypatch):
    whole = cristae.cross_validate(make_small("whole"), **settings["train"])
    project, learn, seen = make_small("cancelled"), cross_validation.learn, []

    def noting(opened, folder, *rest):
        seen.append(folder.name)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return learn(opened, folder, *rest)

    monkeypatch.setattr(cross_validation, "learn", noting)
    with pytest.raises(KeyboardInterrupt):
        cristae.cross_validate(project, **settings["train"])
    assert conditions(project)["crossvalidate"] == "interrupted"
    resumed = cristae.cross_validate(project, **settings["train"])
    assert seen == ["without-z0000", "without-z0003", "without-z0005", "without-z0005"]
    for name in ("scores.json", "slices.csv"):
        assert (resumed.path / name).read_bytes() == (whole.path / name).read_bytes()


def test_one_labelled_slice_cannot_be_left_out(make_small, settings):
    project = make_small("one", labelled=(3,))
    with pytest.raises(DataError, match="at least two labelled slices; there are 1"):
        cristae.cross_validate(project, **settings["train"])
    assert not (project.path / "runs").exists()


def test_the_slices_asked_for_are_those_that_are_left_out(small_project, settings):
    found = cristae.cross_validate(small_project, **settings["train"], slices=(0, 3))
    assert pd.read_parquet(found.path / "slices.parquet")["z"].tolist() == [0, 3]
    found = cristae.cross_validate(small_project, **settings["train"], exclude_slices=(0,))
    assert pd.read_parquet(found.path / "slices.parquet")["z"].tolist() == [3, 5]


def test_cross_validation_follows_the_rules_of_the_project(small_project, tiny):
    small_project.set_settings("evaluate", {"tolerance_nm": 10.0})
    first = cristae.cross_validate(small_project, **tiny | {"updates": 2})
    scores = json.loads((first.path / "scores.json").read_text())
    assert scores["classes"]["disc"]["dice_3d_tolerant"] is not None
    small_project.set_settings("evaluate", {"tolerance_nm": 20.0})
    assert cristae.cross_validate(small_project, **tiny | {"updates": 2}).id != first.id


def test_new_classes_make_the_training_stale(small_project, tiny):
    cristae.train(small_project, **tiny | {"updates": 2})
    z = small_project.annotations.labelled_slices("disc")[0]
    small_project.annotations.write_slice("ring", z, small_project.annotations.read_slice("disc", z))
    small_project.add_classes(("ring",))
    assert {one.stage: one.condition for one in cristae.status(small_project)}["train"] == "stale"
