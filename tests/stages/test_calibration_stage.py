"""Doubt against error in `cristae evaluate`, on predictions written by hand."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel

import cristae
from cristae.errors import DataError
from cristae.geometry import Grid
from cristae.io.ome_zarr import create_volume, write_facts
from cristae.metrics.calibration import count_levels, error_auc, errors_found
from cristae.project import Project
from cristae.stages import calibration
from cristae.stages.calibration import calibration_table, reliability_table
from cristae.stages.evaluate import EvaluateSettings, evaluate
from cristae.stages.options import Options

GRID = Grid((20, 24, 30), (10.0, 4.0, 4.0))
LABELLED = (2, 12)
NAMES = ("nucleus", "lysosome")


class Nothing(BaseModel):
    pass


class Layers:
    """What was predicted and what is true: probabilities, disagreement and truth of noise that knows of errors."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.truth = (rng.random(GRID.shape) < 0.3).astype(np.uint8)
        self.probability = np.clip(rng.normal(60 + 130 * self.truth, 60), 0, 255).astype(np.uint8)
        self.mask = self.probability >= 128
        wrong = self.mask != (self.truth == 1)
        self.disagreement = np.clip(rng.normal(30 + 60 * wrong, 30), 0, 255).astype(np.uint8)
        self.truth[:, :3] = 255


LAYERS = {name: Layers(seed) for seed, name in enumerate(NAMES)}


def write_prediction(project, names, unsure):
    train = project.run("train", Nothing(), {})
    with project.record(train, Nothing(), {}):
        train.update(labelled_slices={name: list(LABELLED) for name in names})
    run = project.run("predict", Nothing(), {})
    with project.record(run, Nothing(), {}):
        for name in names:
            path, layers = run.path / f"{name}.ome.zarr", LAYERS[name]
            create_volume(path, GRID, np.uint8, "probability").write(GRID.box, layers.probability)
            create_volume(path / "labels" / name, GRID, np.uint8, "labels").write(
                GRID.box, layers.mask.astype(np.uint8)
            )
            if name in unsure:
                path = run.path / f"{name}_disagreement.ome.zarr"
                create_volume(path, GRID, np.uint8, "probability").write(GRID.box, layers.disagreement)
        run.update(
            train_run=train.path.name,
            classes=list(names),
            threshold=0.5,
            disagreement=[f"{name}_disagreement" for name in unsure],
        )
    return run


@pytest.fixture
def make(tmp_path):
    def make(names=NAMES, unsure=NAMES):
        project = Project.create(tmp_path / "bx1", GRID.voxel_size, names)
        create_volume(project.image_path, GRID, np.uint8, "image").write(GRID.box, np.full(GRID.shape, 9, np.uint8))
        write_facts(project.image_path, {"digest": "0"})
        write_prediction(project, names, unsure)
        for name in names:
            project.truth.write_slices(name, list(enumerate(LAYERS[name].truth)))
        return project

    return make


def scored(name, kind, slices=None):
    """Counts of the slices that are scored, taken at once."""
    layers = LAYERS[name]
    slices = [z for z in range(20) if z not in LABELLED] if slices is None else slices
    return count_levels(getattr(layers, kind)[slices], layers.mask[slices], layers.truth[slices])


def classes_of(run):
    return json.loads((run.path / "scores.json").read_text())["classes"]


def test_scores_and_tables_are_those_of_all_scored_slices_at_once(make):
    run = evaluate(make())
    for name in NAMES:
        facts, counts = classes_of(run)[name], scored(name, "disagreement")
        assert facts["disagreement_auc"] == pytest.approx(error_auc(counts))
        assert 0.8 < facts["disagreement_auc"] < 1
        for percent in (1, 5, 10):
            assert facts[f"errors_in_most_unsure_{percent}_percent"] == pytest.approx(
                errors_found(counts, percent / 100)
            )
        assert 0 < facts["calibration_error"] < 0.5
        assert facts["probability_auc"] > 0.6
    for stem, table in (
        ("calibration", calibration_table({name: scored(name, "disagreement") for name in NAMES})),
        ("reliability", reliability_table({name: scored(name, "probability") for name in NAMES})),
    ):
        pd.testing.assert_frame_equal(pd.read_parquet(run.path / f"{stem}.parquet"), table, check_dtype=False)
        pd.testing.assert_frame_equal(pd.read_csv(run.path / f"{stem}.csv"), table, check_dtype=False)


def test_tables_hold_every_bin_and_add_up(make):
    run = evaluate(make())
    slices = pd.read_csv(run.path / "slices.csv").query("not labelled")
    for stem, n_bins, what in (("calibration", 16, "disagreement"), ("reliability", 20, "probability")):
        table = pd.read_csv(run.path / f"{stem}.csv")
        assert table["class"].tolist() == [name for name in NAMES for _ in range(n_bins)]
        for name, rows in table.groupby("class"):
            of_class = slices[slices["class"] == name]
            counts = ["true_positive", "false_positive", "false_negative", "true_negative"]
            assert rows["n_voxels"].sum() == of_class[counts].to_numpy().sum()
            if stem == "calibration":
                assert rows["n_wrong"].sum() == of_class[["false_positive", "false_negative"]].to_numpy().sum()
                assert rows["share_of_errors"].sum() == pytest.approx(1)
            else:
                assert rows["n_true"].sum() == of_class["n_truth"].sum()
            assert rows["share_of_voxels"].sum() == pytest.approx(1)
            filled = rows[rows["n_voxels"] > 0]
            assert (filled[f"{what}_from"] <= filled[f"{what}_mean"]).all()
            assert (filled[f"{what}_mean"] <= filled[f"{what}_to"] + 1e-9).all()
            assert (rows[f"{what}_from"].iloc[0], rows[f"{what}_to"].iloc[-1]) == (0, 1)


def test_slices_painted_for_training_count_when_they_count_for_dice(make):
    project = make()
    run = evaluate(project, EvaluateSettings(exclude_labelled=False))
    every = scored("nucleus", "disagreement", list(range(20)))
    assert classes_of(run)["nucleus"]["disagreement_auc"] == pytest.approx(error_auc(every))
    rows = pd.read_csv(run.path / "calibration.csv").query("`class` == 'nucleus'")
    assert rows["n_voxels"].sum() == every.voxels.sum()


def test_slabs_do_not_matter(make, monkeypatch):
    project = make()
    whole = (evaluate(project).path / "calibration.csv").read_bytes()
    monkeypatch.setattr(calibration, "SLAB_BYTES", 3 * 24 * 30)
    assert (evaluate(project, options=Options(force=True)).path / "calibration.csv").read_bytes() == whole


def test_of_one_network_there_is_the_reliability_alone(make):
    project = make(unsure=())
    run = evaluate(project)
    assert not list(run.path.glob("calibration.*"))
    assert len(pd.read_csv(run.path / "reliability.csv")) == 40
    facts = classes_of(run)["nucleus"]
    assert facts["disagreement_auc"] is facts["errors_in_most_unsure_5_percent"] is None
    assert facts["probability_auc"] > 0.6 and facts["calibration_error"] > 0


def test_a_class_of_one_network_beside_one_of_two(make):
    run = evaluate(make(unsure=("lysosome",)))
    assert set(pd.read_csv(run.path / "calibration.csv")["class"]) == {"lysosome"}
    assert set(pd.read_csv(run.path / "reliability.csv")["class"]) == set(NAMES)
    assert classes_of(run)["nucleus"]["disagreement_auc"] is None
    assert classes_of(run)["lysosome"]["disagreement_auc"] > 0.8


def test_nothing_scored_is_no_number(make):
    project = make(names=("nucleus",), unsure=("nucleus",))
    shutil.rmtree(project.path / "truth.ome.zarr")
    project.truth.write_slice("nucleus", 2, LAYERS["nucleus"].truth[2])
    run = evaluate(project)
    facts = classes_of(run)["nucleus"]
    assert facts["disagreement_auc"] is facts["calibration_error"] is None
    assert pd.read_csv(run.path / "calibration.csv")["n_voxels"].sum() == 0


def test_a_lost_layer_is_named(make):
    project = make()
    shutil.rmtree(project.latest("predict").path / "lysosome_disagreement.ome.zarr")
    with pytest.raises(DataError, match=r"lysosome_disagreement\.ome\.zarr is missing.*--force"):
        evaluate(project)


def test_two_trained_networks_are_judged(small_project, tiny):
    cristae.train(small_project, **tiny, scheme="cps")
    cristae.predict(small_project)
    run = cristae.evaluate(small_project)
    assert 0 <= classes_of(run)["disc"]["disagreement_auc"] <= 1
    assert set(pd.read_csv(run.path / "calibration.csv")["class"]) == {"disc", "dot"}
