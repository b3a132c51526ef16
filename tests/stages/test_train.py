from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

import cristae
from cristae.errors import DataError, ResourceError, UsageError
from cristae.learn.checkpoint import load_model
from cristae.learn.fit import Score
from cristae.learn.patches import load_slices
from cristae.stages import train as stage
from cristae.stages.options import Options
from cristae.stages.train import wants_compiling
from cristae.stages.train_settings import PRESETS, RARE_SAMPLERS, TrainSettings, train_settings
from cristae.volume import Volume


def weights(run, group="all"):
    return (run.path / group / "weights.safetensors").read_bytes()


class Steps:
    """Options that note the updates seen, and press Ctrl-C at one of them."""

    def __init__(self, stop_at=-1):
        self.seen, self.words = [], []
        self.options = Options(progress=lambda task: self.told, notify=self.words.append)
        self.stop_at = stop_at

    def told(self, done, total, **facts):
        self.seen.append(done)
        if done == self.stop_at:
            raise KeyboardInterrupt


def test_a_run_leaves_all_that_is_needed_to_predict_and_to_judge(small_project, tiny):
    run = cristae.train(small_project, **tiny)
    assert run.finished
    assert run.manifest["classes"] == ["disc", "dot"]
    assert run.manifest["labelled_slices"] == {"disc": [0, 3, 5], "dot": [0, 3, 5]}
    assert (run.manifest["updates"], run.manifest["alarms"], run.manifest["device"]) == (20, [], "cpu")
    assert run.settings["updates"] == 20
    model, network = load_model(run.path / "all")
    assert (model.classes, model.reduction, model.voxel_size_nm) == (("disc", "dot"), 1, (40.0, 8.0, 8.0))
    assert run.manifest["n_parameters"] == sum(value.numel() for value in network.parameters())
    history = pd.read_csv(run.path / "history.csv")
    assert history["step"].tolist() == [10, 20]
    assert {"loss", "learning_rate", "seconds", "dice_disc", "dice_dot"} < set(history.columns)
    assert not list(run.path.rglob("checkpoint*"))


def test_a_finished_run_is_skipped_and_force_does_the_same_again(small_project, tiny):
    first = cristae.train(small_project, **tiny)
    before, written = weights(first), (first.path / "all" / "weights.safetensors").stat().st_mtime_ns
    steps = Steps()
    assert cristae.train(small_project, options=steps.options, **tiny) == first
    assert steps.seen == []
    assert "nothing to do" in steps.words[-1]
    assert cristae.train(small_project, options=Options(force=True), **tiny) == first
    assert (first.path / "all" / "weights.safetensors").stat().st_mtime_ns > written
    assert weights(first) == before


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(make_small, tiny):
    runs = [cristae.train(make_small(f"p{i}"), **tiny, seed=seed) for i, seed in enumerate((0, 0, 1))]
    assert weights(runs[0]) == weights(runs[1]) != weights(runs[2])
    assert runs[0].id == runs[1].id != runs[2].id


def test_other_settings_or_labels_are_another_run(small_project, tiny):
    short = tiny | {"updates": 1}
    first = cristae.train(small_project, **short)
    kept = weights(first)
    assert cristae.train(small_project, **short | {"noise": 0.0}).id != first.id
    small_project.annotations.write_slice("disc", 1, np.ones((64, 64), np.uint8))
    relabelled = cristae.train(small_project, **short)
    assert relabelled.id != first.id
    assert relabelled.manifest["labelled_slices"] == {"disc": [0, 1, 3, 5], "dot": [0, 3, 5]}
    assert weights(first) == kept
    assert len(small_project.runs("train")) == 3


@pytest.mark.parametrize("stop_at", [7, 10, 20])
def test_a_cancelled_training_goes_on_and_ends_as_an_uninterrupted_one(make_small, tiny, stop_at):
    whole = cristae.train(make_small("whole"), **tiny)
    project = make_small("cancelled")
    with pytest.raises(KeyboardInterrupt):
        cristae.train(project, options=Steps(stop_at).options, **tiny)
    assert project.runs("train")[0].manifest["status"] == "interrupted"
    assert project.latest("train") is None
    steps = Steps()
    resumed = cristae.train(project, options=steps.options, **tiny)
    assert steps.seen == list(range(stop_at + 1, 21))
    assert weights(resumed) == weights(whole)
    assert resumed.manifest["resumed"] == 1
    assert resumed.manifest["best_step"] == whole.manifest["best_step"]


KILLED = """
import json, os, signal, sys
import cristae, cristae.learn.fit
from cristae.stages.options import Options
cristae.learn.fit.CHECKPOINT_SECONDS = 0

def told(done, total, **facts):
    if done == 13:
        os.kill(os.getpid(), signal.SIGKILL)

cristae.train(sys.argv[1], options=Options(progress=lambda task: told), **json.loads(sys.argv[2]))
"""


def test_a_killed_training_goes_on_at_its_checkpoint_and_ends_as_an_uninterrupted_one(make_small, tiny):
    whole = cristae.train(make_small("whole"), **tiny)
    project = make_small("killed")
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, project.path, json.dumps(tiny)], env=dict(os.environ), check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert project.latest("train") is None
    steps = Steps()
    resumed = cristae.train(project, options=steps.options, **tiny)
    assert steps.seen == list(range(14, 21))  # killed while the 13th was told, after its checkpoint
    assert weights(resumed) == weights(whole)


def test_a_damaged_checkpoint_is_named_and_never_taken_for_a_training(small_project, tiny):
    with pytest.raises(KeyboardInterrupt):
        cristae.train(small_project, options=Steps(7).options, **tiny)
    (checkpoint,) = small_project.path.rglob("checkpoint.safetensors")
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"checkpoint\.safetensors is damaged.*delete it"):
        cristae.train(small_project, **tiny)
    assert small_project.latest("train") is None
    checkpoint.unlink()
    assert cristae.train(small_project, **tiny).finished


def test_only_labelled_slices_and_their_neighbours_are_read(make_small, tiny, monkeypatch):
    project, read, boxes = make_small("deep", shape=(20, 64, 64), labelled=(4, 12)), Volume.read, []

    def noting(self, box=None):
        boxes.append((self.kind, box or self.grid.box))
        return read(self, box)

    monkeypatch.setattr(Volume, "read", noting)
    cristae.train(project, **tiny | {"updates": 2, "neighbours": 1})
    slices = {
        kind: {z for of, box in boxes if of == kind for z in range(box.start[0], box.stop[0])}
        for kind in ("image", "labels")
    }
    assert slices == {"image": {3, 4, 5, 11, 12, 13}, "labels": {4, 12}}


def test_what_nobody_looked_at_carries_no_weight(small_project, tiny, monkeypatch):
    half = small_project.annotations.read_slice("disc", 3).copy()
    half[:, 28:] = 0
    small_project.annotations.write_slice("disc", 3, half, complete=False)
    loaded = []
    monkeypatch.setattr(stage, "load_slices", lambda *a: loaded.extend(load_slices(*a)) or loaded)
    cristae.train(small_project, **tiny | {"updates": 1})
    partial = next(one for one in loaded if one.z == 3)
    assert (partial.weight[0] == (half == 1)).all()
    assert (partial.weight[1] == 1).all()
    assert all((one.weight == 1).all() for one in loaded if one.z != 3)


def test_separate_trains_one_network_per_class(small_project, tiny):
    run = cristae.train(small_project, **tiny, separate=True)
    assert run.manifest["groups"] == ["disc", "dot"]
    assert [load_model(run.path / name)[0].classes for name in ("disc", "dot")] == [("disc",), ("dot",)]
    assert {"dice_disc", "dice_dot"} < set(pd.read_csv(run.path / "history.csv").columns)
    alone = cristae.train(small_project, **tiny, classes=("disc",))
    assert alone.manifest["classes"] == ["disc"]
    assert weights(alone) == weights(run, "disc")  # what the other class is does not matter to this one


def test_a_collapsed_class_is_told_and_kept_in_the_manifest(small_project, tiny, monkeypatch):
    judged = {"disc": Score(0.5, 1.0), "dot": Score(0.0, 0.0)}
    monkeypatch.setattr(stage, "HeldOutJudge", lambda *a: lambda network: judged)
    steps = Steps()
    run = cristae.train(small_project, options=steps.options, **tiny | {"check_every": 2})
    assert run.manifest["alarms"]
    assert all("'dot' collapsed to background" in alarm for alarm in run.manifest["alarms"])
    assert set(run.manifest["alarms"]) <= set(steps.words)


def test_the_choice_of_slices_is_followed(small_project, tiny):
    one = tiny | {"updates": 1}
    assert cristae.train(small_project, **one, slices=(0, 3)).manifest["labelled_slices"]["disc"] == [0, 3]
    assert cristae.train(small_project, **one, exclude_slices=(0,)).manifest["labelled_slices"]["dot"] == [3, 5]


def test_the_preset_of_the_paper_has_the_values_of_the_paper(small_project):
    settings = train_settings(small_project, {"preset": "machireddy2023"})
    assert (settings.network, settings.size, settings.base_width, settings.neighbours) == ("resunet", "full", 0, 0)
    assert (settings.optimiser, settings.learning_rate, settings.epsilon) == ("adam", 1e-4, 1e-7)
    assert (settings.updates, settings.batch, settings.decay, settings.weight_decay) == (5000, 5, "constant", 0)
    assert (settings.tile_px, settings.context_nm) == (512, 8192)
    assert (settings.cross_entropy, settings.averaging, settings.clip) == (0, 0, 0)
    assert RARE_SAMPLERS[settings.rare_sampler] == (0.8, 100)
    assert settings.flips
    assert not settings.quarter_turns
    changes = ("rotation_deg", "scale", "contrast", "brightness", "gamma", "noise", "blur")
    assert [getattr(settings, name) for name in changes] == [0] * len(changes)


def test_settings_come_from_preset_then_project_file_then_the_call(small_project):
    small_project.set_settings("train", {"preset": "fast", "updates": 7})
    settings = train_settings(small_project, {"batch": 3})
    assert (settings.base_width, settings.updates, settings.batch) == (PRESETS["fast"]["base_width"], 7, 3)
    assert train_settings(small_project, {"preset": "machireddy2023"}).size == "full"


SMALL = {"updates": 1, "tile_px": 64, "base_width": 4}


@pytest.mark.parametrize(
    ("network", "changes", "unheard"),
    [
        ("fractalresnet", {"cross_entropy": 0.0}, ["cross_entropy"]),
        ("fractalresnet", {"loss_depth": (0, 10, 20)}, []),
        ("fractalresnet", {}, []),
        ("resunet", {"cross_entropy": 0.0}, []),
        ("resunet", {"loss_depth": (10,)}, ["loss_depth"]),
    ],
)
def test_settings_without_a_say_in_the_loss_of_a_network_are_told(small_project, tiny, network, changes, unheard):
    said = []
    cristae.train(small_project, options=Options(notify=said.append), **tiny | SMALL | changes | {"network": network})
    told = [line.split()[1].removeprefix("train.") for line in said if "no say in the loss" in line]
    assert told == unheard


def test_the_depth_of_the_loss_changes_a_training_and_without_it_ids_are_as_before(small_project, tiny):
    deep = tiny | SMALL | {"network": "fractalresnet"}
    plain, deeper = (cristae.train(small_project, **deep | more) for more in ({}, {"loss_depth": (10,)}))
    assert weights(plain) != weights(deeper)
    assert "loss_depth" not in plain.settings
    assert deeper.settings["loss_depth"] == [10]
    assert cristae.train(small_project, **deep, loss_depth=(0,)).id == plain.id
    for wrong in ((), (31,), (-1,)):
        with pytest.raises(UsageError, match="loss_depth"):
            train_settings(small_project, {"loss_depth": wrong})


def test_every_setting_is_documented():
    assert all(field.description for field in stage.TrainSettings.model_fields.values())


WRONG = {
    "learning_speed.*Settings are:.*learning_rate": {"learning_speed": 1},
    "updates.*greater than or equal to 1, got 0": {"updates": 0},
    "unknown preset 'slow'; there are default, machireddy2023, pagano2023, fast": {"preset": "slow"},
    "unknown network 'vgg'; there are resunet": {"network": "vgg"},
    "slices 1, 4 have no labels.*labelled are 0, 3, 5": {"slices": (0, 1, 4)},
}


def test_tiles_smaller_than_the_network_can_take_are_refused(small_project, tiny):
    small = tiny | {"network": "ceecnet_v1", "base_width": 4, "tile_px": 32}
    with pytest.raises(UsageError, match="ceecnet_v1 needs tiles of at least 64 px, got tile_px 32"):
        cristae.train(small_project, **small)


def test_tiles_are_made_as_large_as_the_network_needs(small_project, tiny):
    said = []
    run = cristae.train(small_project, options=Options(notify=said.append), **tiny | {"tile_px": 33, "updates": 1})
    assert any("resunet takes multiples of 16 px; tiles are 48 px" in line for line in said)
    assert run.finished


@pytest.mark.parametrize("message", WRONG)
def test_wrong_settings_are_named_and_nothing_is_written(small_project, tiny, message):
    with pytest.raises(UsageError, match=message):
        cristae.train(small_project, **tiny | WRONG[message])
    assert not list(small_project.path.glob("runs/*"))


def test_a_class_without_labels_is_named_and_nothing_is_written(small_project, tiny):
    with pytest.raises(DataError, match=r"no labels of cilium yet.*cristae import labels"):
        cristae.train(small_project, **tiny, classes=("disc", "cilium"))
    small_project.annotations.write_slice("cilium", 3, np.zeros((64, 64), np.uint8))
    with pytest.raises(DataError, match=r"'cilium' has no labelled pixel.*leave it out"):
        cristae.train(small_project, **tiny, classes=("disc", "cilium"))
    assert not list(small_project.path.glob("runs/*"))


def test_a_project_without_labels_says_how_to_get_some(make_small, tiny):
    with pytest.raises(DataError, match=r"no labels of any class.*cristae import labels"):
        cristae.train(make_small("bare", labelled=()), **tiny)


def test_absent_cuda_is_a_resource_error_and_nothing_is_written(small_project, tiny, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ResourceError, match=r"train\.device=auto") as caught:
        cristae.train(small_project, **tiny | {"device": "cuda"})
    assert caught.value.exit_code == 4
    assert not (small_project.path / "runs").exists()


def test_two_trainings_at_once_are_refused(small_project, tiny):
    with small_project.lock(), pytest.raises(ResourceError, match="another process") as caught:
        cristae.train(small_project, **tiny)
    assert caught.value.exit_code == 4
    assert not (small_project.path / "runs").exists()


def test_a_network_that_is_ready_is_not_trained_again(make_small, tiny):
    separate = tiny | {"separate": True}
    whole = cristae.train(make_small("whole"), **separate)
    project = make_small("cut")

    def told(task):
        def advance(done, total, **facts):
            if task == "train dot" and done == 3:
                raise KeyboardInterrupt

        return advance

    with pytest.raises(KeyboardInterrupt):
        cristae.train(project, options=Options(progress=told), **separate)
    seen = []

    def listen(task):
        return lambda done, total, **facts: seen.append((task, done))

    resumed = cristae.train(project, options=Options(progress=listen), **separate)
    assert "train disc" not in {task for task, _ in seen}
    assert resumed.manifest["weights"] == whole.manifest["weights"]
    assert not list(resumed.path.glob("*/checkpoint.safetensors"))


def test_retrained_weights_make_a_new_prediction(small_project, tiny):
    cristae.train(small_project, **tiny)
    first = cristae.predict(small_project)
    trained = small_project.latest("train")
    trained.update(weights="others")  # as a GPU might give when the same training is forced
    assert cristae.predict(small_project).id != first.id


@pytest.mark.parametrize(
    ("wish", "device", "size", "updates", "expected"),
    [
        ("auto", "cpu", "full", 5000, False),
        ("auto", "cuda", "full", 5000, True),
        ("auto", "cuda", "full", 500, False),
        ("auto", "cuda", "small", 5000, False),
        ("on", "cpu", "small", 1, True),
        ("off", "cuda", "full", 5000, False),
    ],
)
def test_networks_are_compiled_where_it_is_earned_back(wish, device, size, updates, expected):
    settings = TrainSettings(compile=wish, size=size, updates=updates)
    assert wants_compiling(settings, torch.device(device)) == expected
