"""Slices on which people painted only some cells, or left a part out: what nobody looked at is no background."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from cell_projects import QUICK, SHAPE, cell_project, three_cells

import cristae
from cristae.annotations import IGNORE_ID
from cristae.io.ome_zarr import open_volume
from cristae.separation.separate import METHODS
from cristae.stages.gap_ends import GapEnds
from cristae.stages.options import Options
from cristae.stages.status import status

LABELLED = (0, 4, 8)
TRACK = {"smallest_body_um2": 0.002}
MAPPED = pytest.mark.parametrize("method", [name for name in METHODS if name != "flow"])


def _read(run) -> np.ndarray:
    return open_volume(run.path / "cell.ome.zarr").read()


def _partly_labelled(path, unpainted: int) -> cristae.Project:
    """One cell is painted nowhere, though the network finds it."""
    truth = three_cells()
    project = cell_project(path, truth, LABELLED)
    partly = np.where(truth == unpainted, 0, truth)
    project.annotations.write_slices("cell", [(z, partly[z]) for z in LABELLED], complete=False)
    return project


def _with_a_hole(path, hole: np.ndarray) -> cristae.Project:
    """All cells are painted, but on slice 4 nobody looked at a part."""
    truth = three_cells()
    project = cell_project(path, truth, LABELLED)
    project.annotations.write_slice("cell", 4, np.where(hole, np.uint32(IGNORE_ID), truth[4]))
    return project


@pytest.mark.parametrize("method", ["mask+boundary", "paths"])
def test_tracking_keeps_the_ids_of_partly_labelled_slices(tmp_path, method) -> None:
    truth = three_cells()
    project = _partly_labelled(tmp_path / "p", unpainted=9)
    cristae.cells(project, method=method, **QUICK)
    run = cristae.track(project, **TRACK)
    found = _read(run)
    for cell in (300, 70_001):
        assert ((found == cell) == (truth == cell))[list(LABELLED)].mean() > 0.99
        assert (found == cell)[truth == cell].mean() > 0.95
    others = np.unique(found[truth == 9])
    assert len(others) == 1 and others[0] > 70_001
    kinds = pd.read_parquet(run.path / "objects.parquet").set_index("object")["kind"]
    assert kinds[[300, 70_001]].tolist() == ["labelled"] * 2
    assert kinds[others].tolist() == ["body"]


def test_tracking_leaves_what_nobody_looked_at_to_the_separation(tmp_path) -> None:
    truth = three_cells()
    project = _with_a_hole(tmp_path / "p", truth[4] == 9)
    cells = cristae.cells(project, method="paths", **QUICK)
    found = _read(cristae.track(project, **TRACK))
    assert (found == 9)[truth == 9].mean() > 0.95
    assert (found[4] == 9).sum() == (_read(cells)[4] == 9).sum() > 0
    assert (found[4] == truth[4])[truth[4] != 9].all()


def test_labels_edited_after_the_separation_are_tracked_in_a_run_of_their_own(tmp_path) -> None:
    truth = three_cells()
    project = cell_project(tmp_path / "p", truth, LABELLED)
    cristae.cells(project, method="paths", **QUICK)
    first = cristae.track(project, **TRACK)
    assert cristae.track(project, **TRACK).path == first.path
    edited = np.where(truth[4] == 9, np.uint32(77), truth[4])
    project.annotations.write_slice("cell", 4, edited)
    assert {entry.stage: entry.condition for entry in status(project)}["track"] == "stale"
    told: list[str] = []
    second = cristae.track(project, options=Options(notify=told.append), **TRACK)
    assert second.path != first.path
    assert (_read(second)[4] == edited).all() and (_read(first)[4] == truth[4]).all()
    assert any("labels of cell were edited since" in words and "but for" not in words for words in told)
    # Back to what they were, there is nothing to do: the first run still holds.
    project.annotations.write_slice("cell", 4, truth[4])
    ended = first.manifest["ended"]
    assert cristae.track(project, **TRACK).path == first.path
    assert first.manifest["ended"] == ended
    project.annotations.write_slice("cell", 5, truth[5])  # labelled since
    cristae.track(project, options=Options(notify=told.append), **TRACK)
    assert any("but for slices 5, which cells were not separated by" in words for words in told)


def test_a_killed_tracking_of_labels_that_were_edited_since_is_not_gone_on_with(tmp_path) -> None:
    truth = three_cells()
    project = cell_project(tmp_path / "p", truth, LABELLED)
    cristae.cells(project, method="paths", **QUICK)

    class Killed(BaseException):
        pass

    def kill(task: str):
        def advance(done: int, total: int, **facts: float) -> None:
            if done == SHAPE[0] + 6:
                raise Killed

        return advance

    with pytest.raises(Killed):
        cristae.track(project, options=Options(progress=kill), **TRACK)
    swapped = truth.copy()
    swapped[truth == 300], swapped[truth == 70_001] = 70_001, 300
    project.annotations.write_slices("cell", [(z, swapped[z]) for z in LABELLED])
    resumed = _read(cristae.track(project, **TRACK))
    forced = _read(cristae.track(project, options=Options(force=True), **TRACK))
    assert (resumed == forced).all()
    assert (resumed[list(LABELLED)] == swapped[list(LABELLED)]).all()


@pytest.mark.parametrize("complete", [True, False])
def test_beside_a_cell_that_was_painted_as_a_whole_lies_another_but_not_in_a_hole(tmp_path, complete) -> None:
    """On both sides of slice 4 there is an object where nobody looked, which one of the gaps takes for cell 3."""
    plane = np.repeat(np.array([[3, 3, IGNORE_ID, IGNORE_ID, 0]], np.uint32), 4, axis=0)
    sources = SimpleNamespace(
        name="cell",
        ids=lambda z: plane,
        seen=lambda z: plane != IGNORE_ID,
        annotations=SimpleNamespace(complete_slices=lambda name: (0, 4) if complete else (0,)),
    )
    ends = GapEnds(tmp_path, sources, [(0, 4), (4, 8)])
    assert ends.slices == (4,)
    for index, own in enumerate((11, 3)):
        part = ends.open_part(4, np.where(plane == IGNORE_ID, own, plane))
        assert np.array_equal(part, np.where(plane == IGNORE_ID, own, 0))
        ends.keep(index, {4: part}, [own] if own > 10 else [])
    same = ends.same(10)
    assert same == ({11: 3} if complete else {})
    assert ends.n_fewer(same, 10) == complete


@MAPPED
def test_a_cell_that_was_painted_nowhere_is_found_on_all_slices_with_one_id(tmp_path, method) -> None:
    truth = three_cells()
    # One apart, and one that touches a cell that was painted, which a mask alone cannot part anywhere.
    for unpainted in (9,) if method == "mask" else (9, 300):
        project = _partly_labelled(tmp_path / f"p{unpainted}", unpainted)
        run = cristae.cells(project, method=method, **QUICK)
        found = _read(run)
        painted = (truth > 0) & (truth != unpainted)
        assert (found == truth)[list(LABELLED)][painted[list(LABELLED)]].all()
        ids, n_voxels = np.unique(found[truth == unpainted], return_counts=True)
        own = ids[np.argmax(n_voxels)]
        least = 0.95 if unpainted == 9 else 0.8
        assert n_voxels.max() > least * n_voxels.sum() and own > 70_001
        assert all((found[z] == own)[truth[z] == unpainted].mean() > least - 0.1 for z in range(SHAPE[0]))
        if unpainted == 9:
            assert run.manifest["n_new"] == 1
            assert set(np.unique(found)) == {0, 300, 70_001, own}


def test_a_cell_has_the_same_id_if_a_gap_has_but_one_to_give(tmp_path, monkeypatch) -> None:
    how = {"method": "mask+boundary", **QUICK}
    expected = _read(cristae.cells(_partly_labelled(tmp_path / "many", 9), **how))
    monkeypatch.setattr("cristae.stages.cells.IDS_PER_GAP", 1)
    assert np.array_equal(_read(cristae.cells(_partly_labelled(tmp_path / "one", 9), **how)), expected)
    assert set(np.unique(expected)) == {0, 300, 70_001, 70_002}


@MAPPED
def test_a_cell_that_was_painted_on_one_slice_has_its_id_on_all(tmp_path, method) -> None:
    truth = three_cells()
    project = cell_project(tmp_path / "p", truth, LABELLED)
    partly = [(z, np.where((truth[z] == 9) & (z > 0), np.uint32(0), truth[z])) for z in LABELLED]
    project.annotations.write_slices("cell", partly, complete=False)
    run = cristae.cells(project, method=method, **QUICK)
    found = _read(run)
    assert (found == 9)[truth == 9].mean() > 0.95 and not (found == 9)[(truth != 9) & (truth > 0)].any()
    assert run.manifest["n_new"] == 0


@pytest.mark.parametrize("method", METHODS)
def test_a_hole_in_a_complete_slice_is_filled_by_the_cells_around_it(tmp_path, method) -> None:
    truth, columns = three_cells(), np.arange(SHAPE[2])[None]
    for name, hole in {
        "cell": truth[4] == 9,
        "part": (truth[4] > 0) & (truth[4] != 9) & (columns > 20) & (columns < 40),  # of two cells that touch
    }.items():
        found = _read(cristae.cells(_with_a_hole(tmp_path / name, hole), method=method, **QUICK))
        assert (found[4] == truth[4])[~hole].all()
        assert (found[4] == truth[4])[hole].mean() > 0.85
        assert set(np.unique(found)) == {0, 9, 300, 70_001}
        whole = [(found[z] == truth[z])[truth[z] > 0].mean() for z in range(SHAPE[0])]
        assert min(whole) > (0.55 if method == "mask" else 0.8)  # a mask alone does no better without a hole


def test_flow_has_no_maps_and_loses_what_nobody_painted(tmp_path) -> None:
    found = _read(cristae.cells(_partly_labelled(tmp_path / "p", 9), method="flow", **QUICK))
    assert set(np.unique(found)) == {0, 300, 70_001}


def test_known_background_of_a_partly_labelled_slice_stays_background(tmp_path) -> None:
    """A correction took an object away there: somebody looked, and it is no cell."""
    truth = three_cells()
    project = cell_project(tmp_path / "p", truth, LABELLED)
    ids = np.where(truth[4] > 0, truth[4], np.uint32(IGNORE_ID))
    ids[truth[4] == 9] = 0
    project.annotations.write_slices("cell", [(4, ids)], complete=False, background_seen=True)
    for method in METHODS:
        found = _read(cristae.cells(project, method=method, **QUICK))
        assert not found[4][truth[4] == 9].any()


@pytest.mark.parametrize("method", ["mask+boundary+flow", "paths"])
def test_threads_and_a_kill_at_any_gap_change_no_id(tmp_path, method) -> None:
    whole = cristae.cells(_partly_labelled(tmp_path / "a", 9), method=method, **QUICK)
    threads = cristae.cells(
        _partly_labelled(tmp_path / "b", 9), method=method, options=Options(executor="threads:2"), **QUICK
    )
    assert (_read(threads) == _read(whole)).all()
    project = _partly_labelled(tmp_path / "c", 9)

    class Killed(BaseException):
        pass

    for n_gaps in (1, 2):

        def kill(task: str, n_gaps: int = n_gaps):
            def advance(done: int, total: int, **facts: float) -> None:
                if task == "cells" and done == n_gaps:
                    raise Killed

            return advance

        with pytest.raises(Killed):
            cristae.cells(project, method=method, options=Options(progress=kill), **QUICK)
    resumed = cristae.cells(project, method=method, **QUICK)
    assert (_read(resumed) == _read(whole)).all()
    assert resumed.manifest["n_new"] == whole.manifest["n_new"] == 1
    again = cristae.cells(project, method=method, options=Options(force=True), **QUICK)
    assert (_read(again) == _read(whole)).all()
