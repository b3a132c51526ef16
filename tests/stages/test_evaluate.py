"""Evaluate on a project written by hand, so that every score is known."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel

from cristae.errors import DataError, UsageError
from cristae.geometry import Grid
from cristae.io.ome_zarr import create_volume, write_facts
from cristae.metrics.voxel import count
from cristae.project import Project
from cristae.stages import evaluate as stage
from cristae.stages.evaluate import EvaluateSettings, evaluate
from cristae.stages.options import Options
from cristae.stages.score_masks import Scale, by_distance, score_slices, summarise

GRID = Grid((20, 24, 30), (10.0, 4.0, 4.0))
LABELLED = (2, 12)


class Nothing(BaseModel):
    pass


def true_mask():
    """A box of 10 x 8 voxels on the slices 0 to 15; the last slices are empty."""
    mask = np.zeros(GRID.shape, bool)
    mask[:16, 4:14, 6:14] = True
    return mask


def predicted_mask():
    """Perfect on labelled slices, shifted one voxel per slice of distance elsewhere; an invention on slice 18."""
    truth, mask = true_mask(), np.zeros(GRID.shape, bool)
    for z in range(16):
        mask[z] = np.roll(truth[z], min(abs(z - other) for other in LABELLED), axis=1)
    mask[18, 0, :5] = True
    return mask


def write_prediction(project, masks, train, number=0):
    class Settings(BaseModel):
        number: int

    settings = Settings(number=number)
    run = project.run("predict", settings, {})
    with project.record(run, settings, {}):
        run.update(train_run=train.path.name, classes=list(masks), threshold=0.5)
        for name, mask in masks.items():
            path = run.path / f"{name}.ome.zarr"
            create_volume(path, GRID, np.uint8, "probability").write(GRID.box, mask.astype(np.uint8) * 255)
            create_volume(path / "labels" / name, GRID, np.uint8, "labels").write(GRID.box, mask.astype(np.uint8))
    return run


@pytest.fixture
def project(tmp_path):
    project = Project.create(tmp_path / "bx1", GRID.voxel_size, ("nucleus",))
    create_volume(project.image_path, GRID, np.uint8, "image").write(GRID.box, np.full(GRID.shape, 9, np.uint8))
    write_facts(project.image_path, {"digest": "0"})
    train = project.run("train", Nothing(), {})
    with project.record(train, Nothing(), {}):
        train.update(labelled_slices={"nucleus": list(LABELLED)})
    write_prediction(project, {"nucleus": predicted_mask()}, train)
    for z, mask in enumerate(true_mask()):
        project.truth.write_slice("nucleus", z, mask.astype(np.uint8))
    return project


def scores_of(run):
    return json.loads((run.path / "scores.json").read_text())


def test_scores_are_those_worked_out_by_hand(project):
    run = evaluate(project)
    scores = scores_of(run)
    assert (scores["protocol"], scores["n_slices"]) == ("truth", 20)
    nucleus = scores["classes"]["nucleus"]
    distances = [min(abs(z - other) for other in LABELLED) for z in range(16)]
    overlap = [10 * max(0, 8 - d) for d in distances]
    unlabelled = [z for z in range(16) if z not in LABELLED]
    hits, size = sum(overlap[z] for z in unlabelled), 80 * len(unlabelled)
    assert nucleus["dice_3d"] == pytest.approx(2 * hits / (2 * size + 5))
    assert nucleus["dice_3d_all_slices"] == pytest.approx(2 * (hits + 160) / (2 * (size + 160) + 5))
    assert nucleus["precision"] == pytest.approx(hits / (size + 5))
    assert nucleus["recall"] == pytest.approx(hits / size)
    assert nucleus["iou"] == pytest.approx(hits / (2 * size + 5 - hits))
    flat = [overlap[z] / 80 for z in unlabelled] + [1, 1, 0, 1]  # slices 16, 17, 19 are rightly empty, 18 is not
    assert nucleus["dice_2d_mean"] == pytest.approx(np.mean(flat))
    assert "count 1" in nucleus["dice_2d_rule"]
    assert (nucleus["n_scored_slices"], nucleus["labelled_slices"]) == (18, [2, 12])
    assert nucleus["dice_3d_tolerant"] is None


def test_the_tables_hold_one_row_per_slice_and_per_distance(project):
    run = evaluate(project)
    table = pd.read_parquet(run.path / "slices.parquet")
    pd.testing.assert_frame_equal(
        pd.read_csv(run.path / "slices.csv").astype({"class": table["class"].dtype}), table, check_dtype=False
    )
    assert table["z"].tolist() == list(range(20))
    assert table.loc[table["labelled"], "z"].tolist() == [2, 12]
    assert table.loc[7, ["distance_slices", "distance_nm"]].tolist() == [5, 50.0]
    assert table.loc[18, ["n_truth", "n_predicted", "dice"]].tolist() == [0, 5, 0]
    folded = pd.read_csv(run.path / "distance.csv")
    assert folded["distance_slices"].tolist() == list(range(8))
    assert folded["n_slices"].sum() == 20
    assert folded["dice"].tolist()[:6] == pytest.approx([1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8])
    assert folded.loc[folded["distance_slices"] == 6, "dice"].item() == 0  # only the slice with the invention


def test_slabs_and_order_do_not_matter(project, monkeypatch):
    whole = (evaluate(project).path / "slices.csv").read_text()
    monkeypatch.setattr(stage, "SLAB_BYTES", 1)
    told = []
    options = Options(force=True, progress=lambda task: lambda done, total, **facts: told.append((task, done, total)))
    assert (evaluate(project, options=options).path / "slices.csv").read_text() == whole
    assert told == [("evaluate", n + 1, 20) for n in range(20)]


def test_the_same_again_is_skipped_and_another_truth_is_another_run(project):
    first = evaluate(project)
    written = (first.path / "scores.json").stat().st_mtime_ns
    said = []
    assert evaluate(project, options=Options(notify=said.append)) == first
    assert (first.path / "scores.json").stat().st_mtime_ns == written
    assert "--force" in said[0]
    evaluate(project, options=Options(force=True))
    assert (first.path / "scores.json").stat().st_mtime_ns > written
    project.truth.write_slice("nucleus", 5, np.zeros(GRID.shape[1:], np.uint8))
    assert evaluate(project).id != first.id
    assert evaluate(project, EvaluateSettings(empty_rule="skip")).id != first.id


def test_settings_of_the_project_file_are_used(project):
    project.set_settings("evaluate", {"exclude_labelled": False, "empty_rule": "skip", "tolerance_nm": 12.0})
    run = evaluate(project)
    nucleus = scores_of(run)["classes"]["nucleus"]
    assert run.settings.items() >= {"exclude_labelled": False, "empty_rule": "skip", "tolerance_nm": 12.0}.items()
    assert nucleus["n_scored_slices"] == 20
    assert nucleus["dice_3d"] == nucleus["dice_3d_all_slices"] < nucleus["dice_3d_tolerant"] < 1
    assert "left out" in nucleus["dice_2d_rule"]


def test_ignored_voxels_enter_no_score(project):
    for z, mask in enumerate(true_mask()):
        truth = mask.astype(np.uint8)
        truth[mask != predicted_mask()[z]] = 255
        project.truth.write_slice("nucleus", z, truth)
    nucleus = scores_of(evaluate(project))["classes"]["nucleus"]
    assert (nucleus["dice_3d"], nucleus["precision"], nucleus["recall"], nucleus["dice_2d_mean"]) == (1, 1, 1, 1)


def test_truth_on_labelled_slices_only_leaves_the_headline_open(project):
    shutil.rmtree(project.path / "truth.ome.zarr")
    for z in LABELLED:
        project.truth.write_slice("nucleus", z, true_mask()[z].astype(np.uint8))
    said = []
    nucleus = scores_of(evaluate(project, options=Options(notify=said.append)))["classes"]["nucleus"]
    assert (nucleus["dice_3d"], nucleus["dice_2d_mean"], nucleus["n_scored_slices"]) == (None, None, 0)
    assert nucleus["dice_3d_all_slices"] == 1
    assert "painted for training" in said[-1]


def test_a_lost_training_run_falls_back_to_the_labels_of_today(project):
    shutil.rmtree(project.runs("train")[0].path)
    project.annotations.write_slice("nucleus", 7, np.zeros(GRID.shape[1:], np.uint8))
    said = []
    run = evaluate(project, options=Options(notify=said.append))
    assert scores_of(run)["classes"]["nucleus"]["labelled_slices"] == [7]
    assert "is gone" in said[0]


def test_classes_without_truth_are_named_and_left_out(project):
    train = project.runs("train")[0]
    write_prediction(project, {"nucleus": predicted_mask(), "lysosome": predicted_mask()}, train, number=1)
    said = []
    assert list(scores_of(evaluate(project, options=Options(notify=said.append)))["classes"]) == ["nucleus"]
    assert any("lysosome" in words for words in said)


def test_what_is_missing_is_said(project):
    run = project.runs("predict")[0]
    shutil.rmtree(run.path / "nucleus.ome.zarr" / "labels" / "nucleus")
    with pytest.raises(DataError, match=r"incomplete.*--force"):
        evaluate(project)
    run.update(classes=["lysosome"])
    with pytest.raises(UsageError, match=r"lysosome.*nucleus"):
        evaluate(project)
    shutil.rmtree(project.path / "truth.ome.zarr")
    with pytest.raises(UsageError, match=r"cristae import truth .* --cross-validate"):
        evaluate(project)
    shutil.rmtree(run.path)
    with pytest.raises(UsageError, match="cristae predict"):
        evaluate(project)


def test_the_parts_serve_cross_validation_too():
    truth, predicted = true_mask(), predicted_mask()
    folds = [
        score_slices(
            [("nucleus", z, predicted[z], truth[z].astype(np.uint8))],
            {"nucleus": [other for other in (2, 7, 12) if other != z]},
            Scale(GRID.voxel_size),
        )
        for z in (2, 7, 12)
    ]
    table = pd.concat(folds, ignore_index=True)
    assert table["distance_slices"].tolist() == [5, 5, 5]
    assert not table["labelled"].any()
    protocol = "leave one labelled slice out"
    scores = summarise(table, EvaluateSettings(), {"nucleus": (2, 7, 12)}, protocol)
    assert scores["protocol"] == protocol
    expected = sum(count(predicted[z], truth[z].astype(np.uint8)).true_positive for z in (2, 7, 12))
    assert scores["classes"]["nucleus"]["dice_3d"] == pytest.approx(expected / 240)


def test_nothing_to_score_gives_empty_tables():
    table = score_slices([], {}, Scale(GRID.voxel_size))
    assert len(table) == len(by_distance(table)) == 0
    full = score_slices(
        [("a", 3, np.ones((2, 2), bool), np.ones((2, 2), np.uint8))], {"a": [1]}, Scale(GRID.voxel_size)
    )
    assert table.dtypes.equals(full.dtypes)
    assert pd.concat([table, full]).dtypes.equals(full.dtypes)
    assert summarise(table, EvaluateSettings(), {})["classes"] == {}
    unknown = score_slices([("a", 3, np.ones((2, 2), bool), np.ones((2, 2), np.uint8))], {}, Scale(GRID.voxel_size))
    assert unknown["distance_slices"].isna().all()
    assert len(by_distance(unknown)) == 0
