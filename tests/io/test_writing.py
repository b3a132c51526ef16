"""Exports that are killed, run out of disk, or meet another one under the same name: nothing lost, and done again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading

import nrrd
import numpy as np
import pytest
import tifffile

from cristae.errors import ResourceError, UsageError
from cristae.geometry import Grid
from cristae.io.nnunet import write_nnunet
from cristae.io.nrrd import write_nrrd
from cristae.io.opened import Material
from cristae.io.precomputed import write_precomputed
from cristae.io.registry import open_format
from cristae.io.tiff import write_folder, write_stack
from cristae.io.webknossos import write_webknossos
from cristae.io.webknossos_layer import open_webknossos
from cristae.io.writing import partial_folder
from cristae.volume import Volume

SIZE = (45.0, 4.6, 5.2)
SHAPE = (80, 20, 30)
EVERYTHING = (slice(None),) * 3
VALUES = np.random.default_rng(0).integers(0, 2, SHAPE).astype(np.uint8)
CLASSES = (Material("nucleus", 1),)


def volume(values=VALUES, kind="labels"):
    return Volume(values, Grid(SHAPE, SIZE), kind)


class Ending:
    """Voxels that end the writer when it reaches the last slices."""

    shape, dtype = SHAPE, np.dtype(np.uint8)

    def __init__(self, end):
        self.end = end

    def __getitem__(self, index):
        if index[0].stop > 64:
            self.end()
        return VALUES[index]


def full():
    raise OSError(28, "No space left on device")


def nnunet(labels, folder, **keywords):
    return write_nnunet(volume(kind="image"), labels, folder / "Dataset001_a", ("c", CLASSES), **keywords)


def webknossos(labels, folder, **keywords):
    return write_webknossos(labels, folder / "d", "cells", **keywords)


def precomputed(labels, folder, **keywords):
    return write_precomputed(labels, folder / "p", CLASSES, **keywords)


FOLDERS = {"nnunet": nnunet, "webknossos": webknossos, "precomputed": precomputed}


def check(name, path):
    if name == "nnunet":
        assert json.loads((path / "dataset.json").read_text())["numTraining"] == 1
        assert (open_format(path / "labelsTr" / "c.nii.gz").array[EVERYTHING] == VALUES).all()
        assert (open_format(path / "imagesTr" / "c_0000.nii.gz").array[EVERYTHING] == VALUES).all()
    elif name == "webknossos":
        assert (open_webknossos(path / "cells").array[EVERYTHING] == VALUES).all()
    else:
        assert (path / "info").is_file()
    assert not [left for left in path.parent.rglob(".*")]


@pytest.mark.parametrize("name", FOLDERS)
def test_an_export_that_met_a_full_disk_can_be_repeated(tmp_path, name):
    with pytest.raises(OSError, match="No space"):
        FOLDERS[name](Volume(Ending(full), Grid(SHAPE, SIZE), "labels"), tmp_path)
    assert not [left for left in tmp_path.rglob("*.gz")]
    check(name, FOLDERS[name](volume(), tmp_path))


@pytest.mark.parametrize("name", FOLDERS)
def test_an_export_that_was_killed_can_be_repeated(tmp_path, name):
    script = f"""
import os, signal
from test_writing import FOLDERS, SHAPE, SIZE, Ending
from cristae.geometry import Grid
from cristae.volume import Volume
from pathlib import Path
dying = Volume(Ending(lambda: os.kill(os.getpid(), signal.SIGKILL)), Grid(SHAPE, SIZE), "labels")
FOLDERS[{name!r}](dying, Path({str(tmp_path)!r}))
"""
    where = str(__file__).rpartition("/")[0]
    ended = subprocess.run([sys.executable, "-c", script], cwd=where, check=False)
    assert ended.returncode == -signal.SIGKILL
    check(name, FOLDERS[name](volume(), tmp_path))


@pytest.mark.parametrize("name", FOLDERS)
def test_an_export_that_fails_leaves_what_it_was_to_replace(tmp_path, name):
    path = FOLDERS[name](volume(), tmp_path)
    with pytest.raises(UsageError, match="--force"):
        FOLDERS[name](volume(1 - VALUES), tmp_path)
    with pytest.raises(OSError, match="No space"):
        FOLDERS[name](Volume(Ending(full), Grid(SHAPE, SIZE), "labels"), tmp_path, overwrite=True)
    check(name, path)


def test_a_folder_that_is_no_data_set_is_never_taken_for_one(tmp_path):
    for folder in ("Dataset001_a", "d"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="no nnU-Net data set"):
        nnunet(volume(), tmp_path, overwrite=True)
    with pytest.raises(UsageError, match="no WebKnossos dataset"):
        webknossos(volume(), tmp_path, overwrite=True)


def test_what_a_kill_between_two_names_set_aside_comes_back(tmp_path):
    (tmp_path / ".p.replaced").mkdir()
    (tmp_path / ".p.replaced" / "old").touch()
    (tmp_path / ".p.partial").mkdir()
    with pytest.raises(UsageError, match="--force"), partial_folder(tmp_path / "p", overwrite=False):
        pass
    assert [path.name for path in (tmp_path / "p").iterdir()] == ["old"]
    with pytest.raises(OSError, match="No space"), partial_folder(tmp_path / "p", overwrite=True):
        full()
    with partial_folder(tmp_path / "p", overwrite=True) as partial:
        (partial / "new").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["p"]
    assert [path.name for path in (tmp_path / "p").iterdir()] == ["new"]


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(tmp_path, monkeypatch):
    with partial_folder(tmp_path / "p", overwrite=False) as partial:
        (partial / "old").touch()
    original = type(tmp_path).rename

    def rename(self, target):
        return full() if self.name == ".p.partial" else original(self, target)

    monkeypatch.setattr(type(tmp_path), "rename", rename)
    with pytest.raises(OSError, match="No space"), partial_folder(tmp_path / "p", overwrite=True):
        pass
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["p"]
    assert [path.name for path in (tmp_path / "p").iterdir()] == ["old"]


class Waiting:
    """Voxels of which the last slices come when they are let through."""

    shape, dtype = SHAPE, np.dtype(np.uint8)

    def __init__(self):
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __getitem__(self, index):
        if index[0].stop > 64:
            self.begun.set()
            assert self.go_on.wait(20)
        return VALUES[index]


ONE_NAME = {
    "nrrd": lambda values, folder, **keywords: write_nrrd(values, folder / "a.nrrd", **keywords),
    "tiff": lambda values, folder, **keywords: write_stack(values, folder / "a.tif", **keywords),
    "slices": lambda values, folder, **keywords: write_folder(values, folder / "a", "x", **keywords),
    "precomputed": precomputed,
    "webknossos": webknossos,
    "nnunet": nnunet,
}


@pytest.mark.parametrize("name", ONE_NAME)
def test_a_second_export_to_the_same_name_is_refused_while_the_first_one_writes(tmp_path, name):
    slow, failed = Waiting(), []

    def first():
        try:
            ONE_NAME[name](Volume(slow, Grid(SHAPE, SIZE), "labels"), tmp_path, overwrite=True)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=first)
    thread.start()
    try:
        assert slow.begun.wait(20)
        with pytest.raises(ResourceError, match=r"is writing .* wait until it is done"):
            ONE_NAME[name](volume(1 - VALUES), tmp_path, overwrite=True)
    finally:
        slow.go_on.set()
        thread.join()
    assert not failed
    assert not [left for left in tmp_path.rglob(".*")]
    if name == "nrrd":
        assert (nrrd.read(str(tmp_path / "a.nrrd"))[0].transpose(2, 1, 0) == VALUES).all()
    if name == "tiff":
        assert (tifffile.imread(tmp_path / "a.tif") == VALUES).all()
    if name in FOLDERS:
        check(name, tmp_path / {"nnunet": "Dataset001_a", "webknossos": "d", "precomputed": "p"}[name])


def test_two_layers_can_be_written_to_one_dataset_at_once(tmp_path):
    slow = Waiting()
    thread = threading.Thread(target=webknossos, args=(Volume(slow, Grid(SHAPE, SIZE), "labels"), tmp_path))
    thread.start()
    try:
        assert slow.begun.wait(20)
        write_webknossos(volume(kind="image"), tmp_path / "d", "image")
    finally:
        slow.go_on.set()
        thread.join()
    found = json.loads((tmp_path / "d" / "datasource-properties.json").read_text())
    assert sorted(entry["name"] for entry in found["dataLayers"]) == ["cells", "image"]


def test_a_file_is_not_put_in_the_place_of_a_folder(tmp_path):
    (tmp_path / "a.nrrd").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        write_nrrd(volume(), tmp_path / "a.nrrd", overwrite=True)
