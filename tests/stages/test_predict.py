from __future__ import annotations

import errno
import shutil

import numpy as np
import pytest
import torch
from ome_zarr_models import open_ome_zarr

import cristae
from cristae.blockwise import Journal
from cristae.errors import DataError, ResourceError, UsageError
from cristae.geometry import Block, Grid
from cristae.io.ome_zarr import SHARD, list_labels, open_volume
from cristae.learn.checkpoint import load_model
from cristae.learn.infer import Inference, SlabPredictor
from cristae.learn.patches import View
from cristae.learn.turned import turn, turn_back
from cristae.stages import predict as stage
from cristae.stages.options import Options
from cristae.stages.predict import PredictSettings, block_shape
from cristae.stages.schemes import view_of
from cristae.volume import Volume

CLASSES = ("disc", "dot")
DEEP = {"shape": (20, 48, 48), "labelled": (0, 9, 19)}
"""Two blocks along z, and so several lines in each journal."""
FAST = {"device": "cpu", "views": 1, "engine": "torch"}


def layers(run):
    """All that a run predicted."""
    paths = {name: run.path / f"{name}.ome.zarr" for name in run.manifest["classes"]}
    probability = {name: open_volume(path).read() for name, path in paths.items()}
    masks = {name: open_volume(path / "labels" / name).read() for name, path in paths.items()}
    return probability, masks


def files(run, project):
    """Content of all files of the volumes of a run, and of the masks beside the image."""
    roots = [*run.path.glob("*.ome.zarr"), *run.path.glob(".*.ome.zarr"), project.image_path / "labels"]
    found = {path.relative_to(project.path): path.read_bytes() for root in roots for path in root.rglob("*.*")}
    found |= {path.relative_to(project.path): path.read_bytes() for root in roots for path in root.rglob("c/*/*/*")}
    assert any("c" in path.parts for path in found)
    return found


@pytest.fixture(scope="module")
def trained_deep(tmp_path_factory, build, tiny):
    """A trained project of two blocks, to be copied."""
    project = build(tmp_path_factory.mktemp("deep") / "p", **DEEP)
    cristae.train(project, **tiny)
    return project


@pytest.fixture
def deep(trained_deep, tmp_path):
    """Return copies of the same trained project, by name."""

    def copied(name):
        return cristae.Project.open(shutil.copytree(trained_deep.path, tmp_path / name))

    return copied


def test_the_mask_is_where_the_probability_reaches_the_threshold(deep):
    project = deep("p")
    for threshold in (0.2, 0.5, 0.6, 0.7):
        probability, masks = layers(cristae.predict(project, threshold=threshold, **FAST))
        for name in CLASSES:
            assert (masks[name] == (probability[name] / 255 >= threshold)).all()
    assert 0 < masks["disc"].mean() < 1


def test_masks_stand_beside_the_image_for_viewers_and_are_valid(deep):
    project = deep("p")
    run = cristae.predict(project, **FAST)
    assert (run.manifest["classes"], run.manifest["threshold"]) == (list(CLASSES), 0.5)
    assert run.manifest["train_run"] == project.latest("train").path.name
    assert list_labels(project.image_path) == CLASSES
    _, masks = layers(run)
    for name in CLASSES:
        shown = project.image_path / "labels" / name
        assert (open_volume(shown).read() == masks[name]).all()
        for path in (shown, run.path / f"{name}.ome.zarr", run.path / f"{name}.ome.zarr" / "labels" / name):
            assert open_ome_zarr(path).ome_attributes.version == "0.5"
    assert not list(run.path.glob(".*"))


def test_separate_networks_predict_all_classes(small_project, tiny):
    cristae.train(small_project, **tiny, separate=True)
    probability, masks = layers(cristae.predict(small_project, **FAST))
    assert set(probability) == set(masks) == set(CLASSES)
    assert list_labels(small_project.image_path) == CLASSES


def test_a_finished_prediction_is_skipped_and_force_does_the_same_again(deep):
    project, words = deep("p"), []
    run = cristae.predict(project, **FAST)
    before, written = files(run, project), (run.path / "manifest.json").stat().st_mtime_ns
    assert cristae.predict(project, options=Options(notify=words.append), **FAST) == run
    assert "nothing to do" in words[-1]
    assert (run.path / "manifest.json").stat().st_mtime_ns == written
    cristae.predict(project, options=Options(force=True), **FAST)
    assert files(run, project) == before
    assert (run.path / "manifest.json").stat().st_mtime_ns > written


def test_asking_for_earlier_settings_again_shows_their_masks_again(deep):
    project = deep("p")
    first = cristae.predict(project, threshold=0.3, **FAST)
    second = cristae.predict(project, threshold=0.7, **FAST)
    for run in (first, second, first):
        assert cristae.predict(project, **FAST, threshold=run.settings["threshold"]) == run
        assert project.latest("predict") == run
        shown = open_volume(project.image_path / "labels" / "disc").read()
        assert (shown == layers(run)[1]["disc"]).all()


class Killed(BaseException):
    pass


def calls_of(monkeypatch):
    """Note the blocks that a network works on."""
    calls, work = [], SlabPredictor.__call__

    def counting(self, block, image):
        calls.append(block.write.start)
        return work(self, block, image)

    monkeypatch.setattr(SlabPredictor, "__call__", counting)
    return calls


@pytest.mark.parametrize("lines", [1, 2, 3, 5, 6])
def test_a_killed_prediction_goes_on_and_ends_as_an_uninterrupted_one(deep, monkeypatch, lines):
    whole, project = deep("whole"), deep("killed")
    uninterrupted = cristae.predict(whole, **FAST)
    add, added = Journal.add, []

    def dying(self, tiling, key):
        add(self, tiling, key)
        added.append(key)
        if len(added) == lines:
            raise Killed

    monkeypatch.setattr(Journal, "add", dying)
    with pytest.raises(Killed):
        cristae.predict(project, **FAST)
    monkeypatch.undo()
    assert project.latest("predict") is None
    assert list_labels(project.image_path) == ()
    calls = calls_of(monkeypatch)
    resumed = cristae.predict(project, **FAST)
    assert len(calls) == max(0, 2 - lines)
    for one, other in zip(layers(resumed), layers(uninterrupted), strict=True):
        assert all((one[name] == other[name]).all() for name in CLASSES)
    assert files(resumed, project) == files(uninterrupted, whole)


@pytest.mark.parametrize("moment", ["build_pyramid", "register_labels"])
@pytest.mark.parametrize("nth", [1, 2])
def test_a_kill_at_the_end_never_looks_finished(deep, monkeypatch, moment, nth):
    whole, project, calls, real = deep("whole"), deep("killed"), [], getattr(stage, moment)

    def dying(path, *rest):
        calls.append(path)
        if len(calls) == nth:
            raise Killed
        real(path, *rest)

    monkeypatch.setattr(stage, moment, dying)
    with pytest.raises(Killed):
        cristae.predict(project, **FAST)
    monkeypatch.undo()
    assert project.latest("predict") is None
    computed = calls_of(monkeypatch)
    run = cristae.predict(project, **FAST)
    assert computed == []
    assert files(run, project) == files(cristae.predict(whole, **FAST), whole)


def test_cancelling_is_noted(deep):
    project = deep("p")

    def told(done, total, **facts):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cristae.predict(project, options=Options(progress=lambda task: told), **FAST)
    assert project.runs("predict")[0].manifest["status"] == "interrupted"


@pytest.mark.parametrize("nth", [1, 2, 4, 9])
def test_a_full_disk_keeps_what_is_finished_and_the_next_call_completes(deep, monkeypatch, nth):
    whole, project, calls, write = deep("whole"), deep("full"), [], Volume.write

    def filling(self, box, values):
        calls.append(box)
        if len(calls) >= nth:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, box, values)

    monkeypatch.setattr(Volume, "write", filling)
    with pytest.raises(ResourceError, match="free some space and run the same command again") as caught:
        cristae.predict(project, **FAST)
    assert caught.value.exit_code == 4
    (run,) = project.runs("predict")
    assert run.manifest["status"] == "failed"
    monkeypatch.undo()
    assert files(cristae.predict(project, **FAST), project) == files(cristae.predict(whole, **FAST), whole)


def test_threads_and_tiles_of_the_same_size_do_not_change_a_byte(deep):
    serial, threaded = deep("serial"), deep("threaded")
    one = cristae.predict(serial, **FAST)
    other = cristae.predict(threaded, options=Options(executor="threads:2"), **FAST)
    assert files(one, serial) == files(other, threaded)


def predictor(shape, largest=64, overlap=16):
    view = View(1, 1, np.zeros(shape[0]), np.ones(shape[0]))
    return SlabPredictor(torch.nn.Identity(), view, shape, Inference(largest, overlap, 1, 8), torch.device("cpu"))


def test_blocks_keep_to_the_memory_allowed(monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", type("Memory", (), {"total": 2**40}))
    grid = Grid((100, 9000, 9000), (8.0, 4.0, 4.0))
    image = Volume(np.broadcast_to(np.uint8(0), grid.shape), grid)
    sizes = []
    for budget in (16, 8, 4, 2, 1, 0.5, 0.25):
        block = block_shape(image, predictor(grid.shape), 2, budget)
        assert all(n % shard == 0 for n, shard in zip(block, SHARD, strict=True))
        sizes.append(int(np.prod(block)))
        kept = [min(n, m) for n, m in zip(block, grid.shape, strict=True)]
        assert 2 * np.prod(kept, dtype=float) * 2 <= budget * 2**30  # two blocks of two classes wait to be written
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0]
    with pytest.raises(ResourceError, match=r"not even one block.*raise predict\.max_ram_gb") as caught:
        block_shape(image, predictor(grid.shape), 2, 0.01)
    assert caught.value.exit_code == 4


def test_blocks_leave_memory_to_others(monkeypatch):
    grid = Grid((100, 9000, 9000), (8.0, 4.0, 4.0))
    image = Volume(np.broadcast_to(np.uint8(0), grid.shape), grid)
    monkeypatch.setattr("psutil.virtual_memory", type("Memory", (), {"total": 2**30}))
    assert block_shape(image, predictor(grid.shape), 2, 64) == block_shape(image, predictor(grid.shape), 2, 0.8)


def test_the_memory_allowed_changes_the_blocks_but_not_the_result(make_small, tiny):
    project = make_small("wide", shape=(2, 40, 2100), labelled=(0, 1))
    cristae.train(project, **tiny | {"updates": 1})
    how = {**FAST, "tile_px": 128, "overlap_px": 32}
    found, tilings = [], set()
    for budget in (4.0, 0.0076):
        run = cristae.predict(project, max_ram_gb=budget, options=Options(force=True), **how)
        found.append(layers(run))
        tilings.add((run.path / "all.blocks.z").read_text().splitlines()[0])
    assert len(tilings) == 2
    for one, other in zip(*found, strict=True):
        assert all((one[name] == other[name]).all() for name in CLASSES)


def test_too_little_memory_is_refused_with_the_next_step(deep):
    with pytest.raises(ResourceError, match=r"raise predict\.max_ram_gb"):
        cristae.predict(deep("p"), max_ram_gb=1e-6, **FAST)


@pytest.mark.parametrize("missing", [(7,), (0,), (7, 8)])
def test_a_missing_slice_is_predicted_from_its_neighbours(make_small, tiny, missing):
    project = make_small("gap", shape=(20, 48, 48), labelled=(3, 11, 19), missing=missing)
    cristae.train(project, **tiny | {"updates": 40, "base_width": 4, "classes": ("disc",)})
    _, masks = layers(cristae.predict(project, **FAST))
    truth = [project.truth.read_slice("disc", z) for z in range(20)]

    def agreement(z):
        return 2 * (masks["disc"][z] & truth[z]).sum() / (masks["disc"][z].sum() + truth[z].sum())

    seen = np.mean([agreement(z) for z in range(20) if z not in missing])
    assert seen > 0.8
    assert min(agreement(z) for z in missing) > seen - 0.1


def test_without_smoothing_the_network_speaks_for_each_slice_alone(deep):
    project = deep("p")
    rough, _ = layers(cristae.predict(project, smooth_z=0, **FAST))
    smooth, masks = layers(cristae.predict(project, smooth_z=3, **FAST))
    steps = [np.abs(np.diff(one["disc"].astype(int), axis=0)).mean() for one in (rough, smooth)]
    assert steps[1] < steps[0]
    assert (masks["disc"] == (smooth["disc"] >= 128)).all()


def test_all_views_are_averaged(deep):
    found = [layers(cristae.predict(deep(f"p{n}"), device="cpu", views=n))[0]["disc"] for n in (1, 4, 8)]
    assert not (found[0] == found[1]).all()
    assert not (found[1] == found[2]).all()


def test_nothing_trained_yet_says_how_to(small_project):
    with pytest.raises(DataError, match="no trained network yet; train one with: cristae train"):
        cristae.predict(small_project)
    assert not (small_project.path / "runs").exists()


def test_wrong_settings_are_named(small_project):
    with pytest.raises(UsageError, match=r"treshold.*Settings are: threshold"):
        cristae.predict(small_project, treshold=0.4)
    with pytest.raises(UsageError, match="views"):
        cristae.predict(small_project, views=3)
    assert all(field.description for field in PredictSettings.model_fields.values())


def test_absent_cuda_and_a_project_in_use_are_resource_errors(deep, monkeypatch):
    project = deep("p")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ResourceError, match="CUDA was asked for"):
        cristae.predict(project, device="cuda")
    with project.lock(), pytest.raises(ResourceError, match="another process"):
        cristae.predict(project, **FAST)
    assert project.runs("predict") == []


def test_damaged_weights_are_named(deep):
    project = deep("p")
    (weights,) = project.path.rglob("weights.safetensors")
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(DataError, match=r"weights\.safetensors is damaged"):
        cristae.predict(project, **FAST)


def test_all_axes_are_the_mean_of_three_looks(tmp_path, build, tiny):
    project = build(tmp_path / "cube", shape=(32, 32, 48), labelled=(0, 16, 31))
    trained = cristae.train(project, **tiny)
    run = cristae.predict(project, axes="all", smooth_z=0.0, **FAST)
    found, masks = layers(run)
    folder = trained.path / "all"
    model, network = load_model(folder, torch.device("cpu"))
    view = view_of(project, model.reduction, model.neighbours)
    looks = []
    for axis in ("z", "y", "x"):
        turned, seen = turn(project.image, view, axis)
        inference = Inference(1152, 64, 1, network.multiple)
        predictor = SlabPredictor(network, seen, turned.shape, inference, torch.device("cpu"))
        whole = predictor(Block(turned.grid.box, turned.grid.box), turned.read())
        looks.append([turn_back(Volume(one, turned.grid), axis).read() for one in whole])
    for i, name in enumerate(CLASSES):
        expected = np.rint(np.mean([look[i] for look in looks], axis=0, dtype=np.float32)).astype(np.uint8)
        np.testing.assert_array_equal(found[name], expected)
        np.testing.assert_array_equal(masks[name], expected >= 128)
    assert not list(run.path.glob(".*raw*"))  # three times the size of the result: gone when done
