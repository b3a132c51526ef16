"""Cells between labelled slices of a project on disk."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

import cristae
from cristae.annotations import IGNORE_ID
from cristae.errors import DataError, UsageError
from cristae.executors import Crew
from cristae.geometry import Grid
from cristae.io.ome_zarr import create_volume, open_volume
from cristae.separation.gap import Gap
from cristae.separation.paths import reduction_for
from cristae.separation.separate import METHODS
from cristae.stages import choose
from cristae.stages.cells import IDS_PER_GAP, _at_once, _check_ids
from cristae.stages.cells_settings import CellsSettings
from cristae.stages.options import Options
from cristae.stages.status import status

SHAPE = (13, 96, 96)
LABELLED = (0, 4, 8, 12)


def _truth() -> np.ndarray:
    """Three cells side by side, two of which touch without a gap, bending on their way down; and a short one."""
    truth = np.zeros(SHAPE, np.uint32)
    for z in range(SHAPE[0]):
        bend = 2 * z
        truth[z, 8:88, 8 + bend : 30 + bend] = 70_001
        truth[z, 8:88, 30 + bend : 50 + bend] = 5
        truth[z, 20:40, 54 + bend : 66 + bend] = 9
    truth[5:8, 60:80, 84:94] = 33  # begins and ends between labelled slices
    return truth


def _edges(plane: np.ndarray) -> np.ndarray:
    edge = np.zeros(plane.shape, np.bool_)
    for axis in (0, 1):
        for side in (1, -1):
            edge |= np.roll(plane, side, axis) != plane
    return edge


def _project(path, truth: np.ndarray, maps: bool = True) -> cristae.Project:
    project = cristae.init(path, voxel_size=(10, 10, 10))
    rng = np.random.default_rng(0)
    texture = rng.integers(60, 200, (SHAPE[1], SHAPE[2] + 2 * SHAPE[0])).astype(np.uint8)
    image = np.stack([np.roll(texture, 2 * z, axis=1)[:, : SHAPE[2]] for z in range(SHAPE[0])])
    folder = path.parent / f"{path.name}-slices"
    folder.mkdir()

    for z, plane in enumerate(image):
        tifffile.imwrite(folder / f"z{z:03d}.tif", plane)
    cristae.import_image(project, folder)
    project.annotations.write_slices("cell", [(z, truth[z]) for z in LABELLED])
    project.add_classes(("cell",))
    if maps:
        _predict(project, truth)
    return project


def _predict(project: cristae.Project, truth: np.ndarray) -> None:
    """Put maps where a prediction would have put them."""
    settings = CellsSettings()  # any will do
    run = project.run("predict", settings, {})
    grid = Grid(SHAPE, (10.0, 10.0, 10.0))
    with project.record(run, settings, {}):
        boundary = np.stack([_edges(plane) for plane in truth])
        boundary[[4, 8]] &= truth[[4, 8]] == 0  # a network that fails where cells look alike
        for name, mask in {"cell_interior": truth > 0, "cell_boundary": boundary}.items():
            volume = create_volume(run.path / f"{name}.ome.zarr", grid, np.uint8, "probability")
            volume.write(grid.box, np.where(mask, np.uint8(230), np.uint8(10)))
        run.update(classes=["cell_interior", "cell_boundary"])


def _read(run) -> np.ndarray:
    return open_volume(run.path / "cell.ome.zarr").read()


QUICK = {"smallest_body_um2": 0.002, "edge_nm": 0.0, "new_um3": 1e-4, "flow_reduction": 1}


@pytest.fixture(scope="module")
def ready(tmp_path_factory) -> cristae.Project:
    return _project(tmp_path_factory.mktemp("cells") / "p", _truth())


@pytest.mark.parametrize(
    ("method", "least"),
    [
        ("mask", 0.6),
        ("mask+boundary", 0.9),
        ("flow", 0.8),
        ("mask+flow", 0.9),
        ("mask+boundary+flow", 0.9),
        ("mask+boundary+flow frames", 0.9),
        ("paths", 0.95),
        ("basins", 0.85),
    ],
)
def test_labelled_slices_are_kept_and_cells_carried_between_them(ready, method, least) -> None:
    truth = _truth()
    found = _read(cristae.cells(ready, method=method, **QUICK))
    assert found.dtype == np.uint32
    assert (found[list(LABELLED)] == truth[list(LABELLED)]).all()
    assert (found == truth)[truth > 0].mean() > least


def test_a_cell_between_labelled_slices_is_found_with_an_id_of_its_own(ready) -> None:
    truth, run = _truth(), cristae.cells(ready, method="paths", **QUICK)
    ids = np.unique(_read(run)[5:8][truth[5:8] == 33])
    assert len(ids) == 1 and ids[0] > 70_001
    assert run.manifest["n_new"] == 1


def test_methods_are_tried_on_left_out_slices_and_the_best_is_used(ready) -> None:
    told: list[str] = []
    run = cristae.cells(ready, options=Options(notify=told.append), **QUICK)
    table = pd.read_csv(run.path / "methods.csv")
    assert set(table["z"]) == {4, 8}
    means = table.groupby("method")["dice"].mean()
    assert means[run.manifest["method"]] == means.max()
    assert any("mean Dice of cells on left-out slices" in words for words in told)
    assert any(run.manifest["method"] in words and "is used" in words for words in told)


def test_threads_and_resuming_give_the_same_ids(tmp_path) -> None:
    truth = _truth()
    whole = _read(cristae.cells(_project(tmp_path / "a", truth), method="paths", **QUICK))
    threaded = cristae.cells(
        _project(tmp_path / "b", truth), method="paths", options=Options(executor="threads:3"), **QUICK
    )
    assert (_read(threaded) == whole).all()

    class Killed(BaseException):
        pass

    def kill(task: str):
        def advance(done: int, total: int, **facts: float) -> None:
            if task == "cells" and done == 2:
                raise Killed

        return advance

    project = _project(tmp_path / "c", truth)
    with pytest.raises(Killed):
        cristae.cells(project, method="paths", options=Options(progress=kill), **QUICK)
    counts: list[int] = []

    def count(task: str):
        return lambda done, total, **facts: counts.append(done)

    assert (_read(cristae.cells(project, method="paths", options=Options(progress=count), **QUICK)) == whole).all()
    assert counts == [3]  # two of three gaps were on disk


def test_more_new_cells_than_ids_for_a_gap_are_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("cristae.stages.cells.IDS_PER_GAP", 0)
    project = _project(tmp_path / "p", _truth())
    with pytest.raises(DataError, match=r"more than 0 cells between slices 4 and 8 .* raise cells.new_um3"):
        cristae.cells(project, method="paths", **QUICK)
    last = cristae.cells(project, method="paths", slices=(0, 4), **QUICK)  # nothing comes after it
    assert last.manifest["n_new"] == 1


@given(st.integers(0, 2**31), st.integers(0, 5), st.integers(1, 6))
def test_a_gap_may_use_all_of_its_ids_and_none_of_the_next(highest, index, n_gaps) -> None:
    gaps = [(z, z + 1) for z in range(max(n_gaps, index + 1))]
    last_of_its_own = highest + (index + 1) * IDS_PER_GAP
    for top in (0, highest, last_of_its_own):
        _check_ids(top, highest, index, gaps, "paths")
    for top, words in ((last_of_its_own + 1, "ids of the next gap"), (IGNORE_ID, "no ids are left")):
        if words.startswith("no") or index + 1 < len(gaps):
            with pytest.raises(DataError, match=words):
                _check_ids(top, highest, index, gaps, "paths")


@pytest.mark.parametrize(
    ("method", "max_ram_gb", "expected"), [("flow", 4, None), ("paths", 1, 1), ("paths", 4, 1), ("paths", 9, 2)]
)
def test_only_gaps_in_which_cells_grow_take_memory_from_each_other(method, max_ram_gb, expected) -> None:
    project = SimpleNamespace(image=SimpleNamespace(shape=(501, 2000, 6095)))
    sources = SimpleNamespace(project=project, gaps=lambda: [(0, 100), (100, 500)])
    assert _at_once(sources, method, CellsSettings(max_ram_gb=max_ram_gb)) == expected


def test_it_is_told_and_noted_where_memory_sets_resolution_and_workers(tmp_path, monkeypatch) -> None:
    project, words, at_a_time = _project(tmp_path / "p", _truth()), list[str](), list[int | None]()
    unordered = Crew.unordered

    def noted(crew, work, todo, at_most=None):
        at_a_time.append(at_most)
        return unordered(crew, work, todo, at_most)

    monkeypatch.setattr(Crew, "unordered", noted)
    told = Options(executor="threads:2", notify=words.append)
    run = cristae.cells(project, method="paths", growth_gb=5e-4, max_ram_gb=6e-4, options=told, **QUICK)
    maps = open_volume(project.latest("predict").path / "cell_interior.ome.zarr").read()[:5]
    gap = Gap(maps, maps, maps, _truth()[0], _truth()[4])
    factor = reduction_for(gap, 5e-4 * 2**30)
    assert factor > 1 and run.manifest["growth_reductions"] == [factor] * 3
    assert any(f"in 3 of 3 gaps (5 slices) cells grow at {10 * factor} × {10 * factor} nm" in said for said in words)
    assert any("memory lets 1 of 2 gaps be worked on at a time" in said for said in words)
    assert at_a_time[0] == 1
    words.clear()
    told = Options(executor="threads:2", notify=words.append)
    assert cristae.cells(project, method="paths", options=told, **QUICK).manifest["growth_reductions"] == [1, 1, 1]
    assert cristae.cells(project, method="flow", options=told, **QUICK).manifest["growth_reductions"] == []
    assert not any("memory lets" in said or "cells grow at" in said for said in words)


def test_a_kill_while_methods_are_tried_costs_only_the_trial_in_work(tmp_path, monkeypatch) -> None:
    truth = _truth()
    whole = cristae.cells(_project(tmp_path / "a", truth), **QUICK)
    project, used, trial = _project(tmp_path / "b", truth), [], choose._try

    class Killed(BaseException):
        pass

    def dies(sources, settings, z, method):
        if len(used) == 5:
            raise Killed
        used.append((z, method))
        return trial(sources, settings, z, method)

    monkeypatch.setattr(choose, "_try", dies)
    with pytest.raises(Killed):
        cristae.cells(project, **QUICK)
    with next((project.path / "runs").glob("cells-*/trials")).open("a") as journal:
        journal.write('{"method": "paths", "z": 8, "dice": 0.')  # as a kill leaves it that comes while it writes
    used.clear()
    monkeypatch.setattr(choose, "_try", lambda *given: used.append(given[2:]) or trial(*given))
    resumed = cristae.cells(project, **QUICK)
    assert len(used) == 2 * len(METHODS) - 5
    tables = [pd.read_csv(run.path / "methods.csv").drop(columns="seconds") for run in (whole, resumed)]
    pd.testing.assert_frame_equal(*tables)
    assert resumed.manifest["method"] == whole.manifest["method"]
    assert (_read(resumed) == _read(whole)).all()
    used.clear()
    cristae.cells(project, options=Options(force=True), **QUICK)
    assert len(used) == 2 * len(METHODS)


def test_done_again_only_when_something_changed(ready) -> None:
    run = cristae.cells(ready, method="mask", **QUICK)
    ended = run.manifest["ended"]
    assert cristae.cells(ready, method="mask", **QUICK).manifest["ended"] == ended
    assert cristae.cells(ready, method="mask", options=Options(force=True), **QUICK).manifest["ended"] > ended
    assert [entry.condition for entry in status(ready) if entry.stage == "cells"] == ["done"]


def test_one_labelled_slice_in_the_middle_serves_both_ways(tmp_path) -> None:
    truth = _truth()
    project = _project(tmp_path / "one", truth)
    run = cristae.cells(project, slices=(4,), **QUICK)
    found = _read(run)
    assert run.manifest["method"] == "paths"
    assert (found == truth)[(truth > 0) & (truth != 33)].mean() > 0.8


@pytest.mark.parametrize("method", [name for name in METHODS if name != "flow"])
def test_unpainted_cells_of_a_partly_labelled_slice_are_found(tmp_path, method) -> None:
    truth = _truth()
    project = _project(tmp_path / "part", truth)
    partly = np.where(truth == 9, 0, truth)
    project.annotations.write_slices("cell", [(z, partly[z]) for z in LABELLED], complete=False)
    assert (project.annotations.read_ids("cell", 0) == IGNORE_ID).any()
    run = cristae.cells(project, method=method, **QUICK)
    found = _read(run)
    painted = (partly > 0)[list(LABELLED)]
    assert (found[list(LABELLED)] == partly[list(LABELLED)])[painted].all()
    ids = np.unique(found[truth == 9])
    assert (found[truth == 9] > 0).mean() > 0.9
    assert ids[ids > 0].size == 1 and ids[-1] > 70_001  # one cell, though no gap knows of the next
    assert run.manifest["n_new"] == 2  # and the short one


def test_without_maps_flow_alone_can_be_used(tmp_path) -> None:
    project = _project(tmp_path / "bare", _truth(), maps=False)
    assert cristae.cells(project, **QUICK).manifest["method"] == "flow"
    with pytest.raises(DataError, match="needs a"):
        cristae.cells(project, method="paths", **QUICK)


def test_what_cannot_be_done_is_said_before_anything_is_written(tmp_path) -> None:
    project = _project(tmp_path / "wrong", _truth())
    before = {path.name for path in (project.path / "runs").iterdir()}
    with pytest.raises(UsageError, match="unknown method"):
        cristae.cells(project, method="magic")
    with pytest.raises(UsageError, match="slices 3 have no labels"):
        cristae.cells(project, slices=(3,))
    with pytest.raises(DataError, match="no labelled slices with ids of nucleus"):
        cristae.cells(project, name="nucleus")
    project.annotations.write_slice("glia", 0, _truth()[0])
    with pytest.raises(UsageError, match="several classes of instances"):
        cristae.cells(project)
    assert {path.name for path in (project.path / "runs").iterdir()} == before


def test_masks_are_no_instances(tmp_path) -> None:
    project = _project(tmp_path / "masks", _truth(), maps=False)
    with pytest.raises(UsageError, match="are ids of objects, not masks"):
        project.annotations.write_slice("cell", 1, np.zeros(SHAPE[1:], np.uint8))


def test_tracking_joins_what_separation_left_apart_and_says_why(ready) -> None:
    truth = _truth()
    cristae.cells(ready, method="mask+boundary+flow", **QUICK)
    run = cristae.track(ready, smallest_body_um2=0.002)
    found = open_volume(run.path / "cell.ome.zarr").read()
    assert (found[list(LABELLED)] == truth[list(LABELLED)]).all()
    assert (found == truth)[(truth > 0) & (truth != 33)].mean() > 0.9
    assert len(np.unique(found[5:8][truth[5:8] == 33])) == 1
    links, objects = (pd.read_parquet(run.path / f"{name}.parquet") for name in ("links", "objects"))
    assert {"object", "slice", "linked_slice", "overlap_px", "reason"} <= set(links.columns)
    assert set(objects["object"]) == set(np.unique(found)) - {0}
    assert set(links.loc[links["slice"].isin(LABELLED), "reason"]) == {"anchor"}
    written = tifffile.imread(cristae.export(ready, "cell", ready.path / "cells.tif", options=Options(force=True)))
    assert (written == found).all()
    shown = open_volume(ready.image_path / "labels" / "cell").read()
    assert (shown == found).all()
    assert [entry.condition for entry in status(ready) if entry.stage == "track"] == ["done"]
    ended = run.manifest["ended"]
    assert cristae.track(ready, smallest_body_um2=0.002).manifest["ended"] == ended


def test_tracking_without_cells_says_what_to_do(tmp_path) -> None:
    project = _project(tmp_path / "none", _truth(), maps=False)
    with pytest.raises(DataError, match="cristae cells"):
        cristae.track(project)


def test_killed_tracking_goes_on_to_the_same_end(tmp_path) -> None:
    project = _project(tmp_path / "killed", _truth())
    cristae.cells(project, method="paths", **QUICK)

    class Killed(BaseException):
        pass

    def kill(task: str):
        def advance(done: int, total: int, **facts: float) -> None:
            if done == SHAPE[0] + 5:
                raise Killed

        return advance

    with pytest.raises(Killed):
        cristae.track(project, smallest_body_um2=0.002, options=Options(progress=kill))
    resumed = open_volume(cristae.track(project, smallest_body_um2=0.002).path / "cell.ome.zarr").read()
    force = cristae.track(project, smallest_body_um2=0.002, options=Options(force=True, executor="threads:2"))
    assert (open_volume(force.path / "cell.ome.zarr").read() == resumed).all()
