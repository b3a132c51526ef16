"""Table 2 on small volumes of which everything is known."""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cristae
from cristae.annotations import IGNORE_ID
from cristae.cli import main
from cristae.errors import DataError, UsageError
from cristae.executors import Crew
from cristae.geometry import Grid
from cristae.io.ome_zarr import create_volume, open_volume, write_facts
from cristae.metrics.instance import contingency
from cristae.metrics.matching import dice_by_id, summarise_dice
from cristae.project import Project
from cristae.report.build import build_report
from cristae.separation.separate import METHODS
from cristae.stages import left_out
from cristae.stages.cells_settings import CellsSettings
from cristae.stages.gaps import GapSources
from cristae.stages.left_out import LeftOut, Plan, plan_gap
from cristae.stages.options import Options
from cristae.stages.status import status
from cristae.stages.survey import survey
from cristae.stages.table2 import COPY_NEAREST, in_words, markdown, table_rows
from cristae.volume import Volume

SHAPE = (13, 64, 64)
CELLS = {"smallest_body_um2": 0.002, "edge_nm": 0.0, "new_um3": 1e-4, "flow_reduction": 1}
SETTINGS = {"gaps": (3, 4), "smallest_um3": 1e-4}
FEW = ("mask+boundary+flow frames", "paths")
EVERY = {*METHODS, COPY_NEAREST}


def _truth(bend: int = 1) -> np.ndarray:
    """Three cells, two of which touch, that move by `bend` pixels per slice."""
    truth = np.zeros(SHAPE, np.uint32)
    for z in range(SHAPE[0]):
        truth[z, 6:56, 4 + bend * z : 20 + bend * z] = 70_001
        truth[z, 6:56, 20 + bend * z : 32 + bend * z] = 5
        truth[z, 20:40, 36 + bend * z : 46 + bend * z] = 9
    return truth


def _project(path, truth: np.ndarray, maps: tuple[str, ...] = ("interior", "boundary")) -> Project:
    grid = Grid(SHAPE, (10.0, 10.0, 10.0))
    texture = np.random.default_rng(0).integers(60, 200, SHAPE[1:]).astype(np.uint8)
    left = [int(np.flatnonzero((plane == 70_001).any(axis=0))[0]) for plane in truth]
    image = np.stack([np.roll(texture, x, axis=1) for x in left])
    project = Project.create(path, grid.voxel_size, ("cell",))
    create_volume(project.image_path, grid, np.uint8, "image").write(grid.box, image)
    write_facts(project.image_path, survey(Volume(image, grid), lambda done, total, **facts: None))
    project.truth.write_slices("cell", enumerate(truth))
    project.set_settings("cells", CELLS)
    if maps:
        predict(project, truth, maps)
    return project


def predict(project: Project, truth: np.ndarray, maps: tuple[str, ...]) -> None:
    """Put maps where a prediction would have put them: perfect ones, of a network that has seen z 0 and 1."""
    settings = CellsSettings()  # any will do
    trained = project.run("train", settings, {})
    with project.record(trained, settings, {}):
        trained.update(labelled_slices={"cell_interior": [0, 1], "cell_boundary": [0, 1]})
    run = project.run("predict", settings, {})
    edge = np.zeros(SHAPE, np.bool_)
    for axis in (1, 2):
        edge |= np.roll(truth, 1, axis) != truth
    masks = {"interior": truth > 0, "boundary": edge}
    with project.record(run, settings, {}):
        for name in maps:
            volume = create_volume(run.path / f"cell_{name}.ome.zarr", project.image.grid, np.uint8, "probability")
            volume.write(volume.grid.box, np.where(masks[name], np.uint8(230), np.uint8(10)))
        run.update(classes=[f"cell_{name}" for name in maps], train_run=trained.path.name)


def scores(run) -> pd.DataFrame:
    return pd.read_csv(run.path / "table2.csv").drop(columns="seconds_per_slice")


def of_few(run) -> pd.DataFrame:
    table = scores(run)
    return table[table["method"].isin([*FEW, COPY_NEAREST])].reset_index(drop=True)


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    project = _project(tmp_path_factory.mktemp("study") / "p", _truth())
    told: list[str] = []
    run = cristae.study_cells(project, options=Options(notify=told.append), **SETTINGS)
    return project, run, told


def test_nothing_moves_nothing_is_lost(tmp_path) -> None:
    truth = _truth(0)
    truth[:, :, 18:22] = 0  # a mask alone does not tell apart what touches
    run = cristae.study_cells(_project(tmp_path / "still", truth), **SETTINGS)
    table = pd.read_parquet(run.path / "table2.parquet")
    assert {(gap, method) for gap, method in zip(table.gap_slices, table.method, strict=True)} == {
        (gap, method) for gap in (3, 4) for method in EVERY
    }
    for column in ("dice", "worst", "dice_met", "dice_matched", "panoptic_quality"):
        assert (table[column] == 1).all(), column
    for column in ("dice_sd", "adapted_rand_error", "voi_split_bits", "voi_merge_bits"):
        assert (table[column] == 0).all(), column
    assert "every method at gaps of 3 and 4 slices" in run.manifest["sentence"]
    assert "flow adds nothing" in run.manifest["sentence"]


def test_numbers_are_those_of_the_cells(studied) -> None:
    _, run, _ = studied
    table = scores(run).set_index(["gap_slices", "method"])
    assert (table["n_cells"] == 3).all() and (table["n_cells_met"] == 3).all()
    assert list(table.xs(COPY_NEAREST, level="method")["n_scored_slices"]) == [8, 9]
    # Cells n pixels wide, moved by 1 pixel (gap 3), and by 1, 1 and 2 pixels (gap 4), cover 1 − moved / n of theirs.
    for gap, moved in {3: 1.0, 4: 4 / 3}.items():
        expected = np.array([1 - moved / width for width in (16, 12, 10)])
        row = table.loc[gap, COPY_NEAREST]
        assert row["dice"] == pytest.approx(expected.mean())
        assert row["dice_sd"] == pytest.approx(expected.std(ddof=1))
        assert (row["worst"], row["worst_id"]) == (pytest.approx(expected.min()), 9)
    assert table.loc[(4, "paths"), "dice"] > table.loc[(4, COPY_NEAREST), "dice"]


def test_scores_are_those_of_what_cells_would_give(studied) -> None:
    project, run, _ = studied
    truth, shown = _truth(), [0, 4, 8, 12]
    project.annotations.write_slices("cell", [(z, truth[z]) for z in shown])
    scored = [z for z in range(SHAPE[0]) if z not in shown]
    for method in FEW:
        found = open_volume(cristae.cells(project, method=method).path / "cell.ome.zarr").read()
        expected = summarise_dice(dice_by_id(contingency(found[scored], truth[scored])))
        row = scores(run).set_index(["gap_slices", "method"]).loc[(4, method)]
        assert (row["dice"], row["dice_sd"]) == (pytest.approx(expected.mean), pytest.approx(expected.sd))


def test_what_is_written_is_read_by_people(studied) -> None:
    project, run, told = studied
    text = (run.path / "table2.md").read_text()
    assert "| Segmentation alone | Mask (`mask`) |" in text and "± " in text
    assert text.count("**") >= 4
    assert text.startswith(run.manifest["sentence"])
    assert "trained on z 0, 1" in text and "1 at gap 3, 1 at gap 4" in text
    assert (run.path / "table2.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (run.path / "table2.svg").read_text()
    assert run.manifest["sentence"] in told[-1]
    assert [one.condition for one in status(project) if one.stage == "study_cells"] == ["done"]
    ended = run.manifest["ended"]
    assert cristae.study_cells(project, **SETTINGS).manifest["ended"] == ended


def test_the_report_shows_it(studied) -> None:
    project, run, _ = studied
    page = build_report(project).read_text()
    assert 'id="study"' in page and run.manifest["sentence"] in page
    assert "Mask + border + OF (selective)" in page
    assert "study again" not in page


def test_a_killed_study_keeps_its_rows_and_comes_to_the_same_end(studied, tmp_path) -> None:
    _, whole, _ = studied
    project = _project(tmp_path / "killed", _truth())
    per_row, few = 12, {**SETTINGS, "methods": FEW}

    def kill(task: str):
        def advance(done: int, total: int, **facts: float) -> None:
            assert total == per_row * 2 * 3
            if done == per_row * 4 + 4:
                raise Killed

        return advance

    with pytest.raises(Killed):
        cristae.study_cells(project, options=Options(progress=kill), **few)
    (kept,) = project.path.glob("runs/study_cells-*/rows")
    assert len(kept.read_text().splitlines()) == 1 + 4
    with kept.open("a") as file:
        file.write('{"gap_slices": 3, "meth')  # cut short
    counts: list[int] = []

    def count(task: str):
        return lambda done, total, **facts: counts.append(done)

    run = cristae.study_cells(project, options=Options(progress=count), **few)
    assert counts[0] == per_row * 4 + 4 and counts[-1] == per_row * 2 * 3
    pd.testing.assert_frame_equal(scores(run), of_few(whole))


def test_threads_and_force_change_nothing(studied) -> None:
    project, run, _ = studied
    options = Options(force=True, executor="threads:3")
    first = cristae.study_cells(project, methods=FEW, options=options, **SETTINGS)
    ended = first.manifest["ended"]
    again = cristae.study_cells(project, methods=FEW, options=options, **SETTINGS)
    assert again.id == first.id and again.manifest["ended"] > ended
    pd.testing.assert_frame_equal(scores(again), of_few(run))


def test_methods_without_their_maps_are_left_out_and_named(tmp_path) -> None:
    told: list[str] = []
    project = _project(tmp_path / "bare", _truth(), maps=())
    run = cristae.study_cells(project, options=Options(notify=told.append), **SETTINGS)
    assert set(scores(run)["method"]) == {"flow", COPY_NEAREST}
    assert any("mask, mask+boundary, mask+flow" in words and "left out" in words for words in told)
    with pytest.raises(DataError, match="paths need maps of cell"):
        cristae.study_cells(project, methods=("paths",), **SETTINGS)
    interior = _project(tmp_path / "interior", _truth(), maps=("interior",))
    run = cristae.study_cells(interior, gaps=(4,), smallest_um3=0.0)
    assert set(scores(run)["method"]) == {"mask", "flow", "mask+flow", COPY_NEAREST}


def test_cells_that_nobody_was_shown_and_pixels_that_nobody_saw(tmp_path) -> None:
    truth = _truth(0)
    truth[5:8, 44:60, 50:62] = FIRST_FREE = 70_002  # meets no slice that is shown
    project = _project(tmp_path / "new", truth)
    known = cristae.study_cells(project, gaps=(4,), methods=("paths",), smallest_um3=1e-4)
    row = scores(known).set_index("method").loc["paths"]
    assert (row["n_cells"], row["n_cells_met"], row["worst_id"]) == (4, 3, FIRST_FREE)
    assert row["dice"] == pytest.approx(0.75 * row["dice_met"]) and row["dice_met"] > 0.95
    assert row["dice_matched"] > 0.95
    unseen = np.where(truth == 9, IGNORE_ID, truth).astype(np.uint32)
    project.truth.write_slices("cell", [(z, unseen[z]) for z in range(SHAPE[0]) if z % 4])
    run = cristae.study_cells(project, gaps=(4,), methods=("paths",), smallest_um3=1e-4)
    assert run.id != known.id
    assert set(scores(run)["n_cells"]) == {3}


def test_gaps_that_do_not_fit_are_named(tmp_path) -> None:
    told: list[str] = []
    project = _project(tmp_path / "short", _truth(0), maps=())
    run = cristae.study_cells(project, gaps=(100, 6, 50), smallest_um3=0.0, options=Options(notify=told.append))
    assert run.manifest["gaps"] == [6]
    assert any("gaps of 50, 100 slices are left out" in words for words in told)
    with pytest.raises(DataError, match="no gap of 50, 100 slices fits in the slices with truth of cell \\(0–12\\)"):
        cristae.study_cells(project, gaps=(50, 100))
    with pytest.raises(DataError, match="no cell of at least"):
        cristae.study_cells(project, gaps=(6,), smallest_um3=1.0)


def test_wrong_use_is_said_before_anything_is_written(tmp_path) -> None:
    project = _project(tmp_path / "wrong", _truth(0), maps=())
    with pytest.raises(UsageError, match="unknown methods magic, wand; there are mask, "):
        cristae.study_cells(project, methods=("mask", "magic", "wand"))
    with pytest.raises(UsageError, match="gaps"):
        cristae.study_cells(project, gaps=(1,))
    with pytest.raises(DataError, match="no truth with ids of nucleus"):
        cristae.study_cells(project, name="nucleus")
    project.truth.write_slice("glia", 0, _truth(0)[0])
    with pytest.raises(UsageError, match="several classes of instances in the truth"):
        cristae.study_cells(project)
    assert not (project.path / "runs").exists()


def test_truth_that_is_absent_or_of_masks(make_small) -> None:
    with pytest.raises(DataError, match=r"no truth with ids of cells \(there are masks of disc, dot\)"):
        cristae.study_cells(make_small("masks"))
    with pytest.raises(DataError, match="the truth of disc are masks"):
        cristae.study_cells(make_small("disc"), name="disc")
    with pytest.raises(DataError, match="cristae import truth"):
        cristae.study_cells(make_small("none", truth=False))


@given(gap=st.integers(2, 40), slices=st.sets(st.integers(0, 60), max_size=61))
def test_what_is_shown_is_never_scored(gap: int, slices: set[int]) -> None:
    plan = plan_gap(gap, sorted(slices))
    if plan is None:
        assert not slices or min(slices) + gap not in slices or slices <= set(range(min(slices), 61, gap))
        return
    assert set(plan.labelled) | set(plan.scored) == slices
    assert not set(plan.labelled) & set(plan.scored)
    assert set(np.diff(plan.labelled)) == {gap} and plan.labelled[0] == min(slices)
    covered = [z for first, last in plan.stretches for z in range(first, last)]
    assert covered == list(range(min(slices), plan.stretches[-1][1]))
    assert plan.n_slices == len(covered)


def test_words_say_who_won_and_what_flow_adds() -> None:
    dice = {"mask": (0.9, 0.5), "mask+flow": (0.9, 0.6004), "paths": (0.95, 0.6), COPY_NEAREST: (0.8, 0.4)}
    table = pd.DataFrame(
        [
            {"gap_slices": gap, "gap_nm": gap * 8.0, "method": method, "n_cells": 2, "dice": both[i], "dice_sd": 0.1}
            for i, gap in enumerate((10, 25))
            for method, both in dice.items()
        ]
    )
    assert in_words(table) == (
        "Best by mean Dice of cells: paths at a gap of 10 slices (0.950), mask+flow and paths at a gap of 25 slices "
        "(0.600); optical flow adds 0.100 at a gap of 25 slices to the best method of the paper without it, and "
        "nothing at a gap of 10 slices."
    )
    rows = {row.method: [entry.best for entry in row.entries] for row in table_rows(table)}
    assert rows == {"mask": [False] * 2, "mask+flow": [False, True], "paths": [True] * 2, COPY_NEAREST: [False] * 2}
    assert [row.group for row in table_rows(table)][1] == "Segmentation + propagation"
    assert "flow" not in in_words(table[table["method"] == "paths"])
    with pytest.raises(KeyError):
        markdown(table, "", [])


def test_the_command(studied, monkeypatch, capsys) -> None:
    project, run, _ = studied
    words = [
        "study",
        "cells",
        project.path,
        "--set",
        "study_cells.gaps=[3, 4]",
        "--set",
        "study_cells.smallest_um3=1e-4",
    ]

    def call(*words: object) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["cristae", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            main()
        return caught.value.code, capsys.readouterr().out

    code, out = call(*words)
    assert code == 0 and out.startswith("Best by mean Dice of cells") and str(run.path) in out
    assert json.loads(call(*words, "--json")[1])["id"] == run.id
    assert call(*words, "--set", "cells.barrier=-1")[0] == 2


def test_new_ids_of_stretches_never_meet(tmp_path, monkeypatch) -> None:
    sources, firsts = GapSources(_project(tmp_path / "p", _truth()), "cell", None, None, (), from_truth=True), []

    def shows_first(gap, method, how):
        firsts.append(gap.first_new_id)
        return iter([gap.before] * len(gap))

    monkeypatch.setattr(left_out, "separate", shows_first)
    tried = LeftOut(sources, CellsSettings(**CELLS), 1, 0.0)
    tried.score(Plan(4, (0, 4, 8), (2, 6, 10)), "flow", Crew(), lambda done: None)
    assert np.diff(firsts).min() >= 2**40 and firsts[0] > 2**32
