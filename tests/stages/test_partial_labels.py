"""Slices on which people painted only some cells, or left a part out: what nobody looked at is no background."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from cell_projects import QUICK, SHAPE, cell_project, three_cells

import cristae
from cristae.annotations import IGNORE_ID
from cristae.io.ome_zarr import open_volume
from cristae.separation.separate import METHODS
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
    assert any("labels of cell were edited since" in words for words in told)
    # Back to what they were, there is nothing to do: the first run still holds.
    project.annotations.write_slice("cell", 4, truth[4])
    ended = first.manifest["ended"]
    assert cristae.track(project, **TRACK).path == first.path
    assert first.manifest["ended"] == ended


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
