from __future__ import annotations

import shutil

import numpy as np
import pytest

import cristae
from cristae.blockwise import Journal
from cristae.errors import ResourceError, UsageError
from cristae.io.ome_zarr import SHARD, list_labels, open_volume
from cristae.phantom import CLASSES, PhantomSettings
from cristae.project import Project
from cristae.stages.options import Options

SMALL = {"shape": (20, 96, 96), "voxel_size": (20.0, 16.0, 16.0), "seed": 4, "missing_slices": (7,)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return cristae.make_phantom(tmp_path_factory.mktemp("phantom") / "p", n_labelled=4, **SMALL)


def files(project):
    """Content of all files but the lock."""
    return {
        path.relative_to(project.path): path.read_bytes()
        for path in project.path.rglob("*")
        if path.is_file() and path.name not in (".lock",)
    }


def test_a_phantom_is_a_project_ready_to_train(made):
    assert (made.image.shape, made.image.grid.voxel_size) == (SMALL["shape"], SMALL["voxel_size"])
    assert made.classes == CLASSES
    assert made.image_facts["missing"] == [7]
    assert [z for z in range(20) if not made.image.read()[z].any()] == [7]
    assert {entry.stage: entry.condition for entry in cristae.status(made)}["train"] == "missing"
    for name in CLASSES:
        assert made.truth.labelled_slices(name) == made.truth.complete_slices(name) == tuple(range(20))
        assert made.annotations.labelled_slices(name) == made.annotations.complete_slices(name)


def test_labelled_slices_are_evenly_spread_and_none_is_missing(made):
    labelled = made.annotations.labelled_slices()
    assert (labelled[0], labelled[-1], len(labelled)) == (0, 19, 4)
    assert np.ptp(np.diff(labelled)) <= 2
    assert 7 not in labelled


def test_annotations_truth_and_ids_agree(made):
    ids = made.path / "phantom_truth.ome.zarr"
    assert list_labels(ids) == ("cell", *CLASSES)
    for name in CLASSES:
        layer = open_volume(ids / "labels" / name).read()
        assert (made.truth.layer(name).read() == (layer > 0)).all()
        for z in made.annotations.labelled_slices(name):
            assert (made.annotations.read_slice(name, z) == (layer[z] > 0)).all()
    assert made.truth.n_voxels("nucleus") > 0
    assert open_volume(ids / "labels" / "cell").dtype == np.uint32


def test_the_same_seed_gives_the_same_bytes_and_another_gives_others(made, tmp_path):
    again = cristae.make_phantom(tmp_path / "again", n_labelled=4, **SMALL)
    assert files(again) == files(made)
    other = cristae.make_phantom(tmp_path / "other", n_labelled=4, **SMALL | {"seed": 5})
    assert other.image_facts["digest"] != made.image_facts["digest"]


class Killed(BaseException):
    pass


def test_a_killed_phantom_goes_on_and_ends_as_an_uninterrupted_one(made, tmp_path, monkeypatch):
    monkeypatch.setattr("cristae.phantom.volume.BLOCK", SHARD)  # two of them; the whole was made in one
    add = Journal.add

    def dying(self, tiling, key):
        add(self, tiling, key)
        raise Killed

    monkeypatch.setattr(Journal, "add", dying)
    with pytest.raises(Killed):
        cristae.make_phantom(tmp_path / "killed", n_labelled=4, **SMALL)
    monkeypatch.setattr(Journal, "add", add)
    told = []
    options = Options(progress=lambda task: lambda done, total, **facts: told.append((task, done, total)))
    project = cristae.make_phantom(tmp_path / "killed", n_labelled=4, options=options, **SMALL)
    assert ("phantom", 1, 2) not in told
    assert ("phantom", 2, 2) in told
    assert files(project) == files(made)


@pytest.mark.parametrize("moment", ["build_pyramid", "survey", "write_facts"])
def test_a_kill_after_drawing_is_mended_too(made, tmp_path, monkeypatch, moment):
    def die(*args):
        raise Killed

    monkeypatch.setattr(f"cristae.stages.phantom.{moment}", die)
    with pytest.raises(Killed):
        cristae.make_phantom(tmp_path / "killed", n_labelled=4, **SMALL)
    monkeypatch.undo()
    assert files(cristae.make_phantom(tmp_path / "killed", n_labelled=4, **SMALL)) == files(made)


def test_the_same_again_changes_nothing(made):
    before = files(made)
    assert cristae.make_phantom(made.path, n_labelled=4, **SMALL) == made
    assert files(made) == before


def test_other_settings_need_another_folder(made):
    before = files(made)
    with pytest.raises(UsageError, match="another project already; choose another folder"):
        cristae.make_phantom(made.path, n_labelled=4, **SMALL | {"seed": 9})
    assert files(made) == before


def test_a_project_with_other_data_is_never_touched(small_project):
    with pytest.raises(UsageError, match="another project already"):
        cristae.make_phantom(small_project.path, **SMALL)
    assert small_project.classes == ("disc", "dot")


WRONG = {
    "cannot label 21 of 20 slices; choose from 0 to 20": {"n_labelled": 21},
    "shape": {"shape": (0, 96, 96)},
    r"colour.*Settings are:.*seed": {"colour": "red"},
    "missing_slices must lie in": {"missing_slices": (20,)},
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_settings_are_named_and_nothing_is_written(tmp_path, message):
    with pytest.raises(UsageError, match=message):
        cristae.make_phantom(tmp_path / "p", **SMALL | WRONG[message])
    assert not (tmp_path / "p").exists()


def test_a_phantom_in_use_is_refused(tmp_path):
    project = Project.create(tmp_path / "p", (16.0, 16.0, 16.0))
    settings = PhantomSettings(**SMALL)
    project.set_settings("phantom", settings.model_dump(mode="json", exclude_defaults=True))
    with project.lock(), pytest.raises(ResourceError, match="another process"):
        cristae.make_phantom(project.path, n_labelled=4, **SMALL)


def test_labels_that_were_changed_since_are_kept(made, tmp_path):
    project = Project(shutil.copytree(made.path, tmp_path / "copy"))
    z = project.annotations.labelled_slices("nucleus")[0]
    project.annotations.write_slice("nucleus", z, np.zeros(project.image.shape[1:], np.uint8))
    cristae.make_phantom(project.path, n_labelled=4, **SMALL)
    assert not project.annotations.read_slice("nucleus", z).any()
    with pytest.raises(UsageError, match="4 labelled slices"):
        cristae.make_phantom(project.path, n_labelled=3, **SMALL)
