"""Slices labelled by hand: drafts that outlive a crash, and annotations of what was seen and of nothing else."""

from __future__ import annotations

import io
import json
import shutil

import numpy as np
import pytest
from filelock import FileLock

from conftest import make_project
from cristae import annotations as annotations_module
from cristae.annotations import IGNORE, IGNORE_ID, Annotations
from cristae.corrections import tools
from cristae.errors import ResourceError, UsageError
from cristae.napari_plugin import worker
from cristae.stages.labelling import Labelling


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path / "p")


def stroke(labelling, z, y, label=1):
    done = tools.paint(labelling.corrections, z, [(y, 5), (y, 20)], label, radius=0)
    if done:
        labelling.note([z])


def test_a_new_class_is_painted_and_only_what_was_seen_is_kept(project):
    with Labelling(project, "mito") as labelling:
        stroke(labelling, 1, 10)
        stroke(labelling, 2, 12)
        assert "mito" not in project.annotations.classes
        labelling.save(1, complete=False)
        assert labelling.unsaved == {2}
    annotations = project.annotations
    partial = annotations.read_slice("mito", 1)
    assert (partial[10, 5:21] == 1).all() and (partial == 1).sum() == 16 and (partial == IGNORE).sum() == 64 * 64 - 16
    assert annotations.labelled_slices("mito") == (1, 2) and annotations.complete_slices("mito") == ()
    assert "mito" in project.classes
    assert not (project.path / "corrections" / "annotations" / "mito").exists()


def test_a_complete_slice_has_background_and_can_be_opened_again(project):
    with Labelling(project, "mito") as labelling:
        stroke(labelling, 1, 10)
        labelling.save(1, complete=True)
        assert labelling.complete(1) and not labelling.complete(2)
        assert set(np.unique(project.annotations.read_slice("mito", 1))) == {0, 1}
        labelling.save(1, complete=False)  # not complete after all: background is not known any more
        assert set(np.unique(project.annotations.read_slice("mito", 1))) == {1, IGNORE}
        labelling.save(3, complete=True)  # nothing of the class on this slice is a label, too
    assert project.annotations.complete_slices("mito") == (3,)
    assert not project.annotations.read_slice("mito", 3).any()


def test_labels_that_are_there_are_mended(project):
    before = project.annotations.read_slice("disc", 3)
    with Labelling(project, "disc") as labelling:
        tools.erase(labelling.corrections, 3, [(32, 0), (32, 63)], radius=0)
        labelling.note([3])
    expected = before.copy()
    expected[32] = 0
    assert np.array_equal(project.annotations.read_slice("disc", 3), expected)
    assert 3 in project.annotations.complete_slices("disc")
    with Labelling(project, "disc") as labelling:
        tools.paint(labelling.corrections, 1, [(0, 0), (0, 9)], 1, radius=0)
        labelling.corrections.undo()
    assert 1 not in project.annotations.labelled_slices("disc")


def test_background_that_was_seen_on_a_partial_slice_stays(project):
    seen = np.full((64, 64), IGNORE, np.uint8)
    seen[:10], seen[0] = 0, 1
    project.annotations.write_slices("mito", [(2, seen)], complete=False, background_seen=True)
    with Labelling(project, "mito") as labelling:
        stroke(labelling, 2, 30)
    seen[30, 5:21] = 1
    assert np.array_equal(project.annotations.read_slice("mito", 2), seen)


def test_background_of_a_slice_that_was_complete_is_not_known_once_it_is_not(project):
    before = project.annotations.read_slice("disc", 3)
    with Labelling(project, "disc") as labelling:
        labelling.save(3, complete=False)
    assert 3 not in project.annotations.complete_slices("disc")
    assert np.array_equal(project.annotations.read_slice("disc", 3), np.where(before == 1, 1, IGNORE))


def test_cells_keep_their_ids(project):
    with Labelling(project, "cell", instances=True) as labelling:
        stroke(labelling, 1, 10, label=2**31 + 5)
        stroke(labelling, 1, 12, label=3)
    ids = project.annotations.read_ids("cell", 1)
    assert set(np.unique(ids)) == {3, 2**31 + 5, IGNORE_ID}
    assert Labelling(project, "cell").instances  # what is there decides


def test_after_a_crash_the_strokes_are_there_again(project):
    crashed = Labelling(project, "mito")
    stroke(crashed, 1, 10)
    stroke(crashed, 4, 10)
    crashed.corrections._lock.release()  # what a process leaves behind that is gone
    with Labelling(project, "mito") as labelling:
        assert (labelling.recovered, labelling.unsaved) == (2, {1, 4})
    assert project.annotations.labelled_slices("mito") == (1, 4)
    with Labelling(project, "mito") as labelling:
        assert labelling.recovered == 0


def test_while_a_stage_runs_labels_wait_in_the_draft(project):
    labelling = Labelling(project, "mito")
    stroke(labelling, 1, 10)
    with FileLock(project.path / ".lock"), pytest.raises(ResourceError, match="another process"):
        labelling.close()
    assert "mito" not in project.annotations.classes
    with Labelling(project, "mito") as again:
        assert again.recovered == 1
    assert project.annotations.labelled_slices("mito") == (1,)


def test_a_draft_whose_layer_was_closed_is_kept(project):
    labelling = Labelling(project, "mito")
    stroke(labelling, 1, 10)
    labelling.corrections.close()  # as when its layer is taken out of the window
    labelling.close()
    with Labelling(project, "mito") as again:
        assert again.recovered == 1
    assert project.annotations.labelled_slices("mito") == (1,)


def test_a_mask_holds_its_class_and_nothing_else(project):
    with Labelling(project, "mito") as labelling, pytest.raises(UsageError, match="0 to 1; got 7"):
        stroke(labelling, 1, 10, label=7)


def test_wrong_names_and_slices_are_refused(project):
    with pytest.raises(UsageError, match="cannot name a class"):
        Labelling(project, "../x")
    with Labelling(project, "mito") as labelling:
        with pytest.raises(UsageError, match="no slice 6"):
            labelling.save(6, complete=True)
        with pytest.raises(ResourceError, match="another process is correcting mito"):
            Labelling(project, "mito")


def test_the_worker_says_what_it_does_in_lines_of_json(project, tiny):
    project.set_settings("train", tiny)
    out = io.StringIO()
    assert worker.main(["train", str(project.path)], out) == 0
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    progress = [line for line in lines if "task" in line]
    assert progress[-1]["done"] == progress[-1]["total"]
    assert lines[-1]["run"] == str(project.latest("train").path)
    out = io.StringIO()
    assert worker.main(["cells", str(project.path)], out) == 3
    assert "cells" in json.loads(out.getvalue().splitlines()[-1])["error"] or "labels" in out.getvalue()


def crash(labelling):
    """Leave what a process leaves behind that is gone."""
    labelling.corrections._journal.close()
    labelling.corrections._lock.release()


@pytest.mark.parametrize("crashed", [False, True])
@pytest.mark.parametrize("complete", [False, True])
def test_undoing_after_a_slice_was_saved_takes_the_stroke_back(project, complete, crashed):
    seen = np.full((64, 64), IGNORE, np.uint8)
    seen[:20], seen[0] = 0, 1
    project.annotations.write_slices("mito", [(2, seen)], complete=False, background_seen=True)
    labelling = Labelling(project, "mito")
    before = labelling.corrections.read(labelling.corrections.original.grid.box)
    stroke(labelling, 2, 10)  # over background that was seen
    stroke(labelling, 2, 30)
    labelling.save(2, complete=complete)
    assert (project.annotations.read_slice("mito", 2)[[10, 30], 5:21] == 1).all()
    if crashed:
        crash(labelling)
        labelling = Labelling(project, "mito")
    for _ in range(2):
        labelling.corrections.undo()
        labelling.note([2])
    assert np.array_equal(labelling.corrections.read(labelling.corrections.original.grid.box), before)
    labelling.save(2, complete=False)
    assert np.array_equal(project.annotations.read_slice("mito", 2), seen)
    labelling.corrections.redo()
    labelling.note([2])
    labelling.close()
    assert (project.annotations.read_slice("mito", 2)[10, 5:21] == 1).all()


@pytest.mark.parametrize("crashed", [False, True])
def test_undoing_after_a_slice_of_a_new_class_was_saved_takes_the_stroke_back(project, crashed):
    labelling = Labelling(project, "cell", instances=True)
    stroke(labelling, 1, 10, label=7)
    labelling.save(1, complete=True)
    if crashed:
        crash(labelling)
        labelling = Labelling(project, "cell")
        assert labelling.instances and labelling.complete(1)
    labelling.corrections.undo()
    labelling.note([1])
    assert not labelling.corrections.read(labelling.corrections.original.grid.box).any()
    labelling.close()
    assert not project.annotations.read_ids("cell", 1).any()


def test_a_draft_of_a_new_class_knows_whether_its_objects_have_ids(project):
    for name, instances in (("cell", True), ("mito", False)):
        labelling = Labelling(project, name, instances=instances)
        stroke(labelling, 1, 10)
        crash(labelling)
        with Labelling(project, name, instances=not instances) as again:
            assert (again.instances, again.recovered) == (instances, 1)
        assert project.annotations.has_instances(name) == instances


def test_labels_that_come_from_elsewhere_while_one_paints_stay(project):
    labelling = Labelling(project, "mito")
    stroke(labelling, 1, 10)
    labelling.save(1, complete=False)
    fed = project.annotations.read_slice("mito", 1)
    fed[40, 5:21], fed[41] = 1, 0  # corrections are fed, say
    project.annotations.write_slices("mito", [(1, fed)], complete=False, background_seen=True)
    stroke(labelling, 1, 30)
    labelling.corrections.undo()
    labelling.corrections.undo()
    labelling.save(1, complete=False)
    fed[10] = IGNORE
    assert np.array_equal(project.annotations.read_slice("mito", 1), fed)
    labelling.close()


def test_a_tick_waits_with_the_draft_until_the_stage_ends(project):
    labelling = Labelling(project, "mito")
    stroke(labelling, 1, 10)
    labelling.tick(1, complete=True)
    labelling.tick(3, complete=True)  # nothing of the class is there, which is a label, too
    assert labelling.complete(1) and labelling.complete(3) and labelling.unsaved == {1, 3}
    with FileLock(project.path / ".lock"):
        with pytest.raises(ResourceError, match="another process"):
            labelling.save_all()
        with pytest.raises(ResourceError, match="another process"):
            labelling.close()
    again = Labelling(project, "mito")
    assert again.complete(1) and again.complete(3) and again.unsaved == {1, 3}
    again.save_all()
    assert again.unsaved == set()
    again.tick(3, complete=False)
    again.close()
    assert project.annotations.complete_slices("mito") == (1,)


def test_a_stroke_that_was_undone_while_a_stage_ran_is_gone_in_the_next_session(project):
    labelling = Labelling(project, "mito")
    stroke(labelling, 1, 10)
    stroke(labelling, 1, 30)
    labelling.save(1, complete=False)
    labelling.corrections.undo()
    labelling.corrections.undo()
    labelling.note([1])
    with FileLock(project.path / ".lock"), pytest.raises(ResourceError, match="another process"):
        labelling.close()
    with Labelling(project, "mito") as again:
        assert again.unsaved == {1}
    assert not (project.annotations.read_slice("mito", 1) == 1).any()


def test_labels_stay_when_removing_the_draft_is_cut_short(project, monkeypatch):
    labelling = Labelling(project, "mito")
    stroke(labelling, 1, 10)
    monkeypatch.setattr(shutil, "rmtree", lambda path, **_: (path / "journal.jsonl").unlink(missing_ok=True))
    labelling.close()
    monkeypatch.undo()
    with Labelling(project, "mito") as again:
        assert (again.corrections.read(again.corrections.original.grid.box)[1, 10, 5:21] == 1).all()
        stroke(again, 1, 30)
    assert (project.annotations.read_slice("mito", 1)[[10, 30], 5:21] == 1).all()
    assert [path.name for path in (project.path / "corrections" / "annotations").iterdir()] == ["times.txt"]


class KilledError(Exception):
    """In place of a kill."""


def killed(labelling, monkeypatch, path, when):
    """Save slice 1, and be killed while that writes in the annotations of `path`: before, amid, or after it."""
    write, notes = annotations_module.Volume.write, annotations_module.write_facts

    def kill_at(moment, at, action):
        inside = path in at.parents
        if inside and when == moment:
            raise KilledError
        action()
        if inside and when == moment + " done":
            raise KilledError

    where = []
    layer = Annotations._writable_layer
    monkeypatch.setattr(
        Annotations, "_writable_layer", lambda self, *a: where.append(self.path / "labels" / "x") or layer(self, *a)
    )
    monkeypatch.setattr(
        annotations_module.Volume, "write", lambda self, *a: kill_at("voxels", where[-1], lambda: write(self, *a))
    )
    monkeypatch.setattr(annotations_module, "write_facts", lambda at, f: kill_at("notes", at, lambda: notes(at, f)))
    with pytest.raises(KilledError):
        labelling.save(1, complete=False)
    monkeypatch.undo()
    crash(labelling)


@pytest.mark.parametrize("when", ["voxels", "voxels done", "notes done"])
@pytest.mark.parametrize("what", ["annotations", "saved", "before"])
@pytest.mark.parametrize("saving", [1, 2, 3])
def test_a_kill_while_a_slice_is_saved_loses_nothing_and_takes_nothing_for_that_of_others(
    project, monkeypatch, what, when, saving
):
    first = np.full((64, 64), IGNORE, np.uint8)
    first[50], first[51] = 1, 0
    project.annotations.write_slices("mito", [(1, first)], complete=False, background_seen=True)
    labelling = Labelling(project, "mito")
    stroke(labelling, 1, 10)
    if saving > 1:
        labelling.save(1, complete=False)
        stroke(labelling, 1, 30)
    if saving > 2:
        labelling.corrections.undo()
        labelling.corrections.undo()
        stroke(labelling, 1, 20)
    if what == "before" and saving > 1:  # then only it is written a second time
        first = project.annotations.read_slice("mito", 1)
        first[40] = 1
        project.annotations.write_slices("mito", [(1, first)], complete=False, background_seen=True)
        first[10, 5:21] = IGNORE
    path = project.annotations.path if what == "annotations" else labelling.corrections.folder / f"{what}.ome.zarr"
    killed(labelling, monkeypatch, path, when)
    again = Labelling(project, "mito")
    while again.corrections.can_undo:
        again.corrections.undo()
    again.close()
    assert np.array_equal(project.annotations.read_slice("mito", 1), first)


def test_a_kill_leaves_no_voxels_that_nobody_painted(project, monkeypatch):
    project.annotations.write_slice("mito", 3, np.ones((64, 64), np.uint8))
    labelling = Labelling(project, "mito")
    stroke(labelling, 1, 10)
    killed(labelling, monkeypatch, project.annotations.path, "voxels done")
    with Labelling(project, "mito") as again:
        again.corrections.undo()
    assert (project.annotations.layer("mito").read(again.corrections.original.grid.box)[1] == IGNORE).all()
    assert project.annotations.labelled_slices("mito") == (3,)


def test_a_slice_on_which_all_was_undone_is_one_that_nobody_looked_at(project):
    with Labelling(project, "mito") as labelling:
        stroke(labelling, 1, 10)
        stroke(labelling, 2, 10)
        labelling.save(1, complete=False)
        labelling.corrections.undo()
        labelling.corrections.undo()
        labelling.save(1, complete=False)
        assert labelling.labelled_slices == ()
        assert not (project.annotations.layer("mito").read(labelling.corrections.original.grid.box) != IGNORE).any()
        fed = np.full((64, 64), IGNORE, np.uint8)
        fed[5] = 1  # corrections are fed, say
        project.annotations.write_slices("mito", [(1, fed)], complete=False, background_seen=True)
        labelling.corrections.redo()
        labelling.note([1])
    fed[10, 5:21] = 1
    assert np.array_equal(project.annotations.read_slice("mito", 1), fed)


def test_what_an_older_draft_left_behind_is_not_taken_for_a_draft(project):
    labelling = Labelling(project, "mito")
    stroke(labelling, 1, 10)
    labelling.save(1, complete=False)
    crash(labelling)
    (labelling.corrections.folder / "journal.jsonl").unlink()
    with Labelling(project, "mito") as again:
        assert (again.corrections.read(again.corrections.original.grid.box)[1, 10, 5:21] == 1).all()
        stroke(again, 1, 30)
    assert (project.annotations.read_slice("mito", 1)[[10, 30], 5:21] == 1).all()
