"""Training by a scheme: what is learnt from unlabelled slices, and what two networks leave behind."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import cristae
from cristae.errors import DataError, UsageError
from cristae.io.ome_zarr import open_volume
from cristae.learn.checkpoint import load_model
from cristae.nets.pair import Pair
from cristae.stages.options import Options
from cristae.stages.schemes import unlabelled_slices
from cristae.stages.train_settings import train_settings

SCHEMES = ("cps", "cps_cutmix")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_two_networks_learn_and_both_are_kept(small_project, tiny, scheme):
    run = cristae.train(small_project, **tiny, scheme=scheme)
    model, network = load_model(run.path / "all")
    assert model.n_networks == 2
    assert isinstance(network, Pair)
    assert run.settings["scheme"] == scheme
    assert run.manifest["n_parameters"] == sum(value.numel() for value in network.parameters())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_with_weight_0_what_is_kept_of_the_first_is_what_supervised_training_keeps(make_small, tiny, scheme):
    # Judged often, on weights that leap: the pair as one would have been best at another update.
    often = tiny | {"check_every": 1, "learning_rate": 0.02, "averaging": 0.0, "network": "resunet"}
    runs = [
        cristae.train(make_small(name), **often, **changes)
        for name, changes in (("alone", {}), ("pair", {"scheme": scheme, "cps_weight": 0.0}))
    ]
    alone, pair = (load_file(run.path / "all" / "weights.safetensors") for run in runs)
    assert runs[0].manifest["best_step"] == runs[1].manifest["best_step"]
    assert len(pair) == 2 * len(alone)
    for key, value in alone.items():
        assert torch.equal(pair[f"networks.0.{key}"], value), key


def test_disagreement_is_predicted_beside_the_classes(small_project, tiny):
    cristae.train(small_project, **tiny, scheme="cps")
    run = cristae.predict(small_project, smooth_z=0.0)
    assert run.manifest["classes"] == ["disc", "dot"]
    assert run.manifest["disagreement"] == ["disc_disagreement", "dot_disagreement"]
    layers = {name: open_volume(run.path / f"{name}.ome.zarr").read() for name in ("disc", "disc_disagreement")}
    assert layers["disc_disagreement"].dtype == np.uint8
    assert layers["disc_disagreement"].max() > 0
    # Probabilities p and q have the mean m and the difference d: none is below 0 or above 1.
    assert (layers["disc_disagreement"] // 2 <= np.minimum(layers["disc"], 255 - layers["disc"].astype(int)) + 1).all()
    assert not (run.path / "disc_disagreement.ome.zarr" / "labels").exists()
    assert not list(run.path.glob(".*raw*"))
    shown = {path.name for path in (small_project.image_path / "labels").iterdir() if path.is_dir()}
    assert shown == {"disc", "dot"}


def test_one_network_leaves_no_disagreement(small_project, tiny):
    cristae.train(small_project, **tiny)
    run = cristae.predict(small_project)
    assert run.manifest["disagreement"] == []
    assert not list(run.path.glob("*_disagreement*"))


def test_disagreement_is_the_same_along_all_axes_and_when_resumed(small_project, tiny):
    cristae.train(small_project, **tiny, scheme="cps")
    run = cristae.predict(small_project, axes="all")
    before = open_volume(run.path / "dot_disagreement.ome.zarr").read()
    again = cristae.predict(small_project, axes="all", options=Options(force=True))
    assert np.array_equal(before, open_volume(again.path / "dot_disagreement.ome.zarr").read())


def test_unlabelled_slices_are_those_not_learnt_from_evenly_spread(make_small):
    project = make_small("deep", shape=(20, 64, 64), labelled=(0, 9, 19), missing=(4,))
    settings = train_settings(project, {"unlabelled": 5})
    found = unlabelled_slices(project, settings, {0, 9, 19})
    assert found == (1, 6, 11, 14, 18)
    assert len(unlabelled_slices(project, train_settings(project, {}), {0, 9, 19})) == 16


def test_without_unlabelled_slices_the_error_says_what_to_do(make_small, tiny):
    project = make_small("all", labelled=tuple(range(6)))
    with pytest.raises(DataError, match=r"all good ones of .* are labelled; train with: --set .*=supervised"):
        cristae.train(project, **tiny, scheme="cps")


def test_a_batch_of_one_cannot_be_mixed(small_project, tiny):
    with pytest.raises(UsageError, match=r"train\.batch to 2 or more"):
        cristae.train(small_project, **tiny | {"batch": 1}, scheme="cps_cutmix")


def test_an_unknown_scheme_is_refused_with_the_known_ones(small_project, tiny):
    with pytest.raises(UsageError, match="'supervised', 'cps' or 'cps_cutmix'"):
        cristae.train(small_project, **tiny, scheme="mean")


def test_weights_of_another_number_of_networks_are_refused(small_project, tiny):
    run = cristae.train(small_project, **tiny, scheme="cps")
    path = run.path / "all" / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"n_networks": 1}))
    with pytest.raises(DataError, match="do not fit"):
        cristae.predict(small_project)
