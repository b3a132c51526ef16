"""Organelles of a project on disk: ids that are right, and the same however the work was done."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import tifffile
from cell_projects import predicted
from scipy import ndimage

import cristae
from cristae.errors import DataError, UsageError
from cristae.geometry import Grid
from cristae.io.ome_zarr import create_volume, n_levels, open_volume, write_facts
from cristae.stages import objects as stage
from cristae.stages.options import Options
from cristae.testing import assert_same_objects

SHAPE = (50, 40, 60)
SIZE = (10.0, 10.0, 10.0)
ALL = {"smallest_um3": 0.0}


def tissue(seed: int = 3) -> dict[str, np.ndarray]:
    noise = np.random.default_rng(seed).normal(size=(2, *SHAPE))
    smooth = [ndimage.gaussian_filter(one, 1.5) for one in noise]
    return {name: one > 1.2 * one.std() for name, one in zip(("mitochondrion", "lysosome"), smooth, strict=True)}


def make(path, masks, classes=None) -> cristae.Project:
    """Make a project of an empty image with predicted masks."""
    project = cristae.init(path, voxel_size=SIZE)
    create_volume(project.image_path, Grid(SHAPE, SIZE), np.uint8, "image")
    write_facts(project.image_path, {"digest": "0", "missing": []})
    predicted(project, {name: 255 * mask for name, mask in masks.items()})
    return project


def ids_of(run, name="mitochondrion") -> np.ndarray:
    return open_volume(run.path / f"{name}.ome.zarr").read()


@pytest.fixture
def project(tmp_path) -> cristae.Project:
    return make(tmp_path / "p", tissue())


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(stage, "BLOCK", (16, 1024, 1024))


def test_objects_are_the_components_of_the_mask(project) -> None:
    run = cristae.objects(project, **ALL)
    table = pd.read_parquet(run.path / "objects.parquet")
    for name, mask in tissue().items():
        ids = ids_of(run, name)
        assert ids.dtype == np.uint32
        assert_same_objects(ids, ndimage.label(mask, np.ones((3, 3, 3)))[0])
        rows = table[table["class"] == name]
        assert rows["object_id"].tolist() == list(range(1, ids.max() + 1))
        assert rows["n_voxels"].tolist() == np.bincount(ids.ravel())[1:].tolist()
        assert rows["volume_um3"].to_numpy() == pytest.approx(rows["n_voxels"] * 1e-6)
        shown = open_volume(project.image_path / "labels" / f"{name}_objects")
        assert shown.kind == "labels" and np.array_equal(shown.read(), ids)
        assert n_levels(run.path / f"{name}.ome.zarr") == n_levels(project.image_path)
    pd.testing.assert_frame_equal(pd.read_csv(run.path / "objects.csv"), table, check_dtype=False)
    assert not list(run.path.glob(".*"))


@pytest.mark.parametrize("block", [(16, 1024, 1024), (32, 1024, 1024), (64, 1024, 1024)])
@pytest.mark.parametrize("executor", ["serial", "threads:3"])
def test_blocks_and_workers_change_nothing(tmp_path, monkeypatch, block, executor) -> None:
    monkeypatch.setattr(stage, "BLOCK", (16, 1024, 1024))
    one = ids_of(cristae.objects(make(tmp_path / "a", tissue()), **ALL))
    monkeypatch.setattr(stage, "BLOCK", block)
    run = cristae.objects(make(tmp_path / "b", tissue()), options=Options(executor=executor), **ALL)
    assert np.array_equal(ids_of(run), one)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("task", ["find mitochondrion", "label mitochondrion", "label lysosome"])
def test_killed_and_resumed_equals_uninterrupted(tmp_path, task) -> None:
    def kill(name: str):
        def advance(done: int, total: int, **facts: float) -> None:
            if name == task and done == 2:
                raise Killed

        return advance

    done: list[tuple[str, int]] = []

    def count(name: str):
        return lambda n, total, **facts: done.append((name, n))

    whole = cristae.objects(make(tmp_path / "a", tissue()), **ALL)
    project = make(tmp_path / "b", tissue())
    with pytest.raises(Killed):
        cristae.objects(project, options=Options(progress=kill), **ALL)
    run = cristae.objects(project, options=Options(progress=count), **ALL)
    for name in tissue():
        assert np.array_equal(ids_of(run, name), ids_of(whole, name))
    assert (run.path / "objects.csv").read_text() == (whole.path / "objects.csv").read_text()
    assert next(n for name, n in done if name == task) == 3  # two blocks were on disk


def test_small_objects_are_left_out_and_said(project) -> None:
    words: list[str] = []
    run = cristae.objects(project, smallest_um3=1e-4, options=Options(notify=words.append))
    ids = ids_of(run)
    sizes = np.bincount(ndimage.label(tissue()["mitochondrion"], np.ones((3, 3, 3)))[0].ravel())[1:]
    assert sorted(np.bincount(ids.ravel())[1:]) == sorted(sizes[sizes >= 100])
    n_small = int((sizes < 100).sum())
    assert n_small and run.manifest["n_dropped"]["mitochondrion"] == n_small
    assert any(f"{n_small} below 0.0001 µm³ left out" in said for said in words)


@pytest.mark.parametrize("connectivity", [6, 18, 26])
def test_neighbours_of_a_voxel_can_be_chosen(project, connectivity) -> None:
    run = cristae.objects(project, classes=("lysosome",), connectivity=connectivity, **ALL)
    near = ndimage.generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[connectivity])
    assert_same_objects(ids_of(run, "lysosome"), ndimage.label(tissue()["lysosome"], near)[0])
    assert run.manifest["classes"] == ["lysosome"]


def test_no_object_one_object_and_more_than_16_bits_hold(tmp_path) -> None:
    points = np.zeros(SHAPE, np.bool_)
    points[::2, ::2, ::2] = True
    masks = {"nothing": np.zeros(SHAPE, np.bool_), "everything": np.ones(SHAPE, np.bool_), "points": points}
    run = cristae.objects(make(tmp_path / "p", masks), **ALL)
    assert run.manifest["n_objects"] == {"nothing": 0, "everything": 1, "points": 25 * 20 * 30}
    assert not ids_of(run, "nothing").any()
    assert (ids_of(run, "everything") == 1).all()


def test_done_again_only_when_something_changed(project) -> None:
    run, other = cristae.objects(project, **ALL), cristae.objects(project, smallest_um3=1e-4)
    assert cristae.objects(project, **ALL).manifest["ended"] == run.manifest["ended"]
    assert project.latest("objects") == run
    shown = open_volume(project.image_path / "labels" / "mitochondrion_objects").read()
    assert np.array_equal(shown, ids_of(run)) and shown.max() > ids_of(other).max()
    again = cristae.objects(project, options=Options(force=True), **ALL)
    assert again.manifest["ended"] > run.manifest["started"]
    assert np.array_equal(ids_of(again), shown)
    written = tifffile.imread(cristae.export(project, "mitochondrion/objects", project.path / "m.tif"))
    assert np.array_equal(written, shown)


def test_maps_of_cells_are_no_organelles(tmp_path) -> None:
    project = make(tmp_path / "p", tissue() | {"cell_interior": np.ones(SHAPE), "cell_boundary": np.ones(SHAPE)})
    project.annotations.write_slice("cell", 0, np.ones(SHAPE[1:], np.uint32))
    assert cristae.objects(project, **ALL).manifest["classes"] == ["mitochondrion", "lysosome"]
    alone = make(tmp_path / "alone", {"cell_interior": np.ones(SHAPE)})
    alone.annotations.write_slice("cell", 0, np.ones(SHAPE[1:], np.uint32))
    with pytest.raises(DataError, match="no predicted masks of organelles"):
        cristae.objects(alone)
    assert not alone.runs("objects")


def test_what_cannot_be_done_is_said(project, tmp_path) -> None:
    with pytest.raises(UsageError, match="no predicted masks of golgi; there are mitochondrion, lysosome"):
        cristae.objects(project, classes=("golgi",))
    with pytest.raises(UsageError, match="connectivity"):
        cristae.objects(project, connectivity=8)
    bare = cristae.init(tmp_path / "bare", voxel_size=SIZE)
    with pytest.raises(DataError, match="cristae predict"):
        cristae.objects(bare)
