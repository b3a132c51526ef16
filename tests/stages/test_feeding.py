"""What is learnt from corrections, and which result they are of when there are several."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from corrected_projects import cells_of, found_project

import cristae
from cristae.annotations import IGNORE, IGNORE_ID
from cristae.corrections import tools
from cristae.errors import DataError
from cristae.geometry import Box
from cristae.io.ome_zarr import open_volume
from cristae.stages.correcting import apply_corrections, find_layer, open_corrections
from cristae.stages.feeding import _slices_to_look_at, feed_corrections
from cristae.stages.options import Options


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    return found_project(tmp_path_factory.mktemp("correct") / "bx1")


@pytest.fixture
def project(ready, tmp_path):
    shutil.copytree(ready.path, tmp_path / "bx1")
    return cristae.Project.open(tmp_path / "bx1")


def test_corrected_voxels_and_new_cells_become_labels_and_all_of_complete_slices(project):
    found = cells_of(project)
    with cristae.correct(project) as opened:
        tools.paint(opened, 2, [(55, 5), (55, 15)], 99, radius=0)
        tools.erase(opened, 2, [(20, 10), (20, 12)], radius=0)
        tools.paint(opened, 6, [(55, 5)], 99, radius=0)
    labels = cristae.feed_corrections(project)
    assert labels.labelled_slices("cell") == (0, 2, 4, 6, 8)
    assert labels.complete_slices("cell") == (0, 4, 8)
    fed = labels.read_ids("cell", 2)
    assert (fed[55, 5:16] == 99).all() and (fed[20, 10:13] == 0).all()  # erased is background that was seen
    assert (fed != IGNORE_ID).sum() == 11 + 3
    labels = cristae.feed_corrections(project, slices=[2], complete=True)
    expected = found[2].copy()
    expected[55, 5:16], expected[20, 10:13] = 99, 0
    assert np.array_equal(labels.read_ids("cell", 2), expected)
    assert labels.complete_slices("cell") == (0, 2, 4, 8)
    with cristae.correct(project) as opened:
        assert [entry.note for entry in opened.entries if entry.kind == "fed"] == [
            {"slices": [2, 6], "complete": False},
            {"slices": [2], "complete": True},
        ]
        assert opened.undo().kind == "paint"  # feeding is no edit


def test_a_cell_that_was_painted_in_is_fed_as_a_whole(project):
    found = cells_of(project)[2]
    mended = int(np.bincount(found[found > 0]).argmax())
    y, x = (int(one) for one in np.argwhere(found == 0)[0])
    with cristae.correct(project) as opened:
        tools.paint(opened, 2, [(y, x)], mended, radius=0)
    expected = np.where(found == mended, mended, IGNORE_ID)  # of all others nobody has said anything
    expected[y, x] = mended
    assert np.array_equal(cristae.feed_corrections(project).read_ids("cell", 2), expected)


def test_what_people_painted_stays_and_a_complete_slice_stays_complete(project):
    painted = project.annotations.read_ids("cell", 4)
    with cristae.correct(project) as opened:
        tools.paint(opened, 4, [(60, 5), (60, 9)], 9, radius=0)
    labels = cristae.feed_corrections(project, slices=[4])
    expected = painted.copy()
    expected[60, 5:10] = 9
    assert np.array_equal(labels.read_ids("cell", 4), expected)
    assert 4 in labels.complete_slices("cell")


def test_objects_and_masks_become_masks(project):
    with cristae.correct(project, "dot/objects") as opened:
        tools.paint(opened, 3, [(50, 5), (50, 9)], 7, radius=0)
        tools.erase(opened, 3, [(12, 12)], radius=0)
    labels = cristae.feed_corrections(project, "dot/objects")
    fed = labels.read_slice("dot", 3)
    assert (fed[50, 5:10] == 1).all() and fed[12, 12] == 0 and (fed != IGNORE).sum() == 6
    assert "dot" in project.classes


@pytest.mark.parametrize("stage", ["track", "cells"])
def test_renamed_and_removed_cells_are_learnt_wherever_they_are(project, stage):
    if stage == "cells":  # where no table says on which slices an object is
        shutil.rmtree(project.latest("track").path)
    before = open_volume(project.latest(stage).path / "cell.ome.zarr").read()
    before_2 = before[2]
    with cristae.correct(project) as opened:
        label = int(before_2[20, 30])
        tools.merge(opened, [int(before_2[20, 10]), label])
    labels = cristae.feed_corrections(project)
    there = [z for z in range(len(before)) if (before[z] == label).any()]
    assert labels.labelled_slices("cell") == tuple(sorted({0, 4, 8, *there})) and 2 in there
    both = np.isin(before_2, [before_2[20, 10], label])
    assert np.array_equal(labels.read_ids("cell", 2), np.where(both, before_2[20, 10], IGNORE_ID))


def test_a_stroke_elsewhere_does_not_hide_what_was_removed(project):
    gone = cells_of(project)[3] == 9
    with cristae.correct(project) as opened:
        tools.remove(opened, [9])
        tools.paint(opened, 6, [(55, 5)], 300, radius=0)
    labels = cristae.feed_corrections(project)
    assert labels.labelled_slices("cell") == tuple(range(9))
    fed = labels.read_ids("cell", 3)
    assert gone.any() and (fed[gone] == 0).all() and (fed[~gone] == IGNORE_ID).all()


def test_looked_at_are_all_slices_of_renamed_objects_and_those_painted_on(tmp_path):
    objects = {"object": [9, 300], "first_slice": [2, 0], "last_slice": [4, 8]}
    pd.DataFrame(objects).to_parquet(tmp_path / "objects.parquet")
    found = SimpleNamespace(run=SimpleNamespace(path=tmp_path, stage="track"))
    boxes = {1: Box((6, 0, 0), (7, 4, 4)), 2: None, 3: Box((8, 0, 0), (9, 4, 4))}
    corrections = SimpleNamespace(
        standing=(1, 2),  # the third was undone
        entries=[SimpleNamespace(number=number, box=box) for number, box in boxes.items()],
        names={9: 300},
        original=SimpleNamespace(shape=(9, 4, 4)),
    )
    assert _slices_to_look_at(corrections, found, Options()) == [2, 3, 4, 6]
    corrections.names = {}
    assert _slices_to_look_at(corrections, found, Options()) == [6]


def test_what_was_renamed_and_back_again_is_not_learnt(project):
    with cristae.correct(project) as opened:
        tools.remove(opened, [9])
        opened.undo()
        tools.paint(opened, 6, [(55, 5)], 300, radius=0)
    assert cristae.feed_corrections(project).labelled_slices("cell") == (0, 4, 6, 8)


def newer_cells(project):
    """Paint over the result that is there, and make a newer one; return the layer, and how it is."""
    found = find_layer(project, "cell")
    with open_corrections(project, found) as opened:
        tools.paint(opened, 3, [(60, 5), (60, 30)], 77, radius=1)
        now = opened.read(opened.original.grid.box)
    run = cristae.track(project, smallest_body_um2=0.003)
    assert run != found.run and find_layer(project, "cell").run == run
    return found, now


def test_who_corrects_a_result_feeds_that_one_when_there_is_a_newer(project):
    found, now = newer_cells(project)
    told: list[str] = []
    labels = feed_corrections(project, found, [3], complete=True, options=Options(notify=told.append))
    assert np.array_equal(labels.read_ids("cell", 3), now[3]) and (now[3] == 77).any()
    newer = project.latest("track").path.name
    assert any(f"{newer} is newer than {found.run.path.name}" in words for words in told)
    with open_corrections(project, found) as opened:
        assert opened.folder.parent.name == found.run.path.name and len(opened.standing) == 1
    with pytest.raises(DataError, match=f"nothing of cell of {newer}"):
        cristae.feed_corrections(project)  # the name alone is the newest result


def test_who_corrects_a_result_applies_that_one_when_there_is_a_newer(project):
    found, now = newer_cells(project)
    shown = open_volume(project.image_path / "labels" / "cell").read()
    told: list[str] = []
    run = apply_corrections(project, found, Options(notify=told.append))
    assert np.array_equal(open_volume(run.path / "cell.ome.zarr").read(), now)
    assert run.manifest["corrects"] == found.run.path.name
    assert np.array_equal(open_volume(project.image_path / "labels" / "cell").read(), shown)  # the newer one stays
    assert any("is newer than" in words and "later stages take" in words for words in told)
    assert apply_corrections(project, found) == run
    assert np.array_equal(open_volume(project.image_path / "labels" / "cell").read(), shown)


def test_a_result_of_another_image_is_not_fed(project):
    found = find_layer(project, "cell")
    with open_corrections(project, found) as opened:
        tools.paint(opened, 3, [(60, 5)], 77, radius=1)
    found.run.update(prepared="align-1")  # as if another image had been in use then
    before = project.annotations.fingerprint()
    with pytest.raises(DataError, match="of another image than the one in use"):
        feed_corrections(project, found, [3])
    assert project.annotations.fingerprint() == before
