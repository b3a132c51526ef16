"""Networks of one project, brought to another volume that has no labels."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import cristae
from conftest import SIZE, tissue  # type: ignore[import-not-found]
from cristae.errors import DataError, UsageError
from cristae.geometry import Block, Grid, blocks
from cristae.io.ome_zarr import create_volume, open_volume, write_facts
from cristae.learn.checkpoint import load_model
from cristae.learn.histogram import UNCHANGED
from cristae.learn.infer import Inference, SlabPredictor
from cristae.nets.pair import Pair
from cristae.project import Project
from cristae.stages.options import Options
from cristae.stages.predict import predict_settings
from cristae.stages.predict_slices import predict_slices
from cristae.stages.schemes import view_for, view_of
from cristae.stages.survey import survey
from cristae.volume import Volume

LEARNT = {"updates": 60, "base_width": 4, "learning_rate": 3e-3}
OFF = {"statistics": 0.0}
QUICK = {"updates": 4, "batch": 2, "device": "cpu"}


def unlabelled(path, grey, voxel_size=SIZE):
    """Make a project with an image and nothing else."""
    project = Project.create(path, voxel_size)
    image = create_volume(project.image_path, Grid(grey.shape, voxel_size), grey.dtype, "image")
    image.write(image.grid.box, grey)
    facts = survey(Volume(grey, image.grid), lambda done, total, **facts: None)
    write_facts(project.image_path, {**facts, "missing": [], "source_name": "small"})
    return project


def stretched(grey):
    """Grey values in the same order: another gamma, gain and offset, in 16 bits so that none fall together."""
    return (5000 + 40000 * (grey / 255.0) ** 3).astype(np.uint16)


def probability(run, name="disc"):
    return open_volume(run.path / f"{name}.ome.zarr").read().astype(float)


def weights(run):
    return load_file(run.path / "all" / "weights.safetensors")


@pytest.fixture(scope="module")
def source(build, tiny, tmp_path_factory):
    """A trained and predicted project, only read by tests: the project, its training and its prediction."""
    project = build(tmp_path_factory.mktemp("trained") / "source")
    run = cristae.train(project, **tiny | LEARNT)
    return project, run, cristae.predict(project, smooth_z=0.0)


@pytest.fixture
def other(tmp_path):
    """The same tissue with other grey values, without a label."""
    return unlabelled(tmp_path / "other", stretched(tissue()[0]))


def test_the_volume_that_was_learnt_from_changes_little(source, tmp_path):
    _, trained, before = source
    same = unlabelled(tmp_path / "same", tissue()[0])
    run = cristae.adapt(same, trained.path, statistics=1.0, histogram=True)
    after = cristae.predict(same, smooth_z=0.0)
    assert after.manifest["train_run"] == run.path.name
    assert np.abs(probability(after) - probability(before)).mean() < 12
    parameters = {name for name in weights(trained) if "running" not in name}
    assert all(torch.equal(weights(run)[name], weights(trained)[name]) for name in parameters)


def test_nothing_switched_on_changes_nothing(source, tmp_path):
    _, trained, before = source
    same = unlabelled(tmp_path / "same", tissue()[0])
    run = cristae.adapt(same, trained.path, **OFF)
    assert weights(run).keys() == weights(trained).keys()
    assert all(torch.equal(value, weights(trained)[name]) for name, value in weights(run).items())
    assert np.array_equal(probability(cristae.predict(same, smooth_z=0.0)), probability(before))


def test_matched_grey_values_bring_the_prediction_back(source, other):
    _, trained, before = source
    far = {}
    for matched in (False, True):
        cristae.adapt(other, trained.path, **OFF, histogram=matched)
        far[matched] = np.abs(probability(cristae.predict(other, smooth_z=0.0)) - probability(before)).mean()
    assert far[True] < 3
    assert far[True] < 0.25 * far[False]


def test_a_run_says_where_its_weights_came_from_without_any_path(source, other):
    project, trained, _ = source
    run = cristae.adapt(other, project.path, histogram=True)
    facts = run.manifest
    assert (facts["start"]["project"], facts["start"]["run"]) == ("source", trained.id)
    assert (facts["classes"], facts["learnt"], facts["groups"]) == (["disc", "dot"], ["disc", "dot"], ["all"])
    assert facts["labelled_slices"] == {"disc": [], "dot": []}
    assert facts["adapted"] == {"statistics": 1.0, "histogram": True, "learning": "none"}
    assert str(project.path.parent) not in "".join(file.read_text() for file in run.path.rglob("*.[tj]*"))
    assert (run.stage, other.latest("train")) == ("train", run)
    assert {one.stage: one.condition for one in cristae.status(other)}["train"] == "done"
    assert cristae.write_report(other).is_file()


def test_the_same_again_is_skipped_wherever_the_source_lies(source, other, tmp_path):
    project, trained, _ = source
    run = cristae.adapt(other, project.path)
    moved, said = shutil.copytree(trained.path, tmp_path / "moved"), []
    assert cristae.adapt(other, moved, options=Options(notify=said.append)) == run
    assert "nothing to do" in said[-1]
    assert cristae.adapt(other, project.path, statistics=0.5).id != run.id


def test_the_curve_lies_in_the_model_and_blocks_agree_with_the_whole(source, other):
    project, trained, _ = source
    run = cristae.adapt(other, project.path, histogram=True)
    model, network = load_model(run.path / "all")
    assert model.curve.knots and model.curve != UNCHANGED
    assert model.grey == load_model(trained.path / "all")[0].grey
    image, found = other.image, []
    for view in (view_for(other, model), view_of(other, model.reduction, model.neighbours)):
        predictor = SlabPredictor(network, view, image.shape, Inference(32, 8, 1, 16), torch.device("cpu"))
        whole = predictor(Block(image.grid.box, image.grid.box), image.read())[0]
        for block in blocks(image.grid.box, (2, 24, 40), predictor.halo):
            assert np.array_equal(predictor(block, image.read(block.read))[0], whole[block.write.slices])
        found.append(whole.astype(float))
    assert np.abs(found[0] - found[1]).mean() > 1


def test_slices_predicted_alone_are_seen_through_the_curve_as_a_whole_prediction_is(source, other):
    run = cristae.adapt(other, source[0].path, **OFF, histogram=True)
    how = {"engine": "torch", "device": "cpu"}
    whole = cristae.predict(other, **how)
    found = list(predict_slices(other, run.path / "all", (0, 3, 5), predict_settings(other, how)))
    assert sorted((name, z) for name, z, _ in found) == [(name, z) for name in ("disc", "dot") for z in (0, 3, 5)]
    masks = {
        name: open_volume(whole.path / f"{name}.ome.zarr" / "labels" / name).read() > 0 for name in ("disc", "dot")
    }
    for name, z, mask in found:
        assert np.array_equal(mask, masks[name][z])
    assert masks["disc"][3].any()


def test_labels_go_on_from_an_adapted_network_with_its_curve(source, other, make_small, tiny):
    project, _, _ = source
    run = cristae.adapt(other, project.path, histogram=True)
    for name, mask in tissue()[1].items():
        other.annotations.write_slice(name, 2, mask[2].astype(np.uint8))
    other.add_classes(("disc", "dot"))
    how = tiny | LEARNT | {"updates": 2}
    trained = cristae.train(other, **how, start=str(run.path))
    assert load_model(trained.path / "all")[0].curve == load_model(run.path / "all")[0].curve
    # For another image that curve says nothing.
    elsewhere = cristae.train(make_small("third"), **how, start=str(run.path))
    assert load_model(elsewhere.path / "all")[0].curve == UNCHANGED


def test_other_voxels_are_reduced_to_the_pixels_that_were_learnt_from(source, tmp_path):
    project, _, _ = source
    fine = unlabelled(tmp_path / "fine", np.repeat(np.repeat(tissue()[0], 2, 1), 2, 2), (40.0, 4.0, 4.0))
    run = cristae.adapt(fine, project.path, **OFF)
    model, _ = load_model(run.path / "all")
    assert (model.reduction, model.voxel_size_nm, model.pixel_nm) == (2, (40.0, 4.0, 4.0), 8.0)


@pytest.mark.parametrize("learning", ["self_training", "cps", "cps_cutmix"])
def test_learning_without_labels_ends_the_same_when_it_is_cancelled(source, tmp_path, learning):
    project, trained, _ = source
    grey = stretched(tissue()[0])

    def told(done, total, **facts):
        if total == QUICK["updates"] and done == 2:
            raise KeyboardInterrupt

    whole = cristae.adapt(unlabelled(tmp_path / "whole", grey), project.path, **QUICK, learning=learning)
    cancelled = unlabelled(tmp_path / "cancelled", grey)
    with pytest.raises(KeyboardInterrupt):
        cristae.adapt(cancelled, project.path, options=Options(progress=lambda task: told), **QUICK, learning=learning)
    resumed = cristae.adapt(cancelled, project.path, **QUICK, learning=learning)
    assert (resumed.id, resumed.manifest["resumed"]) == (whole.id, 1)
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(resumed).items())
    _, network = load_model(resumed.path / "all")
    assert isinstance(network, Pair) == (learning != "self_training")
    assert (resumed.path / "history.csv").is_file()
    assert not list(resumed.path.rglob("checkpoint*"))
    stem = "stem.weight" if learning == "self_training" else "networks.0.stem.weight"
    assert not torch.equal(weights(resumed)[stem], weights(trained)["stem.weight"])


def test_a_class_that_is_unlearnt_is_told(source, other, monkeypatch):
    project, _, _ = source
    areas = iter([np.array([0.2, 0.1]), np.array([0.2, 0.0])])
    monkeypatch.setattr("cristae.stages.adapt.label_surely", lambda slices, *a: (list(slices), next(areas)))
    said = []
    run = cristae.adapt(other, project.path, options=Options(notify=said.append), **QUICK, learning="self_training")
    (alarm,) = run.manifest["alarms"]
    assert "'dot' covers 0.00%" in alarm
    assert any(alarm in line for line in said)


# Errors


def test_without_an_image_or_a_source_nothing_is_written(source, tmp_path, other):
    bare = Project.create(tmp_path / "bare", SIZE)
    with pytest.raises(DataError, match="has no image yet"):
        cristae.adapt(bare, source[0].path)
    with pytest.raises(UsageError, match="expected the folder of a project or of a train run"):
        cristae.adapt(other, tmp_path / "nowhere")
    with pytest.raises(UsageError, match="is this project itself"):
        cristae.adapt(other, other.path)
    assert not list(bare.path.glob("runs/*")) and not list(other.path.glob("runs/*"))


def test_a_network_that_does_not_say_its_grey_values_cannot_be_matched(source, other, tmp_path):
    copy = shutil.copytree(source[1].path, tmp_path / "copy")
    path = copy / "all" / "model.json"
    content = json.loads(path.read_text())
    del content["grey"], content["curve"]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"does not say what grey values.*adapt\.histogram=false"):
        cristae.adapt(other, copy, histogram=True)
    assert cristae.adapt(other, copy).finished
    path.write_text("{")
    with pytest.raises(DataError, match=r"model\.json is missing or damaged"):
        cristae.adapt(other, copy)


def test_a_setting_out_of_bounds_is_named(source, other):
    with pytest.raises(UsageError, match=r"statistics.*less than or equal to 1"):
        cristae.adapt(other, source[0].path, statistics=1.5)
