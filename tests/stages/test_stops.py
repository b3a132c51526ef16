"""Every stage may be killed, or run into a full disk, at any moment; what comes out in the end is the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from same_outputs import outputs
from scipy import ndimage
from stage_projects import SETTINGS

import cristae

TRAIN = {"updates": 6, "base_width": 2, "batch": 2, "tile_px": 32, "check_every": 3, "device": "cpu", "seed": 4}
HERE = Path(__file__).parent


def stop_again_and_again(template: Path, folder: Path, stage: str, settings: dict, seed: int, n_stops: int) -> None:
    words = [template, folder, seed, n_stops, stage, json.dumps(settings)]
    ended = subprocess.run(
        [sys.executable, HERE / "killing.py", *map(str, words)],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])},
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    found = json.loads(ended.stdout.splitlines()[-1])
    assert found["stops"] >= n_stops
    assert found["differ"] == []


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Slices and labels to import, and projects without and with the image."""
    folder, grey = tmp_path_factory.mktemp("sources"), np.random.default_rng(0).integers(0, 255, (40, 90, 80), np.uint8)
    for name, slices in (("slices", range(40)), ("labels", (3, 9, 30))):
        (folder / name).mkdir()
        for z in slices:
            tifffile.imwrite(folder / name / f"z{z:03}.tif", grey[z] if name == "slices" else (grey[z] > 200) * grey[z])
    cristae.init(folder / "new" / "p", voxel_size=(10, 10, 10))
    cristae.init(folder / "filled" / "p", voxel_size=(10, 10, 10))
    cristae.import_image(folder / "filled" / "p", folder / "slices")
    return folder


@pytest.fixture(scope="module")
def before(begun, tmp_path_factory):
    """Projects by stage, such that this stage is the next one."""
    folder = tmp_path_factory.mktemp("before")
    project, found = Path(shutil.copytree(begun.path, folder / "going" / "p")), {}
    for stage, settings in SETTINGS.items():
        found[stage] = Path(shutil.copytree(project, folder / stage / "p"))
        getattr(cristae, stage)(project, **settings)
    return found


def test_a_prediction_that_is_stopped_comes_to_the_same_end(begun, tmp_path):
    stop_again_and_again(begun.path, tmp_path, "predict", SETTINGS["predict"], seed=1, n_stops=3)


def test_an_import_that_is_stopped_comes_to_the_same_end(sources, tmp_path):
    image = {"source": str(sources / "slices")}
    stop_again_and_again(sources / "new" / "p", tmp_path, "import_image", image, seed=1, n_stops=3)


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    """A project with a stack of three slabs and a true body."""
    folder = tmp_path_factory.mktemp("painted")
    noise = np.random.default_rng(0).normal(size=(80, 90))
    plane = ndimage.gaussian_filter(noise, 2)
    grey = [120 + 25 * plane[z % 3 :, z % 5 :][:72, :80] / plane.std() + noise[:72, :80] for z in range(40)]
    truth = np.zeros((40, 72, 80), np.uint8)
    truth[5:30, 20:60, 20:70] = 1
    tifffile.imwrite(folder / "stack.tif", np.array(grey).clip(1, 255).astype(np.uint8))
    tifffile.imwrite(folder / "truth.tif", truth)
    project = cristae.init(folder / "p", voxel_size=(10, 10, 10))
    cristae.import_image(project, folder / "stack.tif")
    cristae.import_truth(project, folder / "truth.tif", classes={"body": None})
    return project.path


PAINTED = {
    "equalise": {"method": "match"},
    "check": {},
    "mesh": {"source": "truth", "block_side": 32, "formats": ["ply"]},
}
"""What a stack and a truth are enough for, with settings."""


def test_an_equalisation_that_is_stopped_comes_to_the_same_end(painted, tmp_path):
    stop_again_and_again(painted, tmp_path, "equalise", PAINTED["equalise"], seed=1, n_stops=3)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
@pytest.mark.parametrize("stage", PAINTED)
def test_work_on_a_painted_stack_that_is_stopped_comes_to_the_same_end(painted, tmp_path, stage, seed):
    stop_again_and_again(painted, tmp_path, stage, PAINTED[stage], seed, n_stops=12)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
@pytest.mark.parametrize("stage", SETTINGS)
def test_every_stage_that_is_stopped_comes_to_the_same_end(before, tmp_path, stage, seed):
    stop_again_and_again(before[stage], tmp_path, stage, SETTINGS[stage], seed, n_stops=12)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
def test_imports_and_trainings_that_are_stopped_come_to_the_same_end(sources, begun, tmp_path, seed):
    filled, labels = sources / "filled" / "p", {"source": str(sources / "labels"), "classes": {"nucleus": None}}
    for number, (template, stage, settings) in enumerate(
        [
            (sources / "new" / "p", "import_image", {"source": str(sources / "slices")}),
            (filled, "import_labels", labels),
            (filled, "import_truth", labels),
            (begun.path, "train", TRAIN | {"context_nm": 320.0, "classes": ["disc"]}),
        ]
    ):
        (tmp_path / str(number)).mkdir()
        stop_again_and_again(template, tmp_path / str(number), stage, settings, seed, n_stops=18)


def can_mount() -> bool:
    """Say whether a disk of a given size can be made here."""
    words = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return bool(shutil.which("unshare")) and subprocess.run(words, check=False, capture_output=True).returncode == 0


def fill_up(template: Path, folder: Path, free_kb: int, words: str) -> list[int]:
    """Run a command on a disk with so much space left, then with more; return both exit codes."""
    script = f"""
        set -e
        mkdir -p {folder}/disk {folder}/kept
        mount -t tmpfs -o size=500m tmpfs {folder}/disk
        cp -r {template} {folder}/disk/p
        used=$(df -k --output=used {folder}/disk | tail -1)
        mount -o remount,size=$((used + {free_kb}))k {folder}/disk
        set +e
        {sys.executable} -c "from cristae.cli import main; main()" {words} --quiet 2> {folder}/kept/error
        echo $?
        mount -o remount,size=500m {folder}/disk
        {sys.executable} -c "from cristae.cli import main; main()" {words} --quiet
        echo $?
        cp -r {folder}/disk/p {folder}/kept/p
    """
    ended = subprocess.run(["unshare", "-rm", "bash", "-c", script], check=True, capture_output=True, text=True)
    return [int(line) for line in ended.stdout.splitlines() if line.isdigit()]


@pytest.mark.skipif(not can_mount(), reason="no disk of a given size can be made here")
@pytest.mark.parametrize(
    ("stage", "free_kb"),
    [
        pytest.param(stage, free_kb, marks=[] if (stage, free_kb) == ("predict", 12) else pytest.mark.slow)
        for stage in ("train", "predict", "cells", "track", "objects", "measure")
        for free_kb in (12, 60, 200)
    ],
)
def test_a_disk_that_is_really_full_is_named_and_once_there_is_space_it_goes_on(request, tmp_path, stage, free_kb):
    settings = TRAIN | {"context_nm": 320.0, "classes": ["disc"]} if stage == "train" else SETTINGS[stage]
    first = stage in ("train", "predict")
    template = request.getfixturevalue("begun").path if first else request.getfixturevalue("before")[stage]
    changes = [word for key, value in settings.items() for word in ("--set", f"'{stage}.{key}={json.dumps(value)}'")]
    codes = fill_up(template, tmp_path, free_kb, " ".join([stage, f"{tmp_path}/disk/p", *changes]))
    assert codes[1] == 0
    assert codes[0] in (0, 4), (tmp_path / "kept" / "error").read_text()
    assert codes[0] or free_kb > 12
    if codes[0]:
        assert "free some space and run the same command again" in (tmp_path / "kept" / "error").read_text()
    whole = Path(shutil.copytree(template, tmp_path / "whole" / "p"))
    getattr(cristae, stage)(whole, **settings)
    assert outputs(tmp_path / "kept" / "p") == outputs(whole)
