"""Training that starts from another training, or from a pretrained encoder."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import cristae
from cristae.errors import DataError, UsageError
from cristae.geometry import Grid
from cristae.learn.checkpoint import Model, load_model, save_model
from cristae.learn.histogram import UNCHANGED
from cristae.learn.scale import like_reduction
from cristae.nets.contract import Build
from cristae.nets.pair import Pair
from cristae.nets.registry import NETWORKS, build_network
from cristae.project import Project
from cristae.stages.options import Options
from cristae.stages.start import Origin, find_source, jittered, take_up

STILL = {"updates": 1, "learning_rate": 1e-12, "check_every": 1}


def weights(run, group="all"):
    return load_file(run.path / group / "weights.safetensors")


def learnt(values):
    """What a step of no length leaves alone: all but the statistics of normalisations."""
    return {name: value for name, value in values.items() if "running" not in name and "num_batches" not in name}


def assert_same(a, b):
    assert learnt(a).keys() == learnt(b).keys()
    for name, value in learnt(a).items():
        torch.testing.assert_close(value, b[name], rtol=1e-6, atol=1e-8, msg=name)


@pytest.fixture(scope="module")
def source(build, tiny, tmp_path_factory):
    """A trained project, only read by tests."""
    project = build(tmp_path_factory.mktemp("trained") / "source")
    return project, cristae.train(project, **tiny)


@pytest.mark.parametrize("as_run", [False, True], ids=["project", "run"])
def test_a_training_starts_from_the_weights_of_another(source, small_project, tiny, as_run):
    project, before = source
    run = cristae.train(small_project, **tiny | STILL, start=str(before.path if as_run else project.path))
    assert_same(weights(run), weights(before))
    fresh = cristae.train(small_project, **tiny | STILL)
    with pytest.raises(AssertionError):
        assert_same(weights(fresh), weights(before))


def test_what_the_run_says_of_its_start_does_not_depend_on_where_that_lies(source, small_project, tiny, tmp_path):
    project, before = source
    run = cristae.train(small_project, **tiny | STILL, start=str(project.path))
    assert (run.manifest["start"]["project"], run.manifest["start"]["run"]) == ("source", before.id)
    assert run.settings["start"] == f"source/train-{before.id}"
    assert str(project.path.parent) not in "".join(file.read_text() for file in run.path.glob("*.[tj]*"))
    moved = shutil.copytree(project.path, tmp_path / "elsewhere")
    said = []
    again = cristae.train(small_project, options=Options(notify=said.append), **tiny | STILL, start=str(moved))
    assert again.id == run.id
    assert "nothing to do" in said[-1]
    changed = weights(before)
    changed["head.bias"] = changed["head.bias"] + 1
    save_file(changed, moved / "runs" / before.path.name / "all" / "weights.safetensors")
    assert cristae.train(small_project, **tiny | STILL, start=str(moved)).id != run.id


def test_classes_may_stand_in_another_order(source, small_project, tiny):
    _, before = source
    run = cristae.train(small_project, **tiny | STILL, start=str(before.path), classes=("dot", "disc"))
    there, here = weights(before), weights(run)
    torch.testing.assert_close(here["head.weight"], there["head.weight"][[1, 0]], rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(here["stem.weight"], there["stem.weight"], rtol=1e-6, atol=1e-8)


# What these know of one class is spread over several rows, which nothing tells apart from those of another class.
FIXED_ORDER = ("ceecnet", "fractalresnet", "senformer")


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_networks_answer_the_same_with_classes_in_another_order_or_say_that_they_cannot(name, tmp_path):
    built = Build(1, 2, "small", 0, 32)
    torch.manual_seed(0)
    network = build_network(name, built).eval()
    model = Model(name, "small", 0, 32, ("a", "b"), 1, 0, (8.0, 8.0, 8.0))
    save_model(tmp_path, model, network)
    other = build_network(name, built).eval()
    if name.startswith(FIXED_ORDER):
        with pytest.raises(DataError, match=r"cannot be put into another order.*a, b, here b, a; set train\.classes"):
            take_up(other, Origin(tmp_path, model, UNCHANGED), ("b", "a"), 0)
        return
    take_up(other, Origin(tmp_path, model, UNCHANGED), ("b", "a"), 0)
    side = max(32, network.multiple)
    image = torch.randn(1, 1, side, side)
    with torch.no_grad():
        torch.testing.assert_close(other(image), network(image)[:, [1, 0]], rtol=1e-4, atol=1e-5)


def test_one_network_starts_both_of_a_pair_and_they_differ(source, small_project, tiny):
    _, before = source
    run = cristae.train(small_project, **tiny | STILL, start=str(before.path), scheme="cps")
    _, pair = load_model(run.path / "all")
    assert isinstance(pair, Pair)
    first, second = (one.state_dict() for one in pair.networks)
    assert_same(first, weights(before))
    assert_same(second, jittered(weights(before), 0))
    apart = (first["stem.weight"] - second["stem.weight"]).std() / first["stem.weight"].std()
    assert 0.05 < apart < 0.2


def test_a_pair_starts_a_pair_and_its_first_a_single_network(small_project, make_small, tiny):
    before = cristae.train(small_project, **tiny, scheme="cps")
    both = cristae.train(make_small("pair"), **tiny | STILL, start=str(before.path), scheme="cps_cutmix")
    assert_same(weights(both), weights(before))
    alone = cristae.train(make_small("alone"), **tiny | STILL, start=str(before.path))
    kept = {key.removeprefix("networks.0."): value for key, value in weights(before).items() if "networks.0." in key}
    assert_same(weights(alone), kept)


def test_a_started_training_that_is_cancelled_ends_as_an_uninterrupted_one(source, make_small, tiny):
    project, _ = source
    whole = cristae.train(make_small("whole"), **tiny, start=str(project.path))

    def told(done, total, **facts):
        if done == 7:
            raise KeyboardInterrupt

    cancelled = make_small("cancelled")
    with pytest.raises(KeyboardInterrupt):
        cristae.train(cancelled, options=Options(progress=lambda task: told), **tiny, start=str(project.path))
    resumed = cristae.train(cancelled, **tiny, start=str(project.path))
    assert (resumed.id, resumed.manifest["resumed"]) == (whole.id, 1)
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(resumed).items())


def test_cross_validation_starts_every_fold_from_there(source, small_project, tiny):
    project, before = source
    plain = cristae.cross_validate(small_project, **tiny | STILL)
    run = cristae.cross_validate(small_project, **tiny | STILL, start=str(project.path))
    assert run.id != plain.id
    assert run.settings["start"] == f"source/train-{before.id}"
    for fold in run.path.glob("without-*"):
        assert_same(load_file(fold / "all" / "weights.safetensors"), weights(before))


@pytest.mark.parametrize(
    ("voxel", "pixel", "expected"),
    [(8, 8, 1), (4, 16, 4), (5, 7.4, 2), (5, 7, 1), (10, 8, 1), (4, 18.1, 5), (4, 0.1, 1)],
)
def test_pixels_come_as_near_as_whole_numbers_allow(voxel, pixel, expected):
    assert like_reduction(Grid((2, 100, 100), (50.0, voxel, voxel)), pixel) == expected


def test_slices_are_reduced_to_the_pixels_of_the_source_whatever_context_is_asked_for(source, make_small, tiny):
    project, _ = source
    fine = make_small("fine", shape=(6, 64, 64))
    path = fine.image_path / "zarr.json"
    halved = json.loads(path.read_text().replace("8.0", "4.0"))
    path.write_text(json.dumps(halved))
    finer = Project.open(fine.path)
    assert finer.image.grid.voxel_size == (40.0, 4.0, 4.0)
    said = []
    options = Options(notify=said.append)
    run = cristae.train(finer, options=options, **tiny | STILL | {"context_nm": 32.0}, start=str(project.path))
    assert load_model(run.path / "all")[0].reduction == 2
    assert any("reduced by 2 to pixels of 8 nm" in line and "context_nm is not looked at" in line for line in said)


# Errors


def test_a_place_without_any_training_is_named(small_project, make_small, tiny, tmp_path):
    untrained = make_small("untrained")
    for where, kind, message in (
        (tmp_path / "nothing", UsageError, "expected the folder of a project or of a train run"),
        (untrained.path, DataError, "has no trained network yet; train one with: cristae train"),
        (small_project.path, UsageError, "is this project itself; name one of its runs"),
    ):
        with pytest.raises(kind, match=message):
            cristae.train(small_project, **tiny, start=str(where))
    assert not list(small_project.path.glob("runs/*"))


def test_runs_of_other_stages_and_unfinished_ones_are_refused(source, small_project, tiny, tmp_path):
    _, before = source
    copy = shutil.copytree(before.path, tmp_path / "copy")
    facts = json.loads((copy / "manifest.json").read_text())
    for changed, message in (({"stage": "predict"}, "is a run of predict"), ({"status": "failed"}, "has not finished")):
        (copy / "manifest.json").write_text(json.dumps(facts | changed))
        with pytest.raises(cristae.CristaeError, match=message):
            cristae.train(small_project, **tiny, start=str(copy))
    (copy / "manifest.json").write_text(json.dumps(facts | {"groups": ["../all"]}))
    with pytest.raises(DataError, match="names no networks"):
        cristae.train(small_project, **tiny, start=str(copy))


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"classes": ("disc",)}, DataError, "another class list: disc, dot. This training is of disc"),
        ({"network": "unet_pagano"}, UsageError, "another network: train.network is 'unet_pagano' here and 'resunet'"),
        ({"neighbours": 0}, UsageError, "train.neighbours is 0 here and 1 there"),
        ({"size": "full"}, UsageError, "train.size is 'full' here and 'small' there"),
        ({"base_width": 4}, DataError, "base_width 2 and tile_px 32: size mismatch for stem.weight"),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_what_differs(source, small_project, tiny, changes, kind, message):
    project, _ = source
    with pytest.raises(kind, match=message):
        cristae.train(small_project, **tiny | changes, start=str(project.path))
    assert small_project.latest("train") is None


def test_damaged_weights_are_named(source, small_project, tiny, tmp_path):
    _, before = source
    copy = shutil.copytree(before.path, tmp_path / "copy")
    path = copy / "all" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"weights\.safetensors is damaged"):
        cristae.train(small_project, **tiny, start=str(copy))
    path.unlink()
    with pytest.raises(DataError, match=r"all/weights\.safetensors is missing"):
        find_source(str(copy), small_project)


# Encoders


def pretrained(path, width=2):
    network = build_network("unetplusplus_plain", Build(3, 1, "small", width, 32))
    tensors = {name: value.clone() for name, value in network.encoder.state_dict().items()}
    save_file(tensors, path)
    return tensors


def test_an_encoder_is_taken_up_by_both_of_a_pair(small_project, tiny, tmp_path):
    tensors = pretrained(tmp_path / "encoder.safetensors")
    how = {"network": "unetplusplus_plain", "encoder": str(tmp_path / "encoder.safetensors"), "scheme": "cps"}
    run = cristae.train(small_project, **tiny | STILL | how)
    for name in ("layer1.0.conv1.weight", "layer2.0.conv1.weight"):
        for i in range(2):
            found = weights(run)[f"networks.{i}.encoder.{name}"]
            torch.testing.assert_close(found, tensors[name], rtol=1e-6, atol=1e-8)
    assert run.manifest["encoder"]["file"] == run.settings["encoder"] == "encoder.safetensors"
    other = tmp_path / "elsewhere"
    other.mkdir()
    shutil.copy(tmp_path / "encoder.safetensors", other / "encoder.safetensors")
    moved = how | {"encoder": str(other / "encoder.safetensors")}
    assert cristae.train(small_project, **tiny | STILL | moved).id == run.id


def test_pickles_are_refused_with_how_to_convert_them(small_project, tiny, tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "encoder.pth")
    with pytest.raises(UsageError, match=r"pickle.*safetensors alone.*save_file"):
        cristae.train(small_project, **tiny, network="unetplusplus", encoder=str(tmp_path / "encoder.pth"))
    assert not list(small_project.path.glob("runs/*"))


def test_encoders_that_cannot_be_taken_are_refused(source, small_project, tiny, tmp_path):
    file = tmp_path / "encoder.safetensors"
    pretrained(file, width=4)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(np.random.default_rng(0).bytes(200))
    deep = {"network": "unetplusplus_plain"}
    for changes, kind, message in (
        ({"encoder": str(file)}, UsageError, "resunet takes no pretrained encoder"),
        (
            deep | {"encoder": str(file)},
            DataError,
            "does not fit unetplusplus_plain of size small: expected",
        ),
        (deep | {"encoder": str(broken)}, DataError, "broken.safetensors is a corrupt safetensors file"),
        (deep | {"encoder": str(tmp_path / "none")}, UsageError, "there is no file"),
        ({"encoder": str(file), "start": str(source[0].path)}, UsageError, "leave out train.encoder"),
    ):
        with pytest.raises(kind, match=message):
            cristae.train(small_project, **tiny | changes)
    assert small_project.latest("train") is None
