"""What people really bring: labels that contradict each other, that are missing, that do not fit; lost slices."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import tifffile
from cell_projects import QUICK, SHAPE, cell_project, three_cells, write_slices

import cristae
from cristae.errors import DataError, UsageError
from cristae.io.ome_zarr import open_volume
from cristae.separation.separate import METHODS
from cristae.stages.options import Options

ALL = pytest.mark.parametrize("method", METHODS)
SMALL = {"smallest_body_um2": 0.002}


def cells_of(project, method="paths", **changes):
    run = cristae.cells(project, method=method, **QUICK | changes)
    return open_volume(run.path / "cell.ome.zarr").read()


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """Make a project the first time it is asked for; all methods use the same."""
    made = {}

    def get(name, *given, **rules):
        if name not in made:
            made[name] = cell_project(tmp_path_factory.mktemp(name) / "p", *given, **rules)
        return made[name]

    return get


def renamed(labels: np.ndarray) -> np.ndarray:
    """Call one cell 9 up to the middle and 12 from there on."""
    other = labels.copy()
    other[4:][labels[4:] == 9] = 12
    return other


@ALL
def test_labelled_slices_that_name_a_cell_differently_smear_nothing(once, method) -> None:
    truth, words = three_cells(), []
    project = once("renamed", renamed(truth), (0, 8), truth=truth)
    run = cristae.cells(project, method=method, options=Options(notify=words.append), **QUICK)
    found = open_volume(run.path / "cell.ome.zarr").read()
    ours = found[truth == 9]
    assert np.isin(ours, (9, 12)).mean() > (0.8 if method == "flow" else 0.93)
    assert (found == 9).any() and (found == 12).any()
    assert not np.isin(found[np.isin(truth, (300, 70_001))], (9, 12)).any()
    assert run.manifest["renamed"] == [[9, 12, 0, 8]]
    assert [said for said in words if "what is" in said] == [
        "cells: what is 9 on slice 0 seems to be 12 on slice 8; if it is one cell, give it one id and import the "
        "labels again"
    ]


def test_tracking_lists_where_labelled_slices_name_a_cell_differently(tmp_path) -> None:
    truth, words = three_cells(), []
    project = cell_project(tmp_path / "p", renamed(truth), (0, 8), truth=truth)
    cells_of(project)
    run = cristae.track(project, options=Options(notify=words.append), **SMALL)
    conflicts = pd.read_csv(run.path / "conflicts.csv")
    assert conflicts[["object", "next_object"]].to_numpy().tolist() == [[9, 12]]
    assert any("conflicts.csv" in said for said in words)


def test_cells_that_end_and_begin_apart_are_not_said_to_be_one(tmp_path) -> None:
    truth, words = three_cells(), []
    truth[truth == 9] = 0
    truth[:4, 46:60, 4:20] = 9
    truth[5:, 46:60, 40:56] = 12
    cristae.cells(
        cell_project(tmp_path / "p", truth, (0, 8)), method="paths", options=Options(notify=words.append), **QUICK
    )
    assert not any("what is" in said for said in words)


def test_one_id_for_two_cells_is_named_with_its_slice(tmp_path) -> None:
    truth, words = three_cells(), []
    labels = np.where(truth == 9, np.uint32(300), truth)
    project = cell_project(tmp_path / "p", labels, (0, 8), truth=truth)
    found = cells_of(project)
    assert (found[truth == 300] == 300).mean() > 0.95
    assert (found[truth == 9] == 300).mean() > 0.95
    run = cristae.track(project, options=Options(notify=words.append), **SMALL)
    table = pd.read_csv(run.path / "doubles.csv")
    assert table[["object", "slice"]].to_numpy().tolist() == [[300, 0], [300, 8]]
    assert any("300 on slice 0, 300 on slice 8" in said for said in words)


def test_two_arms_that_meet_are_one_cell(tmp_path) -> None:
    truth, words = np.zeros(SHAPE, np.uint32), []
    truth[:, 6:20, 6:20] = truth[:, 6:20, 50:64] = 5
    truth[4:7, 6:20, 6:64] = 5
    project = cell_project(tmp_path / "p", truth, (0, 8))
    cells_of(project)
    run = cristae.track(project, options=Options(notify=words.append), **SMALL)
    assert pd.read_csv(run.path / "doubles.csv").empty
    assert not any("far apart" in said for said in words)


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_large_ids_come_through_from_files_to_files(tmp_path, dtype) -> None:
    truth = three_cells()
    ids = {"uint16": (256, 300, 65_535), "uint32": (65_536, 70_001, 4_000_000_000)}[dtype]
    for old, new in zip((9, 300, 70_001), ids, strict=True):
        truth[three_cells() == old] = new
    project = cell_project(tmp_path / "p", truth, ())
    folder = tmp_path / "cells"
    folder.mkdir()
    for z in (0, 4, 8):
        tifffile.imwrite(folder / f"c{z:03d}.tif", truth[z].astype(dtype))
    cristae.import_labels(project, folder, classes={"cell": None}, instances=True)
    found = cells_of(project)
    assert set(np.unique(found)) == {0, *ids}
    cristae.track(project, **SMALL)
    written = tifffile.imread(cristae.export(project, "cell", tmp_path / "cell.tif"))
    assert set(np.unique(written)) == {0, *ids}
    assert (written[[0, 4, 8]] == truth[[0, 4, 8]]).all()
    assert (written == truth)[truth > 0].mean() > 0.95


def test_without_room_for_new_ids_it_says_so(tmp_path) -> None:
    truth = three_cells()
    truth[truth == 9] = 2**32 - 2
    short = truth.copy()
    short[3:6, 46:60, 4:20] = 7
    assert set(np.unique(cells_of(cell_project(tmp_path / "a", truth, (0, 8))))) == set(np.unique(truth))
    project = cell_project(tmp_path / "b", truth, (0, 8), truth=short)
    with pytest.raises(DataError, match=r"no ids are left .* give cells numbers below"):
        cells_of(project)


def test_without_labelled_slices_it_says_what_to_do(tmp_path) -> None:
    project = cell_project(tmp_path / "p", three_cells(), ())
    with pytest.raises(DataError, match=r"cristae import labels .* --instances"):
        cristae.cells(project)
    project.annotations.write_slice("cell", 0, three_cells()[0])
    with pytest.raises(UsageError, match="slices 4 have no labels"):
        cristae.cells(project, slices=(0, 4))


@pytest.mark.parametrize(("method", "z"), [*((one, 3) for one in METHODS), ("paths", 0), ("basins", 8), ("flow", 8)])
def test_one_labelled_slice_serves_both_ways_to_the_ends(once, method, z) -> None:
    """From the first slice the gap is as long as the volume."""
    truth = three_cells()
    project = once(f"one{z}", truth, (z,))
    found = cells_of(project, method)
    assert (found[z] == truth[z]).all()
    assert (found == truth)[truth > 0].mean() > (0.55 if method == "mask" else 0.85)
    assert all(set(np.unique(plane)) >= {0, 9, 300, 70_001} for plane in found)


def test_a_volume_of_one_slice(tmp_path) -> None:
    truth = three_cells()[:1]
    assert (cells_of(cell_project(tmp_path / "p", truth, (0,))) == truth).all()


@pytest.mark.parametrize("rules", [{}, {"slices": (0, 9)}, {"first_slice": 1}])
def test_labelled_slices_beyond_the_volume_are_refused(tmp_path, rules) -> None:
    truth = three_cells()
    project = cell_project(tmp_path / "p", truth, ())
    folder = tmp_path / "cells"
    folder.mkdir()
    for z in (0, 9 if not rules else 1):
        tifffile.imwrite(folder / f"c{z:03d}.tif", truth[0])
    with pytest.raises(DataError, match=r"no matching slice|one file for each|outside"):
        cristae.import_labels(project, folder, classes={"cell": None}, instances=True, **rules)
    assert project.annotations.classes == ()


@ALL
def test_an_empty_labelled_slice_stays_empty_and_cells_end_before_it(once, method) -> None:
    truth = three_cells()
    truth[4:6] = 0
    truth[6:] *= np.uint32(2)
    found = cells_of(once("empty", truth, (0, 4, 8)), method)
    assert not found[4].any()
    assert set(np.unique(found[0])) == {0, 9, 300, 70_001}
    assert set(np.unique(found[8])) == {0, 18, 600, 140_002}
    assert not np.isin(found[:4], (18, 600, 140_002)).any()
    assert not np.isin(found[5:], (9, 300, 70_001)).any()
    assert (found[1] == truth[1])[truth[1] > 0].mean() > (0.55 if method in ("mask", "flow") else 0.8)


@pytest.mark.parametrize("method", ["mask", "flow", "mask+boundary+flow frames", "paths", "basins"])
def test_labelled_slices_without_any_cell(once, method) -> None:
    nothing = np.zeros(SHAPE, np.uint32)
    assert not cells_of(once("none", nothing, (0, 4)), method).any()


def test_the_choice_of_a_method_among_slices_without_any_cell(once) -> None:
    words: list[str] = []
    project = once("all-empty", np.zeros(SHAPE, np.uint32), (0, 4, 8))
    run = cristae.cells(project, options=Options(notify=words.append), **QUICK)
    assert not open_volume(run.path / "cell.ome.zarr").read().any()
    assert run.manifest["method"] == "paths"
    assert any("there is no cell on them" in said for said in words)
    assert not any("flow adds nothing" in said for said in words)


def test_the_choice_of_a_method_where_the_slice_that_is_left_out_is_empty(once) -> None:
    truth = three_cells()
    truth[2:7] = 0
    run = cristae.cells(once("middle-empty", truth, (0, 4, 8)), **QUICK)
    table = pd.read_csv(run.path / "methods.csv").set_index("method")["dice"]
    assert table["flow"] == 0 and table.drop("flow").tolist() == [1] * 7
    assert run.manifest["method"] == "paths"
    found = open_volume(run.path / "cell.ome.zarr").read()
    assert not found[4].any() and (found == truth).mean() > 0.97


@pytest.mark.parametrize(("method", "fill"), [*((one, "slice") for one in METHODS), ("paths", "pixel")])
def test_slices_of_one_cell(once, method, fill) -> None:
    truth = np.zeros(SHAPE, np.uint32)
    truth[(slice(None), *((slice(None),) * 2 if fill == "slice" else (slice(30, 31),) * 2))] = 300
    found = cells_of(once(fill, truth, (0, 4, 8)), method)
    assert (found[[0, 4, 8]] == truth[[0, 4, 8]]).all()
    assert fill == "pixel" or set(np.unique(found)) == {300}  # a pixel may be lost where the image moves


@pytest.mark.parametrize(("method", "grey"), [*((one, 0) for one in METHODS), ("paths", 255), ("flow", 255)])
def test_cells_come_through_slices_of_one_value_in_the_middle_of_a_gap(once, method, grey) -> None:
    truth, words = three_cells(), []
    project = once(f"blank{grey}", truth, (0, 8), black=(3, 4), grey=grey)
    assert project.image_facts["missing"] == [3, 4]
    found = cells_of(project, method)
    for z in range(SHAPE[0]):
        least = {"mask": 0.5, "flow": 0.7}.get(method, 0.85)
        assert (found[z] == truth[z])[truth[z] > 0].mean() > least
        assert set(np.unique(found[z])) == {0, 9, 300, 70_001}
    run = cristae.track(project, options=Options(notify=words.append), **SMALL)
    tracked = open_volume(run.path / "cell.ome.zarr").read()
    assert set(np.unique(tracked)) == {0, 9, 300, 70_001}
    assert method == "mask" or all(len(np.unique(plane)) == 4 for plane in tracked)


@pytest.mark.parametrize("grey", [0, 7, 255])
def test_slices_of_one_value_inside_count_as_missing_and_are_told_but_not_those_at_the_ends(tmp_path, grey) -> None:
    words: list[str] = []
    project = cristae.init(tmp_path / "p", voxel_size=(8, 8, 8))
    folder = write_slices(tmp_path / "slices", (8, 20, 30), (0, 3, 6, 7), grey)
    cristae.import_image(project, folder, options=Options(notify=words.append))
    assert project.image_facts["missing"] == [3]
    assert "slices 3 are of one grey value throughout: they count as missing" in words
    blank = cristae.init(tmp_path / "blank", voxel_size=(8, 8, 8))
    cristae.import_image(blank, write_slices(tmp_path / "none", (3, 20, 30), range(3), grey))
    assert blank.image_facts["missing"] == []


@ALL
def test_without_a_boundary_map_methods_work_or_say_what_they_need(once, method) -> None:
    truth = three_cells()
    project = once("bare", truth, (0, 8), maps=("cell_interior",))
    if "boundary" in method or method in ("paths", "basins"):
        with pytest.raises(
            DataError, match=r"there is no boundary map of cell; predict one .* or choose among mask, flow, mask.flow"
        ):
            cells_of(project, method)
        assert not any(run.settings["method"] == method for run in project.runs("cells"))
    else:
        assert (cells_of(project, method) == truth)[truth > 0].mean() > 0.6


def test_without_a_boundary_map_the_choice_is_among_the_rest(tmp_path) -> None:
    project = cell_project(tmp_path / "p", three_cells(), (0, 4, 8), maps=("cell_interior",))
    run = cristae.cells(project, **QUICK)
    assert set(pd.read_csv(run.path / "methods.csv")["method"]) == {"mask", "flow", "mask+flow"}


def test_labels_of_another_size_than_the_image_are_refused(tmp_path) -> None:
    project = cell_project(tmp_path / "p", three_cells(), ())
    tifffile.imwrite(tmp_path / "cells.tif", three_cells()[:, :-4], photometric="minisblack")
    with pytest.raises(DataError, match=r"slices of 60×80 \(y, x\); expected 64×80"):
        cristae.import_labels(project, tmp_path / "cells.tif", classes={"cell": None}, instances=True)
    with pytest.raises(DataError, match=r"\(60, 80\) \(y, x\); the image's slices are \(64, 80\)"):
        project.annotations.write_slice("cell", 0, three_cells()[0, :-4])
    assert project.annotations.classes == ()
