"""Every stage gives the same to the last byte, whoever works on it."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
import tifffile
from cell_projects import SIZE
from same_outputs import outputs
from scipy.ndimage import gaussian_filter
from stage_projects import SETTINGS

import cristae
from cristae.stages import align_pairs, check
from cristae.stages.options import Options

cluster = pytest.importorskip("cristae.cluster")

EXECUTORS = ("threads:2", "dask:local:2")


@pytest.fixture(scope="module", autouse=True)
def _no_process_stays():
    yield
    cluster.disconnect()


def stages(project, executor):
    for stage, settings in SETTINGS.items():
        getattr(cristae, stage)(project, options=Options(executor=executor), **settings)
    return outputs(project.path)


@pytest.fixture(scope="module")
def serial(begun):
    return stages(cristae.Project.open(shutil.copytree(begun.path, begun.path.parents[0] / "serial" / "p")), "serial")


@pytest.mark.parametrize("executor", EXECUTORS)
def test_all_stages_come_out_the_same_whoever_works(begun, serial, executor, tmp_path):
    found = stages(cristae.Project.open(shutil.copytree(begun.path, tmp_path / "p")), executor)
    assert sorted(found) == sorted(serial)
    assert {name for name in found if found[name] != serial[name]} == set()
    for stage in ("predict", "cells", "track", "objects", "anatomy", "measure"):
        assert any(name.startswith(f"runs/{stage}/") for name in found)


PREPARING = {
    "check": {},
    "align": {"canvas": "raw", "interpolation": "linear"},
    "equalise": {"method": "match"},
    "mesh": {"source": "truth", "block_side": 32},
}
"""Stages on the way of a raw stack, and the surfaces of what was painted."""


@pytest.fixture(scope="module")
def raw_stack(tmp_path_factory):
    """A project with a drifting stack of three slabs and a truth, and the same after each stage in turn, serially."""
    folder, rng = tmp_path_factory.mktemp("raw"), np.random.default_rng(0)
    plane = gaussian_filter(rng.normal(size=(120, 130)), 2)
    plane = 120 + 25 * plane / plane.std()
    stack = [plane[10 + z % 3 : 106 + z % 3, 10 + z % 5 : 106 + z % 5] + rng.normal(0, 5, (96, 96)) for z in range(40)]
    truth = np.zeros((40, 96, 96), np.uint8)
    truth[5:30, 20:80, 20:80] = 1
    tifffile.imwrite(folder / "stack.tif", np.clip(stack, 1, 255).astype(np.uint8))
    tifffile.imwrite(folder / "truth.tif", truth)
    project = cristae.init(folder / "begun" / "p", voxel_size=SIZE)
    cristae.import_image(project, folder / "stack.tif")
    cristae.import_truth(project, folder / "truth.tif", classes={"box": None})
    return project, prepare(project.path, folder / "serial" / "p", "serial")


def prepare(begun, path, executor):
    project = cristae.Project.open(shutil.copytree(begun, path))
    for stage, settings in PREPARING.items():
        getattr(cristae, stage)(project, options=Options(executor=executor), **settings)
    return outputs(path)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_raw_stack_is_prepared_the_same_whoever_works(raw_stack, executor, tmp_path, monkeypatch):
    project, serial = raw_stack
    if executor.startswith("dask"):  # nothing is left to this process
        for module in (align_pairs, check):
            monkeypatch.delattr(module._Slabs, "in_turn")
    found = prepare(project.path, tmp_path / "p", executor)
    assert sorted(found) == sorted(serial)
    assert {name for name in found if found[name] != serial[name]} == set()
    for name in (
        "check/check.csv",
        "check/check.svg",
        "align/pairs.csv",
        "equalise/image.ome.zarr/0",
        "mesh/box.meshes",
    ):
        assert any(key.startswith(f"runs/{name}") for key in found)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_an_import_comes_out_the_same_whoever_works(executor, tmp_path):
    grey = np.random.default_rng(0).integers(0, 255, (40, 50, 60)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "stack.tif", grey)
    (tmp_path / "slices").mkdir()
    for z in range(40):
        tifffile.imwrite(tmp_path / "slices" / f"z{z:03}.tif", grey[z], compression="zlib")
    for source in ("stack.tif", "slices"):
        made = []
        for one in ("serial", executor):
            project = cristae.init(tmp_path / one.replace(":", "") / source, voxel_size=SIZE)
            cristae.import_image(project, tmp_path / source, options=Options(executor=one))
            made.append(outputs(project.path))
        assert made[0] == made[1]
        assert (project.image.read() == grey).all()


@pytest.mark.slow
@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_phantom_comes_out_the_same_whoever_works(executor, tmp_path):
    made = []
    for one in ("serial", executor):
        path = tmp_path / one.replace(":", "") / "p"
        how = {"shape": (50, 64, 64), "voxel_size": (40.0,) * 3, "n_labelled": 3}
        cristae.make_phantom(path, **how, options=Options(executor=one))
        made.append(outputs(path))
    assert made[0] == made[1]


@pytest.mark.slow
def test_studies_come_out_the_same_on_a_cluster(build, tiny, tmp_path):
    scores = []
    for executor in ("serial", "dask:local:2"):
        project, options = build(tmp_path / executor.replace(":", "") / "p"), Options(executor=executor)
        how = {"networks": ("resunet",), "schemes": ("supervised",), "slices": (2, 3), "repeats": 1}
        run = cristae.study_networks(project, **how, classes=("disc",), budget_s=0, options=options, train=tiny)
        table = pd.read_parquet(run.path / "study.parquet")
        scores.append(table.drop(columns="training_seconds"))
    pd.testing.assert_frame_equal(*scores, check_exact=True)
