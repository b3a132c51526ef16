from __future__ import annotations

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import cristae
from cristae.annotations import IGNORE
from cristae.blockwise import Journal
from cristae.errors import DataError, ResourceError
from cristae.io.ome_zarr import open_volume
from cristae.learn.checkpoint import load_model
from cristae.learn.infer import Inference
from cristae.stages import engine as stage
from cristae.stages.engine import Group, Trial
from cristae.stages.options import Options
from cristae.stages.schemes import view_of
from cristae.stages.start import boundary_nm

HOW = {"device": "cpu", "views": 1, "smooth_z": 0.0}
DEEP = {"shape": (20, 48, 48), "labelled": (0, 9, 19)}


@pytest.fixture(autouse=True)
def _installed(request):
    if "without" not in request.node.name:
        pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, build, tiny):
    """A trained project, to be copied."""
    project = build(tmp_path_factory.mktemp("trained") / "p", **DEEP)
    cristae.train(project, **tiny | {"updates": 60})
    return project


@pytest.fixture
def project(trained, tmp_path):
    return cristae.Project.open(shutil.copytree(trained.path, tmp_path / "p"))


def layers(run):
    names = [*run.manifest["classes"], *run.manifest["disagreement"]]
    return np.stack([open_volume(run.path / f"{name}.ome.zarr").read().astype(int) for name in names])


def test_openvino_gives_what_torch_gives_and_the_run_says_so(project):
    words = []
    by_torch = cristae.predict(project, engine="torch", **HOW)
    by_openvino = cristae.predict(project, engine="openvino", options=Options(notify=words.append), **HOW)
    expected, found = layers(by_torch), layers(by_openvino)
    assert np.abs(found - expected).max() <= 1
    assert np.ptp(expected) > 20
    assert (found != expected).mean() < 0.001
    assert by_torch.manifest["engines"]["all"]["engine"] == f"torch {torch.__version__}"
    facts = by_openvino.manifest["engines"]["all"]
    assert facts["engine"] == by_openvino.manifest["inputs"]["engine"]
    assert facts["engine"].startswith("openvino 20")
    assert 0 <= facts["largest_difference_from_torch"] <= 1 / 255
    assert any("by openvino" in line for line in words)


def test_auto_is_another_run_where_openvino_is_not_installed(project, monkeypatch):
    with_it = cristae.predict(project, **HOW)
    monkeypatch.setattr("cristae.learn.engines.openvino_version", lambda: "")
    without = cristae.predict(project, **HOW)
    assert with_it != without
    assert "engine" not in without.manifest["inputs"]
    assert without.manifest["engines"]["all"]["engine"].startswith("torch")


def test_without_openvino_asking_for_it_leaves_nothing_behind(small_project, tiny, monkeypatch):
    cristae.train(small_project, **tiny)
    monkeypatch.setattr("cristae.learn.engines.openvino_version", lambda: "")
    for engine in ("openvino", "openvino-int8"):
        with pytest.raises(ResourceError, match=r"pip install 'cristae\[openvino\]'"):
            cristae.predict(small_project, engine=engine, **HOW)
    assert small_project.runs("predict") == []


def test_networks_of_others_are_left_to_torch_unless_it_is_asked_for(project, monkeypatch):
    monkeypatch.setattr(stage, "NETWORKS", {})
    words = []
    run = cristae.predict(project, options=Options(notify=words.append), **HOW)
    assert run.manifest["engines"]["all"]["engine"].startswith("torch")
    assert any("by torch, not openvino: resunet" in line for line in words)
    asked = cristae.predict(project, engine="openvino", **HOW)
    assert asked.manifest["engines"]["all"]["engine"].startswith("openvino")


def test_what_openvino_cannot_run_is_run_by_torch_only_if_nobody_asked(project, monkeypatch):
    def refusing(*_):
        raise ResourceError("no")

    monkeypatch.setattr(stage, "OpenVinoEngine", refusing)
    assert cristae.predict(project, **HOW).manifest["engines"]["all"]["not_openvino"] == "no"
    with pytest.raises(ResourceError, match="no"):
        cristae.predict(project, engine="openvino", **HOW)


def test_eight_bits_are_taken_where_dice_holds(project, monkeypatch):
    monkeypatch.setattr(stage, "TOLERANCE", 1.0)
    words = []
    exact = layers(cristae.predict(project, engine="openvino", **HOW))
    run = cristae.predict(project, engine="openvino-int8", options=Options(notify=words.append), **HOW)
    facts = run.manifest["engines"]["all"]
    assert facts["engine"].startswith("openvino-int8 20")
    assert set(facts["dice_float32"]) == set(facts["dice_int8"]) == {"disc", "dot"}
    assert facts["dice_float32"]["disc"] > 0.5
    assert isinstance(facts["dice_on_held_out_parts"], bool)
    assert any("in 8 bits; Dice on labelled slices disc" in line for line in words)
    difference = np.abs(layers(run) - exact)
    assert 0 < difference.mean() < 20


def test_eight_bits_that_cost_dice_are_not_taken(project, monkeypatch):
    monkeypatch.setattr(stage, "TOLERANCE", -2.0)
    words = []
    run = cristae.predict(project, engine="openvino-int8", options=Options(notify=words.append), **HOW)
    facts = run.manifest["engines"]["all"]
    assert facts["engine"].startswith("openvino 20")
    assert "8 bits cost more" in facts["not_int8"]
    assert {"dice_float32", "dice_int8"} <= set(facts)
    assert any("in float32, for 8 bits cost more" in line for line in words)
    assert (layers(run) == layers(cristae.predict(project, engine="openvino", **HOW))).all()


def test_a_trial_is_passed_only_if_every_class_holds():
    def trial(*after):
        return Trial([], {"a": 0.9, "b": 0.8}, dict(zip("ab", after, strict=True)), True)

    assert trial(0.8981, 0.85).passed
    assert not trial(0.8979, 0.85).passed
    assert not trial(0.95, 0.797).passed


class Killed(BaseException):
    pass


@pytest.mark.parametrize("engine", ["openvino", "openvino-int8"])
def test_resumed_equals_uninterrupted(project, tmp_path, monkeypatch, engine):
    monkeypatch.setattr(stage, "TOLERANCE", 1.0)
    whole = cristae.Project.open(shutil.copytree(project.path, tmp_path / "whole"))
    expected = layers(cristae.predict(whole, engine=engine, **HOW))
    add = Journal.add

    def dying(self, tiling, key):
        add(self, tiling, key)
        raise Killed

    monkeypatch.setattr(Journal, "add", dying)
    with pytest.raises(Killed):
        cristae.predict(project, engine=engine, **HOW)
    monkeypatch.setattr(Journal, "add", add)
    # What was decided stays decided, whatever another try would say.
    monkeypatch.setattr(stage, "_dices", None)
    run = cristae.predict(project, engine=engine, **HOW)
    assert run.manifest["resumed"] == 1
    assert (layers(run) == expected).all()
    assert len(list(run.path.glob("*.int8.json"))) == (engine == "openvino-int8")


def test_force_tries_eight_bits_again(project):
    run = cristae.predict(project, engine="openvino-int8", **HOW)
    (stored,) = run.path.glob("*.int8.json")
    content = json.loads(stored.read_text())
    stored.write_text(json.dumps(content | {"int8": {"disc": -1.0, "dot": -1.0}}))
    cristae.predict(project, engine="openvino-int8", options=Options(force=True), **HOW)
    assert json.loads(stored.read_text()) == content


def test_pairs_in_eight_bits_along_all_axes_keep_their_disagreement(tmp_path, build, tiny, monkeypatch):
    monkeypatch.setattr(stage, "TOLERANCE", 1.0)
    project = build(tmp_path / "cube", shape=(32, 32, 48), labelled=(0, 16, 31))
    cristae.train(project, **tiny, scheme="cps")
    found = [layers(cristae.predict(project, engine=one, axes="all", **HOW)) for one in ("torch", "openvino-int8")]
    assert found[0].shape == (4, 32, 32, 48)
    assert np.abs(found[0] - found[1]).mean() < 20


def test_an_adapted_network_is_judged_on_whatever_is_labelled_here(project, tmp_path, build, monkeypatch):
    monkeypatch.setattr(stage, "TOLERANCE", 1.0)
    target = build(tmp_path / "other", **DEEP | {"labelled": (4, 12)})
    cristae.adapt(target, project.path, device="cpu")
    words = []
    run = cristae.predict(target, engine="openvino-int8", options=Options(notify=words.append), **HOW)
    facts = run.manifest["engines"]["all"]
    assert facts["engine"].startswith("openvino-int8 20")
    assert facts["dice_on_held_out_parts"] is True
    judged = stage._judged(group_of(target))
    assert set(judged.masks) == {4, 12}
    assert all(mask.all() for mask in judged.masks.values())


def test_an_adapted_network_without_labels_stays_in_float32_and_says_why(project, tmp_path, build):
    target = build(tmp_path / "other", **DEEP | {"labelled": (), "truth": False})
    cristae.adapt(target, project.path, device="cpu")
    words = []
    run = cristae.predict(target, engine="openvino-int8", options=Options(notify=words.append), **HOW)
    assert run.manifest["engines"]["all"]["engine"].startswith("openvino 20")
    assert "no labels here" in run.manifest["engines"]["all"]["not_int8"]
    assert any("8 bits cannot be tried" in line for line in words)


def test_boundaries_are_as_wide_as_those_that_an_adapted_network_comes_from(project, tmp_path, build, tiny):
    cristae.train(project, **tiny, boundary_nm=56.0)
    one, other = (build(tmp_path / name, **DEEP | {"labelled": (4,)}) for name in ("one", "other"))
    adapted = cristae.adapt(one, project.path, device="cpu")
    again = cristae.adapt(other, one.path, device="cpu")
    assert [boundary_nm(run) for run in (project.latest("train"), adapted, again)] == [56.0] * 3


def group_of(project):
    trained = project.latest("train")
    model, network = load_model(trained.path / "all")
    view = view_of(project, model.reduction, model.neighbours)
    return Group(project, trained, model, network, view, Inference(64, 8, 1, 16), torch.device("cpu"))


def test_without_openvino_judging_keeps_to_held_out_parts(project):
    group = group_of(project)
    judged = stage._judged(group)
    assert set(judged.masks) == {0, 9, 19}
    shares = np.mean([mask.mean((1, 2)) for mask in judged.masks.values()], axis=0)
    for i, one in enumerate(judged.targets):
        inside = any(
            (mask[i] & (project.annotations.read_slice(one.name, z) == 1)).any() for z, mask in judged.masks.items()
        )
        assert inside
        assert shares[i] in (pytest.approx(0.0625, abs=0.03), 1)  # 1: nothing of it was held out
    assert judged.held_out == bool((shares < 1).all())


def test_without_openvino_what_cannot_be_judged_is_said(project):
    group = group_of(project)
    more = replace(group, model=replace(group.model, classes=(*group.model.classes, "cell_interior")))
    with pytest.raises(DataError, match="classes that it learnt have no labels any more"):
        stage._judged(more)
    unknown = SimpleNamespace(manifest={"adapted": {}, "learnt": ["disc", "dot"]}, settings={})
    with pytest.raises(DataError, match="does not say how wide the boundaries are"):
        stage._judged(replace(group, trained=unknown))


def test_without_openvino_reduced_slices_are_compared_voxel_by_voxel(project):
    group = group_of(project)
    group = replace(group, view=replace(group.view, reduction=2))
    judged = stage._judged(group)
    n_voxels, expected = np.zeros(2, int), np.zeros(2, int)
    for z, mask in judged.masks.items():
        labels = np.stack([one.read(project.annotations, z) for one in judged.targets])
        expected += (mask.repeat(2, 1).repeat(2, 2) & (labels != IGNORE)).sum((1, 2))
    for _, _, where in stage._predicted(group, lambda image: torch.zeros(1, 2, *image.shape[2:]), judged):
        n_voxels += where.sum((1, 2))
    assert n_voxels.tolist() == expected.tolist() and expected.min() > 0


def test_without_openvino_dice_is_that_of_the_judged_voxels(project):
    group = group_of(project)
    judged = stage._judged(group)
    known = {}
    for z, mask in judged.masks.items():
        labels = np.stack([one.read(project.annotations, z) for one in judged.targets])
        known[z] = (labels == 1, mask & (labels != IGNORE))

    def answer(image):
        return torch.zeros(image.shape[0], 2, *image.shape[2:])

    assert set(stage._dices(group, answer, judged, 0.5).values()) == {0.0}

    def everything(image):
        return torch.ones(image.shape[0], 2, *image.shape[2:])

    found = stage._dices(group, everything, judged, 0.5)
    for i, one in enumerate(judged.targets):
        true, all_of_it = (sum(int(known[z][k][i].sum()) for z in known) for k in (0, 1))
        both = sum(int((known[z][0][i] & known[z][1][i]).sum()) for z in known)
        assert true >= both > 0
        assert found[one.name] == pytest.approx(2 * both / (all_of_it + both))
