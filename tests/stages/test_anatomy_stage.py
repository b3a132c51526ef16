"""Organelles and their cells in a project on disk."""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
import pytest
from cell_projects import QUICK, SHAPE, cell_project, predicted, three_cells

import cristae
from cristae.anatomy import across_cells, parents
from cristae.cli import main
from cristae.errors import DataError, UsageError
from cristae.io.ome_zarr import open_volume
from cristae.metrics.instance import contingency
from cristae.stages import anatomy as stage
from cristae.stages import pipeline
from cristae.stages.options import Options

TINY = {"smallest_um3": 0.0}


def organelles() -> dict[str, np.ndarray]:
    """Nuclei with nucleoli in two cells, a nucleolus outside of nuclei, and mitochondria, one across two cells."""
    masks = {name: np.zeros(SHAPE, np.bool_) for name in ("nucleus", "nucleolus", "mitochondrion")}
    masks["nucleus"][2:7, 10:20, 14:22] = masks["nucleus"][2:7, 10:20, 36:44] = True
    masks["nucleolus"][3:5, 12:15, 16:19] = masks["nucleolus"][3:6, 12:15, 38:46] = True
    masks["nucleolus"][0:2, 0:3, 0:3] = True
    masks["mitochondrion"][4, 30:34, 16:24] = True  # in cell 300
    masks["mitochondrion"][4, 24:28, 26:32] = True  # 2 columns in 300, 4 in 70,001
    masks["mitochondrion"][4, 42:44, 60:64] = True  # in no cell
    masks["mitochondrion"][6:8, 50:54, 60:64] = True  # in cell 9
    return masks


def make(path) -> cristae.Project:
    """Make a project with cells that were tracked and masks that were predicted."""
    truth = three_cells()
    project = cell_project(path, truth, (0, 4, 8))
    for name, mask in organelles().items():
        project.annotations.write_slice(name, 0, mask[0].astype(np.uint8))
    project.add_classes(tuple(organelles()))
    maps = open_volume(project.latest("predict").path / "cell_interior.ome.zarr").read()
    edges = open_volume(project.latest("predict").path / "cell_boundary.ome.zarr").read()
    masks = {name: 255 * mask for name, mask in organelles().items()}
    predicted(project, {"cell_interior": maps, "cell_boundary": edges, **masks})
    project.set_settings("objects", TINY)
    cristae.cells(project, method="paths", **QUICK)
    return project


@pytest.fixture(scope="module")
def ready(tmp_path_factory) -> cristae.Project:
    project = make(tmp_path_factory.mktemp("anatomy") / "p")
    cristae.track(project, smallest_body_um2=0.002)
    return project


def test_every_object_has_its_cell_and_what_lies_across_is_listed(ready) -> None:
    words: list[str] = []
    run = cristae.find_parents(ready, options=Options(notify=words.append))
    labelled = ready.latest("objects")
    assert labelled and labelled.settings["smallest_um3"] == 0  # made on the way, as the project file says
    table, across = pd.read_parquet(run.path / "parents.parquet"), pd.read_parquet(run.path / "across.parquet")
    assert table.columns.tolist() == [
        "class",
        "object_id",
        "n_voxels",
        "volume_um3",
        "parent_cell_id",
        "parent_nucleus_id",
        "share_inside",
        "share_in_nucleus",
    ]
    cells = open_volume(ready.latest("track").path / "cell.ome.zarr").read()
    for name in organelles():
        ids = open_volume(labelled.path / f"{name}.ome.zarr").read()
        expected, rows = parents(contingency(ids, cells)), table[table["class"] == name].reset_index(drop=True)
        pd.testing.assert_frame_equal(rows[expected.columns.tolist()], expected)
        beyond = across[across["class"] == name].reset_index(drop=True)
        pd.testing.assert_frame_equal(beyond.drop(columns="class"), across_cells(contingency(ids, cells)))
    assert table["volume_um3"].to_numpy() == pytest.approx(table["n_voxels"] * 1e-6)
    mitochondria = table[table["class"] == "mitochondrion"]
    assert mitochondria["parent_cell_id"].tolist() == [70_001, 300, 0, 9]
    assert across[across["class"] == "mitochondrion"][["object_id", "cell_id"]].to_numpy().tolist() == [
        [1, 70_001],
        [1, 300],
    ]
    assert run.manifest["n_across"]["mitochondrion"] == 1
    assert run.manifest["n_outside"] == {"nucleus": 0, "nucleolus": 1, "mitochondrion": 1}
    assert "anatomy: mitochondrion: 4 objects, 1 of them lie across cells, 1 in no cell" in words
    assert any("across.csv" in said for said in words)
    assert len(pd.read_csv(run.path / "parents.csv")) == len(table)
    assert len(pd.read_csv(run.path / "across.csv")) == len(across)


def test_nucleoli_have_their_nuclei(ready) -> None:
    table = pd.read_parquet(cristae.find_parents(ready).path / "parents.parquet")
    nucleoli = table[table["class"] == "nucleolus"]
    assert nucleoli["parent_nucleus_id"].tolist() == [0, 1, 2]
    assert nucleoli["share_in_nucleus"].tolist() == [0, 1, 0.75]
    assert nucleoli["parent_cell_id"].tolist() == [0, 300, 70_001]
    assert table.loc[table["class"] != "nucleolus", ["parent_nucleus_id", "share_in_nucleus"]].isna().all(axis=None)
    other = cristae.find_parents(ready, nucleus="nuclei")
    assert pd.read_parquet(other.path / "parents.parquet")["parent_nucleus_id"].isna().all()


def test_what_was_found_is_measured_with_its_cells(ready) -> None:
    run = cristae.measure(ready, spectrum_radius=2)
    objects = pd.read_parquet(run.path / "objects.parquet")
    table = pd.read_parquet(cristae.find_parents(ready).path / "parents.parquet")
    both = table.merge(objects, on=["class", "object_id"], suffixes=("", "_measured"))
    assert len(both) == len(table) == len(objects) - 3
    for column in ("n_voxels", "parent_cell_id", "share_inside"):
        assert both[column].tolist() == both[f"{column}_measured"].tolist()
    nucleoli = both[both["class"] == "nucleolus"]
    assert nucleoli["parent_nucleus_id"].tolist() == nucleoli["parent_nucleus_id_measured"].tolist()
    assert objects.loc[objects["class"] == "cell", "object_id"].tolist() == [9, 300, 70_001]
    assert run.manifest["source_runs"]["cell"].startswith("track")
    violations = pd.read_parquet(run.path / "violations.parquet")
    assert ["mitochondrion", 1, "across"] in violations[["class", "object_id", "kind"]].to_numpy().tolist()
    assert conditions(ready)["measure"] == "done"


@pytest.mark.parametrize("block", [(2, 1024, 1024), (3, 17, 30), (64, 1024, 1024)])
@pytest.mark.parametrize("executor", ["serial", "threads:3"])
def test_blocks_and_workers_change_nothing(ready, monkeypatch, block, executor) -> None:
    one = (cristae.find_parents(ready).path / "parents.csv").read_text()
    monkeypatch.setattr(stage, "BLOCK", block)
    again = cristae.find_parents(ready, options=Options(force=True, executor=executor))
    assert (again.path / "parents.csv").read_text() == one


def test_the_share_that_counts_can_be_set(ready) -> None:
    run = cristae.find_parents(ready, smallest_share=0.5)
    assert run.manifest["n_across"]["mitochondrion"] == 0
    with pytest.raises(UsageError, match="smallest_share"):
        cristae.find_parents(ready, smallest_share=1.5)


def conditions(project) -> dict[str, str]:
    return {entry.stage: entry.condition for entry in cristae.status(project)}


def test_the_status_knows_what_rests_on_what(tmp_path) -> None:
    project, words = make(tmp_path / "p"), []
    assert (conditions(project)["objects"], conditions(project)["anatomy"]) == ("missing", "missing")
    first = cristae.find_parents(project, options=Options(notify=words.append))
    assert any("were not tracked" in said for said in words)
    assert (conditions(project)["objects"], conditions(project)["anatomy"]) == ("done", "done")
    cristae.track(project, smallest_body_um2=0.002)
    assert conditions(project)["anatomy"] == "stale"
    second = cristae.find_parents(project)
    assert second != first and conditions(project)["anatomy"] == "done"
    assert cristae.find_parents(project).manifest["ended"] == second.manifest["ended"]
    cristae.objects(project, classes=("nucleus",))
    assert conditions(project)["anatomy"] == "stale"
    assert cristae.find_parents(project).manifest["classes"] == ["nucleus"]
    masks = {name: 255 * mask for name, mask in organelles().items() if name != "nucleolus"}
    predicted(project, masks)
    assert (conditions(project)["objects"], conditions(project)["anatomy"]) == ("stale", "stale")
    assert cristae.find_parents(project).manifest["classes"] == ["nucleus", "mitochondrion"]


def test_without_cells_or_masks_it_says_what_to_do(tmp_path) -> None:
    project = cell_project(tmp_path / "p", three_cells(), (0, 8))
    with pytest.raises(DataError, match="cristae cells"):
        cristae.find_parents(project)
    cristae.cells(project, method="mask", **QUICK)
    with pytest.raises(DataError, match="no predicted masks of organelles"):
        cristae.find_parents(project)
    assert not project.runs("anatomy")
    assert "objects" not in conditions(project)


def test_objects_of_nothing(tmp_path) -> None:
    project = cell_project(tmp_path / "p", three_cells(), (0, 8))
    cristae.cells(project, method="mask", **QUICK)
    predicted(project, {"mitochondrion": np.zeros(SHAPE)})
    run = cristae.find_parents(project)
    for name in ("parents", "across"):
        assert pd.read_parquet(run.path / f"{name}.parquet").empty
        assert pd.read_csv(run.path / f"{name}.csv").empty
    assert run.manifest["n_across"] == {"mitochondrion": 0}


def test_all_stages_run_in_a_row_where_cells_and_organelles_are_labelled(tmp_path, build, tiny) -> None:
    project = build(tmp_path / "p", truth=False)
    ids = np.zeros((64, 64), np.uint32)
    ids[20:44, 8:30], ids[20:44, 30:52] = 5, 70_001
    project.annotations.write_slices("cell", [(z, ids) for z in (0, 3, 5)])
    project.add_classes(("cell",))
    settings = {
        "train": tiny | {"updates": 2, "classes": ("disc", "cell")},
        "predict": {"device": "cpu", "threshold": 0.01},
        "cells": QUICK | {"method": "paths"},
        "objects": TINY,
    }
    words: list[str] = []
    runs = pipeline.run(project, settings, Options(notify=words.append))
    assert [one.stage for one in runs] == ["train", "predict", "cells", "track", "objects", "anatomy", "measure"]
    assert runs[5].manifest["objects_run"] == runs[4].path.name
    assert runs[5].manifest["cells_run"] == runs[3].path.name
    assert runs[5].manifest["classes"] == ["disc"]
    assert runs[6].manifest["source_runs"] == {"cell": runs[3].path.name, "disc": runs[4].path.name}
    assert pipeline.run(project, settings, Options(notify=words.append)) == runs
    assert sum("nothing to do" in said for said in words) == 7
    assert set(conditions(project).values()) <= {"done", "missing"}


def test_the_command_line_says_what_was_found(ready, monkeypatch, capsys) -> None:
    def call(*words) -> str:
        monkeypatch.setattr(sys, "argv", ["cristae", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        assert caught.value.code == 0
        return capsys.readouterr().out

    made = call("objects", ready.path, "--set", "connectivity=6", "--executor", "threads:2", "--quiet")
    assert made.startswith("objects: 2 of nucleus, 3 of nucleolus, 4 of mitochondrion: ")
    assert "across cells: 0 of 2 nucleus, 0 of 3 nucleolus, 1 of 4 mitochondrion: " in call("anatomy", ready.path)
    facts = json.loads(call("anatomy", ready.path, "--set", "anatomy.smallest_share=0.5", "--json", "--quiet"))
    assert facts["n_across"]["mitochondrion"] == 0
